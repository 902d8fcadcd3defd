/**
 * How the program says that it cannot start, or that it ends by a fault of its own: a sentence in the log's own format,
 * without secrets and without orders to a terminal. Knows no command.
 */
import { type Config, ConfigError, parseArgs, processInput } from "../config.ts";
import { errorMessage, safeWords } from "../util/errors.ts";
import { getLogger, setupLog } from "../util/log.ts";

/** Longest stack of a crash that is told, in characters. */
const LONGEST_STACK = 4_000;

/** Says why the service cannot start, each fault on a line of its own; returns the exit code. */
export function cannotStart(error: unknown): 2 {
  setupLog({ level: "info", format: wantedFormat() });
  const log = getLogger("main");
  const faults = error instanceof ConfigError ? error.faults : [errorMessage(error)];
  for (const fault of faults) {
    // Some say so themselves, and some begin with "Cannot read …".
    const message = fault.replace(/^Cannot start: /, "").replace(/^Cannot /, "cannot ");
    log.error("Cannot start: {message}", { message });
  }
  return 2;
}

/** Why the page cannot be served, with the setting that says where. */
export function cannotListen(listen: Config["status"]["listen"], cause: unknown): Error {
  return new Error(`Cannot listen on ${listen?.hostname}:${listen?.port} (STATUS_ADDR)`, { cause });
}

/** From now on an error that nobody caught is told like every other one and ends the process with exit code 1. */
export function tellCrashes(): void {
  const tell = (event: Event, error: unknown) => {
    event.preventDefault();
    setupLog({ level: "info", format: wantedFormat() });
    const stack = error instanceof Error ? safeWords(error.stack ?? "", LONGEST_STACK) : "";
    getLogger("main").fatal("The program ends by a fault of its own: {error}", { error: errorMessage(error), stack });
    Deno.exit(1);
  };
  globalThis.addEventListener("error", (event) => tell(event, event.error));
  globalThis.addEventListener("unhandledrejection", (event) => tell(event, event.reason));
}

/** The log's format, though the configuration may be wrong or not readable at all. */
function wantedFormat(): "text" | "json" {
  try {
    const { env, args } = processInput();
    const { settings } = parseArgs(args, { json: "switch" });
    return args.includes("--json") || (settings.get("LOG_FORMAT") ?? env["LOG_FORMAT"]) === "json" ? "json" : "text";
  } catch {
    return "text"; // without --allow-env
  }
}
