/**
 * The command runs: what is under way by the service's last word, and what ended by its records. Reads the store only.
 */
import type { RunRecord } from "../ports.ts";
import type { LiveRecord, RunRecords } from "../records.ts";
import { durationWords } from "../util/duration.ts";
import { type Call, CommandError, type Io, plain, printLine } from "./context.ts";

const RECORDS_AT_ONCE = 16;

interface Wanted {
  readonly row?: string;
  readonly state?: string;
  readonly limit: number;
}

/** What `runs` shows of a run under way; a record is shown as it is. */
type LiveView = Pick<RunRecord, "run_name" | "job_name" | "topic" | "parent_run" | "created_at" | "started_at"> & {
  readonly status: "pending" | "running";
  /** Why it has not begun, where this service holds it. */
  readonly waits?: string;
};

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
  const records = new RunRecords(await openStore(config.runs.url, config.s3));
  const ended: { runName: string; modifiedAt: Date }[] = [];
  for await (const one of records.list()) {
    ended.push(one);
    if (ended.length % 1000 === 0) io.progress?.(`Reading ${config.runs.url}: ${ended.length} runs`);
  }
  io.progress?.("");
  const isLive = wanted.state === undefined || states.indexOf(wanted.state) < 2;
  const isEnded = wanted.state === undefined || !isLive;
  const over = new Set(ended.map(({ runName }) => runName));
  const live = isLive ? (await records.getLive()).filter(({ runName }) => !over.has(runName)).map(liveView) : [];
  const shown: (LiveView | RunRecord)[] = live.filter((run) => fits(run, wanted)).slice(0, wanted.limit);
  if (isEnded) shown.push(...await newest(records, ended, { ...wanted, limit: wanted.limit - shown.length }, io));
  if (json) await printLine(io, JSON.stringify(shown));
  else if (shown.length === 0) io.tell("No such run");
  else await printLine(io, runTable(shown));
  return 0;
}

function readWanted(flag: Call["flag"]): Wanted {
  const limit = Number(flag("limit") ?? 20);
  if (!Number.isInteger(limit) || limit < 1) {
    throw new CommandError(2, `--limit "${flag("limit")}": write a whole number of at least 1`);
  }
  const [row, state] = [flag("row"), flag("state")];
  return {
    limit,
    ...(row === undefined ? {} : { row: String(row) }),
    ...(state === undefined ? {} : { state: String(state) }),
  };
}

function fits({ job_name, status }: LiveView | RunRecord, { row, state }: Wanted): boolean {
  return (row === undefined || job_name === row) && (state === undefined || status === state);
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

/** The newest records that are wanted; reads no more of them than that takes. */
async function newest(
  records: RunRecords,
  ended: readonly { runName: string; modifiedAt: Date }[],
  wanted: Wanted,
  io: Io,
): Promise<RunRecord[]> {
  const { rowLabel } = await import("../run_spec.ts");
  // The least that a name keeps of its row's label.
  const start = wanted.row === undefined ? "" : rowLabel(wanted.row, 39);
  const left = ended.filter(({ runName }) => runName.startsWith(start))
    .sort((a, b) => b.modifiedAt.getTime() - a.modifiedAt.getTime());
  const found: RunRecord[] = [];
  for (let at = 0; at < left.length && found.length < wanted.limit; at += RECORDS_AT_ONCE) {
    const read = await Promise.all(
      left.slice(at, at + RECORDS_AT_ONCE).map(async ({ runName }) => {
        return await records.get(runName).catch((error) => {
          if (!(error instanceof SyntaxError)) throw error;
          io.tell(`Warning: ${error.message}`);
          return undefined;
        });
      }),
    );
    found.push(...read.filter((record) => record !== undefined).filter((record) => fits(record, wanted)));
  }
  return found.sort((a, b) => a.finished_at < b.finished_at ? 1 : -1).slice(0, wanted.limit);
}

function runTable(shown: readonly (LiveView | RunRecord)[]): string {
  const cells = shown.map((run) => {
    const ended = "finished_at" in run ? run.finished_at : undefined;
    const took = !run.started_at
      ? ""
      : durationWords(Date.parse(ended ?? new Date().toISOString()) - Date.parse(run.started_at));
    const next = "retried_as" in run ? `; tried again as ${run.retried_as}` : "";
    const why = "message" in run && (run.status !== "succeeded" || run.oom_killed)
      ? run.message + next
      : "waits" in run
      ? run.waits ?? ""
      : "";
    return [run.run_name, run.status, ended?.replace(/\.\d+Z$/, "Z") ?? "", took, why];
  });
  const rows = [["RUN", "STATE", "ENDED", "TOOK", "WHY"], ...cells].map((row) => row.map(plain));
  const widths = rows[0]!.map((_, at) => Math.max(...rows.map((row) => row[at]!.length)));
  return rows.map((row) => row.map((cell, at) => cell.padEnd(widths[at]!)).join("  ").trimEnd()).join("\n");
}
