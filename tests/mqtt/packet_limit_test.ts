/** What MQTT.js gets of a broker's bytes: all of them, a bounded number of packets at a time. */
import { Buffer } from "node:buffer";
import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { PacketLimit } from "../../mqtt/packet_limit.ts";

/** What comes out of the limit for these chunks. */
async function piecesOf(chunks: readonly Uint8Array[]): Promise<Buffer[]> {
  const limit = new PacketLimit(1_000_000, 5, () => {});
  const pieces: Buffer[] = [];
  limit.on("data", (piece: Buffer) => pieces.push(piece));
  for (const chunk of chunks) limit.write(Buffer.from(chunk));
  await new Promise((resolve) => limit.end(resolve));
  return pieces;
}

Deno.test("of 30,000 packets that come at once MQTT.js gets at most 256 at a time", async () => {
  const packets = 30_000;
  const pieces = await piecesOf([Uint8Array.from({ length: packets * 2 }, (_, at) => at % 2 === 0 ? 0xd0 : 0)]);
  const most = Math.max(...pieces.map(({ length }) => length / 2));
  ok(most <= 256, `${most} packets at a time`);
  equal(pieces.reduce((sum, { length }) => sum + length, 0), packets * 2);
});

Deno.test("MQTT.js gets each byte of packets below the limit, wherever they are cut", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(300), { minLength: 1, maxLength: 2_000 }),
      fc.array(fc.nat(60_000), { maxLength: 8 }),
      async (lengths, cuts) => {
        const all = Buffer.concat(
          lengths.map((length) =>
            Buffer.from([
              0x30,
              ...(length > 127 ? [length & 127 | 128, length >> 7] : [length]),
              ...Buffer.alloc(length),
            ])
          ),
        );
        const places = [0, ...cuts.map((cut) => cut % (all.length + 1)).sort((a, b) => a - b), all.length];
        const chunks = places.slice(1).map((to, at) => all.subarray(places[at], to)).filter(({ length }) => length > 0);
        ok(Buffer.concat(await piecesOf(chunks)).equals(all));
      },
    ),
    { numRuns: 100 },
  );
});

Deno.test("what a socket read of a packet that is thrown away is freed at once, and nothing else", async () => {
  const limit = new PacketLimit(1_000, 5, () => {});
  const pieces: Buffer[] = [];
  limit.on("data", (piece: Buffer) => pieces.push(piece));
  const write = (chunk: Buffer) => {
    limit.write(chunk);
    return chunk.buffer as ArrayBuffer;
  };
  const [topic, ping] = [Buffer.from("\0\x01x\0\x07"), Buffer.from([0xd0, 0])];
  // 30,000 bytes with topic and identifier: a PUBLISH of QoS 1.
  const begun = write(Buffer.concat([Buffer.from([0x32, 0xb0, 0xea, 0x01]), topic]));
  const own = [10_000, 10_000].map((length) => write(Buffer.from(new ArrayBuffer(length))));
  const shared = write(Buffer.from(new ArrayBuffer(5_000), 1_000, 4_000));
  const mixed = write(Buffer.concat([Buffer.alloc(30_000 - topic.length - 24_000), ping]));
  await new Promise((resolve) => limit.end(resolve));
  deepEqual(own.map(({ detached }) => detached), [true, true]);
  deepEqual([begun, shared, mixed].map(({ detached }) => detached), [false, false, false]);
  // The packet's beginning without its payload, and what came after it.
  equal(Buffer.concat(pieces).toString("hex"), `3206${topic.toString("hex")}00${ping.toString("hex")}`);
});
