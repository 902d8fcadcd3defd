/** What MQTT.js gets of a broker's bytes: all of them, a bounded number of packets at a time. */
import { Buffer } from "node:buffer";
import { setImmediate } from "node:timers";
import { deepEqual, equal, match, ok } from "node:assert/strict";
import fc from "fast-check";
import { LARGEST_PROPERTIES, PacketLimit, type TooLarge } from "../../mqtt/packet_limit.ts";

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

Deno.test("between 256 packets and the next ones, whatever else waits has its turn", async () => {
  const limit = new PacketLimit(1_000_000, 5, () => {});
  let pieces = 0;
  let most = 0;
  let sinceTurn = 0;
  limit.on("data", () => (pieces++, most = Math.max(most, ++sinceTurn)));
  const immediate = () => void (sinceTurn = 0, pieces < 40 && setImmediate(immediate));
  setImmediate(immediate);
  limit.write(Buffer.from(Uint8Array.from({ length: 20_480 }, (_, at) => at % 2 === 0 ? 0xd0 : 0)));
  await new Promise((resolve) => limit.end(resolve));
  equal(pieces, 40);
  ok(most <= 2, `${most} pieces in one turn`);
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

/** A PUBLISH of QoS 1 on "x" with these properties and this much of a payload. */
function publishWith(properties: Uint8Array, payload: number): Buffer {
  const body = Buffer.concat([
    Buffer.from([0, 1, 0x78, 0, 7, ...varint(properties.length)]),
    properties,
    Buffer.alloc(payload),
  ]);
  return Buffer.concat([Buffer.from([0x32, ...varint(body.length)]), body]);
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 127; value >>>= 7) bytes.push(value & 127 | 128);
  return [...bytes, value];
}

for (const chunkSize of [3, 65_536]) {
  Deno.test(`a message with properties without end goes on without them, in chunks of ${chunkSize} bytes`, async () => {
    const told: TooLarge[] = [];
    const limit = new PacketLimit(1_000_000, 5, (packet) => told.push(packet));
    const pieces: Buffer[] = [];
    limit.on("data", (piece: Buffer) => pieces.push(piece));
    const ofProperties = (bytes: number) => Buffer.alloc(bytes, Buffer.from([0x26, 0, 0, 0, 0]));
    const fits = publishWith(ofProperties(LARGEST_PROPERTIES - LARGEST_PROPERTIES % 5), 300_000);
    const large = publishWith(ofProperties(LARGEST_PROPERTIES + 1_000), 10);
    const all = Buffer.concat([fits, large, fits]);
    for (let at = 0; at < all.length; at += chunkSize) limit.write(Buffer.from(all.subarray(at, at + chunkSize)));
    await new Promise((resolve) => limit.end(resolve));
    const bytes = large.length - 4;
    deepEqual(told, [{ topic: "x", bytes, properties: LARGEST_PROPERTIES + 1_000, packetId: 7 }]);
    const left = Buffer.from([0x32, 6, 0, 1, 0x78, 0, 7, 0]);
    ok(Buffer.concat(pieces).equals(Buffer.concat([fits, left, fits])));
  });
}

Deno.test("a packet that is no message and larger than any is needs to be ends the connection at its first bytes", async () => {
  const limit = new PacketLimit(32_000_000, 5, () => {});
  const failed = new Promise<Error>((resolve) => limit.once("error", resolve));
  limit.write(Buffer.from([0x20, ...varint(LARGEST_PROPERTIES + 1)]));
  match((await failed).message, /a packet of 262145 bytes that is no message; the limit is 262144$/);
  ok(limit.destroyed);
});

for (const chunkSize of [1, 65_536]) {
  Deno.test(`what follows a message that is nothing but a long topic goes on, in chunks of ${chunkSize} bytes`, async () => {
    const limit = new PacketLimit(1_000, 4, () => {});
    const pieces: Buffer[] = [];
    limit.on("data", (piece: Buffer) => pieces.push(piece));
    const topic = Buffer.from("t".repeat(2_000));
    const body = Buffer.concat([Buffer.from([topic.length >> 8, topic.length & 255]), topic, Buffer.from([0, 7])]);
    const next = Buffer.from([0x32, 5, 0, 1, 0x78, 0, 8]);
    const large = Buffer.concat([Buffer.from([0x32, ...varint(body.length)]), body]);
    const all = Buffer.concat([large, next]);
    for (let at = 0; at < all.length; at += chunkSize) limit.write(Buffer.from(all.subarray(at, at + chunkSize)));
    await new Promise((resolve) => limit.end(resolve));
    ok(Buffer.concat(pieces).equals(all));
  });
}
