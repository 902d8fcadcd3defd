/**
 * Commands about the table: check, graph, explain. They need no running service. What is true of a table is said by the
 * modules asked, each imported when it is wanted: `check` needs no Kubernetes.
 */
import type { Problem, Table } from "../catalog.ts";
import type { JoinAfter } from "../catalog/joins_after.ts";
import type { TemplateFiles } from "../k8s/template_files.ts";
import type { CompiledTable } from "../catalog/compile.ts";
import type { Config } from "../config.ts";
import { RefusedError, type Row, type RunSpec, UnavailableError } from "../ports.ts";
import { plannedRuns, sampleOf } from "./items.ts";
import { type Call, CommandError, counted, type Io, openCluster, plain, printLine } from "./context.ts";
import { errorMessage } from "../util/errors.ts";
import { cut } from "../util/text.ts";

/** The table that was named, or the configured one, as the service would read it. */
async function openTable(
  config: Config,
  io: Io,
  where?: string,
): Promise<{ table: CompiledTable; url: string; templates: TemplateFiles | undefined }> {
  const { readTable } = await import("../catalog/compile.ts");
  const { source, url } = await tableText(config, io, where);
  const { checkRow } = await import("../catalog/policy.ts");
  const policy = await readPolicy(config);
  const { topicPrefix } = config;
  const { openTemplates } = await import("../adapters.ts");
  const { checkChannels, checkTemplate } = await import("../catalog/rules.ts");
  const templates = await openTemplates(config);
  const channels = [...config.channels.keys()];
  const check = (row: Row) => [
    ...checkRow(policy ?? {}, row),
    ...checkTemplate(templates, row),
    ...checkChannels(channels, row),
  ];
  const table = await readTable(source, { topicPrefix, check });
  return { table, url, templates };
}

async function readPolicy({ policy }: Config) {
  if (!policy) return undefined;
  const { parsePolicy } = await import("../catalog/policy.ts");
  try {
    return parsePolicy(policy.text, policy.file);
  } catch (cause) {
    throw new CommandError(2, `POLICY_FILE ${policy.file}: ${errorMessage(cause)}`, { cause });
  }
}

async function tableText(config: Config, io: Io, where?: string): Promise<{ source: Uint8Array; url: string }> {
  if (where === "-") return { source: await io.read(), url: "standard input" };
  if (where !== undefined && /^https?:/.test(where)) {
    io.progress?.(`Reading ${where}`);
    return { source: await download(where).finally(() => io.progress?.("")), url: where };
  }
  const { splitObjectUrl } = await import("../config.ts");
  const { openStore } = await import("../adapters.ts");
  const { MAX_TABLE_BYTES } = await import("../catalog.ts");
  const { storeUrl, key } = where === undefined ? config.catalog : splitObjectUrl(where);
  const store = await openStore(storeUrl, config.s3);
  const url = where ?? `${store.url}/${key}`;
  const found = await store.get(key, { maxBytes: MAX_TABLE_BYTES });
  if (found === undefined || found === "unchanged") {
    throw new CommandError(
      2,
      `There is no table at ${url}: ${where === undefined ? "see CATALOG_URL" : "see the path"}`,
    );
  }
  return { source: found.body, url };
}

async function download(url: string): Promise<Uint8Array> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(30_000) }).catch((cause) => {
    throw new UnavailableError(`Cannot read ${url}: ${errorMessage(cause)}`, { cause });
  });
  const body = await answer.bytes();
  if (answer.status >= 500) throw new UnavailableError(`Cannot read ${url}: it answered ${answer.status}`);
  if (!answer.ok) throw new CommandError(2, `Cannot read ${url}: it answered ${answer.status}; see the address`);
  return body;
}

/** Tells everything that is wrong with a table; exit code 1 if a row would not run, with `--strict` for warnings too. */
export async function check({ words: [where], json, io, ...call }: Call): Promise<number> {
  const config = call.config();
  const { describeProblem } = await import("../catalog.ts");
  const { table, url } = await openTable(config, io, where);
  const problems = [...table.problems, ...call.flag("server") ? await askServer(config, table.rows, io) : []]
    .sort((a, b) => a.line - b.line);
  const errors = problems.filter(({ severity }) => severity === "error").length;
  const warnings = problems.length - errors;
  const rows = table.rows.length;
  if (json) {
    const told = problems.map((problem) => ({ ...problem, text: describeProblem(problem) }));
    await printLine(io, JSON.stringify({ table: url, rows, errors, warnings, problems: told }));
  } else {
    const lines = problems.map((problem) => plain(`${problem.severity}: ${describeProblem(problem)}`));
    const sum = [counted(rows, "good row"), counted(errors, "error"), counted(warnings, "warning")].join(", ");
    await printLine(io, [...lines, `${url}: ${sum}`].join("\n"));
  }
  return errors > 0 || warnings > 0 && call.flag("strict") ? 1 : 0;
}

