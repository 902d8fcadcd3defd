/**
 * Asks the cluster for pods that its watch has not told. After an outage thousands of runs may want that at once, so one
 * call is for many. Owns when it is made; judges nothing.
 */
import type { Cluster, PodFacts } from "../ports.ts";
import { delayAtMost } from "../util/retry.ts";

/** Who asks within that time shares a call, */
const GATHER_MS = 200;
/** and so many runs at most: their names stand in its address. */
const RUNS_A_CALL = 50;

export class PodLists {
  readonly #waiting = new Map<string, PromiseWithResolvers<PodFacts[]>>();
  #isGathering = false;

  constructor(readonly cluster: Pick<Cluster, "pods">, readonly signal: AbortSignal) {}

  /** The run's pods as they are now. Rejects as the call does. */
  of(runName: string): Promise<PodFacts[]> {
    const asked = this.#waiting.get(runName) ?? Promise.withResolvers<PodFacts[]>();
    this.#waiting.set(runName, asked);
    if (!this.#isGathering) void this.#list();
    return asked.promise;
  }

  async #list(): Promise<void> {
    this.#isGathering = true;
    // When it is aborted, the call rejects.
    await delayAtMost(GATHER_MS, this.signal);
    this.#isGathering = false;
    const all = [...this.#waiting];
    this.#waiting.clear();
    for (let at = 0; at < all.length; at += RUNS_A_CALL) {
      const some = all.slice(at, at + RUNS_A_CALL);
      try {
        const pods = await this.cluster.pods(some.map(([runName]) => runName), { signal: this.signal });
        for (const [runName, { resolve }] of some) resolve(pods.filter((pod) => pod.runName === runName));
      } catch (error) {
        for (const [, { reject }] of some) reject(error);
      }
    }
  }
}
