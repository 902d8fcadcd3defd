/** Is the broker. */
import { ok } from "node:assert/strict";
import type { Attack, Bed } from "./bed.ts";
import { type Forgery, WELCOME } from "./broker_gate.ts";
import { checkOrders, lengthOf, publishOf } from "./publisher.ts";

const ACTOR = "broker";

function packet(first: number, ...body: number[]): Uint8Array {
  return packetOf(first, body);
}

/** The same of a body that is too long for arguments. */
function packetOf(first: number, body: readonly number[]): Uint8Array {
  return Uint8Array.from([[first], lengthOf(body.length), body].flat());
}

function text(words: string): number[] {
  const bytes = new TextEncoder().encode(words);
  return [bytes.length >> 8, bytes.length & 255, ...bytes];
}

/** Properties of a CONNACK that never come to an end within a packet of the largest size. */
function welcomeOf(properties: readonly number[]): Uint8Array {
  return packetOf(0x20, [[1, 0], lengthOf(properties.length), properties].flat());
}

const LONG = "\x1b[2J://a:b@".repeat(5_900);

interface Forged {
  readonly welcome?: Uint8Array;
  readonly play?: readonly Uint8Array[];
  readonly short?: true;
}

/** One connection each, for most end it; after each the service waits longer. */
const FORGED: readonly Forged[] = [
  // Topics of the largest size and with a wildcard, acknowledgements of what was not sent, of no filter, by no known code.
  {
    short: true,
    play: [
      packet(0x32, ...text("/".repeat(65_535)), 0, 1, 0, 120),
      packet(0x32, ...text("lab/any/#"), 0, 2, 0),
      packet(0x40, 0x7f, 0x7f, 0x10, 0),
      packet(0x90, 0, 1, 0),
      packet(0x90, 0, 2, 0, 0x7e),
    ],
  },
  // A topic with NUL and broken UTF-8, packet identifier 0, no topic.
  { play: [packet(0x32, 0, 4, 0x61, 0, 0xff, 0xfe, 0, 1, 0), packet(0x32, ...text("lab/any/x"), 0, 0, 0)] },
  { play: [packet(0x32, 0, 0, 0, 1, 0, 120)] },
  // QoS 3; types 0 and 15; a length of five bytes; properties that are longer than their packet.
  { play: [packet(0x36, ...text("lab/any/x"), 0, 1, 0)] },
  { play: [packet(0x00), packet(0xf0, 0, 0)] },
  { short: true, play: [Uint8Array.of(0x30, 0xff, 0xff, 0xff, 0xff, 0x7f)] },
  { play: [packet(0x32, ...text("lab/any/x"), 0, 1, 0xff, 0xff, 0x03, 1)] },
  // DISCONNECT and CONNACK with a reason of 64 KB, an unknown code, Receive Maximum 0, 20,000 user properties.
  { short: true, play: [packet(0xe0, 0x8b, ...lengthOf(3 + LONG.length), 0x1f, ...text(LONG))] },
  { welcome: packet(0x20, 0, 0x88, ...lengthOf(3 + LONG.length), 0x1f, ...text(LONG)) },
  { welcome: packet(0x20, 0, 0x7e, 0) },
  { welcome: welcomeOf([0x21, 0, 0]) },
  { short: true, welcome: welcomeOf(Array.from({ length: 20_000 }, () => [0x26, 0, 1, 120, 0, 1, 121]).flat()) },
  { welcome: new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n<html>") },
];

async function forge(bed: Bed, welcome: Uint8Array, play: Forgery): Promise<void> {
  await bed.brokerGate.forge(play, { welcome });
}

export const BROKER: readonly Attack[] = [
  {
    actor: ACTOR,
    name: "forged packets: topics, lengths, codes, properties, reasons of 64 KB",
    bound: "the link is cut and made again; log without orders",
    short: true,
    async run(bed, form) {
      const forged = FORGED.filter(({ short }) => form === "full" || short);
      for (const { welcome = WELCOME, play = [] } of forged) {
        await forge(bed, welcome, async (send) => {
          for (const bytes of play) await send(bytes);
        });
      }
      checkOrders("log", await bed.service.log());
      return `${forged.length} connections survived`;
    },
  },
  {
    actor: ACTOR,
    name: "packets of 256 MB: a PUBLISH, a CONNACK without an end",
    large: true,
    bound: "thrown away as they come",
    async run(bed) {
      await forge(bed, WELCOME, async (send) => {
        for (const piece of publishOf("lab/any/huge", 65_000, 0xfffffff - 100)) await send(piece);
      });
      const piece = new Uint8Array(1 << 20);
      await forge(bed, Uint8Array.of(0x20, 0xff, 0xff, 0xff, 0x7f, 1, 0), async (send) => {
        for (let n = 0; n < 255; n++) await send(piece);
      });
      return "2 survived";
    },
  },
  {
    actor: ACTOR,
    name: "a million tiny packets, PINGRESP and PUBLISH of QoS 0 on topics of no row",
    bound: "they pass",
    turnMs: null,
    async run(bed) {
      const tiny = [...packet(0xd0), ...packet(0x30, ...text("x"), 0)];
      const piece = new Uint8Array(10_000 * tiny.length);
      for (let n = 0; n < 10_000; n++) piece.set(tiny, n * tiny.length);
      await forge(bed, WELCOME, async (send) => {
        for (let n = 0; n < 50; n++) await send(piece);
      });
      ok(bed.service.status === undefined);
      return "passed";
    },
  },
];
