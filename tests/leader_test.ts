import { match, ok, rejects, strictEqual } from "node:assert/strict";
import { becomeLeader } from "../leader.ts";
import type { Lease, LeaseRecord } from "../ports.ts";
import { eventually, pause } from "./harness/wait.ts";

/** A lease in memory with compare-and-set, and a switch that cuts a replica off from it. */
class FakeLease {
  record: LeaseRecord | undefined;
  readonly cutOff = new Set<string>();

  seenBy(identity: string): Lease {
    const reach = () => this.cutOff.has(identity) ? Promise.reject(new Error("cut off")) : Promise.resolve();
    return {
      read: async () => (await reach(), this.record),
      write: async (next) => {
        await reach();
        if ((this.record?.version ?? "") !== next.version) return false;
        this.record = { ...next, version: String(Number(next.version) + 1) };
        return true;
      },
    };
  }
}

function candidate(lease: FakeLease, identity: string, signal: AbortSignal) {
  return becomeLeader({
    lease: lease.seenBy(identity),
    identity,
    durationMs: 1_000,
    renewDeadlineMs: 400,
    retryMs: 50,
    onHolder: () => {},
    signal,
  });
}

Deno.test("becomeLeader() lets one of two lead, and the other one after its release", async () => {
  const stop = new AbortController();
  const lease = new FakeLease();
  const first = await candidate(lease, "a", stop.signal);
  let second: Awaited<ReturnType<typeof candidate>> | undefined;
  const waiting = candidate(lease, "b", stop.signal).then((won) => second = won);
  await pause(300);
  strictEqual(second, undefined);
  await first.release();
  await waiting;
  strictEqual(lease.record?.holder, "b");
  strictEqual(lease.record?.transitions, 1);
  const lost = second!.lost;
  stop.abort(new DOMException("end", "AbortError"));
  await rejects(lost);
});

Deno.test("becomeLeader() makes a leader that is cut off stop before another one can lead", async () => {
  const stop = new AbortController();
  const lease = new FakeLease();
  const first = await candidate(lease, "a", stop.signal);
  lease.cutOff.add("a");
  let stoppedAt = 0;
  let tookOverAt = 0;
  const lost = first.lost.then((why) => (stoppedAt = performance.now(), why));
  const second = candidate(lease, "b", stop.signal).then((won) => (tookOverAt = performance.now(), won));
  match(await lost, /could not be renewed/);
  const won = await second;
  ok(stoppedAt < tookOverAt, `stopped at ${stoppedAt}, taken over at ${tookOverAt}`);
  stop.abort(new DOMException("end", "AbortError"));
  await rejects(won.lost);
});

Deno.test("becomeLeader() does not trust other machines' clocks", async () => {
  const stop = new AbortController();
  const lease = new FakeLease();
  const longAgo = new Date(0);
  lease.record = { holder: "a", durationSeconds: 1, renewedAt: longAgo, transitions: 0, version: "1" };
  const renewing = setInterval(() => {
    lease.record = { ...lease.record!, renewedAt: longAgo, version: String(Number(lease.record!.version) + 1) };
  }, 100);
  let won = false;
  const waiting = candidate(lease, "b", stop.signal).then(() => won = true);
  await pause(1_500);
  clearInterval(renewing);
  strictEqual(won, false);
  await eventually(() => won, { timeoutMs: 3_000 });
  await waiting;
  stop.abort(new DOMException("end", "AbortError"));
});
