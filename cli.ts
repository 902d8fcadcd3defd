/**
 * The commands of the program besides `start`: their names, flags, help and exit codes. What each does is in cli/,
 * imported when it is wanted. Results go to standard output, the rest to standard error.
 */
import type { Completion } from "./cli/completions.ts";
import { type Call, CommandError, type Io } from "./cli/context.ts";
import { type Arguments, ConfigError, exportAwsEnv, flagName, knownNames, loadConfig, parseArgs } from "./config.ts";
import { renderHelp } from "./config.ts";
import { processIo } from "./cli/terminal.ts";
import { errorMessage } from "./util/errors.ts";
import { setupLog } from "./util/log.ts";
import { redact } from "./util/redact.ts";
import { UnavailableError } from "./ports.ts";
import { VERSION } from "./util/version.ts";
import { nearest } from "./util/nearest.ts";

interface Flag {
  /** What stands for its value in the usage; absent: it takes none. */
  readonly value?: string;
  readonly meaning: string;
  readonly choices?: readonly string[];
}

interface Command {
  /** Words after the name: `[TOPIC]` may be left out, of the last one with `…` there may be several. */
  readonly words: readonly string[];
  readonly meaning: string;
  readonly flags: Readonly<Record<string, Flag>>;
  /** What the first word may be, for completions. */
  readonly choices?: readonly string[];
  run(call: Call): Promise<number> | number;
}

const json: Flag = { meaning: "Print JSON" };
const timeout: Flag = { value: "TIME", meaning: "How long to wait for the answer, such as 30s; 15s unless given" };
const GRAPH_FORMATS = ["mermaid", "dot", "svg"];
const SHELLS = ["bash", "zsh", "fish"];
const batch: Flag = { value: "ID", meaning: "Name of the batch: what another one has started is started again" };
const ENDS = ["succeeded", "failed", "cancelled"];
const STATES = ["pending", "running", "succeeded", "failed", "cancelled"];

