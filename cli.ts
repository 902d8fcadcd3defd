/**
 * The commands of the program besides `start`. Results go to standard output, the rest to standard error.
 * Exit codes: 0 done; 1 what was asked about is bad or failed; 2 wrong use or configuration; 3 a peer cannot be reached.
 * Each command imports what it needs, so that `check` wants no Kubernetes.
 */
import {
  type Arguments,
  type Config,
  exportAwsEnv,
  loadConfig,
  parseArgs,
  processInput,
  renderHelp,
} from "./config.ts";
import { splitObjectUrl } from "./config.ts";
import type { RunSpec } from "./ports.ts";
import { UnavailableError } from "./ports.ts";
import { VERSION } from "./version.ts";
import { nearest } from "./words.ts";

/** How long a running service is given to answer a request. */
const ANSWER_MS = 10_000;

interface Call {
  readonly args: Arguments;
  readonly words: readonly string[];
  readonly json: boolean;
  /** Read when a command wants it: `check FILE` needs no configuration. */
  config(): Config;
  print(text: string, data?: unknown): void;
}

interface Command {
  readonly usage: string;
  readonly meaning: string;
  readonly least?: number;
  run(call: Call): Promise<number> | number;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  start: { usage: "start", meaning: "Run the service (also without a command)", run: () => 2 },
  demo: { usage: "demo [--once]", meaning: "See it work with nothing installed", run: demo },
  check: { usage: "check [FILE|URL] [--server]", meaning: "Every error and warning of a table", run: check },
  graph: { usage: "graph [FILE|URL] [--format mermaid|dot]", meaning: "The table's chains as a drawing", run: graph },
  explain: {
    usage: "explain TOPIC [PAYLOAD]",
    meaning: "Which rows would run, with their Jobs as YAML",
    least: 1,
    run: explain,
  },
  runs: { usage: "runs [--row NAME] [--state STATE] [--limit N]", meaning: "Runs that ended, newest first", run: runs },
  logs: { usage: "logs RUN", meaning: "The log of a run", least: 1, run: logs },
  run: { usage: "run ROW [PAYLOAD]", meaning: "Ask the running service to run a row", least: 1, run: ask("run") },
  rerun: { usage: "rerun RUN", meaning: "Ask it to run a run again", least: 1, run: ask("rerun") },
  cancel: { usage: "cancel RUN", meaning: "Ask it to stop a run", least: 1, run: ask("cancel") },
  health: { usage: "health", meaning: "0 if the service on STATUS_ADDR is healthy", run: health },
  completions: {
    usage: "completions bash|zsh|fish",
    meaning: "Completion script of a shell",
    least: 1,
    run: completions,
  },
  version: {
    usage: "version",
    meaning: "Print the version",
    run: ({ print }) => (print(VERSION, { version: VERSION }), 0),
  },
  help: { usage: "help", meaning: "This text", run: ({ print }) => (print(helpText()), 0) },
};

const OWN_FLAGS = {
  json: "switch",
  once: "switch",
  server: "switch",
  help: "switch",
  format: "value",
  row: "value",
  state: "value",
  limit: "value",
} as const;

/** Runs one command; resolves with the exit code. */
export async function runCommand(name: string, args: readonly string[]): Promise<number> {
  const command = COMMANDS[name === "--help" || name === "-h" ? "help" : name];
  if (!command) {
    const guess = nearest(name, Object.keys(COMMANDS));
    console.error(`Unknown command "${name}"${guess ? `: did you mean "${guess}"?` : ""}; see help`);
    return 2;
  }
  const parsed = parseArgs(args, OWN_FLAGS);
  if (parsed.own.has("help")) return (console.log(helpText()), 0);
  if (parsed.positionals.length < (command.least ?? 0)) {
    console.error(`Usage: mqtt-job-listener ${command.usage}`);
    return 2;
  }
  const json = parsed.own.has("json");
  const call: Call = {
    args: parsed,
    words: parsed.positionals,
    json,
    config() {
      const config = loadConfig({ ...processInput(), args: { ...parsed, positionals: [] } });
      exportAwsEnv(config);
      return config;
    },
    print: (text, data) => console.log(json && data !== undefined ? JSON.stringify(data) : text),
  };
  try {
    return await command.run(call);
  } catch (error) {
    if (error instanceof Error && error.name === "ConfigError") throw error;
    console.error(error instanceof Error ? error.message : String(error));
    return error instanceof UnavailableError ? 3 : 1;
  }
}

