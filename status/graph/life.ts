/**
 * How the rows of the table stand, from live runs and ends: of all messages, or of one alone. Pure.
 */
import type { EndedRun } from "../../history.ts";
import type { RunView } from "../../ports.ts";
import { durationWords } from "../../util/duration.ts";
import type { RowLife } from "../graph.tsx";
import type { RunsOfRoot, Wait } from "../joins.ts";
import { type LiveCount, liveCounts } from "../live_lines.ts";
import { agoWords, groupHref, rowHref, runHref, tookWords } from "../pages/parts.tsx";
import type { StripState } from "../pages/states.ts";

/** Shapes of a row's strip. */
const STRIP_LENGTH = 12;

/** Live runs of a row, and its last ends, oldest first. */
export interface RowState extends LiveCount {
  readonly job_name: string;
  readonly last: readonly Pick<EndedRun, "run_name" | "status" | "finished_at">[];
}

/** Of those rows. */
export function rowStates(
  names: Iterable<string>,
  live: readonly RunView[],
  lastEnds: ReadonlyMap<string, readonly EndedRun[]>,
): RowState[] {
  const counts = liveCounts(live);
  return [...names].map((job_name) => ({
    job_name,
    ...counts.get(job_name) ?? { running: 0, waiting: 0 },
    last: (lastEnds.get(job_name) ?? []).slice(-STRIP_LENGTH)
      .map(({ run_name, status, finished_at }) => ({ run_name, status, finished_at })),
  }));
}

/** What a row's node shows of all its runs. */
export function lifeOfRow(
  { job_name, running, waiting, last }: RowState,
  { now, isWhole }: { readonly now: Date; /** The history goes back to the first run. */ readonly isWhole: boolean },
): RowLife {
  const newest = last.at(-1);
  const words = running + waiting > 0
    ? [counted(running, "running"), counted(waiting, "waiting")].filter((one) => one !== "").join(", ")
    : newest
    ? `${newest.status} ${agoWords(now.getTime() - Date.parse(newest.finished_at))}`
    : isWhole
    ? "no run yet"
    : "no run known";
  const tone = running > 0 ? "running" : newest?.status === "failed" ? "failed" : "quiet";
  const strip = last.map(({ status }) => status);
  return { strip, words, tone, href: rowHref(job_name) };
}

function counted(count: number, word: string): string {
  return count === 0 ? "" : `${count} ${word}`;
}

/** A run of the message that is followed. */
interface RootRun {
  readonly state: StripState;
  readonly runName: string;
  readonly group?: string | undefined;
  readonly at: number;
  readonly words: string;
}

/** What the nodes show of one message's runs; rows without any are `unknown`. */
export function lifeOfRoot(
  names: Iterable<string>,
  { root, live, ended }: RunsOfRoot,
  { waits, now }: { readonly waits: readonly Wait[]; readonly now: Date },
): Map<string, RowLife> {
  const runs = new Map<string, RootRun[]>();
  const add = (jobName: string, run: RootRun) => {
    const known = runs.get(jobName);
    if (known) known.push(run);
    else runs.set(jobName, [run]);
  };
  for (const { jobName, state, runName, group, receivedAt, startedAt } of live) {
    const since = startedAt ?? receivedAt;
    const words = `${state === "pending" ? "waiting" : state} for ${durationWords(now.getTime() - since.getTime())}`;
    add(jobName, { state, runName, group, at: receivedAt.getTime(), words });
  }
  for (const run of ended) {
    // What it was tried again as stands for it.
    if (run.retried_as !== undefined) continue;
    const { job_name, status, run_name, group, received_at } = run;
    const words = `${status}, ${tookWords(run)}`;
    add(job_name, { state: status, runName: run_name, group, at: Date.parse(received_at), words });
  }
  return new Map([...names].map((name) => [name, lifeOfRuns(name, runs.get(name) ?? [], { root, waits })]));
}

function lifeOfRuns(
  jobName: string,
  runs: readonly RootRun[],
  { root, waits }: { readonly root: string; readonly waits: readonly Wait[] },
): RowLife {
  const [only, ...others] = runs;
  if (!only) {
    const wait = waits.find((wait) => wait.jobName === jobName);
    const words = wait?.words ?? "nothing of this message";
    return { strip: [], words, tone: "unknown", href: rowHref(jobName) };
  }
  const states = [...runs].sort((a, b) => a.at - b.at).map(({ state }) => state);
  const tone = states.some((state) => state === "running" || state === "ending")
    ? "running"
    : states.includes("failed")
    ? "failed"
    : "quiet";
  const isGroup = only.group !== undefined && others.every(({ group }) => group === only.group);
  const href = others.length === 0 && !isGroup
    ? runHref(only.runName)
    : isGroup
    ? groupHref(only.group!)
    : `/runs?root=${encodeURIComponent(root)}&row=${encodeURIComponent(jobName)}`;
  return {
    strip: states.slice(-STRIP_LENGTH),
    words: others.length === 0 ? only.words : runsWords(states),
    tone,
    href,
  };
}

/** `20 runs, 1 failed, 2 live`; of those that all stand alike `3 succeeded`. */
function runsWords(states: readonly StripState[]): string {
  const count = (...wanted: StripState[]) => states.filter((state) => wanted.includes(state)).length;
  const [first] = states;
  if (first && count(first) === states.length) return `${states.length} ${first === "pending" ? "waiting" : first}`;
  const parts = [
    counted(count("failed"), "failed"),
    counted(count("cancelled"), "cancelled"),
    counted(count("running", "ending", "pending"), "live"),
  ];
  return [`${states.length} runs`, ...parts.filter((part) => part !== "")].join(", ");
}
