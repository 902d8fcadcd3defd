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

export type { Logger } from "@logtape/logtape";

/** Root of all categories, so that records of other users of LogTape stay out. */
const ROOT = "mqtt-job-listener";
/** A shorter secret would blot out half of the log. */
const SHORTEST_SECRET = 4;

/** Longer ones first: one secret may be part of another. */
let secrets: readonly string[] = [];

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
    sinks: { lines: (record) => write(redact(line(record)) + "\n") },
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

/** From now on this value is `***` wherever redact sees it. Values of less than 4 characters are not hidden. */
export function registerSecret(value: string): void {
  const escaped = (text: string) => JSON.stringify(text).slice(1, -1);
  // As it stands in JSON, in JSON within a quoted value, and in a query.
  const forms = [value, value.trim(), escaped(value), escaped(escaped(value)), encodeURIComponent(value)];
  const all = new Set([...secrets, ...forms.filter((form) => form.length >= SHORTEST_SECRET)]);
  secrets = [...all].sort((a, b) => b.length - a.length);
}

/** Forgets all registered secrets; for tests. */
export function forgetSecrets(): void {
  secrets = [];
}

/** The text without registered secrets, credentials in URLs, bearer tokens and signatures of presigned URLs. */
export function redact(text: string): string {
  let clean = text;
  for (const secret of secrets) clean = clean.replaceAll(secret, "***");
  return clean
    .replace(/([a-z][a-z0-9+.-]*:\/\/)[^\s/?#"']*@/gi, "$1***@")
    .replace(/(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s"']+/gi, "$1***")
    .replace(/\b(Bearer|Basic)\s+[\w.~+/=-]{4,}/gi, "$1 ***");
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
  const words = message.map((part, at) => at % 2 === 0 ? String(part) : plain(part)).join("");
  const named = typeof rawMessage === "string" ? rawMessage : "";
  const pairs = Object.entries(properties)
    // The run always: a line must be found by `run=`.
    .filter(([key]) => key === "run" || !named.includes(`{${key}}`))
    .map(([key, value]) => ` ${key}=${quoted(plain(value))}`);
  const name = LEVEL_NAMES[level].padEnd(5);
  return `${new Date(timestamp).toISOString()} ${name} ${category.slice(1).join(".")}: ${oneLine(words)}${
    pairs.join("")
  }`;
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
  const line: Record<string, unknown> = {
    time: new Date(timestamp).toISOString(),
    level,
    logger: category.slice(1).join("."),
    message: message.map((part, at) => at % 2 === 0 ? String(part) : plain(part)).join(""),
  };
  for (const [key, value] of Object.entries(properties)) {
    line[Object.hasOwn(line, key) ? `${key}_` : key] = fielded(value);
  }
  return JSON.stringify(line);
}

function fielded(value: unknown): unknown {
  if (value instanceof Error) return { error: errorText(value), ...(value.stack ? { stack: value.stack } : {}) };
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean" || value === null) {
    return value;
  }
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

function plain(value: unknown): string {
  if (typeof value === "string") return value;
  if (value instanceof Error) return errorText(value);
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

/** The error's message and those of its causes. */
function errorText(error: Error): string {
  const texts: string[] = [];
  const seen = new Set<unknown>();
  for (let at: unknown = error; at !== undefined && at !== null && !seen.has(at); at = (at as Error).cause) {
    seen.add(at);
    const text = at instanceof Error ? at.message || at.name : plain(at);
    // Often a message holds its cause's already.
    if (!texts.some((earlier) => earlier.includes(text))) texts.push(text);
    if (!(at instanceof Error)) break;
  }
  return texts.join(": ");
}

/** A value that anybody can tell from the next one. */
function quoted(text: string): string {
  return /^[^\s"=\p{Cc}]+$/u.test(text) ? text : oneLine(JSON.stringify(text));
}

/** Nobody's topic or payload may write a line of its own, or move the terminal's cursor. */
function oneLine(text: string): string {
  return text.replace(
    /[\p{Cc}\u2028\u2029]/gu,
    (char) => char === "\n" ? "\\n" : `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
