/**
 * Times of a run that its Job does not keep, gathered from what the watches bring: when its program first started, when its
 * first pod had a node, until when it was held back. Kept from the first pod on, for pods go. What was not seen, as before
 * a restart, is absent. Pure.
 */
import type { EventFacts, HeldBy, JobFacts, PodFacts, SeenTimes } from "../ports.ts";
import { compact } from "../util/compact.ts";

/** With what its Job says now. */
export function timesWithJob(
  times: SeenTimes,
  { suspended, heldFor, startedAt }: Pick<JobFacts, "suspended" | "heldFor" | "startedAt">,
  now: Date,
): SeenTimes {
  if (suspended) {
    const { releasedAt: _, ...rest } = times;
    const heldBy: HeldBy = heldFor ?? (suspended.queue === undefined ? "person" : "queue");
    return { ...rest, heldBy };
  }
  if (times.heldBy === undefined || times.releasedAt) return times;
  // Kubernetes counts the start of a Job anew when it goes on.
  return { ...times, releasedAt: startedAt ?? now };
}

/** With what one of its pods says now. */
export function timesWithPod(times: SeenTimes, { scheduledAt, containers }: PodFacts): SeenTimes {
  const starts = containers.filter(({ kind }) => kind === undefined).map(({ startedAt }) => startedAt);
  return {
    ...times,
    ...compact({
      scheduledAt: earliest([times.scheduledAt, scheduledAt]),
      startedAt: earliest([times.startedAt, ...starts]),
    }),
  };
}

/** When its image was there: the last that the cluster says of that before its program started. Both count seconds. */
export function pulledAt(events: readonly EventFacts[], startedAt: Date | undefined): Date | undefined {
  const times = events.filter(({ reason, at }) => reason === "Pulled" && (startedAt === undefined || at <= startedAt));
  return times.reduce<Date | undefined>((last, { at }) => last && last > at ? last : at, undefined);
}

function earliest(dates: readonly (Date | undefined)[]): Date | undefined {
  return dates.reduce((a, b) => a && b ? (a <= b ? a : b) : a ?? b, undefined);
}
