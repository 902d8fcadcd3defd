/**
 * What every command is given and how it ends: its words, flags, output and configuration, and errors with an exit code.
 * Knows no command.
 */
import type { Config, ConfigInput } from "../config.ts";
import type { Cluster } from "../ports.ts";
import type { Screen, Style } from "./table_text.ts";
import { UnavailableError } from "../ports.ts";
import { errorMessage } from "../util/errors.ts";

/** Where a command's words go and come from. */
export interface Io {
  readonly input: ConfigInput;
  /** The result. `styled`: with colours of our own, and what came from outside made plain (table_text.ts). */
  write(text: string | Uint8Array, options?: { readonly styled?: boolean }): Promise<void>;
  /** The terminal that the result goes to; absent: a file or a pipe. */
  readonly screen?: Screen;
  /** Anything else, one line; `style`: of the whole line, where there are colours. */
  tell(line: string, style?: Style): void;
  /** Standard input to its end. */
  read(): Promise<Uint8Array>;
  /** Replaces the whole screen of the terminal that the result goes to; absent: a file or a pipe. */
  readonly redraw?: (text: string) => void;
  /** Replaces the line on a terminal; undefined: nobody watches. */
  readonly progress: ((line: string) => void) | undefined;
}

/** A command as it was called. */
export interface Call {
  readonly words: readonly string[];
  /** Value of a flag of the command's own; true where it takes none. */
  flag(name: string): string | true | undefined;
  readonly json: boolean;
  readonly io: Io;
  /** Reads the configuration; throws ConfigError. */
  config(): Config;
}

/** Ends a command with an exit code; the message is for people. */
export class CommandError extends Error {
  override name = "CommandError";
  readonly code: 1 | 2 | 3;
  constructor(code: 1 | 2 | 3, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Writes a result of one or more lines. */
export async function printLine(io: Io, text: string): Promise<void> {
  await io.write(text + "\n");
}

/** Says what could be done next, to a person who watches; a script need not know. */
export function hint(io: Io, text: string): void {
  if (io.screen) io.tell(text, "faint");
}

/** `1 row`, `2 rows`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** The configured cluster; dispose of it where it can be. */
export async function openCluster(config: Config): Promise<Cluster & Partial<Disposable>> {
  const adapters = await import("../adapters.ts");
  try {
    return (await adapters.openCluster(config)).cluster;
  } catch (cause) {
    if (cause instanceof UnavailableError) throw cause;
    throw new CommandError(2, errorMessage(cause), { cause });
  }
}

/** As one word of a shell of Unix. */
export function shellWord(text: string): string {
  return /^[\w.:/-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** What a terminal would take for an order is shown as a blank. */
export function plain(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x1f\x7f-\x9f]+/g, " ");
}