const ASKED_AT_ONCE = 8;

/** What the API server has against the rows' Jobs, by a dry run: admission, quotas and the role included. */
async function askServer(config: Config, rows: readonly Row[], io: Io): Promise<Problem[]> {
  // The local runner takes runs that it finds for those of a dead service and ends them.
  if (config.cluster.kind === "local") throw new CommandError(2, "--server: needs CLUSTER=kubernetes");
  const { sampleMessage } = await import("../run_spec.ts");
  const cluster = await openCluster(config);
  const problems: Problem[] = [];
  const left = [...rows.entries()];
  const work = async () => {
    for (let next = left.shift(); next; next = left.shift()) {
      const [at, row] = next;
      io.progress?.(`Asking ${cluster.url}: row ${at + 1} of ${rows.length}`);
      const spec = await sampleOf(await runSpec(row, sampleMessage(row, config.topicPrefix), config));
      await cluster.create(spec, { dryRun: true }).catch((error) => {
        if (error instanceof UnavailableError) throw error;
        const message = `the API server refuses its Job: ${errorMessage(error)}`;
        problems.push({ severity: "error", line: row.line, jobName: row.jobName, message });
      });
    }
  };
  try {
    await Promise.all(Array.from({ length: ASKED_AT_ONCE }, work));
  } finally {
    io.progress?.("");
    cluster[Symbol.dispose]?.();
  }
  return problems;
}

/** Draws the table. */
export async function graph({ words: [where], json, io, ...call }: Call): Promise<number> {
  const config = call.config();
  const { chainGraph, toDot, toMermaid } = await import("../catalog/chains.ts");
  const { table } = await openTable(config, io, where);
  if (table.refusal) throw new CommandError(1, `Cannot draw the table: ${table.refusal.message}`);
  const drawing = chainGraph(table);
  const format = call.flag("format");
  if (json) await printLine(io, JSON.stringify(drawing));
  else if (format === "svg") {
    const { drawGraph } = await import("../status/graph.tsx");
    const { svg, omitted } = drawGraph(drawing, config.topicPrefix);
    await io.write(styled(svg));
    if (omitted > 0) io.tell(`${omitted} topics and rows are not drawn, for there are too many`);
  } else await io.write(format === "dot" ? toDot(drawing) : toMermaid(drawing));
  return 0;
}

/** The page styles the drawing by its own sheet; a file needs some of that within. */
function styled(svg: string): string {
  const style = "<style>svg{background:#fff;font:13px sans-serif}rect{fill:#fff;stroke:#555}text{fill:#111}" +
    ".edge{fill:none;stroke:#555}.fails{stroke-dasharray:4 3}.needs{stroke-width:2.5px}.odd{stroke:#b00020;stroke-dasharray:4 3}</style>";
  return svg.trim().replace(/<svg[^<>]*>/, (tag) => tag + style) + "\n";
}

// ---------------------------------------------------------------- explain

