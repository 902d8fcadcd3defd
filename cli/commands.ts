/**
 * The commands of the program: names, words, flags and meanings; what each does is in cli/, imported when it is wanted.
 * Data alone: cli.ts calls them, cli/help.ts explains them.
 */
import { type Call, CommandError } from "./context.ts";
import { VERSION } from "../util/version.ts";

/** A flag of a command's own; `--json`, `--no-color`, `--help` and the settings are taken by all. */
export interface Flag {
  /** What stands for its value in the usage; absent: it takes none. */
  readonly value?: string;
  readonly meaning: string;
  readonly choices?: readonly string[];
}

/** What can be typed after the program's name. */
export interface Command {
  /** Words after the name: `[TOPIC]` may be left out, of the last one with `…` there may be several. */
  readonly words: readonly string[];
  readonly meaning: string;
  readonly flags: Readonly<Record<string, Flag>>;
  /** What the first word may be, for completions. */
  readonly choices?: readonly string[];
  run(call: Call): Promise<number> | number;
}

const json: Flag = { meaning: "Print JSON" };
const watch: Flag = {
  meaning: "Look again every two seconds until Ctrl+C; where nobody watches, print what has changed",
};
const timeout: Flag = { value: "TIME", meaning: "How long to wait for the answer, such as 30s; 15s unless given" };
const since: Flag = {
  value: "TIME",
  meaning: "That ended at most so long ago (2h, 3d), or since an RFC 3339 time",
};
const reason: Flag = { value: "WORD", meaning: "That ended for this reason, such as OOMKilled" };
const GRAPH_FORMATS = ["mermaid", "dot", "svg"];
const SHELLS = ["bash", "zsh", "fish"];
const batch: Flag = { value: "ID", meaning: "Name of the batch: what another one has started is started again" };
const ENDS = ["succeeded", "failed", "cancelled"];
const STATES = ["pending", "running", "succeeded", "failed", "cancelled"];

