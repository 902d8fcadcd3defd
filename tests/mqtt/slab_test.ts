/** What is kept of a payload's memory. */
import { Buffer } from "node:buffer";
import { deepEqual, equal, notEqual } from "node:assert/strict";
import { Slab } from "../../mqtt/slab.ts";

Deno.test("a large payload that has its buffer for itself is not copied, a part of a buffer is", () => {
  const slab = new Slab();
  const alone = Buffer.from(new ArrayBuffer(100_000)).fill(7);
  const part = Buffer.from(new ArrayBuffer(100_000), 0, 50_000).fill(8);
  const owned = slab.own(alone);
  equal(owned.buffer, alone.buffer);
  equal(owned.constructor, Uint8Array);
  const copied = slab.own(part);
  notEqual(copied.buffer, part.buffer);
  equal(copied.buffer.byteLength, 50_000);
  deepEqual([owned.length, owned[99_999], copied.length, copied[49_999]], [100_000, 7, 50_000, 8]);
});

Deno.test("small payloads share buffers of 32 KiB and keep none of the packet's", () => {
  const slab = new Slab();
  const payloads = Array.from({ length: 100 }, (_, n) => Buffer.from(new ArrayBuffer(1_000)).fill(n));
  const owned = payloads.map((payload) => slab.own(payload));
  equal(new Set(owned.map(({ buffer }) => buffer)).size, 4);
  for (const payload of payloads) payload.fill(0);
  deepEqual(owned.map((bytes) => bytes[999]), Array.from({ length: 100 }, (_, n) => n));
});