function helpText(): string {
  const width = Math.max(...Object.values(COMMANDS).map(({ usage }) => usage.length));
  const lines = Object.values(COMMANDS).map(({ usage, meaning }) => `  ${usage.padEnd(width)}  ${meaning}`);
  return [
    "mqtt-job-listener: an MQTT message starts a Kubernetes Job",
    "",
    "Commands; each takes --json:",
    ...lines,
    "",
    "Exit codes: 0 done; 1 what was asked about is bad or failed; 2 wrong use or configuration; 3 a peer cannot be reached",
    "",
    renderHelp(),
  ].join("\n");
}

async function demo({ args }: Call): Promise<number> {
  const { demo } = await import("./demo.ts");
  return await demo({ once: args.own.has("once"), write: (line) => console.log(line) });
}

/** The table named on the command line, or the configured one. */
async function readTable(call: Call) {
  const { parseTable } = await import("./catalog.ts");
  const { openStore } = await import("./adapters.ts");
  const [where] = call.words;
  const config = call.config();
  const { storeUrl, key } = where === undefined
    ? config.catalog
    : splitObjectUrl(where.includes("/") ? where : `./${where}`);
  const store = await openStore(storeUrl, config.s3);
  const found = await store.get(key);
  if (found === undefined || found === "unchanged") throw new RangeError(`There is no table at ${store.url}/${key}`);
  const { parsePolicy, checkRow } = await import("./policy.ts");
  const policy = config.policy && parsePolicy(config.policy.text);
  const table = parseTable(found.body, {
    topicPrefix: config.topicPrefix,
    ...(policy ? { check: (row) => checkRow(policy, row) } : {}),
  });
  return { table, config };
}

async function check(call: Call): Promise<number> {
  const { table, config } = await readTable(call);
  const { describeProblem } = await import("./catalog.ts");
  const problems = [...table.problems];
  if (table.refusal !== undefined && problems.length === 0) {
    problems.push({ severity: "error", line: 1, message: String(table.refusal) });
  }
  if (call.args.own.has("server")) {
    const { openCluster } = await import("./adapters.ts");
    const { cluster } = await openCluster(config);
    for (const row of table.rows) {
      await cluster.create(await sampleSpec(row, row.mqttTopic, ""), { dryRun: true }).catch((error) => {
        if (error instanceof UnavailableError) throw error;
        problems.push({ severity: "error", line: row.line, jobName: row.jobName, message: String(error.message) });
      });
    }
  }
  const errors = problems.filter(({ severity }) => severity === "error").length;
  const lines = problems.map((problem) => `${problem.severity}: ${describeProblem(problem)}`);
  lines.push(`${table.rows.length} rows, ${errors} errors, ${problems.length - errors} warnings`);
  call.print(lines.join("\n"), { rows: table.rows.length, errors, problems });
  return errors > 0 ? 1 : 0;
}

async function graph(call: Call): Promise<number> {
  const { chainGraph, toDot, toMermaid } = await import("./graph.ts");
  const { table } = await readTable(call);
  const drawing = chainGraph(table);
  call.print((call.args.own.get("format") === "dot" ? toDot : toMermaid)(drawing), drawing);
  return 0;
}

async function explain(call: Call): Promise<number> {
  const [topic, payload = ""] = call.words;
  const { table, config } = await readTable({ ...call, words: [] });
  const { rowsFor } = await import("./catalog.ts");
  const { buildJob } = await import("./manifest.ts");
  const { stringify } = await import("yaml");
  const rows = rowsFor(table, topic!);
  const { namespace = "default", instance, jobTtlSeconds: ttlSecondsAfterFinished } = config.cluster;
  const jobs = await Promise.all(
    rows.map(async (row) =>
      buildJob(await sampleSpec(row, topic!, payload), { namespace, instance, ttlSecondsAfterFinished })
    ),
  );
  const text = rows.map((row, i) => `# line ${row.line}: ${row.jobName}\n${stringify(jobs[i])}`).join("---\n");
  call.print(rows.length === 0 ? `No row is for "${topic}"` : text, jobs);
  return rows.length === 0 ? 1 : 0;
}

async function sampleSpec(row: RunSpec["row"], topic: string, payload: string): Promise<RunSpec> {
  const { runNameFor } = await import("./manifest.ts");
  const runName = runNameFor(row, { messageHash: "explain" });
  return {
    runName,
    row,
    message: { topic, payload: new TextEncoder().encode(payload) },
    messageHash: "explain",
    rootRun: runName,
    chainDepth: 0,
    receivedAt: new Date(),
  };
}

