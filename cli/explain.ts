/**
 * The command explain: which rows a message would start, and what each run would be: the very Job for Kubernetes, or the
 * process of the local runner. Starts nothing and needs no running service.
 */
import { stringify } from "yaml";
import type { Table } from "../catalog.ts";
import type { CompiledTable } from "../catalog/compile.ts";
import type { JoinAfter } from "../catalog/joins_after.ts";
import type { Config } from "../config.ts";
import type { TemplateFiles } from "../k8s/template_files.ts";
import { RefusedError, type Row, type RunSpec } from "../ports.ts";
import { cut } from "../util/text.ts";
import { type Call, CommandError, counted, hint, type Io, plain, printLine, shellWord } from "./context.ts";
import { plannedRuns, runSpec } from "./items.ts";
import { openTable } from "./table.ts";

/** Shows which rows a message would run, and what would be started of each. */
export async function explain({ words: [topic = "", given = ""], json, io, ...call }: Call): Promise<number> {
  const { topicFault } = await import("../topics.ts");
  const fault = topicFault(topic);
  if (fault !== undefined) throw new CommandError(2, `TOPIC "${topic}": ${fault}`);
  const config = call.config();
  const { rowsFor } = await import("../catalog/table.ts");
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
  const planned = await planRows(rows, { message: { topic, payload }, config, table, templates, io });
  const found = planned.flatMap((runs) => runs ?? []);
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
  } else await printPlans(found, url, io);
  for (const row of candidates) {
    const dues = nextDues(table, row).map((due) => due.slice(0, 16).replace("T", " "));
    if (dues.length > 0) io.tell(plain(`Row "${row.jobName}" runs by its schedule, next: ${dues.join(", ")} (UTC)`));
  }
  const { rowNotes } = await import("../catalog/row_notes.ts");
  for (const row of rows) {
    const notes = rowNotes(row);
    if (notes.length > 0) io.tell(plain(`Row "${row.jobName}": ${notes.join("; ")}`));
  }
  if (planned.some((runs) => runs === undefined) || refused.length > 0) return 1;
  if (rows.length > 0) {
    io.tell(`${counted(rows.length, "row")} would run; each run gets a name of its own.${placeWords(config)}`);
    const words = given === "" || given === "-" ? "" : ` ${shellWord(given)}`;
    hint(io, `Start one by hand: mqtt-job-listener run ${shellWord(plain(rows[0]!.jobName))}${words}`);
    return 0;
  }
  if (filtered.length > 0) return 1;
  const { nearest } = await import("../util/nearest.ts");
  const guess = nearest(topic, table.index.filters());
  io.tell(`No row is for "${topic}"${guess === undefined ? "" : `: did you mean "${guess}"?`}`);
  return 1;
}

/** One run that would be started, as `--json` prints it. */
interface Plan {
  readonly job_name: string;
  readonly line: number;
  readonly next_due?: readonly string[];
  /** Of a group: the item, its position, and how many there are. */
  readonly item?: unknown;
  readonly index?: number | undefined;
  readonly total?: number;
  /** As Kubernetes would get it. */
  readonly job?: unknown;
  /** As the local runner would start it. */
  readonly process?: unknown;
}

interface Planning {
  readonly message: RunSpec["message"];
  readonly config: Config;
  readonly table: CompiledTable;
  readonly templates: TemplateFiles | undefined;
  readonly io: Io;
}

/** What would be started of each row; undefined: the message lacks what the row needs, which has been told. */
async function planRows(
  rows: readonly Row[],
  { message, config, table, templates, io }: Planning,
): Promise<(Plan[] | undefined)[]> {
  const { concurrencyOf, shortHash } = await import("../run_spec.ts");
  const show = await shownAs(config, templates);
  // All that one message sets off has one root.
  const root = shortHash([crypto.randomUUID()]);
  return await Promise.all(rows.map(async (row) => {
    const spec = await runSpec(row, message, config, root);
    try {
      const dues = nextDues(table, row);
      const { specs, total } = await plannedRuns(spec, config, table.conditions.get(row.when ?? ""));
      if (total !== undefined) tellItems(row, total, specs.length, io);
      return specs.map((spec) => ({
        job_name: row.jobName,
        line: row.line,
        ...dues.length > 0 ? { next_due: dues } : {},
        ...(total === undefined ? {} : { item: JSON.parse(spec.item!), index: spec.index, total }),
        ...show(row.maxRuns === undefined ? spec : { ...spec, concurrency: concurrencyOf(spec) }),
      }));
    } catch (error) {
      // The message lacks what a placeholder names.
      if (!(error instanceof RefusedError)) throw error;
      io.tell(error.message);
      return undefined;
    }
  }));
}

/** How a run is shown: as what the configured cluster would get of it. */
async function shownAs(
  { cluster }: Config,
  templates: TemplateFiles | undefined,
): Promise<(spec: RunSpec) => Pick<Plan, "job" | "process">> {
  const { namespace = "default", instance, jobTtlSeconds: ttlSecondsAfterFinished, localDir: dir } = cluster;
  if (cluster.kind === "local") {
    const { processPlan } = await import("../local/runner.ts");
    const hasSecrets = cluster.localSecretsDir !== undefined;
    return (spec) => ({ process: processPlan(spec, { dir, hasSecrets }) });
  }
  const { buildJob } = await import("../k8s/manifest.ts");
  const laid = templates ? { templates: () => templates.current } : {};
  return (spec) => ({ job: buildJob(spec, { namespace, instance, ttlSecondsAfterFinished, ...laid }) });
}

async function printPlans(plans: readonly Plan[], url: string, io: Io): Promise<void> {
  const texts = plans.map(({ job_name, line, item, index, job, process }) => {
    const of = index === undefined ? "" : `, item ${index}: ${cut(JSON.stringify(item), 200)}`;
    return plain(`# Row "${job_name}", line ${line} of ${url}${of}`) +
      `\n${stringify(job ?? process, { lineWidth: 0, aliasDuplicateObjects: false })}`;
  });
  await io.write(texts.join("---\n"));
}

function placeWords({ cluster }: Config): string {
  if (cluster.kind === "local") {
    return " The local runner starts commands on this machine (CLUSTER=local); it takes no images.";
  }
  return cluster.namespace === undefined ? " The kubeconfig's namespace takes the place of default." : "";
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
