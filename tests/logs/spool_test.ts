/** What waits for the store, in memory and on a disk, within its bounds. */
import { deepEqual, equal, rejects } from "node:assert/strict";
import { Spool } from "../../logs/spool.ts";
import { scratchFolder } from "../harness/folder.ts";
import { eventually } from "../harness/wait.ts";

const MIB = 1 << 20;
const piece = (fill: number, bytes = MIB) => new Uint8Array(bytes).fill(fill);

Deno.test("a spool's pieces on disk come back as they were, in any order, and have no name there", async () => {
  const folder = await scratchFolder("spool");
  const spool = new Spool({ memoryBytes: MIB, disk: { folder: `${folder}/a`, bytes: 8 * MIB } });
  const parked = await Promise.all([1, 2, 3].map((fill) => spool.park([piece(fill), piece(fill, 5)], MIB + 5)));
  deepEqual(await Array.fromAsync(Deno.readDir(`${folder}/a`)), []);
  for (const fill of [3, 1, 2]) {
    const read = await parked[fill - 1]!.read();
    equal(read.length, MIB + 5);
    equal(read.every((byte) => byte === fill), true);
  }
  equal(spool.held.disk, 3 * MIB + 15);
  parked.forEach((one) => one!.free());
  equal(spool.held.disk, 0);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a spool takes no more on disk than it may, and again when there is room", async () => {
  const folder = await scratchFolder("spool");
  const spool = new Spool({ memoryBytes: MIB, disk: { folder, bytes: 2 * MIB } });
  for (let round = 0; round < 3; round++) {
    const parked = [await spool.park([piece(1)], MIB), await spool.park([piece(2)], MIB)];
    equal(await spool.park([piece(3)], MIB), undefined);
    parked.forEach((one) => one!.free());
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a spool wakes who waits for room, also when that is given up", async () => {
  const spool = new Spool({ memoryBytes: MIB });
  spool.count(MIB);
  deepEqual([spool.isPressed, spool.isFull], [true, true]);
  let woken = false;
  const stop = new AbortController();
  const waiting = spool.changed(stop.signal).then(() => woken = true);
  spool.count(-1);
  await waiting;
  equal(woken, true);
  equal(spool.isFull, false);
  const givenUp = spool.changed(stop.signal);
  stop.abort();
  await givenUp;
});

Deno.test("a spool without a folder that it can use says so once and goes on in memory", async () => {
  const said: string[] = [];
  const spool = new Spool({ memoryBytes: MIB, disk: { folder: "/dev/null/x", bytes: MIB } }, (why) => said.push(why));
  equal(await spool.park([piece(1, 10)], 10), undefined);
  equal(await spool.park([piece(1, 10)], 10), undefined);
  await eventually(() => said.length === 1);
  equal(spool.held.disk, 0);
  await rejects(Deno.stat("/dev/null/x"));
});
