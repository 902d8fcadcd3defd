/** What each real broker lacks of what the broker's suite asks, with the reason, beside what its version of MQTT does. */
import type { BrokerKind } from "../harness/brokers/all.ts";
import type { BrokerPart } from "../harness/needs.ts";
import type { Lack } from "./broker.ts";

/** Why, in words for people. */
export type Lacks = Readonly<Partial<Record<Lack, string>>>;

const NEW_IDENTIFIERS = "Redeliveries have other packet identifiers than the first deliveries.";
const ONE_COPY = "One copy names all overlapping subscriptions.";

const BY_PART: Partial<Record<BrokerPart, Lacks>> = {
  hivemq: { copies: ONE_COPY },
  artemis: {
    copies: "There are as many copies as subscriptions that overlap, each naming all; the service takes one.",
    "packet identifiers": "Redeliveries have new packet identifiers and no DUP flag.",
    will: "The last will of a client whose session outlives its connection is never published, to any client: " +
      "`state` stays `online`.",
    acknowledgements: "What was acknowledged just before a DISCONNECT may come again.",
  },
  mochi: {
    copies: ONE_COPY,
    "packet identifiers": "Packet identifiers begin at 1 on each connection.",
    properties: "A PUBLISH that has a user property is not answered.",
    "sessions over restart": "Its sessions do not outlive it.",
    queue: "Of what waits beyond its window some is lost.",
    acknowledgements: "Messages that were acknowledged come again after a cut.",
  },
  rabbitmq: { "packet identifiers": NEW_IDENTIFIERS },
  ejabberd: {
    window: "It sends one message at a time: the next one after the PUBACK, so one that must wait holds up all.",
    "sessions over restart": "Its sessions are in memory and do not outlive it.",
  },
  moquette: {
    "packet identifiers": NEW_IDENTIFIERS,
    order: "Redeliveries come in another order.",
    "sessions over restart": "What was not delivered does not outlive a restart.",
    acknowledgements: "Now and then it leaves a client unanswered that is back at once.",
  },
  nats: { "packet identifiers": NEW_IDENTIFIERS },
};

const OF_MQTT_3: Lacks = {
  filters: "MQTT 3.1.1 does not say for which subscription a copy is.",
  properties: "MQTT 3.1.1 has no properties.",
};

/** All that a broker lacks, its version of MQTT included. */
export function lacksOf(
  { part, protocolVersion }: { part?: BrokerPart; protocolVersion: BrokerKind["protocolVersion"] },
): Lacks {
  return { ...(part ? BY_PART[part] : {}), ...(protocolVersion === 5 ? {} : OF_MQTT_3) };
}

/** Their names alone, as the suite wants them. */
export function lackNames(lacks: Lacks): Lack[] {
  return Object.keys(lacks) as Lack[];
}
