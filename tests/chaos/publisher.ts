/**
 * A publisher at a steady rate that keeps count: a message counts when the broker has acknowledged it, and one whose
 * acknowledgement was lost with the connection is sent again. Decides nothing about what is in a message.
 */
import mqtt, { type MqttClient } from "mqtt";
import { connected, PublishWindow } from "../harness/publish_window.ts";

/** One message to be sent. */
export interface Outgoing {
  readonly topic: string;
  /** Another one for each message. */
  readonly payload: string;
  readonly key?: string;
}

export interface PublisherOptions {
  readonly url: string;
  /** Messages in all, numbered from 0. */
  readonly count: number;
  readonly perSecond: number;
  readonly messageOf: (n: number) => Outgoing;
  /** The broker took message `n` over; it was handed to it `attempts` times. */
  readonly onTaken: (n: number, attempts: number) => void;
}

/** Unacknowledged messages at a time, while what was due in an outage is caught up with. */
const MOST_UNACKNOWLEDGED = 100;
const TICK_MS = 20;

/** Publishes with QoS 1 over a lasting session. Disposing it closes it. */
export class SteadyPublisher implements AsyncDisposable {
  readonly #options: PublisherOptions;
  readonly #client: MqttClient;
  readonly #window: PublishWindow;
  /** Payloads of messages that are not acknowledged → how often each went out. */
  readonly #open = new Map<string, number>();
  readonly #beganMs = performance.now();
  readonly #ticker: ReturnType<typeof setInterval>;
  #next = 0;

  private constructor(options: PublisherOptions, client: MqttClient) {
    this.#options = options;
    this.#client = client;
    this.#window = new PublishWindow(client);
    // MQTT.js sends what is unacknowledged again by itself, before it tells that it is connected.
    client.on("packetsend", (packet) => {
      if (packet.cmd !== "publish") return;
      const payload = String(packet.payload);
      const attempts = this.#open.get(payload);
      if (attempts !== undefined) this.#open.set(payload, attempts + 1);
    });
    // Without a listener a lost connection would end the program.
    client.on("error", () => {});
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
  }

  static async start(options: PublisherOptions): Promise<SteadyPublisher> {
    const client = mqtt.connect(options.url, {
      protocolVersion: 5,
      clientId: "chaos-publisher",
      clean: false,
      properties: { sessionExpiryInterval: 3600 },
      reconnectPeriod: 200,
    });
    const publisher = new SteadyPublisher(options, client);
    await connected(client);
    return publisher;
  }

  /** All have been sent and acknowledged. */
  get done(): boolean {
    return this.#next === this.#options.count && this.#open.size === 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#ticker);
    await this.#client.endAsync(true);
  }

  #tick(): void {
    const { count, perSecond } = this.#options;
    const due = Math.min(count, Math.floor((performance.now() - this.#beganMs) * perSecond / 1_000));
    const most = Math.min(MOST_UNACKNOWLEDGED, this.#window.most);
    while (this.#next < due && this.#open.size < most && this.#client.connected) {
      this.#send(this.#next++);
    }
  }

  #send(n: number): void {
    const { topic, payload, key } = this.#options.messageOf(n);
    this.#open.set(payload, 0);
    const properties = key === undefined ? {} : { userProperties: { "idempotency-key": key } };
    this.#client.publish(topic, payload, { qos: 1, properties }, (error) => {
      // Closed by the test: it was not acknowledged, so it does not count.
      if (error) return;
      this.#options.onTaken(n, this.#open.get(payload) ?? 0);
      this.#open.delete(payload);
    });
  }
}
