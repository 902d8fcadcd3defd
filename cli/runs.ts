/**
 * The command runs: what is under way by the service's last word, and what ended by the index of a service on this machine,
 * else by what the store has. Reads only.
 */
import type { Config } from "../config.ts";
import type { EndedRun, RunFilter } from "../history.ts";
import type { RunRecord } from "../ports.ts";
import type { LiveRecord, RunRecords } from "../records.ts";
import { compact } from "../util/compact.ts";
import { durationWords, momentMs } from "../util/duration.ts";
import { nearest } from "../util/nearest.ts";
import { cut } from "../util/text.ts";
import { type Call, CommandError, hint, type Io } from "./context.ts";
import { type Cell, printTable, stateCell } from "./table_text.ts";

const RECORDS_AT_ONCE = 16;

interface Wanted {
  readonly row?: string;
  readonly state?: string;
  readonly limit: number;
  readonly filter: RunFilter;
  /** It asks for what only a run that has ended has. */
  readonly isOfEnds: boolean;
}

/** What `runs` shows of a run under way; a record is shown as it is. */
type LiveView = Pick<RunRecord, "run_name" | "job_name" | "topic" | "parent_run" | "created_at" | "started_at"> & {
  readonly status: "pending" | "running";
  /** Why it has not begun, where this service holds it. */
  readonly waits?: string;
};

const SAYS_NOTHING = ["Ended without error", "Completed"];

const WAITS: ReadonlyMap<unknown, string> = new Map([
  ["slot", "Waits for a free slot (max_runs)"],
  ["pause", "Waits until the row is no longer paused"],
]);

/** Lists runs: those under way by the service's last word, then those that ended, newest first. */
export async function runs({ json, io, ...call }: Call, states: readonly string[]): Promise<number> {
  const wanted = readWanted(call.flag);
  const config = call.config();
  const { openStore } = await import("../adapters.ts");
  const { RunRecords } = await import("../records.ts");
  const store = await openStore(config.runs.url, config.s3);
  const records = new RunRecords(store);
  const isLive = wanted.state === undefined || states.indexOf(wanted.state) < 2;
  const isEnded = wanted.state === undefined || !isLive;
  const live = isLive && !wanted.isOfEnds ? await liveRuns(records, wanted) : [];
  const limit = wanted.limit - live.length;
  const { searchStore } = await import("../history.ts");
  const found = !isEnded || limit <= 0 ? undefined : await searchStore({
    records,
    store,
    folder: config.data.folder,
    filter: { ...wanted.filter, ...(isEnded && wanted.state ? { status: wanted.state as RunRecord["status"] } : {}) },
    limit,
    onProgress: (count) => io.progress?.(`Reading ${config.runs.url}: ${count} runs`),
  });
  io.progress?.("");
  const ended = found?.runs ?? [];
  if (live.length + ended.length === 0 && wanted.row !== undefined) {
    await checkRow(wanted.row, { config, live: await records.getLive(), rows: found?.rows ?? new Set() });
  }
  if (found?.unseen !== undefined) io.tell(found.unseen, "faint");
  if (json) await printJson(live, ended, records, io);
  else if (live.length + ended.length === 0) io.tell("No such run");
  else {
    await printTable(io, ["RUN", "STATE", "ENDED", "TOOK", "WHY"], [...live, ...ended].map(cellsOf));
    const failed = ended.find(({ status }) => status === "failed");
    if (failed) hint(io, `See why: mqtt-job-listener logs ${failed.run_name}`);
  }
  return 0;
}

function readWanted(flag: Call["flag"]): Wanted {
  const limit = Number(flag("limit") ?? 20);
  if (!Number.isInteger(limit) || limit < 1) {
    throw new CommandError(2, `--limit "${flag("limit")}": write a whole number of at least 1`);
  }
  const text = (name: string) => flag(name) === undefined ? undefined : String(flag(name));
  const time = (name: string) => {
    const given = text(name);
    const ms = given === undefined ? undefined : momentMs(given);
    if (given !== undefined && ms === undefined) {
      throw new CommandError(2, `--${name} "${given}": write how long ago (2h, 3d), or 2026-03-01T12:00:00Z`);
    }
    return ms === undefined ? undefined : new Date(ms);
  };
  const [row, reason, owner, words] = [text("row"), text("reason"), text("owner"), text("text")];
  const [since, until] = [time("since"), time("until")];
  return {
    limit,
    ...compact({ row, state: text("state") }),
    filter: compact({ jobName: row, reason, owner, text: words, since, until }),
    isOfEnds: [reason, owner, words, until].some((one) => one !== undefined),
  };
}

