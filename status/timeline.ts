/**
 * The life of one run as steps, each with what went on until it: from its message to the end that was announced; of a live
 * run up to now. Times of several clocks, in whole seconds some of them, so a step is never before the one that it follows.
 * Pure.
 */
import type { HeldBy, RunRecord, RunView } from "../ports.ts";
import { durationWords } from "../util/duration.ts";

/** Which part of its life a step ends: what kept it waiting, what made it ready, what it did, what was done with its end. */
export type StepKind = "wait" | "ready" | "run" | "after";

export interface Step {
  /** `started` */
  readonly name: string;
  /** RFC 3339; of the last step of a live run, now. */
  readonly at: string;
  /** What went on until then, in words. */
  readonly what: string;
  readonly kind: StepKind;
  /** Milliseconds from the step before it. */
  readonly ms: number;
  /** It is not over. */
  readonly is_now?: true;
}

export interface Timeline {
  readonly received_at: string;
  readonly steps: readonly Step[];
  /** From the message to the last step. */
  readonly ms: number;
}

/** What a run is held back for. */
const HELD_WORDS: Readonly<Record<HeldBy, string>> = {
  slot: "waited for a free slot (max_runs)",
  pause: "its row was paused (enabled)",
  queue: "waited in a queue of the cluster",
  person: "somebody had suspended its Job",
};

const HELD_NOW: Readonly<Record<HeldBy, string>> = {
  slot: "waits for a free slot (max_runs)",
  pause: "its row is paused (enabled)",
  queue: "waits in a queue of the cluster",
  person: "somebody has suspended its Job",
};

/** A moment of a run's life; undefined: it did not come, or nobody saw it. */
interface Moment {
  readonly name: string;
  readonly at: string | undefined;
  readonly what: string;
  readonly kind: StepKind;
}

interface Times {
  readonly attempt?: number | undefined;
  readonly held_for?: HeldBy | undefined;
  readonly created_at: string;
  readonly released_at?: string | undefined;
  readonly scheduled_at?: string | undefined;
  readonly pulled_at?: string | undefined;
  readonly started_at?: string | null | undefined;
  readonly finished_at?: string | undefined;
  readonly log_stored_at?: string | undefined;
  readonly announced_at?: string | undefined;
}

function moments({ attempt = 1, held_for, ...at }: Times): Moment[] {
  const held = held_for === undefined ? [] : [
    { name: "let go on", at: at.released_at, what: HELD_WORDS[held_for], kind: "wait" } as const,
  ];
  return [
    {
      name: "created",
      at: at.created_at,
      what: attempt > 1 ? "earlier attempts, and the waits after them" : "until its Job was created",
      kind: "wait",
    },
    ...held,
    { name: "scheduled", at: at.scheduled_at, what: "waited for a node", kind: "wait" },
    { name: "image there", at: at.pulled_at, what: "image pulled", kind: "ready" },
    { name: "started", at: at.started_at ?? undefined, what: "made ready", kind: "ready" },
    { name: "ended", at: at.finished_at, what: "ran", kind: "run" },
    { name: "log stored", at: at.log_stored_at, what: "log read and stored", kind: "after" },
    { name: "announced", at: at.announced_at, what: "end published", kind: "after" },
  ];
}

/** Of a run that has ended. */
export function timelineOf(record: RunRecord): Timeline {
  const all = moments(record);
  // What never began did not run.
  const steps = record.started_at === null
    ? all.map((moment) =>
      moment.name === "ended" ? { ...moment, what: "never started", kind: "wait" as const } : moment
    )
    : all;
  return toTimeline(record.received_at, steps.filter(({ at }) => at !== undefined), steps);
}

/** Of one that lives. `pulledAt`: as the cluster's events say. */
export function liveTimeline(run: RunView, { now, pulledAt }: { now: Date; pulledAt?: Date | undefined }): Timeline {
  const iso = (at: Date | undefined) => at?.toISOString();
  const all = moments({
    attempt: run.attempt,
    held_for: run.heldBy,
    created_at: run.createdAt.toISOString(),
    released_at: iso(run.releasedAt),
    scheduled_at: iso(run.scheduledAt),
    pulled_at: iso(pulledAt),
    started_at: iso(run.startedAt),
  });
  const last = all.findLastIndex(({ at }) => at !== undefined);
  const next = all[last + 1]!;
  const isEnding = run.state === "ending";
  const what = isEnding
    ? "ends"
    : next.name === "let go on"
    ? HELD_NOW[run.heldBy!]
    : NOW_WORDS[next.name] ?? next.what;
  const under: Moment = { name: "now", at: now.toISOString(), what, kind: isEnding ? "after" : next.kind };
  const seen = [...all.slice(0, last + 1).filter(({ at }) => at !== undefined), under];
  const { steps, ...rest } = toTimeline(run.receivedAt.toISOString(), seen, all);
  return { ...rest, steps: steps.map((step, at) => at === steps.length - 1 ? { ...step, is_now: true } : step) };
}

const NOW_WORDS: Readonly<Record<string, string>> = {
  scheduled: "waits for a node",
  "image there": "its image is pulled, or its pod prepared",
  started: "is made ready",
  ended: "runs",
};

/** `seen`: those that have a time. What went on until one whose forerunners nobody saw is theirs too. */
function toTimeline(received_at: string, seen: readonly Moment[], all: readonly Moment[]): Timeline {
  let before = Date.parse(received_at);
  let at = -1;
  const steps = seen.map((moment): Step => {
    const time = Math.max(before, Date.parse(moment.at!));
    const ms = time - before;
    before = time;
    const place = all.indexOf(moment);
    const unseen = place < 0
      ? []
      : all.slice(at + 1, place).filter((one) => one.kind === "wait" || one.kind === "ready");
    if (place >= 0) at = place;
    const what = [...unseen.map(({ what }) => what), moment.what];
    const isMadeReady = moment.name === "started" && unseen.length > 1;
    return {
      name: moment.name,
      at: new Date(time).toISOString(),
      what: isMadeReady ? "made ready" : moment.what === "never started" ? "never started" : what.join(", "),
      kind: moment.kind,
      ms,
    };
  });
  return { received_at, steps, ms: before - Date.parse(received_at) };
}

/** A length of time that may be short: `340 ms`, `2.5 s`, `42 s`, `3 min 5 s`. */
export function preciseWords(ms: number): string {
  if (!(ms > 0)) return "0 s";
  if (ms < 1_000) return `${Math.max(1, Math.round(ms))} ms`;
  return ms < 9_950 ? `${Number((ms / 1_000).toFixed(1))} s` : durationWords(ms);
}
