import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { becomeLeader, type LeaderOptions } from "../leader.ts";
import { type Lease, type LeaseRecord, RefusedError } from "../ports.ts";
import { VirtualTime } from "./harness/virtual_time.ts";
import { eventually, pause } from "./harness/wait.ts";

/** A lease in memory with compare-and-set, and a switch that cuts a replica off from it. */
class FakeLease {
  record: LeaseRecord | undefined;
  readonly cutOff = new Set<string>();
  /** Each call that was made, in order: `read` or `write`. */
  readonly calls: string[] = [];
  /** What becomes of a call before it is carried out; and after it, of its answer. */
  before: (call: string) => Promise<void> | void = () => {};
  after: (call: string) => Promise<void> | void = () => {};

  seenBy(identity: string): Lease {
    const call = async <T>(name: string, signal: AbortSignal | undefined, work: () => T): Promise<T> => {
      this.calls.push(name);
      if (this.cutOff.has(identity)) throw new Error("cut off");
      await unlessAborted(signal, this.before(name));
      const answer = work();
      await unlessAborted(signal, this.after(name));
      return answer;
    };
    return {
      read: ({ signal } = {}) => call("read", signal, () => this.record),
      write: (next, { signal } = {}) => call("write", signal, () => this.#put(next)),
    };
  }

  #put(next: LeaseRecord): LeaseRecord | undefined {
    if ((this.record?.version ?? "") !== next.version) return undefined;
    return this.record = { ...next, version: String(Number(next.version) + 1) };
  }
}

function unlessAborted(signal: AbortSignal | undefined, work: Promise<void> | void): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
    Promise.resolve(work).then(resolve, reject);
  });
}

/** For who is to lose its lease, and soon; others have the time of a machine that stalls for a while. */
const SOON = { durationMs: 1_000, renewDeadlineMs: 400 };

function candidate(lease: FakeLease, identity: string, signal: AbortSignal, options: Partial<LeaderOptions> = {}) {
  return becomeLeader({
    lease: lease.seenBy(identity),
    identity,
    durationMs: 10_000,
    renewDeadlineMs: 5_000,
    retryMs: 50,
    onHolder: () => {},
    onTrouble: () => {},
    signal,
    ...options,
  });
}

Deno.test("becomeLeader() lets one of two lead, and the other one after its release", async () => {
  const stop = new AbortController();
  const lease = new FakeLease();
  const first = await candidate(lease, "a", stop.signal);
  let second: Awaited<ReturnType<typeof candidate>> | undefined;
  const waiting = candidate(lease, "b", stop.signal).then((won) => second = won);
  // A leader renews by writes alone: these looks are the other one's.
  await eventually(() => lease.calls.filter((call) => call === "read").length >= 6);
  equal(second, undefined);
  await first.release();
  await waiting;
  equal(lease.record?.holder, "b");
  equal(lease.record?.transitions, 1);
  const lost = second!.lost;
  stop.abort(new DOMException("end", "AbortError"));
  await rejects(lost);
});

Deno.test("becomeLeader() makes a leader that is cut off stop before another one can lead", async () => {
  const stop = new AbortController();
  const lease = new FakeLease();
  const first = await candidate(lease, "a", stop.signal, SOON);
  lease.cutOff.add("a");
  const order: string[] = [];
  const lost = first.lost.then((why) => (order.push("stopped"), why));
  const second = candidate(lease, "b", stop.signal, SOON).then((won) => (order.push("taken over"), won));
  match(await lost, /could not be renewed/);
  const won = await second;
  deepEqual(order, ["stopped", "taken over"]);
  stop.abort(new DOMException("end", "AbortError"));
  await rejects(won.lost);
});

Deno.test("becomeLeader() does not trust other machines' clocks", async () => {
  using time = new VirtualTime();
  const stop = new AbortController();
  const lease = new FakeLease();
  const longAgo = new Date(0);
  lease.record = { holder: "a", durationSeconds: 1, renewedAt: longAgo, transitions: 0, version: "1" };
  let won = false;
  const waiting = candidate(lease, "b", stop.signal, SOON).then((leader) => (won = true, leader));
  // Far longer than the lease lasts: its record changes, so it is held.
  for (let renewals = 0; renewals < 50; renewals++) {
    lease.record = { ...lease.record!, renewedAt: longAgo, version: String(Number(lease.record!.version) + 1) };
    await time.advance(100);
  }
  equal(won, false);
  await time.advance(1_500);
  equal(won, true);
  const { lost } = await waiting;
  stop.abort(new DOMException("end", "AbortError"));
  await rejects(lost);
});