/** Those under way, without any that has ended since the service wrote its list. */
async function liveRuns(records: RunRecords, { row, state, filter: { since }, limit }: Wanted): Promise<LiveView[]> {
  const found: LiveView[] = [];
  const fitting = (await records.getLive()).filter(({ receivedAt }) => !since || receivedAt >= since).map(liveView)
    .filter((run) => (row === undefined || run.job_name === row) && (state === undefined || run.status === state));
  for (let at = 0; at < fitting.length && found.length < limit; at += RECORDS_AT_ONCE) {
    const some = fitting.slice(at, at + RECORDS_AT_ONCE);
    const ended = await Promise.all(some.map(({ run_name }) => records.exists(run_name)));
    found.push(...some.filter((_, index) => !ended[index]));
  }
  return found.slice(0, limit);
}

/** Throws where neither table nor records have such a row: it is misspelt. */
async function checkRow(
  row: string,
  { config, live, rows }: { config: Config; live: readonly LiveRecord[]; rows: ReadonlySet<string> },
): Promise<void> {
  const { openStore } = await import("../adapters.ts");
  const { parseTable } = await import("../catalog/table.ts");
  const { storeUrl, key } = config.catalog;
  // A table that cannot be read now names no rows; records may.
  const object = await (await openStore(storeUrl, config.s3)).get(key).catch(() => undefined);
  const text = object === undefined || object === "unchanged" ? undefined : new TextDecoder().decode(object.body);
  const table = text === undefined ? undefined : tableOf(() => parseTable(text, { topicPrefix: config.topicPrefix }));
  const known = [...rows, ...live.map(({ jobName }) => jobName), ...table?.rows.map(({ jobName }) => jobName) ?? []];
  if (known.includes(row)) return;
  const guess = known.find((one) => one.toLowerCase() === row.toLowerCase()) ?? nearest(row, known);
  const advice = guess === undefined ? "see the command check" : `did you mean "${guess}"?`;
  throw new CommandError(1, `No row of the table and no record is of "${cut(row, 100)}": ${advice}`);
}

function tableOf<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch {
    return undefined;
  }
}

/** Each record as it is, a few in memory at a time. */
async function printJson(live: readonly LiveView[], ended: readonly EndedRun[], records: RunRecords, io: Io) {
  let separator = "[";
  const print = async (run: LiveView | RunRecord) => {
    await io.write(separator + JSON.stringify(run));
    separator = ",";
  };
  for (const run of live) await print(run);
  for (let at = 0; at < ended.length; at += RECORDS_AT_ONCE) {
    const read = await Promise.all(
      ended.slice(at, at + RECORDS_AT_ONCE).map(({ run_name }) =>
        records.get(run_name).catch((error) => {
          if (!(error instanceof SyntaxError)) throw error;
          io.tell(`Warning: ${error.message}`);
          return undefined;
        })
      ),
    );
    for (const record of read) if (record) await print(record);
  }
  await io.write(separator === "[" ? "[]\n" : "]\n");
}

function liveView({ runName, jobName, topic, parentRun, createdAt, startedAt, heldFor }: LiveRecord): LiveView {
  const waits = startedAt ? undefined : WAITS.get(heldFor);
  return {
    ...(waits === undefined ? {} : { waits }),
    run_name: runName,
    job_name: jobName,
    status: startedAt ? "running" : "pending",
    topic,
    parent_run: parentRun ?? null,
    created_at: createdAt.toISOString(),
    started_at: startedAt?.toISOString() ?? null,
  };
}

function cellsOf(run: LiveView | EndedRun): Cell[] {
  const ended = "finished_at" in run ? run.finished_at : undefined;
  const took = !run.started_at
    ? ""
    : durationWords(Date.parse(ended ?? new Date().toISOString()) - Date.parse(run.started_at));
  const next = "retried_as" in run ? `; tried again as ${run.retried_as}` : "";
  // One that succeeded may have something to say too: that it lacked memory, or was skipped.
  const says = "message" in run && !(run.status === "succeeded" && SAYS_NOTHING.includes(run.message));
  const why = says ? run.message + next : "waits" in run ? run.waits ?? "" : "";
  return [run.run_name, stateCell(run.status), ended?.replace(/\.\d+Z$/, "Z") ?? "", took, why];
}