const COMMANDS: Readonly<Record<string, Command>> = {
  start: {
    words: [],
    meaning: "Run the service; so does no command at all, where nobody watches at a terminal",
    flags: { json: { meaning: "Log as JSON, as --log-format json does" } },
    run: () => {
      throw new CommandError(2, "Cannot start the service from here: main.ts does"); // main.ts takes `start` itself
    },
  },
  demo: {
    words: [],
    meaning: "See it work with nothing installed",
    flags: {
      json: { meaning: "Print what happens as a JSON object a line" },
      once: { meaning: "End after the sample's messages" },
      table: { value: "NAME", meaning: "Which table: chain (three rows), or pipeline (groups, a join, retries)" },
      dir: {
        value: "FOLDER",
        meaning: "Where table, logs and records are; demo-data unless given, or demo-data/pipeline",
      },
      port: { value: "PORT", meaning: "Port of the built-in broker; 18830 unless given, or a free one" },
    },
    run: async (call) => await (await import("./cli/demo.ts")).demoCommand(call),
  },
  check: {
    words: ["[FILE|URL]"],
    meaning: "Every error and warning of a table, by line and column; `-` reads standard input",
    flags: {
      json,
      server: { meaning: "Ask the API server too whether it would take the Jobs; makes none" },
      strict: { meaning: "End with 1 for warnings too, such as a misspelt completion topic" },
    },
    run: async (call) => await (await import("./cli/table.ts")).check(call),
  },
  graph: {
    words: ["[FILE|URL]"],
    meaning: "The table's topics, rows and chains as a drawing",
    flags: { json, format: { value: "FORMAT", meaning: GRAPH_FORMATS.join(", "), choices: GRAPH_FORMATS } },
    run: async (call) => await (await import("./cli/table.ts")).graph(call),
  },
  explain: {
    words: ["TOPIC", "[PAYLOAD]"],
    meaning: "Which rows a message would run, with the very Jobs as YAML; starts nothing",
    flags: { json },
    run: async (call) => await (await import("./cli/table.ts")).explain(call),
  },
  import: {
    words: ["JOB.yaml…"],
    meaning: "Rows for Jobs, CronJobs, Pods and PodTemplates that you have as YAML or JSON; `-` reads standard input",
    flags: {
      json,
      topic: { value: "TOPIC", meaning: "The rows' topic, {name} in it for the row's name; lab/{name} unless given" },
      templates: { value: "FILE", meaning: "Write pod templates there; they follow the table unless given" },
    },
    run: async (call) => await (await import("./cli/import.ts")).importCommand(call),
  },
  runs: {
    words: [],
    meaning: "Runs under way and runs that ended, newest first",
    flags: {
      json,
      row: { value: "NAME", meaning: "Of this row only" },
      state: { value: "STATE", meaning: STATES.join(", "), choices: STATES },
      limit: { value: "N", meaning: "At most so many; 20 unless given" },
    },
    run: async (call) => await (await import("./cli/runs.ts")).runs(call, STATES),
  },
  logs: {
    words: ["RUN"],
    meaning: "The log of a run, from the store or, while it runs, from the cluster",
    flags: { json, follow: { meaning: "Go on until the run ends; also -f" }, f: { meaning: "--follow" } },
    run: async (call) => await (await import("./cli/logs.ts")).logs(call),
  },
  run: {
    words: ["ROW", "[PAYLOAD|FIELD=VALUE…]"],
    meaning: "Ask the service to run a row; payload `-` reads standard input; fields make a JSON object",
    flags: {
      json,
      timeout,
      each: {
        value: "SHEET.csv",
        meaning: "Run it once for each line; the header names fields of the payload; `-`: stdin",
      },
      batch,
      "dry-run": { meaning: "Check the sheet's lines, and start nothing" },
    },
    run: async (call) => await (await import("./cli/request.ts")).ask("run", call),
  },
  rerun: {
    words: ["RUN"],
    meaning: "Ask the service to run a run's row again, with the same message",
    flags: { json, timeout },
    run: async (call) => await (await import("./cli/request.ts")).ask("rerun", call),
  },
  replay: {
    words: [],
    meaning: "Ask the service to run a row's failed runs again, behind fresh messages",
    flags: {
      json,
      timeout,
      row: { value: "NAME", meaning: "Runs of this row" },
      state: { value: "STATE", meaning: `${ENDS.join(", ")}; failed unless given`, choices: ENDS },
      since: { value: "TIME", meaning: "That ended at most so long ago (2h, 3d), or since an RFC 3339 time" },
      reason: { value: "WORD", meaning: "That ended for this reason, such as OOMKilled" },
      batch,
      "dry-run": { meaning: "Say which runs, and start nothing" },
    },
    run: async (call) => await (await import("./cli/batch.ts")).replay(call),
  },
  cancel: {
    words: ["RUN"],
    meaning: "Ask the service to stop a run, or all runs of a group",
    flags: { json, timeout },
    run: async (call) => await (await import("./cli/request.ts")).ask("cancel", call),
  },
  messages: {
    words: ["[TOPIC]"],
    meaning: "What became of the last messages, and whether a row is for a topic; asks the service at STATUS_ADDR",
    flags: { json },
    run: async (call) => await (await import("./cli/messages.ts")).messages(call),
  },
  health: {
    words: [],
    meaning: "Ask the service at STATUS_ADDR whether it is well",
    flags: { json },
    run: async (call) => await (await import("./cli/health.ts")).health(call),
  },
  completions: {
    words: ["SHELL"],
    meaning: `Completion script of a shell: ${SHELLS.join(", ")}`,
    flags: { json },
    choices: SHELLS,
    run: async ({ words: [shell = ""], json, io }) => {
      const { completionScript } = await import("./cli/completions.ts");
      const script = completionScript(shell, completions(), knownNames().map((name) => `--${flagName(name)}`));
      await io.write(json ? JSON.stringify({ shell, script }) + "\n" : script);
      return 0;
    },
  },
  version: {
    words: [],
    meaning: "Print the version",
    flags: { json },
    run: async ({ json, io }) => {
      await io.write(json ? JSON.stringify({ version: VERSION }) + "\n" : `mqtt-job-listener ${VERSION}\n`);
      return 0;
    },
  },
  help: {
    words: ["[COMMAND]"],
    meaning: "This text, or what there is to say of one command",
    flags: { json },
    run: async ({ words: [name], json, io }) => {
      const text = name === undefined ? helpText() : commandHelp(name, commandOf(name));
      await io.write(json ? helpJson(name) + "\n" : text);
      return 0;
    },
  },
};

const ALIASES: Readonly<Record<string, string>> = { "--help": "help", "-h": "help", "--version": "version" };

/**
 * Runs one command; resolves with the exit code: 0 done, 1 what was asked about is bad or failed, 2 wrong use or
 * configuration, 3 a peer cannot be reached. Errors are told, not thrown; with `--json` as `{ error, exit_code }`.
 * `io`: the process's own unless given.
 */
export async function runCommand(name: string, args: readonly string[], io: Io = processIo()): Promise<number> {
  try {
    const known = ALIASES[name] ?? name;
    const command = commandOf(known);
    const wantsHelp = args.slice(0, [...args, "--"].indexOf("--")).some((arg) => arg === "--help" || arg === "-h");
    if (wantsHelp) return (await io.write(known === "help" ? helpText() : commandHelp(known, command)), 0);
    const kinds = Object.entries(command.flags).map(([flag, { value }]) => [flag, value ? "value" : "switch"] as const);
    return await command.run(callOf(known, command, parseArgs(args, Object.fromEntries(kinds)), io));
  } catch (error) {
    // The reader of our output has seen enough, as `head` does.
    if (error instanceof Deno.errors.BrokenPipe) return 0;
    const message = error instanceof ConfigError
      ? redact(error.message.replace(/^Cannot start/, "Wrong configuration"))
      : errorMessage(error);
    const code = exitCodeOf(error);
    io.tell(args.includes("--json") ? JSON.stringify({ error: message, exit_code: code }) : message);
    return code;
  }
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommandError) return error.code;
  if (error instanceof ConfigError || error instanceof Deno.errors.NotCapable) return 2;
  return error instanceof UnavailableError ? 3 : 1;
}