/** By their names, in the order of the help. */
export const COMMANDS: Readonly<Record<string, Command>> = {
  start: {
    words: [],
    meaning: "Run the service; so does no command at all, where there are settings and nobody watches at a terminal",
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
    run: async (call) => await (await import("./demo.ts")).demoCommand(call),
  },
  check: {
    words: ["[FILE|URL]"],
    meaning: "Every error and warning of a table, by line and column; `-` reads standard input",
    flags: {
      json,
      server: { meaning: "Ask the API server too whether it would take the Jobs; makes none" },
      strict: { meaning: "End with 1 for warnings too, such as a misspelt completion topic" },
      watch,
    },
    run: async (call) => await (await import("./table.ts")).check(call),
  },
  graph: {
    words: ["[FILE|URL]"],
    meaning: "The table's topics, rows and chains as a drawing",
    flags: { json, format: { value: "FORMAT", meaning: GRAPH_FORMATS.join(", "), choices: GRAPH_FORMATS } },
    run: async (call) => await (await import("./table.ts")).graph(call),
  },
  explain: {
    words: ["TOPIC", "[PAYLOAD]"],
    meaning:
      "Which rows a message would run, and the very Jobs as YAML (or processes, with CLUSTER=local); starts nothing",
    flags: { json },
    run: async (call) => await (await import("./explain.ts")).explain(call),
  },
  import: {
    words: ["JOB.yaml…"],
    meaning: "Rows for Jobs, CronJobs, Pods and PodTemplates that you have as YAML or JSON; `-` reads standard input",
    flags: {
      json,
      topic: { value: "TOPIC", meaning: "The rows' topic, {name} in it for the row's name; lab/{name} unless given" },
      templates: { value: "FILE", meaning: "Write pod templates there; they follow the table unless given" },
    },
    run: async (call) => await (await import("./import.ts")).importCommand(call),
  },
  runs: {
    words: [],
    meaning: "Runs under way and runs that ended, newest first",
    flags: {
      json,
      row: { value: "NAME", meaning: "Of this row only" },
      state: { value: "STATE", meaning: STATES.join(", "), choices: STATES },
      reason,
      since,
      until: { value: "TIME", meaning: "That ended before then" },
      text: { value: "WORDS", meaning: "Whose message or payload holds these words, each of them" },
      owner: { value: "NAME", meaning: "Of rows with this owner" },
      limit: { value: "N", meaning: "At most so many; 20 unless given" },
      watch,
    },
    run: async (call) => await (await import("./runs.ts")).runs(call, STATES),
  },
  prune: {
    words: [],
    meaning: "Which old records and logs the service will delete (KEEP_RUNS, KEEP_LOGS), and which stay, and why",
    flags: { json, "dry-run": { meaning: "Delete nothing; the service itself does, once a day" } },
    run: async (call) => await (await import("./prune.ts")).prune(call),
  },
  logs: {
    words: ["RUN"],
    meaning: "The log of a run, from the store or, while it runs, from the cluster",
    flags: { json, follow: { meaning: "Go on until the run ends; also -f" }, f: { meaning: "--follow" } },
    run: async (call) => await (await import("./logs.ts")).logs(call),
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
    run: async (call) => await (await import("./request.ts")).ask("run", call),
  },
  rerun: {
    words: ["RUN"],
    meaning: "Ask the service to run a run's row again, with the same message",
    flags: { json, timeout },
    run: async (call) => await (await import("./request.ts")).ask("rerun", call),
  },
  replay: {
    words: [],
    meaning: "Ask the service to run a row's failed runs again, behind fresh messages",
    flags: {
      json,
      timeout,
      row: { value: "NAME", meaning: "Runs of this row" },
      state: { value: "STATE", meaning: `${ENDS.join(", ")}; failed unless given`, choices: ENDS },
      since,
      reason,
      batch,
      "dry-run": { meaning: "Say which runs, and start nothing" },
    },
    run: async (call) => await (await import("./batch.ts")).replay(call),
  },
  cancel: {
    words: ["RUN"],
    meaning: "Ask the service to stop a run, or all runs of a group",
    flags: { json, timeout },
    run: async (call) => await (await import("./request.ts")).ask("cancel", call),
  },
  messages: {
    words: ["[TOPIC]"],
    meaning: "What became of the last messages, and whether a row is for a topic; asks the service at STATUS_ADDR",
    flags: { json, watch },
    run: async (call) => await (await import("./messages.ts")).messages(call),
  },
  usage: {
    words: [],
    meaning: "What runs asked for, by row, owner or week, what they used of it, and what would do; asks STATUS_ADDR",
    flags: {
      json,
      weeks: { value: "N", meaning: "How far back: 1, 4 (unless given), 12 or 52", choices: ["1", "4", "12", "52"] },
      by: { value: "WHAT", meaning: "row (unless given), owner or week", choices: ["row", "owner", "week"] },
      csv: { meaning: "Print CSV for a spreadsheet, by week and row" },
    },
    run: async (call) => await (await import("./usage.ts")).usage(call),
  },
  health: {
    words: [],
    meaning: "Ask the service at STATUS_ADDR whether it is well",
    flags: { json, watch },
    run: async (call) => await (await import("./health.ts")).health(call),
  },
  completions: {
    words: ["SHELL"],
    meaning: `Completion script of a shell: ${SHELLS.join(", ")}`,
    flags: { json },
    choices: SHELLS,
    run: async (call) => await (await import("./help.ts")).printCompletions(call),
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
    run: async (call) => await (await import("./help.ts")).help(call),
  },
};

/** `mqtt-job-listener check [FILE|URL] [--json]`. */
export function usageOf(name: string, { words, flags }: Command): string {
  const options = Object.entries(flags).filter(([flag]) => flag.length > 1)
    .map(([flag, { value }]) => `[--${flag}${value ? ` ${value}` : ""}]`);
  return ["mqtt-job-listener", name, ...words, ...options].join(" ");
}
