/**
 * What the cluster says of runs that live: their Jobs' and pods' events, as a watch brings them. A list for each run
 * would have the API server read through all events of the namespace each time, for it has neither cache nor index of
 * them. Owns events of live runs only. Calls nobody.
 */
import type { CoreV1Event } from "@kubernetes/client-node";
import { eventFacts, type Json } from "./facts.ts";
import type { EventFacts } from "../ports.ts";

/** Kept of one run: what happens again is counted by the cluster and no event of its own. */
const MOST_OF_A_RUN = 200;
/** Runs whose Job is gone: their events are asked for a little later, where somebody else deleted it. */
const MOST_GONE = 500;
/** Objects that are nobody's yet: an event may come before its Job or pod, and most are other people's. */
const MOST_EARLY = 1_000;

interface RunEvents {
  hasJob: boolean;
  readonly objects: Set<string>;
  readonly events: Map<string, EventFacts>;
}

export class EventBook {
  readonly #runs = new Map<string, RunEvents>();
  readonly #runOf = new Map<string, string>();
  readonly #gone = new Set<string>();
  /** Events by their name, by the object that they are about; oldest first. */
  readonly #early = new Map<string, Map<string, EventFacts>>();

  /** An event that is new or was counted up. */
  take(event: Json<CoreV1Event>): void {
    const object = event.involvedObject?.name ?? "";
    const runName = this.#runOf.get(object);
    const events = runName === undefined ? this.#earlyOf(object) : this.#runs.get(runName)!.events;
    const name = event.metadata?.name ?? "";
    if (events.size < MOST_OF_A_RUN || events.has(name)) events.set(name, eventFacts(event));
  }

  /** There is a Job, which has the run's name. */
  jobSeen(runName: string): void {
    this.#adopt(runName, runName).hasJob = true;
  }

  podSeen(podName: string, runName: string): void {
    this.#adopt(podName, runName);
  }

  /** What happened to a pod is of interest as long as its Job is there. */
  podGone(runName: string): void {
    if (this.#runs.get(runName)?.hasJob === false) this.#forget(runName);
  }

  jobGone(runName: string): void {
    this.#gone.add(runName);
    const [oldest] = this.#gone;
    if (this.#gone.size > MOST_GONE) this.#forget(oldest!);
  }

  /** All that is known of a run and its pods, in no order. */
  of(runName: string): EventFacts[] {
    return [...this.#runs.get(runName)?.events.values() ?? []];
  }

  #forget(runName: string): void {
    for (const object of this.#runs.get(runName)?.objects ?? []) this.#runOf.delete(object);
    this.#runs.delete(runName);
    this.#gone.delete(runName);
  }

  #adopt(object: string, runName: string): RunEvents {
    let run = this.#runs.get(runName);
    if (!run) this.#runs.set(runName, run = { hasJob: false, objects: new Set(), events: new Map() });
    if (this.#runOf.has(object)) return run;
    this.#runOf.set(object, runName);
    run.objects.add(object);
    for (const [name, event] of this.#early.get(object) ?? []) run.events.set(name, event);
    this.#early.delete(object);
    return run;
  }

  #earlyOf(object: string): Map<string, EventFacts> {
    let events = this.#early.get(object);
    if (!events) {
      this.#early.set(object, events = new Map());
      const [oldest] = this.#early.keys();
      if (this.#early.size > MOST_EARLY) this.#early.delete(oldest!);
    }
    return events;
  }
}
