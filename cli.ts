/**
 * The command line: which command is asked for, its arguments and its exit code. The commands are in cli/commands.ts, what
 * each does is in cli/, imported when it is wanted. Results go to standard output, the rest to standard error.
 */
import { type Command, COMMANDS, type Flag, usageOf } from "./cli/commands.ts";
import { type Call, CommandError, type Io } from "./cli/context.ts";
import { processIo } from "./cli/terminal.ts";
import {
  type Arguments,
  ConfigError,
  exportAwsEnv,
  isFlag,
  isFlagAlone,
  knownNames,
  loadConfig,
  type OwnFlags,
  parseArgs,
} from "./config.ts";
import { UnavailableError } from "./ports.ts";
import { errorMessage } from "./util/errors.ts";
import { setupLog } from "./util/log.ts";
import { nearest } from "./util/nearest.ts";
import { redact } from "./util/redact.ts";
import { cut } from "./util/text.ts";

/** What other programs call it. */
const GUESSES: Readonly<Record<string, string>> = {
  ls: "runs",
  list: "runs",
  ps: "runs",
  history: "runs",
  status: "health",
  lint: "check",
  validate: "check",
  test: "explain",
  trigger: "run",
  retry: "rerun",
  stop: "cancel",
  kill: "cancel",
  delete: "cancel",
  tail: "logs",
  serve: "start",
};

/** Switches that stand anywhere, before the command too. */
const ANYWHERE: OwnFlags = {
  json: "switch",
  "no-color": "switch",
  help: "switch",
  h: "switch",
  version: "switch",
  V: "switch",
};

/** The flags of all commands. */
const ANY_FLAG: OwnFlags = Object.assign({}, ...Object.values(COMMANDS).map(kindsOf));

/** A command line, taken apart at its command. */
export interface Asked {
  /** Absent: there are flags at most. */
  readonly name?: string;
  /** All but the name. */
  readonly rest: readonly string[];
}

/** Finds the command among flags that stand before it: `--json run X` asks for `run`. */
export function askedFor(args: readonly string[]): Asked {
  for (let at = 0; at < args.length; at++) {
    const arg = args[at]!;
    if (arg === "--") break;
    if (!isFlag(arg)) return { name: arg, rest: args.toSpliced(at, 1) };
    if (!arg.includes("=") && takesValue(arg.replace(/^--?/, ""))) at++;
  }
  return { rest: args };
}

/** What asks for help or the version, wherever it stands. */
export function asksFor(args: readonly string[]): "help" | "version" | undefined {
  const flags = beforeDashes(args);
  if (flags.some((arg) => arg === "--help" || arg === "-h")) return "help";
  return flags.some((arg) => arg === "--version" || arg === "-V") ? "version" : undefined;
}

/** Whether the environment holds a setting of ours; those that other programs read too say nothing. */
export function hasSettings(env: Readonly<Record<string, string | undefined>>): boolean {
  return knownNames().some((name) => env[name] !== undefined && !/^AWS_|^KUBE/.test(name));
}

/** Behind `--` all are words. */
function beforeDashes(args: readonly string[]): readonly string[] {
  return args.slice(0, [...args, "--"].indexOf("--"));
}

function kindsOf({ flags }: Command): OwnFlags {
  return Object.fromEntries(Object.entries(flags).map(([flag, { value }]) => [flag, value ? "value" : "switch"]));
}

/** Of a setting, or of any command's flag; none has the name of another's switch. */
function takesValue(flag: string): boolean {
  if (Object.hasOwn(ANYWHERE, flag)) return false;
  if (Object.hasOwn(ANY_FLAG, flag)) return ANY_FLAG[flag] === "value";
  const setting = flag.toUpperCase().replaceAll("-", "_");
  return knownNames().includes(setting) && !isFlagAlone(setting);
}

/**
 * Runs one command; resolves with the exit code: 0 done, 1 what was asked about is bad or failed, 2 wrong use or
 * configuration, 3 a peer cannot be reached. Errors are told, not thrown; with `--json` as `{ error, exit_code }`.
 * `name`: the first word of the line, be it a flag. `io`: the process's own unless given.
 */
