/**
 * Hears on which topics messages are published, without taking one over: a second connection, without a session, at QoS 0,
 * so that nothing of it touches what the service promises. Must not read payloads.
 */
import mqtt from "mqtt";
import type { IPublishPacket } from "mqtt";
import { errorMessage } from "../util/errors.ts";
import { delayAtMost } from "../util/retry.ts";
import { Backoff } from "./backoff.ts";
import { clientOptions, type MqttOptions, settle } from "./options.ts";
import { PacketLimit } from "./packet_limit.ts";

export interface ObserverOptions extends MqttOptions {
  readonly filters: readonly string[];
  /** Called for each message that is not retained; of a flood, for the first 100 of a second. */
  readonly onTopic: (topic: string) => void;
}

/** Brokers that speak MQTT 5 do not send larger messages; of others' the payload is thrown away. In bytes. */
const LARGEST_PACKET = 16 * 1024;
const MOST_A_SECOND = 100;
/** Waits between connections; it is no hurry. */
const WAITS = { minMs: 1_000, maxMs: 5 * 60_000 };

/** Connects, and connects anew, until `signal` aborts. What is in the way is told once, until it has been connected. */
export async function observeTopics(options: ObserverOptions, signal: AbortSignal): Promise<void> {
  const backoff = new Backoff(WAITS);
  const { onTrouble = () => {}, filters } = options;
  let hasTold = false;
  while (!signal.aborted) {
    const begunMs = Date.now();
    const why = await observe(options, { signal, onSubscribed: () => hasTold = false }).catch(errorMessage);
    if (signal.aborted) return;
    if (why !== undefined && !hasTold) {
      hasTold = true;
      onTrouble(`Cannot hear of messages on ${filters.join(", ")} (OBSERVE_TOPICS): ${why}`);
    }
    await delayAtMost(backoff.next("lost", Date.now() - begunMs), signal);
  }
}

/** One connection, to its end; resolves with why it ended. */
async function observe(
  options: ObserverOptions,
  { signal, onSubscribed }: { signal: AbortSignal; onSubscribed: () => void },
): Promise<string | undefined> {
  const renewed = await options.renew?.() ?? {};
  // Without a will: who hears of this connection hears nothing of the service.
  const { state: _, ...rest } = options;
  const settled = { ...settle({ ...rest, ...renewed }), maximumPacketSize: LARGEST_PACKET, sessionExpirySeconds: 0 };
  const client = mqtt.connect({
    ...clientOptions(settled, { retains: false }),
    clientId: `${options.clientId}-observer`,
    clean: true,
  });
  PacketLimit.putOn(client, () => new PacketLimit(LARGEST_PACKET, settled.protocolVersion, () => {}));
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  let why: string | undefined;
  client.on("error", (error) => why ??= errorMessage(error));
  client.on("close", () => resolve(why));
  client.on("connect", () => {
    client.subscribe([...options.filters], { qos: 0 }, (error, granted = []) => {
      const refused = granted.filter(({ qos }) => Number(qos) >= 0x80).map(({ topic }) => topic);
      if (!error && refused.length === 0) return onSubscribed();
      why = error ? errorMessage(error) : `the broker refuses ${refused.join(", ")}`;
      client.end(true);
    });
  });
  const pass = atMostASecond(options.onTopic);
  client.on("message", (topic, _payload, packet: IPublishPacket) => {
    if (!packet.retain) pass(topic);
  });
  const leave = () => client.end(true);
  signal.addEventListener("abort", leave, { once: true });
  client.connect();
  return await promise.finally(() => {
    signal.removeEventListener("abort", leave);
    client.end(true);
  });
}

function atMostASecond(onTopic: (topic: string) => void): (topic: string) => void {
  let [second, count] = [0, 0];
  return (topic) => {
    const now = Math.floor(performance.now() / 1_000);
    if (now !== second) [second, count] = [now, 0];
    if (count++ < MOST_A_SECOND) onTopic(topic);
  };
}