/** Shows which rows a message would run and their Jobs, as Kubernetes would get them. */
export async function explain({ words: [topic = "", given = ""], json, io, ...call }: Call): Promise<number> {
  const { topicFault } = await import("../topics.ts");
  const fault = topicFault(topic);
  if (fault !== undefined) throw new CommandError(2, `TOPIC "${topic}": ${fault}`);
  const config = call.config();
  const { rowsFor } = await import("../catalog/table.ts");
  const { buildJob } = await import("../k8s/manifest.ts");
  const { stringify } = await import("yaml");
  const { table, url, templates } = await openTable(config, io);
  const { selectRows } = await import("../listener/selection.ts");
  const own = await scheduledRow(table, topic) ?? await joinedRow(table, topic);
  const payload = given === "-" ? await io.read() : given === "" && own ? own.payload : new TextEncoder().encode(given);
  const candidates = own ? [own.row] : rowsFor(table, topic);
  const { rows, filtered, refused } = selectRows(candidates, { topic, payload }, {
    topicPrefix: config.topicPrefix,
    conditionOf: ({ when = "" }) => table.conditions.get(when),
  });
  await tellLeftOut(table, topic, io);
  const { namespace = "default", instance, jobTtlSeconds: ttlSecondsAfterFinished } = config.cluster;
  const options = {
    namespace,
    instance,
    ttlSecondsAfterFinished,
    ...(templates ? { templates: () => templates.current } : {}),
  };
  const { shortHash } = await import("../run_spec.ts");
  // All that one message sets off has one root.
  const root = shortHash([crypto.randomUUID()]);
  const made = await Promise.all(rows.map(async (row) => {
    const spec = await runSpec(row, { topic, payload }, config, root);
    try {
      const dues = nextDues(table, row);
      const { specs, total } = await plannedRuns(spec, config, table.conditions.get(row.when ?? ""));
      if (total !== undefined) tellItems(row, total, specs.length, io);
      return specs.map((spec) => ({
        job_name: row.jobName,
        line: row.line,
        ...dues.length > 0 ? { next_due: dues } : {},
        ...(total === undefined ? {} : { item: JSON.parse(spec.item!), index: spec.index, total }),
        job: buildJob(spec, options),
      }));
    } catch (error) {
      // The message lacks what a placeholder names.
      if (!(error instanceof RefusedError)) throw error;
      io.tell(error.message);
      return undefined;
    }
  }));
  const found = made.flatMap((runs) => runs ?? []);
  const { joinsAfter } = await import("../catalog/joins_after.ts");
  const joins = joinsAfter(table, rows);
  for (const join of joins.slice(0, MAX_JOINS)) io.tell(plain(joinWords(join)));
  if (joins.length > MAX_JOINS) io.tell(`${joins.length - MAX_JOINS} more rows need what this message starts`);
  for (const { jobName, line, because } of filtered) {
    io.tell(plain(`Row "${jobName}", line ${line}, would not run, for its condition (when) is false: ${because}`));
  }
  for (const { message } of refused) io.tell(plain(message));
  if (json) {
    const others = filtered.map(({ jobName: job_name, line, because }) => ({ job_name, line, filtered: because }));
    const later = joins.map(({ row: { jobName: job_name, line, needs }, missing }) => {
      return { job_name, line, needs, missing };
    });
    await printLine(io, JSON.stringify([...found, ...others, ...later]));
  } else {
    const texts = found.map(({ job_name, line, item, index, job }) => {
      const of = index === undefined ? "" : `, item ${index}: ${cut(JSON.stringify(item), 200)}`;
      return plain(`# Row "${job_name}", line ${line} of ${url}${of}`) +
        `\n${stringify(job, { lineWidth: 0, aliasDuplicateObjects: false })}`;
    });
    await io.write(texts.join("---\n"));
  }
  for (const row of candidates) {
    const dues = nextDues(table, row).map((due) => due.slice(0, 16).replace("T", " "));
    if (dues.length > 0) io.tell(plain(`Row "${row.jobName}" runs by its schedule, next: ${dues.join(", ")} (UTC)`));
  }
  const { rowNotes } = await import("../catalog/row_notes.ts");
  for (const row of rows) {
    const notes = rowNotes(row);
    if (notes.length > 0) io.tell(plain(`Row "${row.jobName}": ${notes.join("; ")}`));
  }
  if (made.some((runs) => runs === undefined) || refused.length > 0) return 1;
  if (rows.length > 0) {
    const place = config.cluster.namespace === undefined
      ? " The kubeconfig's namespace takes the place of default."
      : "";
    io.tell(`${counted(rows.length, "row")} would run; each run gets a name of its own.${place}`);
    return 0;
  }
  if (filtered.length > 0) return 1;
  const { nearest } = await import("../util/nearest.ts");
  const guess = nearest(topic, table.index.filters());
  io.tell(`No row is for "${topic}"${guess === undefined ? "" : `: did you mean "${guess}"?`}`);
  return 1;
}

function tellItems({ jobName }: Row, total: number, shown: number, io: Io): void {
  const more = total > shown ? `; ${total - shown} more than the ${shown} shown here` : "";
  io.tell(plain(`Row "${jobName}" would make a group of ${counted(total, "item")}, a run each${more}`));
}

/** Rows with `needs` that `explain` tells. */
const MAX_JOINS = 20;

