/**
 * Leader election by a Lease, as client-go does it: times of other machines are never compared with our clock, only
 * "how long has the record not changed" is. A leader that cannot renew stops itself before the lease is over.
 */
import type { Lease, LeaseRecord } from "./ports.ts";
import { delay } from "./util/retry.ts";

export interface LeaderOptions {
  readonly lease: Lease;
  /** Name of this replica; unique. */
  readonly identity: string;
  /** How long a silent leader keeps the lease. Default 15 s. */
  readonly durationMs?: number;
  /** A leader that could not renew for so long stops itself; less than durationMs. Default 10 s. */
  readonly renewDeadlineMs?: number;
  /** Between attempts. Default 2 s. */
  readonly retryMs?: number;
  readonly onHolder: (holder: string) => void;
  readonly signal: AbortSignal;
}

/** Resolves when this replica leads; `lost` resolves when it does not any more. `release` gives the lease up. */
export async function becomeLeader(
  options: LeaderOptions,
): Promise<{ lost: Promise<string>; release(): Promise<void> }> {
  const { lease, identity, signal, durationMs = 15_000, renewDeadlineMs = 10_000, retryMs = 2_000 } = options;
  let seen: { version: string; sinceMs: number } | undefined;
  let holder = "";
  let won: LeaseRecord | undefined;
  while (!won) {
    signal.throwIfAborted();
    const triedMs = performance.now();
    try {
      const record = await lease.read({ signal });
      if (record && record.version !== seen?.version) seen = { version: record.version, sinceMs: triedMs };
      if (record && record.holder !== holder) options.onHolder(holder = record.holder);
      const silentMs = triedMs - (seen?.sinceMs ?? triedMs);
      const free = !record || record.holder === "" || record.holder === identity ||
        silentMs >= record.durationSeconds * 1000;
      if (free) {
        const next = nextRecord(record, identity, durationMs);
        if (await lease.write(next, { signal })) won = next;
      }
    } catch {
      signal.throwIfAborted(); // the API server is away: nobody can win now
    }
    if (!won) await delay(retryMs * (0.8 + Math.random() * 0.4), signal);
  }
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const renewing = renew(options, { renewDeadlineMs, retryMs, durationMs, signal: both });
  renewing.catch(() => {}); // the end of the signal is no news to whoever does not wait for it
  return {
    lost: renewing,
    async release() {
      stop.abort(new DOMException("Released", "AbortError"));
      await renewing.catch(() => {});
      const record = await lease.read().catch(() => undefined);
      if (record?.holder !== identity) return;
      await lease.write({ ...record, holder: "", durationSeconds: 1, renewedAt: new Date() }).catch(() => false);
    },
  };
}

/** Resolves with a sentence when the lease is lost; rejects when the signal aborts. */
async function renew(
  { lease, identity }: LeaderOptions,
  { renewDeadlineMs, retryMs, durationMs, signal }: {
    renewDeadlineMs: number;
    retryMs: number;
    durationMs: number;
    signal: AbortSignal;
  },
): Promise<string> {
  let renewedMs = performance.now();
  for (;;) {
    const leftMs = renewedMs + renewDeadlineMs - performance.now();
    if (leftMs <= 0) return `the lease could not be renewed for ${renewDeadlineMs / 1000} s`;
    await delay(Math.min(retryMs, leftMs), signal);
    const triedMs = performance.now();
    const attempt = AbortSignal.any([signal, AbortSignal.timeout(Math.max(1, renewedMs + renewDeadlineMs - triedMs))]);
    try {
      const record = await lease.read({ signal: attempt });
      if (record && record.holder !== identity) return `${record.holder || "somebody"} took the lease`;
      if (await lease.write(nextRecord(record, identity, durationMs), { signal: attempt })) renewedMs = triedMs;
    } catch {
      signal.throwIfAborted();
    }
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
