/** A real broker of the harness as the broker's suite wants it, with MqttBroker as the client. */
import { MqttBroker } from "../../mqtt.ts";
import type { BrokerKind } from "../harness/brokers/all.ts";
import type { BrokerFixture } from "./broker.ts";

/** A broker that runs. */
interface Running extends AsyncDisposable {
  /** With user and password where nobody is let in without. */
  readonly url: string;
  readonly port: number;
  restart(): Promise<void>;
}

/** The broker goes over to the fixture, which ends it. */
export function brokerFixture(
  broker: Running,
  { protocolVersion }: Pick<BrokerKind, "protocolVersion">,
): BrokerFixture {
  const { username, password } = new URL(broker.url);
  const credentials = username === "" ? {} : { username, password };
  return {
    port: broker.port,
    ...(username === "" ? {} : { credentials: { username, password } }),
    burst: 1_000,
    filters: 200,
    client: (options) => new MqttBroker({ ...options, ...credentials, protocolVersion }),
    restart: () => broker.restart(),
    [Symbol.asyncDispose]: () => broker[Symbol.asyncDispose](),
  };
}
