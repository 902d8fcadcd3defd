/**
 * The real brokers beside mosquitto, for tests that go over all of them. Says how each is started and what it speaks;
 * what each lacks stands with the suite that tries it.
 */
import type { BrokerPart } from "../needs.ts";
import type { RestartableServer } from "../restartable.ts";
import { startEjabberd } from "./ejabberd.ts";
import { startMochi, startNats } from "./go.ts";
import { startArtemis, startHiveMq, startMoquette } from "./java.ts";
import { startRabbitMq } from "./rabbitmq.ts";

/** A real broker of a free port of loopback. */
export interface RealBroker extends RestartableServer {
  readonly port: number;
  /** With user and password where nobody is let in without. */
  readonly url: string;
}

export interface BrokerOptions {
  /** The only one who is let in. Default: anybody, but for ejabberd, which has a user of its own then. */
  readonly user?: User;
}

export interface User {
  readonly name: string;
  readonly password: string;
}

/** How a real broker is had. */
export interface BrokerKind {
  /** With the version that was tried, for people. */
  readonly name: string;
  readonly part: BrokerPart;
  /** The newest that it speaks. */
  readonly protocolVersion: 5 | 4;
  start(options?: BrokerOptions): Promise<RealBroker>;
}

export const BROKERS: readonly BrokerKind[] = [
  { name: "HiveMQ CE 2025.5", part: "hivemq", protocolVersion: 5, start: startHiveMq },
  { name: "ActiveMQ Artemis 2.40", part: "artemis", protocolVersion: 5, start: startArtemis },
  { name: "mochi 2.7.9", part: "mochi", protocolVersion: 5, start: startMochi },
  { name: "RabbitMQ 3.10", part: "rabbitmq", protocolVersion: 4, start: startRabbitMq },
  { name: "ejabberd 23.01", part: "ejabberd", protocolVersion: 5, start: startEjabberd },
  { name: "NATS 2.15", part: "nats", protocolVersion: 4, start: startNats },
  { name: "Moquette 0.17", part: "moquette", protocolVersion: 4, start: startMoquette },
];