/** What would have to succeed. */
function joinWords({ row: { jobName, line, needs = [] }, missing }: JoinAfter): string {
  const names = (some: readonly string[]) => some.map((name) => `"${name}"`).join(", ");
  if (missing.length === 0) {
    return `Row "${jobName}", line ${line}, would run when all that it needs has succeeded: ${names(needs)}`;
  }
  return `Row "${jobName}", line ${line}, would not run, for this message does not lead to what it needs: ${
    names(missing)
  }`;
}

/** The row of a topic `schedule/{job_name}`, and what its next due time says; undefined: it is none of a row's. */
async function scheduledRow(
  table: CompiledTable,
  topic: string,
): Promise<{ row: Row; payload: Uint8Array } | undefined> {
  const { scheduleTopic } = await import("../topics.ts");
  const row = table.rows.find(({ schedule, enabled, jobName }) =>
    schedule && enabled !== "no" && scheduleTopic(table.topicPrefix, jobName) === topic
  );
  const due = row && table.timetableOf(row)?.next(new Date());
  if (!due) return undefined;
  const { dueMessage } = await import("../flows.ts");
  return { row, payload: dueMessage(table.topicPrefix, row, due).payload };
}

/** The row of a topic `join/{job_name}`, and a message that has what it needs; undefined: it is none of a row's. */
async function joinedRow(table: Table, topic: string): Promise<{ row: Row; payload: Uint8Array } | undefined> {
  const { joinTopic } = await import("../topics.ts");
  const row = table.rows.find(({ needs, enabled, jobName }) =>
    needs && enabled !== "no" && joinTopic(table.topicPrefix, jobName) === topic
  );
  if (!row) return undefined;
  const { sampleMessage } = await import("../run_spec.ts");
  return { row, payload: sampleMessage({ ...row, mqttTopic: "" }, table.topicPrefix).payload };
}

/** Due times that `explain` tells. */
const MAX_DUES = 5;

function nextDues(table: CompiledTable, row: Row): string[] {
  const timetable = row.enabled === "no" ? undefined : table.timetableOf(row);
  const dues: string[] = [];
  for (let due = timetable?.next(new Date()); due && dues.length < MAX_DUES; due = timetable?.next(due)) {
    dues.push(due.toISOString());
  }
  return dues;
}

/** Rows that are for the topic but have errors. */
async function tellLeftOut(table: Table, topic: string, io: Io): Promise<void> {
  const { filterFault, matches, scheduleTopic } = await import("../topics.ts");
  if (table.refusal) throw new CommandError(1, `Cannot use the table: ${table.refusal.message}`);
  for (const { jobName, line, mqttTopic } of table.badRows) {
    if (mqttTopic === "" || filterFault(mqttTopic) !== undefined || !matches(mqttTopic, topic)) continue;
    io.tell(`Row "${jobName}", line ${line}, would not run, for it has errors: see the command check`);
  }
  for (const { jobName, line, mqttTopic, enabled } of table.rows) {
    const isFor = mqttTopic !== "" && matches(mqttTopic, topic) || scheduleTopic(table.topicPrefix, jobName) === topic;
    if (enabled !== "no" || !isFor) continue;
    io.tell(`Row "${jobName}", line ${line}, would not run, for it is switched off (its cell enabled says no)`);
  }
}

/** The run that the listener would make of the message. */
async function runSpec(row: Row, message: RunSpec["message"], config: Config, root?: string): Promise<RunSpec> {
  const { originOf } = await import("../listener.ts");
  const { payloadFits, runNameFor, shortHash } = await import("../run_spec.ts");
  const { keyOf } = await import("../listener/work.ts");
  const { isJoinTopic } = await import("../topics.ts");
  const origin = originOf(message, config.topicPrefix);
  const { rootRun, chainDepth } = origin;
  const given = keyOf(row, { origin, delivery: message });
  const key = given instanceof RefusedError ? undefined : given;
  const messageHash = shortHash([crypto.randomUUID()]);
  const runName = runNameFor(row, { key: key ?? messageHash });
  const object = `${config.runs.url}/.payloads/${messageHash}`;
  const stored = !payloadFits(message.payload);
  const parentRun = origin.parentRun ?? (isJoinTopic(config.topicPrefix, message.topic) ? runName : undefined);
  return {
    runName,
    row,
    message,
    ...(stored ? { payloadLink: { object, url: `${object}?a-link-made-at-the-start` } } : {}),
    messageHash,
    ...(parentRun === undefined ? {} : { parentRun }),
    root: origin.root ?? root ?? messageHash,
    rootRun: rootRun ?? runName,
    chainDepth,
    receivedAt: new Date(),
  };
}
