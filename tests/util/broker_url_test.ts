/** The broker's URL is taken apart, and no part of a refused one is shown. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { readBrokerUrl } from "../../util/broker_url.ts";
import { loadConfig } from "../../config.ts";
import { MqttBroker } from "../../mqtt.ts";

Deno.test("readBrokerUrl() keeps credentials and a websocket's query apart from what is shown", () => {
  deepEqual(readBrokerUrl("wss://ada:p%40ss@host/mqtt?token=s3cret&x=1"), {
    url: "wss://host/mqtt",
    address: "wss://host/mqtt?token=s3cret&x=1",
    username: "ada",
    password: "p@ss",
    secrets: ["p@ss", "p%40ss", "s3cret", "1", "token=s3cret&x=1"],
  });
  deepEqual(readBrokerUrl("mqtt://host:1883/"), { url: "mqtt://host:1883", address: "mqtt://host:1883", secrets: [] });
});

Deno.test("no spelling of a password in a refused URL is in the message of adapter or configuration", async (t) => {
  const passwords = [
    "12/canary",
    "canary/12",
    "1#canary",
    "canary#1",
    "12?canary",
    "canary?12",
    "ca%nary",
    "canary@x@",
  ];
  for (const scheme of ["mqtt", "mqtts", "ws", "wss"]) {
    for (const password of passwords) {
      const url = `${scheme}://ada:${password}@broker.example`;
      await t.step(url, () => {
        for (const start of [() => new MqttBroker({ url, clientId: "c" }), () => read(url)]) {
          let said = "";
          try {
            start();
          } catch (error) {
            said = (error as Error).message;
          }
          ok(said === "" ? password === "canary@x@" : said.includes("percent-encoded"), said);
          for (const part of ["canary", "nary", "12", password]) ok(!said.includes(part), said);
        }
      });
    }
  }
});

Deno.test("the token of a websocket's URL is among the secrets and not in what is shown", () => {
  const config = read("wss://broker/mqtt?token=s3cret");
  equal(config.mqtt.url, "wss://broker/mqtt?token=s3cret");
  ok(config.secrets.includes("s3cret"));
  ok(!JSON.stringify(config).includes("s3cret"));
  equal(new MqttBroker({ url: config.mqtt.url, clientId: "c" }).url, "wss://broker/mqtt");
});

function read(url: string) {
  return loadConfig({ env: { MQTT_URL: url }, readTextFile: () => "" });
}
