/**
 * What MqttBroker is told, its presets, and what MQTT.js is told of it. Must not show a part of the URL that may be secret.
 */
import { Buffer } from "node:buffer";
import type { IClientOptions } from "mqtt";
import { readBrokerUrl } from "../util/broker_url.ts";
import { compact } from "../util/compact.ts";
import { KeepaliveTimer } from "./keepalive_timer.ts";

/** Which of two services is meant. */
export interface Identity {
  /** A random word of this process. */
  readonly instance: string;
  /** When it started, in milliseconds since the epoch, by the clock of its own machine. */
  readonly startedAtMs: number;
}

/** Options of mqtt.ts. */
export interface MqttOptions {
  /** `mqtt:`, `mqtts:`, `ws:` or `wss:` URL; a user and password in it are used where the options name none. */
  readonly url: string;
  /** Fixed: the broker keeps the session under it. Two instances with one id throw each other out. */
  readonly clientId: string;
  readonly username?: string;
  readonly password?: string;
  /** PEM texts. `ca` replaces the system's authorities; `cert` and `key` are this client's own. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
  /** 5 (default), or 4 for MQTT 3.1.1. */
  readonly protocolVersion?: 5 | 4;
  /** How long the broker keeps the session without us (MQTT 5). Default 7 days. */
  readonly sessionExpirySeconds?: number;
  /**
   * Unacknowledged messages that the broker may send (MQTT 5). Default 1,000, at most maxWaiting. One message that is
   * not done for long holds up all acknowledgements after it, so no more than these come meanwhile. Brokers exceed it.
   */
  readonly receiveMaximum?: number;
  /**
   * Largest packet that is taken, in bytes. Default 32 MiB. A broker that speaks MQTT 5 is told, and sends no larger ones;
   * of what comes all the same the payload is thrown away, the message acknowledged and `onTrouble` told.
   */
  readonly maximumPacketSize?: number;
  /** Default 30. */
  readonly keepaliveSeconds?: number;
  /** Retained: `online` at each connect, `offline` at close and as the last will. */
  readonly state?: { readonly topic: string; readonly online?: string; readonly offline?: string };
  /** What this service says of itself, retained, on `topic`: by that two services with one client id are told apart. */
  readonly identity?: Identity & { readonly topic: string };
  /** Most deliveries that are not `done`; those beyond are left with the broker. Default 10,000. */
  readonly maxWaiting?: number;
  /** The same in bytes of topic and payload. One message alone may be larger. Default 64 MiB. */
  readonly maxWaitingBytes?: number;
  /** From the start of a connection to CONNACK. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /** Waits between connections: doubled from `minMs` (250) to `maxMs` (30,000), half of it random. */
  readonly backoff?: { readonly minMs: number; readonly maxMs: number };
  /** Ask for the retained message of a filter that is new to the session (MQTT 5). Default false. */
  readonly retained?: boolean;
  /** Leaves out filters covered by others; used where the broker cannot say for which filter a copy is. */
  readonly reduce?: (filters: Iterable<string>) => Iterable<string>;
  /** Asked before each connection: what it returns takes the place of what was given. Secrets in files are renewed. */
  readonly renew?: () => Promise<Credentials>;
  /** Hears, in a sentence, of what a person should mend though the connection stands. */
  readonly onTrouble?: (reason: string) => void;
}

/** MQTT.js numbers its SUBSCRIBEs up to here, publications are numbered above. */
export const HIGHEST_CLIENT_ID = 0x7fff;
/** Options with the presets filled in. */
export type Settled =
  & Required<Omit<MqttOptions, "username" | "password" | "tls" | "state" | "identity">>
  & MqttOptions
  & {
    /** Where to connect; `url` is what people are shown. */
    readonly address: string;
  };

/** What may change between two connections. */
export interface Credentials {
  readonly username?: string;
  readonly password?: string;
  readonly tls?: NonNullable<MqttOptions["tls"]>;
}

/** Fills in the presets. Throws a TypeError that shows no part of a refused URL. */
export function settle(options: MqttOptions): Settled {
  const found = readBrokerUrl(options.url);
  if ("fault" in found) throw new TypeError(`Invalid broker URL: ${found.fault}`);
  const { secrets: _, ...parts } = found;
  return {
    protocolVersion: 5,
    sessionExpirySeconds: 7 * 24 * 3600,
    receiveMaximum: 1_000,
    maximumPacketSize: 32 * 1024 * 1024,
    keepaliveSeconds: 30,
    maxWaiting: 10_000,
    maxWaitingBytes: 64 * 1024 * 1024,
    connectTimeoutMs: 10_000,
    backoff: { minMs: 250, maxMs: 30_000 },
    retained: false,
    reduce: (filters) => filters,
    onTrouble: () => {},
    renew: () => Promise.resolve({}),
    ...parts,
    ...options,
    url: parts.url,
  };
}

/** Packet identifiers of MQTT.js' SUBSCRIBE and UNSUBSCRIBE, apart from those of publications. */
class ClientIds {
  readonly #taken = new Set<number>();
  #last = 0;

  allocate(): number | null {
    if (this.#taken.size >= HIGHEST_CLIENT_ID) return null;
    do this.#last = this.#last >= HIGHEST_CLIENT_ID ? 1 : this.#last + 1; while (this.#taken.has(this.#last));
    this.#taken.add(this.#last);
    return this.#last;
  }
  getLastAllocated(): number | null {
    return this.#last || null;
  }
  register(id: number): boolean {
    if (this.#taken.has(id)) return false;
    this.#taken.add(id);
    return true;
  }
  deallocate(id: number): void {
    this.#taken.delete(id);
  }
  clear(): void {
    this.#taken.clear();
  }
}

/** Options of MQTT.js for one connection. */
export function clientOptions(options: Settled, { retains }: { retains: boolean }): IClientOptions {
  const url = new URL(options.address);
  const protocol = url.protocol.slice(0, -1) as "mqtt" | "mqtts" | "ws" | "wss";
  const { state, tls, protocolVersion } = options;
  return {
    protocol,
    host: url.hostname.replace(/^\[|\]$/g, ""),
    ...(url.port ? { port: Number(url.port) } : {}),
    ...(protocol.startsWith("ws") ? { path: `${url.pathname}${url.search}` || "/" } : {}),
    // A certificate would make MQTT.js turn mqtt: into mqtts: silently.
    ...(tls && (protocol === "mqtts" || protocol === "wss") ? tls : {}),
    ...compact({ username: options.username, password: options.password }),
    clientId: options.clientId,
    protocolVersion,
    clean: false,
    keepalive: options.keepaliveSeconds,
    connectTimeout: options.connectTimeoutMs,
    // Reconnecting and resubscribing are done here, on a client of their own.
    reconnectPeriod: 0,
    resubscribe: false,
    messageIdProvider: new ClientIds(),
    timerVariant: new KeepaliveTimer(),
    // The stream is wrapped before it is opened.
    manualConnect: true,
    ...(state
      ? { will: { topic: state.topic, payload: Buffer.from(state.offline ?? "offline"), qos: 1, retain: retains } }
      : {}),
    ...(protocolVersion === 5
      ? {
        properties: {
          sessionExpiryInterval: options.sessionExpirySeconds,
          receiveMaximum: Math.min(options.receiveMaximum, options.maxWaiting),
          maximumPacketSize: options.maximumPacketSize,
        },
      }
      : {}),
  };
}
