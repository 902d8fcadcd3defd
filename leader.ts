/**
 * Leader election by a Lease, as client-go does it: times of other machines are never compared with our clock, only
 * "how long has the record not changed" is. A leader that cannot renew stops itself before the lease is over. A renewal
 * is one write with the version that is known; the lease is read only where somebody else wrote.
 */
import type { Lease, LeaseRecord } from "./ports.ts";
import { Scope } from "./util/abort.ts";
import { errorMessage } from "./util/errors.ts";
import { delay } from "./util/retry.ts";

/** In milliseconds; each is less than the one before it. */
export interface LeaseTimes {
  /** How long a silent leader keeps the lease. */
  readonly durationMs: number;
  /** A leader that could not renew for so long stops itself. */
  readonly renewDeadlineMs: number;
  /** From one attempt to the next. */
  readonly retryMs: number;
}

export interface LeaderOptions extends LeaseTimes {
  readonly lease: Lease;
  /** Name of this replica; unique. */
  readonly identity: string;
  readonly onHolder: (holder: string) => void;
  /** Why this replica cannot even try, as a sentence; once for each reason. undefined: it can again. */
  readonly onTrouble: (reason: string | undefined) => void;
  readonly signal: AbortSignal;
}

export interface Leadership {
  /** Resolves with a sentence when this replica leads no more; rejects when the signal aborts or after a release. */
  readonly lost: Promise<string>;
  /** Gives the lease up, so that another replica need not wait it out. */
  release(): Promise<void>;
}

/** Resolves when this replica leads. */
export async function becomeLeader(options: LeaderOptions): Promise<Leadership> {
  const { lease, identity, signal } = options;
  const { record, wonMs } = await win(options);
  const leading = new Scope(signal);
  let current = record;
  const lost = renew({
    ...options,
    signal: leading.signal,
    renewedMs: wonMs,
    record,
    onRenewed: (renewed) => current = renewed,
  });
  lost.catch(() => {}); // the end of the signal is no news to whoever does not wait for it
  return {
    lost,
    async release() {
      leading.end(new DOMException("Released", "AbortError"));
      await lost.catch(() => {});
      const given = (last: LeaseRecord) =>
        lease.write({ ...last, holder: "", durationSeconds: 1, renewedAt: new Date() }).catch(() => undefined);
      if (await given(current)) return;
      // A renewal that was broken off may have been carried out.
      const now = await lease.read().catch(() => undefined);
      if (now?.holder === identity) await given(now);
    },
  };
}

/** Tries until this replica has the lease; `wonMs`: when the write that won it left. */
async function win(options: LeaderOptions): Promise<{ record: LeaseRecord; wonMs: number }> {
  const { lease, identity, durationMs, renewDeadlineMs, retryMs, onHolder, onTrouble, signal } = options;
  let seen: { version: string; sinceMs: number } | undefined;
  let holder = "";
  let told: string | undefined;
  const tell = (reason: string | undefined) => {
    if (reason !== told) onTrouble(told = reason);
  };
  for (;;) {
    signal.throwIfAborted();
    const triedMs = performance.now();
    try {
      const record = await lease.read({ signal });
      const readMs = performance.now();
      // From the answer on, for the write may have been as late as that.
      if (record && record.version !== seen?.version) seen = { version: record.version, sinceMs: readMs };
      if (record && record.holder !== holder) onHolder(holder = record.holder);
      if (isFree(record, identity, triedMs - (seen?.sinceMs ?? triedMs))) {
        const wonMs = performance.now();
        const won = await lease.write(nextRecord(record, identity, durationMs), { signal });
        // Too late an answer is no lead: the lease could be over soon.
        if (won && performance.now() - wonMs < renewDeadlineMs) return tell(undefined), { record: won, wonMs };
      }
      tell(record?.stranger);
    } catch (error) {
      signal.throwIfAborted();
      tell(errorMessage(error));
    }
    await delay(retryMs * (0.8 + Math.random() * 0.4), signal);
  }
}

function isFree(record: LeaseRecord | undefined, identity: string, silentMs: number): boolean {
  return !record || record.holder === "" || record.holder === identity || silentMs >= record.durationSeconds * 1000;
}

interface Renewal extends LeaderOptions {
  readonly record: LeaseRecord;
  readonly renewedMs: number;
  onRenewed(record: LeaseRecord): void;
}

/** Resolves with a sentence when the lease is lost; rejects when the signal aborts. */
async function renew(options: Renewal): Promise<string> {
  const { lease, identity, durationMs, renewDeadlineMs, retryMs, onRenewed, signal } = options;
  let { record, renewedMs } = options;
  let nextMs = renewedMs + retryMs;
  let why = "";
  for (;;) {
    const untilMs = renewedMs + renewDeadlineMs;
    if (performance.now() >= untilMs) return `the lease could not be renewed for ${renewDeadlineMs / 1000} s${why}`;
    await delay(Math.max(0, Math.min(nextMs, untilMs) - performance.now()), signal);
    const triedMs = performance.now();
    nextMs = triedMs + retryMs;
    // No longer than half of the time, so that a call that is never answered leaves room for another one.
    const call = <T>(work: (signal: AbortSignal) => Promise<T>) =>
      within(Math.min(untilMs - performance.now(), renewDeadlineMs / 2), signal, work);
    try {
      const written = await call((signal) => lease.write(nextRecord(record, identity, durationMs), { signal }));
      if (written) {
        onRenewed(record = written);
        renewedMs = triedMs;
        why = "";
        continue;
      }
      const found = await call((signal) => lease.read({ signal }));
      if (found && found.holder !== identity) return `${found.holder || "somebody"} took the lease`;
      // It is this replica's own write, whose answer was lost; or the lease was deleted.
      record = found ?? { ...record, version: "" };
      nextMs = performance.now();
    } catch (error) {
      signal.throwIfAborted();
      why = `: ${errorMessage(error)}`;
    }
  }
}

async function within<T>(ms: number, outer: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  using scope = new Scope(outer);
  const timer = setTimeout(() => scope.end(new DOMException("no answer in time", "TimeoutError")), Math.max(1, ms));
  try {
    return await work(scope.signal);
  } finally {
    clearTimeout(timer);
  }
}

function nextRecord(record: LeaseRecord | undefined, identity: string, durationMs: number): LeaseRecord {
  return {
    holder: identity,
    durationSeconds: Math.ceil(durationMs / 1000),
    renewedAt: new Date(),
    transitions: (record?.transitions ?? 0) + (record && record.holder !== identity ? 1 : 0),
    version: record?.version ?? "",
  };
}
