/**
 * Durations as people write them in settings and flags, and as they read them. Pure.
 */

export const DAY_MS = 24 * 3600_000;

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1e3, m: 6e4, h: 36e5, d: 864e5, w: 6048e5 };
/** Nobody writes a longer one. */
const LONGEST_TEXT = 64;

/** Milliseconds of `10s`, `1h30m`, `7d`, `0`; undefined: it is no duration. */
export function durationMs(text: string): number | undefined {
  if (text === "0") return 0;
  if (text.length > LONGEST_TEXT || !/^(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+$/.test(text)) return undefined;
  let sum = 0;
  for (const [, digits, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhdw])/gy)) {
    sum += Number(digits) * UNIT_MS[unit!]!;
  }
  return sum;
}

/**
 * A moment in milliseconds, as people write it: how long ago (`2h`, `3d`), or an RFC 3339 date or time; undefined: it is
 * neither.
 */
export function momentMs(text: string, nowMs = Date.now()): number | undefined {
  const ago = durationMs(text);
  if (ago !== undefined) return nowMs - ago;
  const time = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:\d\d))?$/.test(text)
    ? Date.parse(text)
    : NaN;
  return Number.isFinite(time) ? time : undefined;
}

/** `42 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`; a negative one is `0 s`. */
export function durationWords(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor(seconds / 3600) % 24} h`;
}