export async function runCommand(name: string, args: readonly string[], io?: Io): Promise<number> {
  const line = name === "" ? args : [name, ...args];
  const own = beforeDashes(line);
  const json = own.includes("--json");
  const noted: string[] = [];
  const out = io ?? processIo({ noColour: own.includes("--no-color") });
  // One JSON of an error, and nothing beside it.
  const note = (text: string) => json ? void noted.push(text) : out.tell(text, "warning");
  try {
    const code = await runLine(line, { io: out, note });
    noted.forEach((text) => out.tell(text));
    return code;
  } catch (error) {
    // The reader of our output has seen enough, as `head` does.
    if (error instanceof Deno.errors.BrokenPipe) return 0;
    const message = error instanceof ConfigError
      ? redact(error.message.replace(/^Cannot start/, "Wrong configuration"))
      : errorMessage(error);
    const code = exitCodeOf(error);
    const warnings = noted.length > 0 ? { warnings: noted } : {};
    if (json) out.tell(JSON.stringify({ error: message, exit_code: code, ...warnings }));
    else out.tell(message, "bad");
    return code;
  }
}

interface Output {
  readonly io: Io;
  /** Takes what is to be said beside the result. */
  readonly note: (text: string) => void;
}

async function runLine(line: readonly string[], { io, note }: Output): Promise<number> {
  const { name, rest } = askedFor(line);
  const wish = asksFor(rest);
  const known = name === undefined || wish === "version" ? wish ?? "" : name;
  if (known === "") {
    const { shortHelp } = await import("./cli/help.ts");
    if (!rest.includes("--json")) await io.write(shortHelp(io.screen), { styled: true });
    throw new CommandError(2, `Which command? See help. (The service starts by the command start.)`);
  }
  const command = commandOf(known, rest);
  if (wish === "help" && known !== "help") {
    return await (await import("./cli/help.ts")).printHelp(io, known, rest.includes("--json"));
  }
  // The switches have been seen to.
  const args = parseArgs(rest, { ...ANYWHERE, ...kindsOf(command) });
  const call = callOf(known, command, args, { io, note });
  if (args.own.get("watch") !== true) return await command.run(call);
  return await (await import("./cli/watch.ts")).watch(call, line, (one) => command.run(one));
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommandError) return error.code;
  if (error instanceof ConfigError || error instanceof Deno.errors.NotCapable) return 2;
  return error instanceof UnavailableError ? 3 : 1;
}

/** `rest`: of a misspelt flag the value was taken for the command. */
function commandOf(name: string, rest: readonly string[]): Command {
  if (Object.hasOwn(COMMANDS, name)) return COMMANDS[name]!;
  const { faults } = parseArgs(rest, { ...ANY_FLAG, ...ANYWHERE });
  if (faults.length > 0) throw new CommandError(2, faults.join("\n"));
  const guess = Object.hasOwn(GUESSES, name) ? GUESSES[name] : nearest(name, Object.keys(COMMANDS));
  const advice = guess === undefined ? "see help" : `did you mean "${guess}"?`;
  throw new CommandError(2, `Unknown command "${cut(name, 63)}": ${advice}`);
}

function callOf(name: string, command: Command, args: Arguments, { io, note }: Output): Call {
  const faults = [...args.faults, ...wordFaults(command, args.positionals), ...choiceFaults(command, args)];
  if (faults.length > 0) {
    throw new CommandError(2, `${faults.join("\n")}\nUsage: ${usageOf(name, command)}`);
  }
  return {
    words: args.positionals,
    flag: (flag) => args.own.get(flag),
    json: args.own.has("json"),
    io,
    config() {
      const config = loadConfig({ ...io.input, args: { ...args, positionals: [] } });
      // Adapters may have something to say; a command's own words are not for the log.
      setupLog({ level: "warning", format: config.log.format, write: (line) => note(line.trimEnd()) });
      config.warnings.forEach((warning) => note(`Warning: ${warning}`));
      exportAwsEnv(config);
      return config;
    },
  };
}

function wordFaults({ words: wanted }: Command, words: readonly string[]): string[] {
  const missing = wanted.slice(words.length).filter((word) => !word.startsWith("["));
  const takesMore = wanted.at(-1)?.includes("…");
  return [
    ...missing.length > 0 ? [`${missing.join(" ")} is missing`] : [],
    ...(takesMore ? [] : words.slice(wanted.length)).map((word) => `"${cut(word, 63)}": no such argument is expected`),
  ];
}

function choiceFaults(command: Command, { positionals: [first], own }: Arguments): string[] {
  const choices: (readonly [unknown, readonly string[] | undefined])[] = [
    [first, command.choices],
    ...Object.entries(command.flags).map(([flag, { choices }]: [string, Flag]) => [own.get(flag), choices] as const),
  ];
  return choices.flatMap(([given, all]) => {
    if (!all || given === undefined || all.includes(String(given))) return [];
    return [`"${cut(String(given), 63)}": write one of ${all.join(", ")}`];
  });
}
