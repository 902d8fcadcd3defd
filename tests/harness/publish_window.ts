/**
 * How many messages a publisher may have unacknowledged: the broker's Receive Maximum, to which MQTT.js does not keep.
 * HiveMQ takes ten and cuts off who sends more; what is then sent again is there twice.
 */
import type { MqttClient } from "mqtt";

/** What a broker that says nothing takes [MQTT-3.2.2.3.3]. */
const UNSAID = 65_535;

/** Sends through it at most as many at once. To be made before the client is connected. */
export class PublishWindow {
  /** As the broker last said it. */
  most = UNSAID;
  #open = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(client: MqttClient) {
    client.on("connect", ({ properties }) => this.most = properties?.receiveMaximum ?? UNSAID);
  }

  /** `send` resolves when the broker has acknowledged. In the order of the calls. */
  async through<T>(send: () => Promise<T>): Promise<T> {
    if (this.#open >= this.most) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#open++;
    try {
      return await send();
    } finally {
      // Who waits takes the place over.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#open--;
    }
  }
}

/** Resolves when it is connected for the first time, as mqtt.connectAsync() does. */
export async function connected(client: MqttClient): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    client.once("connect", () => resolve());
    client.once("error", reject);
  });
}
