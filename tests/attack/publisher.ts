/** May publish on topics of rows, or anywhere outside the prefix. */
import { equal, match, ok } from "node:assert/strict";
import { envOf } from "../harness/job_watch.ts";
import type { Attack, Bed } from "./bed.ts";

const ACTOR = "publisher";

/** Sends each payload on a topic of the row `any`; resolves with the Jobs that they make. */
async function runAll(bed: Bed, messages: readonly (readonly [topic: string, payload: string | Uint8Array])[]) {
  const before = bed.jobs.created("any").length;
  for (const [topic, payload] of messages) await bed.publish(topic, payload);
  return (await bed.created("any", before + messages.length)).slice(before);
}

/** Topics at which patterns that look for URLs, tokens, blanks or slashes are slow, if any is. */
const LONG_TOPICS = ["://a:b", "//", " ", "eyJ", "a@", "-----BEGIN ", "Bearer ", "?token=", "\u202e", "."].map((part) =>
  `lab/any/${part.repeat(Math.floor(65_000 / new TextEncoder().encode(part).length))}`
);

/** A PUBLISH of QoS 1 whose payload has so many bytes, in pieces, as MQTT 5 has it. */
export function* publishOf(
  topic: string,
  packetId: number,
  payloadBytes: number,
  properties: Uint8Array<ArrayBuffer> = new Uint8Array(),
): Generator<Uint8Array<ArrayBuffer>> {
  const name = new TextEncoder().encode(topic);
  const before = [name.length >> 8, name.length & 255, ...name, packetId >> 8, packetId & 255];
  before.push(...lengthOf(properties.length));
  yield Uint8Array.from([0x32, ...lengthOf(before.length + properties.length + payloadBytes), ...before]);
  yield properties;
  const piece = new Uint8Array(1 << 20).fill(120);
  for (let left = payloadBytes; left > 0; left -= piece.length) yield piece.subarray(0, Math.min(left, piece.length));
}

/** A Variable Byte Integer. */
export function lengthOf(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 127; value >>>= 7) bytes.push(value & 127 | 128);
  return [...bytes, value];
}

/** User properties with names of seven characters, no two alike, and no values. */
function userProperties(count: number): Uint8Array<ArrayBuffer> {
  const names = Array.from({ length: count }, (_, n) => `&\0\x07${n.toString(36).padStart(7, "k")}\0\0`);
  return new TextEncoder().encode(names.join(""));
}

