/** MqttBroker on the real brokers beside mosquitto: the conformance suite, with what each lacks. */
import { MqttBroker } from "../../mqtt.ts";
import { brokerConformance, type Lack } from "../conformance/broker.ts";
import { BROKERS } from "../harness/brokers/all.ts";
import { type BrokerPart, needs } from "../harness/needs.ts";

/** What each lacks beside what its version of MQTT does. */
const LACKS: Partial<Record<BrokerPart, readonly Lack[]>> = {
  // One copy names all overlapping subscriptions.
  hivemq: ["copies"],
  // Redelivers with new identifiers and without DUP, also what was acknowledged just before DISCONNECT; each copy names all
  // subscriptions, so one is handed over for them.
  artemis: ["copies", "packet identifiers", "will", "acknowledgements"],
  // Numbers from 1 on each connection. Does not answer a PUBLISH that has a user property.
  // Of what waits beyond its window it loses some, and sends acknowledged messages again after a cut.
  mochi: [
    "copies",
    "packet identifiers",
    "properties",
    "sessions over restart",
    "queue",
    "acknowledgements",
  ],
  rabbitmq: ["packet identifiers"],
  nats: ["packet identifiers"],
};

// Moquette 0.17 now and then leaves a client unanswered that is back at once, so that no run of the suite is like the last;
// docs/compatibility.md has what was seen.
for (const { name, part, protocolVersion, start } of BROKERS.filter(({ part }) => part !== "moquette")) {
  brokerConformance(`MqttBroker on ${name}`, async () => {
    const broker = await start();
    return {
      port: broker.port,
      burst: 1_000,
      filters: 200,
      client: (options) => new MqttBroker({ ...options, protocolVersion }),
      restart: () => broker.restart(),
      [Symbol.asyncDispose]: () => broker[Symbol.asyncDispose](),
    };
  }, {
    ignore: !await needs(part),
    lacks: [...LACKS[part] ?? [], ...protocolVersion === 5 ? [] : ["filters", "properties"] as const],
  });
}