async function runs(call: Call): Promise<number> {
  const config = call.config();
  const { openStore } = await import("./adapters.ts");
  const { RunRecords } = await import("./records.ts");
  const { History } = await import("./history.ts");
  const { selectRecords } = await import("./status.ts");
  const history = new History(new RunRecords(await openStore(config.runs.url, config.s3)));
  await history.load(AbortSignal.timeout(60_000));
  const { own } = call.args;
  const [row, state, limit] = [own.get("row"), own.get("state"), Number(own.get("limit") ?? 20)];
  const found = selectRecords(history.values(), {
    limit: Number.isInteger(limit) && limit > 0 ? limit : 20,
    ...(typeof row === "string" ? { jobName: row } : {}),
    ...(state === "succeeded" || state === "failed" || state === "cancelled" ? { status: state } : {}),
  });
  const lines = found.map(({ finished_at, status, run_name, message }) =>
    [finished_at, status.padEnd(9), run_name, status === "succeeded" ? "" : message].join("  ").trimEnd()
  );
  call.print(lines.join("\n") || "No run has ended yet", found);
  return 0;
}

async function logs(call: Call): Promise<number> {
  const [runName] = call.words;
  const config = call.config();
  const { openStore } = await import("./adapters.ts");
  const store = await openStore(config.logs.url, config.s3);
  const stream = await store.read(`${runName}.txt`);
  if (!stream) throw new RangeError(`There is no log at ${store.url}/${runName}.txt: the run goes on, or never was`);
  for await (const chunk of stream) await writeAll(chunk);
  return 0;
}

async function writeAll(chunk: Uint8Array): Promise<void> {
  for (let at = 0; at < chunk.length;) at += await Deno.stdout.write(chunk.subarray(at));
}

/** Sends a request to the running service over MQTT and waits for its answer. */
function ask(what: "run" | "rerun" | "cancel"): Command["run"] {
  return async (call) => {
    const { connectAsync } = await import("mqtt");
    const config = call.config();
    const [name, payload = ""] = call.words;
    const { url, username, password, tls, protocolVersion } = config.mqtt;
    const client = await connectAsync(url, {
      protocolVersion,
      clientId: `mqtt-job-listener-cli-${crypto.randomUUID().slice(0, 8)}`,
      reconnectPeriod: 0,
      connectTimeout: ANSWER_MS,
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      ...(url.startsWith("mqtts:") || url.startsWith("wss:") ? tls : {}),
    }).catch((cause) => {
      throw new UnavailableError(`Cannot reach the broker ${url} (MQTT_URL): ${cause.message}`, { cause });
    });
    try {
      const transaction = crypto.randomUUID();
      const answered = Promise.withResolvers<{ status: string; error?: string; data?: { run_name: string } }>();
      client.on("message", (_, body) => {
        const answer = JSON.parse(body.toString());
        if (answer.transaction === transaction) answered.resolve(answer);
      });
      await client.subscribeAsync(`${config.topicPrefix}/response/${what}`, { qos: 1 });
      const asked = what === "run" ? { job_name: name, payload } : { run_name: name };
      await client.publishAsync(`${config.topicPrefix}/request/${what}`, JSON.stringify({ ...asked, transaction }), {
        qos: 1,
      });
      const timer = setTimeout(
        () => answered.reject(new UnavailableError(`No service answered within ${ANSWER_MS / 1000} s: is it running?`)),
        ANSWER_MS,
      );
      const answer = await answered.promise.finally(() => clearTimeout(timer));
      if (answer.status !== "ok") throw new Error(answer.error);
      call.print(answer.data!.run_name, answer.data);
      return 0;
    } finally {
      await client.endAsync(true);
    }
  };
}

async function health(call: Call): Promise<number> {
  const { listen } = call.config().status;
  if (!listen) throw new RangeError("STATUS_ADDR is off: there is no health to ask for");
  const host = listen.hostname === "0.0.0.0" || listen.hostname === "::" ? "127.0.0.1" : listen.hostname;
  const url = `http://${host.includes(":") ? `[${host}]` : host}:${listen.port}/healthz`;
  const answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) }).catch((cause) => {
    throw new UnavailableError(`Cannot reach ${url}: ${cause.message}`, { cause });
  });
  const text = await answer.text();
  call.print(text, JSON.parse(text));
  return answer.ok ? 0 : 1;
}

function completions({ words: [shell], print }: Call): number {
  const names = Object.keys(COMMANDS).join(" ");
  switch (shell) {
    case "bash":
      print(`complete -W "${names}" mqtt-job-listener`);
      return 0;
    case "zsh":
      print(`#compdef mqtt-job-listener\n_arguments "1:command:(${names})"`);
      return 0;
    case "fish":
      print(`complete -c mqtt-job-listener -f -n __fish_use_subcommand -a "${names}"`);
      return 0;
    default:
      console.error(`No completions for "${shell}": bash, zsh and fish are known`);
      return 2;
  }
}
