/**
 * Another service that runs with this one's client id: owns the answer to "is there one, and which of the two must go?".
 * Each says on the retained `info` who it is. A broker keeps what was published last, so after a connection on which this
 * one had published its own, another's name there is of one that lived after that: a predecessor that is dead, or a
 * half-open connection of our own, is taken for nobody else. In doubt nobody goes.
 */
import mqtt from "mqtt";
import { delayAtMost } from "../util/retry.ts";
import type { Connection } from "./connection.ts";
import type { EndKind } from "./errors.ts";
import { clientOptions, type Identity, type Settled } from "./options.ts";
import { PacketLimit } from "./packet_limit.ts";

interface RivalsOptions {
  readonly identity: NonNullable<Settled["identity"]>;
  readonly clientId: string;
  readonly signal: AbortSignal;
}

/** How long the broker has to say what is retained. */
const LOOK_MS = 5_000;
/** The other one's name is published as soon as it is connected; it may come after ours was looked at. */
const NEWER_MS = 1_000;
/** A connection that lasted so long was not ended by another service's, for that would have come back earlier. */
const STEADY_MS = 60_000;
/** An elder one that was thrown out is back by then, for it waits no longer than the first time after a loss. */
const PROBATION_MS = 5_000;
/** Ends without a word that must be another's doing: a broker that has crashed may name a dead service, but not twice. */
const SILENT_ENDS = 2;
/** Of the retained message; ours has a few KB. */
const MOST_BYTES = 256 * 1024;

export class Rivals {
  readonly #options: RivalsOptions;
  /** On which the broker has this one's name. */
  #told: Connection | undefined;
  #seen = 0;
  /** Instance of the other one that was told of last. */
  #reported = "";
  #onProbation = false;

  constructor(options: RivalsOptions) {
    this.#options = options;
  }

  /**
   * Looks before the first connection: where another service says that it is there, and that it is online, what comes is
   * held back until a connection has lasted. The elder would not know what had become of it.
   */
  async before(options: Settled): Promise<void> {
    const { identity, signal } = this.#options;
    const { other, isOnline } = await lookFor(options, { ...identity, signal, newerMs: 0 });
    this.#onProbation = other !== undefined && isOnline;
  }

  /** A connection is ready; `release` is called when what comes on it is held back no more. */
  began(connection: Connection, release: () => void): void {
    if (!this.#onProbation) return;
    void delayAtMost(PROBATION_MS, connection.over).then(() => {
      if (!connection.open || !this.#onProbation) return;
      this.#onProbation = false;
      release();
    });
  }

  /** What comes is held back. */
  get onProbation(): boolean {
    return this.#onProbation;
  }

  /** What to do when this retained publication is acknowledged; undefined: nothing. */
  tells(topic: string, connection: Connection | undefined): (() => void) | undefined {
    if (topic !== this.#options.identity.topic) return undefined;
    return () => void (this.#told = connection);
  }

  /** Looks, if the connection may have ended by another service's; undefined: there is none, or it cannot be known. */
  async after(
    connection: Connection,
    kind: EndKind,
    options: Settled,
  ): Promise<{ readonly mustGo: boolean; readonly isNews: boolean; readonly words: string } | undefined> {
    const mayBe = kind === "takeover" || (kind === "lost" && connection.heldMs < STEADY_MS);
    if (!mayBe || this.#told !== connection) return undefined;
    const { identity, clientId, signal } = this.#options;
    const { other } = await lookFor(options, { ...identity, signal, newerMs: NEWER_MS });
    this.#seen = other ? this.#seen + 1 : 0;
    if (!other || signal.aborted) return undefined;
    const isSure = kind === "takeover" || this.#seen >= SILENT_ENDS;
    const since = new Date(other.startedAtMs).toISOString();
    const words = `Another service with MQTT_CLIENT_ID "${clientId}" has been running since ${since}: ` +
      `give this one its own MQTT_CLIENT_ID and TOPIC_PREFIX, or stop the other`;
    // A younger one than the other ends soon, and says why then.
    if (isYounger(identity, other)) return { mustGo: isSure, isNews: false, words };
    const isNews = this.#reported !== other.instance;
    this.#reported = other.instance;
    return { mustGo: false, isNews, words };
  }
}

function isYounger(own: Identity, other: Identity): boolean {
  return own.startedAtMs === other.startedAtMs ? own.instance > other.instance : own.startedAtMs > other.startedAtMs;
}

interface Look {
  readonly topic: string;
  readonly instance: string;
  /** How long another one's name is waited for when ours was seen, or none. */
  readonly newerMs: number;
  readonly signal: AbortSignal;
}

/** Who else says on the topic that it is the service, by a connection of its own under another name. */
async function lookFor(
  options: Settled,
  { topic, instance, newerMs, signal }: Look,
): Promise<{ other: Identity | undefined; isOnline: boolean }> {
  const { state, ...rest } = options;
  const clientId = `${options.clientId}-${crypto.randomUUID().slice(0, 8)}`;
  const settled: Settled = { ...rest, clientId, sessionExpirySeconds: 0, maximumPacketSize: MOST_BYTES };
  const over = new AbortController();
  const end = () => over.abort();
  const client = mqtt.connect({ ...clientOptions(settled, { retains: false }), clean: true });
  PacketLimit.putOn(client, () => new PacketLimit(MOST_BYTES, options.protocolVersion, () => {}));
  let other: Identity | undefined;
  let isOnline = false;
  client.on("error", end).on("close", end);
  client.on("message", (name, payload) => {
    if (name === state?.topic) {
      return void (isOnline = new TextDecoder().decode(payload) === (state.online ?? "online"));
    }
    const identity = identityIn(payload);
    if (identity === undefined || identity.instance === instance) return;
    other = identity;
    if (newerMs > 0) end();
  });
  client.on("connect", () => {
    const filters = state === undefined ? [topic] : [state.topic, topic];
    client.subscribe(filters, { qos: 0 }, (error) => {
      if (error) return end();
      // What is retained comes before the answer to this, on brokers that work off a connection's packets in order.
      if (newerMs === 0) client.unsubscribe(filters, end);
      else void delayAtMost(newerMs, over.signal).then(end);
    });
  });
  try {
    client.connect();
    await delayAtMost(LOOK_MS, AbortSignal.any([signal, over.signal]));
  } finally {
    over.abort();
    client.end(true);
  }
  return { other, isOnline };
}

/** Of what anybody may have published: undefined where it is no such thing. */
function identityIn(payload: Uint8Array): Identity | undefined {
  try {
    const { instance, started_at } = JSON.parse(new TextDecoder().decode(payload));
    const startedAtMs = typeof started_at === "string" ? Date.parse(started_at) : NaN;
    if (typeof instance !== "string" || !/^[0-9a-f-]{36}$/.test(instance) || Number.isNaN(startedAtMs)) {
      return undefined;
    }
    return { instance, startedAtMs };
  } catch {
    return undefined;
  }
}
