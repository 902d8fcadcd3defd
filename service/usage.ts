/**
 * What runs use at most: one call an interval for all pods, the sum over the pods of each run, the highest of these kept
 * with the live run. Writes nothing: a run that goes on over a restart of the service begins anew. Must never hold up
 * anything.
 */
import { type Cluster, RefusedError } from "../ports.ts";
import type { RunTable } from "../runs.ts";
import { errorMessage } from "../util/errors.ts";
import { getLogger } from "../util/log.ts";
import { delay } from "../util/retry.ts";

export interface UsageOptions {
  readonly cluster: Pick<Cluster, "podUsage">;
  readonly runs: Pick<RunTable, "get" | "values">;
  readonly intervalMs: number;
  readonly signal: AbortSignal;
  /** Hears why nothing is measured, once. Default: the log. */
  readonly onOff?: (reason: string) => void;
  /** How soon it is looked again whether there is something to ask. Default ten minutes. */
  readonly retryMs?: number;
}

const RETRY_MS = 10 * 60_000;

/** Measures until the service stops; rejects only then. */
export async function sampleUsage(
  { cluster, runs, intervalMs, signal, onOff = say, retryMs = RETRY_MS }: UsageOptions,
): Promise<void> {
  let isOff = false;
  for (;;) {
    await delay(isOff ? retryMs : intervalMs, signal);
    if (![...runs.values()].some(({ state }) => state === "running")) continue;
    try {
      await sampleOnce({ cluster, runs, signal });
      isOff = false;
    } catch (error) {
      signal.throwIfAborted();
      // What is away for a while is asked again in its turn.
      if (!(error instanceof RefusedError)) continue;
      if (!isOff) onOff(errorMessage(error));
      isOff = true;
    }
  }
}

async function sampleOnce({ cluster, runs, signal }: Pick<UsageOptions, "cluster" | "runs" | "signal">): Promise<void> {
  const sums = new Map<string, { cpu: number; memory: number }>();
  for (const { podName, runName, cpu, memory } of await cluster.podUsage?.({ signal }) ?? []) {
    // Of pods that are known to be the run's own.
    if (!runs.get(runName)?.pods.has(podName)) continue;
    const sum = sums.get(runName) ?? { cpu: 0, memory: 0 };
    sums.set(runName, { cpu: sum.cpu + cpu, memory: sum.memory + memory });
  }
  for (const [runName, { cpu, memory }] of sums) {
    const run = runs.get(runName);
    // Of what an API server says, any sum may come.
    if (!run || !Number.isFinite(cpu) || !Number.isFinite(memory)) continue;
    const { cpu: most = 0, memory: largest = 0 } = run.peak ?? {};
    run.peak = { cpu: Math.max(most, cpu), memory: Math.max(largest, memory) };
  }
}

function say(reason: string): void {
  getLogger("usage").info("What runs use is not measured: {reason}", { reason });
}
