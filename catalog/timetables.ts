/**
 * When rows with a `schedule` are due: cron expressions by croner, `every 30m` by multiples since the epoch. Pure.
 * Imported only where a table has a schedule.
 *
 * croner is asked for times on a clock without daylight saving; which moment a time of the wall's clock is, is decided
 * here: a time that comes twice is due the first time, one that is skipped is due when the clock goes on. A row of every
 * hour runs in the hour that comes twice, too.
 */
import { Cron } from "croner";
import type { Row, Schedule } from "../ports.ts";
import { errorMessage } from "../util/errors.ts";

export interface Timetable {
  /** The first due time after this moment; undefined: there is none. */
  next(after: Date): Date | undefined;
  /** The last due time after the one moment and not after the other. */
  last(after: Date, until: Date): Date | undefined;
}

/** The words that cron has for fields. `@reboot` is no time. */
const WORDS: Readonly<Record<string, string>> = {
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *",
  "@monthly": "0 0 1 * *",
  "@weekly": "0 0 * * 0",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@hourly": "0 * * * *",
};
const MINUTE_MS = 60_000;
/**
 * Years that are looked at from now on, and before: between leap days are at most eight, and the calendar repeats its
 * weekdays after 40. Without a bound, croner looks for a time that never comes up to the year 10,000, for 0.3 s.
 */
const YEARS = { before: 30, after: 60 };

/** What tells timetables apart. */
export function timetableKey({ schedule, timeZone }: Pick<Row, "schedule" | "timeZone">): string {
  return JSON.stringify([schedule ?? null, timeZone ?? "UTC"]);
}

/** A timetable, or what is wrong with the schedule as a clause to follow a colon. */
export function compileTimetable(
  schedule: Schedule,
  timeZone = "UTC",
  now = new Date(),
): Timetable | { readonly fault: string } {
  if ("everySeconds" in schedule) return new Times(everyTimes(schedule.everySeconds * 1000));
  const { cron } = schedule;
  const fields = cron.startsWith("@") ? WORDS[cron] : cron;
  if (fields === undefined) {
    return { fault: `"${cron.slice(0, 20)}" is not known; write one of ${Object.keys(WORDS).join(", ")}` };
  }
  let next: Next;
  try {
    next = cronTimes(fields, timeZone, now);
  } catch (error) {
    const why = errorMessage(error).replace(/^CronPattern: /, "").replace(/\.$/, "");
    return { fault: `it is not cron: ${why}; write minute, hour, day of the month, month, day of the week` };
  }
  if (next(now.getTime()) === undefined) return { fault: "that time never comes; write a day that there is" };
  return new Times(next);
}

/** The first due time after a moment, in milliseconds since the epoch. */
type Next = (afterMs: number) => number | undefined;

class Times implements Timetable {
  readonly #next: Next;

  constructor(next: Next) {
    this.#next = next;
  }

  next(after: Date): Date | undefined {
    const ms = this.#next(after.getTime());
    return ms === undefined ? undefined : new Date(ms);
  }

  /** Looks at short times back first: a row of each minute is asked for as often as it is due. */
  last(after: Date, until: Date): Date | undefined {
    const [afterMs, untilMs] = [after.getTime(), until.getTime()];
    if (!(afterMs < untilMs)) return undefined;
    for (let spanMs = 2 * MINUTE_MS;; spanMs *= 4) {
      const fromMs = Math.max(afterMs, untilMs - spanMs);
      let last: number | undefined;
      for (let ms = this.#next(fromMs); ms !== undefined && ms <= untilMs; ms = this.#next(ms)) last = ms;
      if (last !== undefined) return new Date(last);
      if (fromMs === afterMs) return undefined;
    }
  }
}

function everyTimes(everyMs: number): Next {
  return (afterMs) => (Math.floor(afterMs / everyMs) + 1) * everyMs;
}

function cronTimes(fields: string, timeZone: string, now: Date): Next {
  const year = now.getUTCFullYear();
  const pattern = `0 ${fields} ${year - YEARS.before}-${year + YEARS.after}`;
  cronOf(pattern, "UTC");
  const nextOnWall: Next = (wallMs) => cronOf(pattern, "UTC").nextRun(new Date(wallMs))?.getTime();
  if (timeZone === "UTC") return nextOnWall;
  const once: Next = (afterMs) => {
    let wallMs = nextOnWall(wallOf(afterMs, timeZone));
    // In the second pass of an hour that comes twice, what its clock shows next was due in the first.
    while (wallMs !== undefined && momentOf(wallMs, timeZone) <= afterMs) wallMs = nextOnWall(wallMs);
    return wallMs === undefined ? undefined : momentOf(wallMs, timeZone);
  };
  if (!isEveryHour(fields)) return once;
  return (afterMs) => {
    const [first, passing] = [once(afterMs), cronOf(pattern, timeZone).nextRun(new Date(afterMs))?.getTime()];
    return first === undefined || passing === undefined ? first : Math.min(first, passing);
  };
}

/** Each has 84 KB, a cell for each year up to 10,000, so few are kept: one is made in less time than it takes to start a run. */
const MAX_KEPT = 16;
const kept = new Map<string, Cron>();

function cronOf(pattern: string, timezone: string): Cron {
  const key = `${pattern} ${timezone}`;
  const cron = kept.get(key) ?? new Cron(pattern, { paused: true, mode: "7-part", timezone });
  // The one that was used last stands last.
  kept.delete(key);
  kept.set(key, cron);
  const [oldest] = kept.keys();
  if (kept.size > MAX_KEPT && oldest !== undefined) kept.delete(oldest);
  return cron;
}

function isEveryHour(fields: string): boolean {
  return /^(\*|\?|\*\/1|0-23)$/.test(fields.split(/\s+/)[1] ?? "");
}

/** What the wall's clock shows then, as if it were in UTC. */
function wallOf(ms: number, timeZone: string): number {
  return Temporal.Instant.fromEpochMilliseconds(ms).toZonedDateTimeISO(timeZone).toPlainDateTime()
    .toZonedDateTime("UTC").epochMilliseconds;
}

/** When the wall's clock shows that for the first time; where it never does, when it goes on after the gap. */
function momentOf(wallMs: number, timeZone: string): number {
  const wall = Temporal.Instant.fromEpochMilliseconds(wallMs).toZonedDateTimeISO("UTC").toPlainDateTime();
  const moment = wall.toZonedDateTime(timeZone, { disambiguation: "earlier" });
  if (moment.toPlainDateTime().equals(wall)) return moment.epochMilliseconds;
  return (moment.getTimeZoneTransition("next") ?? moment).epochMilliseconds;
}