export const PUBLISHER: readonly Attack[] = [
  {
    actor: ACTOR,
    name: "topics of 64 KB in ten patterns",
    bound: "each runs, or is refused for its levels",
    short: true,
    async run(bed) {
      const runs = LONG_TOPICS.filter((topic) => topic.split("/").length <= 200).length;
      const before = bed.jobs.created("any").length;
      // Mosquitto refuses topics of more than 200 levels; others take them.
      await bed.brokerGate.forge(async (send) => {
        for (const [at, topic] of LONG_TOPICS.entries()) {
          for (const piece of publishOf(topic, at + 1, 0)) await send(piece);
        }
        await bed.created("any", before + runs);
      });
      // The forgery ends when its client leaves, whatever it still waits for.
      await bed.created("any", before + runs);
      return `${runs} runs, ${LONG_TOPICS.length - runs} refused`;
    },
  },
  {
    actor: ACTOR,
    name: "a payload of 16 MB",
    bound: "kept in the store",
    large: true,
    // Its hash is one call.
    turnMs: 250,
    async run(bed) {
      const [job] = await runAll(bed, [["lab/any/large", new Uint8Array(16e6).fill(0x7b)]]);
      const url = envOf(job!)["MQTT_PAYLOAD_URL"] ?? "";
      ok(url !== "", "no URL in the Job");
      return "its URL in the Job";
    },
  },
  {
    actor: ACTOR,
    name: "a payload of 250 MB, from a broker without a limit",
    large: true,
    bound: "thrown away as it comes",
    async run(bed) {
      const before = bed.jobs.created("any").length;
      await bed.brokerGate.forge(async (send) => {
        for (const piece of publishOf("lab/any/huge", 65_000, 250e6)) await send(piece);
      });
      equal(bed.jobs.created("any").length, before, "it started something");
      return "nothing starts";
    },
  },
  {
    actor: ACTOR,
    name: "JSON nested 400,000 deep, keys by the thousand, `__proto__`",
    bound: "each runs, data stays data",
    large: true,
    short: true,
    turnMs: 100,
    async run(bed) {
      const keys = Object.fromEntries(Array.from({ length: 20_000 }, (_, n) => [`k${n}`, "x"]));
      const jobs = await runAll(bed, [
        ["lab/any/json", "[".repeat(400_000)],
        ["lab/any/json", '{"a":'.repeat(150_000) + "1" + "}".repeat(150_000)],
        ["lab/any/json", JSON.stringify(keys)],
        ["lab/any/json", '{"__proto__":{"x":1},"constructor":"c","PATH":"/evil","LD_PRELOAD":"/evil"}'],
      ]);
      for (const job of jobs) {
        const env = envOf(job);
        ok(!("PATH" in env) && !("LD_PRELOAD" in env), "a field set a variable of the program");
        ok(Object.keys(env).length < 300, `${Object.keys(env).length} variables`);
      }
      return `${jobs.length} runs`;
    },
  },
  {
    actor: ACTOR,
    name: "10,000 user properties; 2.6 million of them, 31 MB",
    bound: "runs; nothing starts, and that is said",
    short: true,
    async run(bed) {
      const before = bed.jobs.created("any").length;
      await bed.brokerGate.forge(async (send) => {
        for (const count of [10_000, 2_600_000]) {
          for (const piece of publishOf("lab/any/properties", count / 10_000, 0, userProperties(count))) {
            await send(piece);
          }
        }
        await bed.created("any", before + 1);
      });
      await bed.created("any", before + 1);
      match(
        await bed.service.log(),
        /A message of 31200000 bytes of properties on "lab\/any\/properties" started nothing/,
      );
      equal(bed.jobs.created("any").length, before + 1, "the large one started something");
      return "1 run";
    },
  },
  {
    actor: ACTOR,
    name: "10,000 messages on topics of no row",
    bound: "nothing starts",
    turnMs: null,
    async run(bed) {
      const before = bed.jobs.created().length - bed.jobs.created("normal").length;
      for (let n = 0; n < 100; n++) {
        await Promise.all(Array.from({ length: 100 }, (_, m) => bed.publish(`no/row/${n}/${m}`, "x".repeat(100))));
      }
      equal(bed.jobs.created().length - bed.jobs.created("normal").length, before);
      return "nothing";
    },
  },
  {
    actor: ACTOR,
    name: "lone surrogates, NUL, escapes, text that turns around, broken UTF-8",
    bound: "each runs; log and topics show no order",
    short: true,
    async run(bed) {
      const odd = "\x1b[2J\x1b]0;x\x07\u202e\u2066\u009b31m\r";
      const from = bed.ear.heard.length;
      const jobs = await runAll(bed, [
        ["lab/any/\u202eevil", '{"a":"\\ud800","b\\u0000":"\\u0000","c":"\\u001b[2J"}'],
        ["lab/any/x", odd],
        ["lab/any/y", Uint8Array.of(0xff, 0xfe, 0, 0x1b, 0x5b, 0x32, 0x4a)],
        ["lab/any/z", JSON.stringify({ [odd]: odd, "idempotency-key": odd })],
      ]);
      await checkOrders("log", await bed.service.log());
      for (const { text } of bed.ear.heard.slice(from)) await checkOrders("topics", text);
      return `${jobs.length} runs`;
    },
  },
];

/** Throws where text holds what a terminal obeys. */
export function checkOrders(where: string, text: string): void {
  // deno-lint-ignore no-control-regex
  const order = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/.exec(text);
  ok(order === null, `${where} holds ${JSON.stringify(order?.[0])} in ${JSON.stringify(context(text, order?.index))}`);
}

function context(text: string, at = 0): string {
  return text.slice(Math.max(0, at - 80), at + 40);
}
