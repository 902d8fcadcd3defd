/**
 * The log: one line a record, text or JSON, through LogTape. Owns the lines' shape and the hiding of secrets.
 * Knows no module's words; nothing is written before setupLog. A record's `run` is on its line in either format.
 */
import {
  configureSync,
  getLogger as getRootLogger,
  type Logger,
  type LogLevel,
  type LogRecord,
} from "@logtape/logtape";
import { errorMessage, safeWords } from "./errors.ts";
import { redact } from "./redact.ts";
import { LONGEST_WORDS, oneLine } from "./text.ts";

export type { Logger } from "@logtape/logtape";

/** Root of all categories, so that records of other users of LogTape stay out. */
const ROOT = "mqtt-job-listener";
/** Longest stack of an error, in characters. */
const LONGEST_STACK = 8_000;

export interface LogOptions {
  readonly level: LogLevel;
  readonly format: "text" | "json";
  /** Takes one line with its line end. Default: standard error, so that standard output is a command's result. */
  readonly write?: (line: string) => void;
}

/** Starts the log; again: with other options. */
export function setupLog({ level, format, write = writeToStderr }: LogOptions): void {
  const line = format === "json" ? jsonLine : textLine;
  configureSync({
    reset: true,
    sinks: { lines: (record) => write(line(record) + "\n") },
    loggers: [
      { category: ROOT, lowestLevel: level, sinks: ["lines"] },
      // LogTape's own: a sink that failed.
      { category: ["logtape", "meta"], lowestLevel: "warning", sinks: ["lines"] },
    ],
  });
}

/**
 * The log of a module: `getLogger("listener").info("Created {run}", { run, job })`. Values that the message does not
 * name follow it as key=value. `.with({ run })` puts a run on every line.
 */
export function getLogger(category: string): Logger {
  return getRootLogger([ROOT, category]);
}

function writeToStderr(line: string): void {
  const bytes = new TextEncoder().encode(line);
  try {
    for (let at = 0; at < bytes.length;) at += Deno.stderr.writeSync(bytes.subarray(at));
  } catch {
    // The reader of the log went away; the service goes on without it.
  }
}

// ---------------------------------------------------------------- lines

/** `2026-01-02T03:04:05.678Z INFO  listener: Created a run run=a-1 job=a` */
function textLine({ timestamp, level, category, message, rawMessage, properties }: LogRecord): string {
  const words = messageText(message);
  const named = typeof rawMessage === "string" ? rawMessage : "";
  const pairs = Object.entries(properties)
    // The run always: a line must be found by `run=`.
    .filter(([key]) => key === "run" || !named.includes(`{${key}}`))
    .map(([key, value]) => ` ${key}=${quoted(plain(value))}`);
  const name = LEVEL_NAMES[level].padEnd(5);
  const begin = `${new Date(timestamp).toISOString()} ${name} ${category.slice(1).join(".")}`;
  return `${begin}: ${redact(oneLine(words) + pairs.join(""))}`;
}

const LEVEL_NAMES: Readonly<Record<LogLevel, string>> = {
  trace: "TRACE",
  debug: "DEBUG",
  info: "INFO",
  warning: "WARN",
  error: "ERROR",
  fatal: "FATAL",
};

/** Properties are fields; those that would hide a field of the line itself get a `_` behind. */
function jsonLine({ timestamp, level, category, message, properties }: LogRecord): string {
  const time = new Date(timestamp).toISOString();
  const line: Record<string, unknown> = { time, level, logger: category.slice(1).join("."), message: "" };
  for (const [key, value] of Object.entries(properties)) {
    line[Object.hasOwn(line, key) ? `${key}_` : key] = fielded(value);
  }
  line["message"] = messageText(message);
  // Strings one by one: a secret of digits must not make a hole in a number, nor in the time.
  const text = JSON.stringify(line, (key, part) => typeof part === "string" && key !== "time" ? redact(part) : part);
  // JSON leaves C1 and what turns the direction of writing around as they are; \u009b is JSON too.
  return oneLine(text);
}

function messageText(parts: readonly unknown[]): string {
  return parts.map((part, at) => at % 2 === 0 ? short(String(part)) : plain(part)).join("");
}

function fielded(value: unknown): unknown {
  if (value instanceof Error) {
    return { error: errorMessage(value), ...(value.stack ? { stack: safeWords(value.stack, LONGEST_STACK) } : {}) };
  }
  if (typeof value === "string") return short(value);
  if (typeof value === "number" || typeof value === "boolean" || value === null) return value;
  return value instanceof Date ? dateText(value) : parsed(value);
}

/** As JSON has it; what JSON cannot hold, such as a cycle, as text. */
function parsed(value: unknown): unknown {
  const text = plain(value);
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** A value's text, cut: anybody may have written it. */
function plain(value: unknown): string {
  return short(textOf(value));
}

function short(text: string): string {
  return text.length > LONGEST_WORDS ? safeWords(text) : text;
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  if (value instanceof Error) return errorMessage(value);
  if (value instanceof Date) return dateText(value);
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (typeof value !== "object" || value === null) return String(value);
  try {
    return JSON.stringify(value, (_, part) => typeof part === "bigint" ? String(part) : part) ?? String(value);
  } catch {
    return String(value);
  }
}

function dateText(date: Date): string {
  return Number.isNaN(date.getTime()) ? "Invalid date" : date.toISOString();
}

/** A value that anybody can tell from the next one. */
function quoted(text: string): string {
  return /^[^\s"=]+$/.test(text) && oneLine(text) === text ? text : oneLine(JSON.stringify(text));
}
