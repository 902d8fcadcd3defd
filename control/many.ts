/**
 * Cancel and rerun of runs that a person has picked. Tells of each what became of it; runs again behind fresh messages,
 * each named by batch and run, so that the same selection sent twice starts nothing twice.
 */
import { isRunName, shortHash } from "../run_spec.ts";
import type { StartResult } from "../starter.ts";
import { errorMessage } from "../util/errors.ts";
import { atMost } from "../util/retry.ts";
import { Semaphore } from "../util/semaphore.ts";
import { cut } from "../util/text.ts";
import { type BatchEntry, type Batches, checkBatch } from "./batches.ts";

/** Runs that may be picked at a time. */
export const MAX_PICKED = 200;

/** What became of one of the runs that were picked. */
export interface PickedResult {
  readonly run_name: string;
  /** `exists`: the same selection has run it again already. `waiting`: it has not had its turn yet. */
  readonly result: "done" | "exists" | "refused" | "waiting";
  /** The run that was started for it, or the attempt that was cancelled in its place. */
  readonly became?: string;
  /** Why it was refused. */
  readonly message?: string;
}

export interface PickedAnswer {
  readonly done: number;
  readonly exists: number;
  readonly refused: number;
  readonly waiting: number;
  /** In the order in which they were picked. */
  readonly results: readonly PickedResult[];
}

/** Cancels under way at a time. */
const AT_ONCE = 16;
/** How long an answer waits for cancels. */
const ANSWER_MS = 10_000;

/** The picked names, each once. RangeError: there are none, too many, or one is no name of a run. */
export function checkPicked(runNames: readonly string[]): string[] {
  const picked = [...new Set(runNames)];
  if (picked.length === 0) throw new RangeError("No run is picked: pick at least one");
  if (picked.length > MAX_PICKED) {
    throw new RangeError(`${picked.length} runs are picked: pick at most ${MAX_PICKED} at a time`);
  }
  const wrong = picked.find((name) => !isRunName(name));
  if (wrong !== undefined) throw new RangeError(`"${cut(wrong, 63)}" is no name of a run`);
  return picked;
}

/** Cancels each; what takes longer than the answer waits goes on. */
export async function cancelPicked(
  runNames: readonly string[],
  cancel: (runName: string) => Promise<{ run_name: string }>,
  { signal, answerMs = ANSWER_MS }: { readonly signal: AbortSignal; readonly answerMs?: number },
): Promise<PickedAnswer> {
  const picked = checkPicked(runNames);
  const results = new Map<string, PickedResult>();
  const turns = new Semaphore(AT_ONCE);
  const all = Promise.allSettled(picked.map((runName) =>
    turns.take(async () => {
      try {
        const { run_name: became } = await cancel(runName);
        results.set(runName, { run_name: runName, result: "done", ...(became === runName ? {} : { became }) });
      } catch (error) {
        results.set(runName, { run_name: runName, result: "refused", message: wordsOf(error) });
      }
    }, signal)
  ));
  await atMost(answerMs, all);
  return countsOf(picked, results);
}

/** Runs each again; `start` is called when it is its turn. */
export async function rerunPicked(
  runNames: readonly string[],
  request: { readonly batch?: string | undefined },
  { batches, start }: {
    readonly batches: Batches;
    readonly start: (runName: string, batch: string) => Promise<StartResult>;
  },
): Promise<PickedAnswer & { readonly batch: string }> {
  const picked = checkPicked(runNames);
  const batch = checkBatch(request.batch) ?? shortHash(["picked", ...picked.toSorted()]);
  const results = new Map<string, PickedResult>();
  const entries = picked.map((runName): BatchEntry => ({
    label: runName,
    async start() {
      try {
        const started = await start(runName, batch);
        results.set(runName, resultOf(runName, started));
        return started;
      } catch (error) {
        results.set(runName, { run_name: runName, result: "refused", message: wordsOf(error) });
        throw error;
      }
    },
  }));
  await batches.start(entries);
  return { batch, ...countsOf(picked, results) };
}

function resultOf(runName: string, started: StartResult): PickedResult {
  if (started.result === "refused") {
    return { run_name: runName, result: "refused", message: wordsOf(started.error) };
  }
  if (started.result === "skipped") {
    const message = "It was skipped, for its row lets nothing wait (when_busy)";
    return { run_name: runName, result: "refused", became: started.runName, message };
  }
  return { run_name: runName, result: started.result === "exists" ? "exists" : "done", became: started.runName };
}

function wordsOf(error: unknown): string {
  return cut(errorMessage(error), 500);
}

function countsOf(picked: readonly string[], known: ReadonlyMap<string, PickedResult>): PickedAnswer {
  const results = picked.map((run_name): PickedResult => known.get(run_name) ?? { run_name, result: "waiting" });
  const count = (word: PickedResult["result"]) => results.filter(({ result }) => result === word).length;
  return {
    done: count("done"),
    exists: count("exists"),
    refused: count("refused"),
    waiting: count("waiting"),
    results,
  };
}
