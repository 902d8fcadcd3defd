/** How often a session is written, in time that passes when the test says so. */
import { equal, ok } from "node:assert/strict";
import { type Pending, Session } from "../../listener/session.ts";
import { RunRecords } from "../../records.ts";
import { delivery, FakeStore } from "../harness/fakes.ts";
import { VirtualTime } from "../harness/virtual_time.ts";

interface Bed {
  readonly time: VirtualTime;
  /** A message comes, and may be acknowledged. */
  take(onAcknowledged?: () => void): void;
  /** A message comes; what this returns says that it may be acknowledged. */
  hold(onAcknowledged?: () => void): () => void;
  /** See Session.write(). */
  write(): Promise<void>;
  /** The connection ends, and another one of the same session begins. */
  reconnect(): void;
  readonly acknowledged: number;
  readonly writes: number;
}

async function withSession(work: (bed: Bed) => Promise<void>): Promise<void> {
  using time = new VirtualTime({ seed: 1 });
  const store = new FakeStore();
  const stop = new AbortController();
  const session = new Session({ records: new RunRecords(store), scope: "lab", emit: () => {}, signal: stop.signal });
  session.begin(false);
  let [taken, acknowledged] = [0, 0];
  const hold = (onAcknowledged?: () => void) => {
    const done = () => {
      acknowledged++;
      onAcknowledged?.();
    };
    const pending: Pending = {
      delivery: { ...delivery({ packetId: ++taken }), done },
      number: session.nextNumber(),
      settled: false,
      counted: true,
    };
    session.add(pending);
    return () => session.settle(pending);
  };
  await work({
    time,
    hold,
    write: () => session.write(),
    reconnect() {
      session.end();
      session.begin(true);
    },
    take: (onAcknowledged) => hold(onAcknowledged)(),
    get acknowledged() {
      return acknowledged;
    },
    get writes() {
      return store.calls.filter((call) => call.startsWith("put .session/")).length;
    },
  });
  stop.abort();
}

Deno.test("messages that come one by one share a write for ten of them, and the first of them does not wait", async () => {
  await withSession(async (bed) => {
    bed.take();
    await bed.time.advance(1);
    equal(bed.acknowledged, 1);
    for (let message = 1; message < 250; message++) {
      await bed.time.advance(20);
      bed.take();
    }
    await bed.time.advance(600);
    equal(bed.acknowledged, 250);
    ok(bed.writes <= 30, `${bed.writes} writes in five seconds`);
  });
});

Deno.test("few messages share two writes a second, and none of them waits longer than half of one", async () => {
  await withSession(async (bed) => {
    for (let message = 0; message < 50; message++) {
      bed.take();
      await bed.time.advance(100);
      ok(bed.acknowledged >= message - 5, `${bed.acknowledged} of ${message + 1} messages`);
    }
    await bed.time.advance(600);
    equal(bed.acknowledged, 50);
    ok(bed.writes <= 13, `${bed.writes} writes in five seconds`);
  });
});

Deno.test("what must be written at once does not wait for more messages", async () => {
  await withSession(async (bed) => {
    bed.take();
    await bed.time.advance(1);
    bed.take();
    await bed.time.advance(20);
    let isWritten = false;
    bed.write().then(() => isWritten = true);
    await bed.time.advance(1);
    equal(isWritten, true);
    equal(bed.acknowledged, 2);
  });
});

Deno.test("a message of a new connection does not wait for what was left of the one before", async () => {
  await withSession(async (bed) => {
    bed.take();
    await bed.time.advance(1);
    bed.take();
    await bed.time.advance(20);
    bed.reconnect();
    await bed.time.advance(500);
    bed.take();
    await bed.time.advance(1);
    equal(bed.acknowledged, 2);
  });
});

Deno.test("a broker that waits for five messages to be acknowledged is seen to, and then waits no more", async () => {
  await withSession(async (bed) => {
    // Fifty a second; what it may not send yet waits in it.
    let [waiting, underWay] = [0, 0];
    const send = () => {
      if (waiting === 0 || underWay === 5) return;
      waiting--;
      underWay++;
      bed.take(() => {
        underWay--;
        setTimeout(send, 1);
      });
      send();
    };
    let late = 0;
    for (let message = 0; message < 500; message++) {
      waiting++;
      send();
      await bed.time.advance(20);
      if (message >= 100) late = Math.max(late, waiting);
    }
    await bed.time.advance(600);
    equal(bed.acknowledged, 500);
    ok(late <= 2, `${late} messages waited in the broker`);
  });
});

Deno.test("of thousands that come at once, what is settled is acknowledged twice a second", async () => {
  await withSession(async (bed) => {
    const settle = Array.from({ length: 6_000 }, () => bed.hold());
    for (let second = 0; second < 4; second++) {
      for (let step = 0; step < 50; step++) {
        for (let message = 0; message < 20; message++) settle.shift()!();
        await bed.time.advance(20);
      }
      ok(bed.acknowledged >= 1_000 * (second + 1) - 600, `${bed.acknowledged} after ${second + 1} seconds`);
    }
    ok(bed.writes <= 10, `${bed.writes} writes in four seconds`);
  });
});

Deno.test("a broker that waits for its ten messages to be acknowledged waits a fortieth of a second each time", async () => {
  await withSession(async (bed) => {
    // It has a thousand, ten of which are on their way at a time.
    const send = () => setTimeout(() => bed.take(send), 2);
    for (let message = 0; message < 10; message++) send();
    await bed.time.advance(1_000);
    ok(bed.acknowledged >= 350, `${bed.acknowledged} in a second`);
  });
});
