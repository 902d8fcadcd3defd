/** Reads what commands print, at a terminal or in a pasted log: no orders for the terminal, no secrets. */
import { deepEqual, notEqual, ok } from "node:assert/strict";
import type { Attack, Bed } from "./bed.ts";
import { found } from "./canaries.ts";
import { checkOrders } from "./publisher.ts";

const ACTOR = "reader of logs";

/** Wrong settings, each with a secret where it should not be. */
function mistakes(bed: Bed): Record<string, string>[] {
  const secret = bed.canaries["MQTT_PASSWORD"]!;
  const plain = encodeURIComponent(secret);
  return [
    { MQTT_URL: `mqtt://service:${secret}@127.0.0.1:1` },
    { MQTT_URL: `mqtt://service:${plain}@127.0.0.1:1` },
    { MQTT_URL: `http://service:${plain}@x` },
    { MQTT_URL: `${secret}` },
    { AWS_ENDPOINT_URL: `http://key:${secret}@127.0.0.1:1` },
    { AWS_ENDPOINT_URL: `http://127.0.0.1:1/?token=${plain}` },
    { AWS_ENDPOINT_URL_S3: `ftp://key:${secret}@x` },
    { STATUS_URL: `http://user:${secret}@x/?a#${plain}` },
    { WEBHOOK_URL: `no url ${secret}` },
    { MQTT_PASSWORD: "", MQTT_PASSWORD_FILE: `/nowhere/${"x".repeat(10)}` },
    { STATUS_TOKEN: "" },
    { LOG_LEVEL: secret, MQTT_PASSWORD: secret },
    { CATALOG_URL: `s3://key:${secret}@bucket/x` },
    { AWS_SESSION_TOKEN: bed.canaries["AWS_SESSION_TOKEN"]! },
    { KUBECONFIG: "/nowhere/config" },
  ];
}

export const READER: readonly Attack[] = [
  {
    actor: ACTOR,
    name: "settings with a secret in the wrong place: `check`, `runs`, `start`, as text and as JSON",
    bound: "one sentence, no secret, no trace",
    turnMs: null,
    async run(bed) {
      let runs = 0;
      for (const [at, env] of mistakes(bed).entries()) {
        // Starting would take the session of the attacked service away: an own id, an own port.
        const own = { MQTT_CLIENT_ID: "mistaken", STATUS_ADDR: "off", TOPIC_PREFIX: "mistaken" };
        const args = [["check"], ["runs"], ["check", "--json"]][at % 3]!;
        const { out } = await bed.command(args, { env: { ...own, ...env } });
        runs++;
        deepEqual(found(out, bed.canaries), [], `${args.join(" ")} with ${Object.keys(env)}: ${out.slice(0, 300)}`);
        ok(!/^\s+at .*\.js:\d/m.test(out), `a trace: ${out.slice(0, 500)}`);
        checkOrders(args.join(" "), out);
      }
      return `${runs} runs of the program`;
    },
  },
  {
    actor: ACTOR,
    name: "a start that fails, with each secret set",
    bound: "one sentence, no secret, exit 1 or 2",
    short: true,
    turnMs: null,
    async run(bed) {
      const { code, out } = await bed.command(["start"], {
        env: {
          MQTT_CLIENT_ID: "mistaken",
          TOPIC_PREFIX: "mistaken",
          STATUS_ADDR: "off",
          KUBECONFIG: "/nowhere/config",
          MQTT_URL: `mqtt://service:${bed.canaries["MQTT_PASSWORD"]}@127.0.0.1:1`,
        },
      });
      notEqual(code, 0);
      deepEqual(found(out, bed.canaries), [], out.slice(0, 500));
      checkOrders("start", out);
      return `exit ${code}`;
    },
  },
];