/** What a test needs of a leader; its signal is ended with it. */
async function leading(
  lease: FakeLease,
  work: (the: { lost: string[]; leader: Awaited<ReturnType<typeof candidate>> }) => Promise<void>,
  options: Partial<LeaderOptions> = {},
): Promise<void> {
  const stop = new AbortController();
  const leader = await candidate(lease, "a", stop.signal, options);
  const lost: string[] = [];
  const end = leader.lost.then((why) => lost.push(why), () => {});
  try {
    await work({ lost, leader });
  } finally {
    stop.abort(new DOMException("end", "AbortError"));
    await end;
  }
}

Deno.test("a leader renews by one write, with the version that the last one gave it", async () => {
  const lease = new FakeLease();
  await leading(lease, async ({ lost }) => {
    await eventually(() => lease.calls.length >= 6);
    deepEqual(lease.calls, ["read", ...lease.calls.slice(1).map(() => "write")]);
    equal(lease.record?.version, String(lease.calls.length - 1));
    deepEqual(lost, []);
  });
});

Deno.test("a leader goes on where each call takes a fifth of the time that it has", async () => {
  // As 4 s of 20 s are.
  const lease = new FakeLease();
  using time = new VirtualTime();
  await leading(lease, async ({ lost }) => {
    lease.before = () => pause(40);
    lease.after = () => pause(40);
    await time.advance(10_000);
    ok(lease.calls.length >= 20, `${lease.calls.length} calls in 10 s`);
    deepEqual(lost, []);
  }, SOON);
});

Deno.test("a leader whose write was done but not answered reads the lease, and goes on", async () => {
  const lease = new FakeLease();
  await leading(lease, async ({ lost }) => {
    let breaks = 2;
    lease.after = (call) => {
      if (call === "write" && breaks-- > 0) throw new Error("no answer");
    };
    await eventually(() => lease.calls.filter((call) => call === "read").length >= 2 && breaks < 0);
    const version = Number(lease.record?.version);
    await eventually(() => Number(lease.record?.version) > version + 2, { what: "further renewals" });
    deepEqual(lost, []);
  });
});

Deno.test("a call that is never answered leaves a leader the time for another one", async () => {
  const lease = new FakeLease();
  await leading(lease, async ({ lost }) => {
    let hanging = 0;
    lease.before = () => {
      if (hanging++ === 0) return new Promise(() => {});
    };
    await eventually(() => hanging >= 3);
    deepEqual(lost, []);
  });
});

Deno.test("the time to renew counts from the write that won, not from its answer", async () => {
  const lease = new FakeLease();
  const order: string[] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;
  lease.before = (call) => {
    // The time to renew and that of the answer. It is the order of timers that counts.
    if (call === "write") timer ??= setTimeout(() => order.push("too late"), 400 + 200);
  };
  lease.after = (call) => call === "write" ? pause(200) : undefined;
  await leading(lease, async ({ leader }) => {
    lease.cutOff.add("a");
    match(await leader.lost, /could not be renewed for 0\.4 s: cut off/);
    order.push("stopped");
    await eventually(() => order.length === 2);
    deepEqual(order, ["stopped", "too late"]);
  }, SOON);
});

Deno.test("release() gives up a lease whose last renewal was broken off", async () => {
  const lease = new FakeLease();
  await leading(lease, async ({ leader }) => {
    let held = false;
    lease.after = (call) => {
      if (call === "write" && !held) return (held = true, new Promise(() => {}));
    };
    await eventually(() => held);
    await leader.release();
    equal(lease.record?.holder, "");
  }, { durationMs: 60_000, renewDeadlineMs: 1_000 });
});

Deno.test("a replica that may not use the lease says so once for each reason, and that it can again", async () => {
  const stop = new AbortController();
  const lease = new FakeLease();
  const told: (string | undefined)[] = [];
  lease.before = () => {
    throw new RefusedError("Cannot read the Lease x: forbidden");
  };
  const waiting = candidate(lease, "a", stop.signal, { onTrouble: (reason) => told.push(reason) });
  await eventually(() => lease.calls.length >= 4);
  deepEqual(told, ["Cannot read the Lease x: forbidden"]);
  lease.before = (call) => {
    if (call === "write") throw new RefusedError("Cannot write the Lease x: forbidden");
  };
  await eventually(() => told.length === 2);
  equal(told[1], "Cannot write the Lease x: forbidden");
  lease.before = () => {};
  await waiting;
  equal(told[2], undefined);
  stop.abort(new DOMException("end", "AbortError"));
});

Deno.test("a replica that meets another service's lease says so", async () => {
  const stop = new AbortController();
  const lease = new FakeLease();
  const stranger = "The Lease x is that of another service";
  lease.record = { holder: "b", durationSeconds: 600, renewedAt: new Date(), transitions: 0, version: "1", stranger };
  const told: (string | undefined)[] = [];
  const waiting = candidate(lease, "a", stop.signal, { onTrouble: (reason) => told.push(reason) });
  await eventually(() => told.length > 0);
  deepEqual(told, [stranger]);
  stop.abort(new DOMException("end", "AbortError"));
  await rejects(waiting);
});