function commandOf(name: string): Command {
  if (Object.hasOwn(COMMANDS, name)) return COMMANDS[name]!;
  const guess = nearest(name, Object.keys(COMMANDS));
  const advice = guess === undefined ? "see help" : `did you mean "${guess}"?`;
  throw new CommandError(2, `Unknown command "${name}": ${advice}`);
}

function callOf(name: string, command: Command, args: Arguments, io: Io): Call {
  const faults = [...args.faults];
  const { positionals: words } = args;
  const missing = command.words.slice(words.length).filter((word) => !word.startsWith("["));
  if (missing.length > 0) faults.push(`${missing.join(" ")} is missing`);
  const takesMore = command.words.at(-1)?.includes("…");
  for (const word of takesMore ? [] : words.slice(command.words.length)) {
    faults.push(`"${word}": no such argument is expected`);
  }
  const choices = [
    [words[0], command.choices],
    ...Object.entries(command.flags).map(([flag, { choices }]) => {
      return [args.own.get(flag), choices] as const;
    }),
  ] as const;
  for (const [given, all] of choices) {
    if (!all || given === undefined || all.includes(String(given))) continue;
    faults.push(`"${given}": write one of ${all.join(", ")}`);
  }
  if (faults.length > 0) {
    throw new CommandError(2, `${faults.join("\n")}\nUsage: ${usageOf(name, command)}`);
  }
  return {
    words,
    flag: (flag) => args.own.get(flag),
    json: args.own.has("json"),
    io,
    config() {
      const config = loadConfig({ ...io.input, args: { ...args, positionals: [] } });
      // Adapters may have something to say; a command's own words are not for the log.
      setupLog({ level: "warning", format: config.log.format, write: (line) => io.tell(line.trimEnd()) });
      config.warnings.forEach((warning) => io.tell(`Warning: ${warning}`, "warning"));
      exportAwsEnv(config);
      return config;
    },
  };
}

// ---------------------------------------------------------------- help

function usageOf(name: string, { words, flags }: Command): string {
  const options = Object.entries(flags).filter(([flag]) => flag.length > 1)
    .map(([flag, { value }]) => `[--${flag}${value ? ` ${value}` : ""}]`);
  return ["mqtt-job-listener", name, ...words, ...options].join(" ");
}

function helpText(): string {
  const usages = Object.entries(COMMANDS).map(([name, { words }]) => [name, ...words].join(" "));
  const width = Math.max(...usages.map((usage) => usage.length));
  return [
    "mqtt-job-listener: a message on an MQTT topic starts a Kubernetes Job, as a table says",
    "",
    "Commands:",
    ...Object.values(COMMANDS).map(({ meaning }, at) => `  ${usages[at]!.padEnd(width)}  ${meaning}`),
    "",
    "`help COMMAND` tells a command's flags; each takes --json, which makes JSON of errors too.",
    "",
    ...EXIT_CODES,
    "",
    renderHelp(),
  ].join("\n");
}

const EXIT_CODES = [
  "Exit codes:",
  "  0  done, and what was asked about is well",
  "  1  what was asked about is bad, failed or does not exist",
  "  2  wrong use or configuration",
  "  3  a peer (broker, store, cluster, service) cannot be reached or does not answer",
];

function helpJson(only?: string): string {
  const commands = Object.entries(COMMANDS).filter(([name]) => only === undefined || name === only)
    .map(([name, { words, meaning, flags }]) => ({ name, words, meaning, flags }));
  return JSON.stringify({ commands, settings: knownNames() });
}

function commandHelp(name: string, command: Command): string {
  const flags = Object.entries(command.flags).map(([flag, { value, meaning }]) => {
    return `  ${`${flag.length === 1 ? "-" : "--"}${flag}${value ? ` ${value}` : ""}`.padEnd(18)}  ${meaning}`;
  });
  return [
    `Usage: ${usageOf(name, command)}`,
    "",
    command.meaning,
    ...(flags.length > 0 ? ["", "Flags:", ...flags] : []),
    "",
    "Settings can be given as flags too: see `help`.",
    "",
    ...EXIT_CODES,
    "",
  ].join("\n");
}

function completions(): Completion[] {
  return Object.entries(COMMANDS).map(([name, { meaning, flags, choices }]) => ({
    name,
    meaning,
    flags: Object.entries(flags).map(([flag, rest]) => ({ ...rest, name: `${flag.length === 1 ? "-" : "--"}${flag}` })),
    choices: name === "help" ? Object.keys(COMMANDS) : choices ?? [],
  }));
}
