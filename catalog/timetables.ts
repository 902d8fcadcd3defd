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
const WORDS: readonly string[] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
const MINUTE_MS = 60_000;
/** Until there is no leap day is at most eight years, and the calendar repeats its weekdays after 28. */
const MAX_YEARS = 40;

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
  if (cron.startsWith("@") && !WORDS.includes(cron)) {
    return { fault: `"${cron.slice(0, 20)}" is not known; write one of ${WORDS.join(", ")}` };
  }
  let next: Next;
  try {
    next = cronTimes(cron, timeZone);
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

function cronTimes(cron: string, timeZone: string): Next {
  const wallClock = new Cron(cron, { paused: true, mode: "5-part", timezone: "UTC" });
  const nextOnWall: Next = (wallMs) => {
    const next = wallClock.nextRun(new Date(wallMs))?.getTime();
    return next !== undefined && next - wallMs < MAX_YEARS * 366 * 24 * 60 * MINUTE_MS ? next : undefined;
  };
  if (timeZone === "UTC") return nextOnWall;
  const once: Next = (afterMs) => {
    let wallMs = nextOnWall(wallOf(afterMs, timeZone));
    // In the second pass of an hour that comes twice, what its clock shows next was due in the first.
    while (wallMs !== undefined && momentOf(wallMs, timeZone) <= afterMs) wallMs = nextOnWall(wallMs);
    return wallMs === undefined ? undefined : momentOf(wallMs, timeZone);
  };
  if (!isEveryHour(cron)) return once;
  const inZone = new Cron(cron, { paused: true, mode: "5-part", timezone: timeZone });
  return (afterMs) => {
    const [first, passing] = [once(afterMs), inZone.nextRun(new Date(afterMs))?.getTime()];
    return first === undefined || passing === undefined ? first : Math.min(first, passing);
  };
}

function isEveryHour(cron: string): boolean {
  return cron === "@hourly" || /^(\*|\?|\*\/1|0-23)$/.test(cron.split(/\s+/)[1] ?? "");
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
