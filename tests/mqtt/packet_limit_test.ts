/** What MQTT.js gets of a broker's bytes: all of them, a bounded number of packets at a time. */
import { Buffer } from "node:buffer";
import { equal, ok } from "node:assert/strict";
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
