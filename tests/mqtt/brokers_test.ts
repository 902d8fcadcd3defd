/** MqttBroker on the real brokers beside mosquitto: the conformance suite, with what each lacks. */
import { MqttBroker } from "../../mqtt.ts";
import { brokerConformance } from "../conformance/broker.ts";
import { BROKERS } from "../harness/brokers/all.ts";
import { needs } from "../harness/needs.ts";

for (const { name, part, protocolVersion, start } of BROKERS) {
  brokerConformance(`MqttBroker on ${name}`, async () => {
    const broker = await start();
    return {
      port: broker.port,
      burst: 2_000,
      filters: 500,
      client: (options) => new MqttBroker({ ...options, protocolVersion }),
      restart: () => broker.restart(),
      [Symbol.asyncDispose]: () => broker[Symbol.asyncDispose](),
    };
  }, { ignore: !await needs(part), lacks: protocolVersion === 5 ? [] : ["filters", "properties"] });
}
