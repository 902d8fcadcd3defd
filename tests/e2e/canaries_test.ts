/**
 * Canaries: each setting that may hold a secret gets one, with characters that every encoding changes. Then all goes
 * wrong, with peers that send back what they were shown, and no output may hold a canary in any form.
 */
import { deepEqual, ok } from "node:assert/strict";
import { Buffer } from "node:buffer";
import { call } from "../harness/command.ts";
import { loadConfig } from "../../config.ts";
import { type Setting, SETTINGS } from "../../config/settings.ts";
import { errorMessage } from "../../util/errors.ts";
import { getLogger, setupLog } from "../../util/log.ts";
import { forgetSecrets } from "../../util/redact.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { startMosquitto } from "../harness/mosquitto.ts";
import { needs } from "../harness/needs.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { eventually } from "../harness/wait.ts";

/** A value that nobody else writes, with what JSON, URLs and base64 write in other ways. */
const canaryOf = (name: string) => `Canary>>${name}<</?#"&%+ä=end`;

/** Every setting that may hold one, by the table itself: a new one is covered on its first day. */
const SECRET = (Object.entries(SETTINGS) as [string, Setting][])
  .filter(([, { secret, mayHoldSecret }]) => secret === true || mayHoldSecret)
  .map(([name, setting]) => ({ name, setting, canary: canaryOf(name) }));

/** What a setting is set to, so that it holds its canary. */
function valueOf(name: string, canary: string, urls: Readonly<Record<string, string>>): string {
  const url = urls[name];
  if (name === "OTEL_EXPORTER_OTLP_HEADERS") return `api-key=${encodeURIComponent(canary)}`;
  if (url === undefined) return canary;
  const made = new URL(url);
  if (SETTINGS[name as "WEBHOOK_URL"].secret) made.pathname = `/${encodeURIComponent(canary)}`;
  else {
    made.username = "lab";
    made.password = encodeURIComponent(canary);
  }
  return name === "NOTIFY_CHANNELS" ? `lab=${made.href}` : made.href;
}

/** The forms in which a canary may come back. */
function formsOf(canary: string): string[] {
  const bytes = Buffer.from(canary);
  const within = [0, 1, 2].map((offset) => {
    const text = Buffer.concat([new Uint8Array(offset), bytes]).toString("base64");
    return text.slice(Math.ceil(offset * 8 / 6), Math.floor((offset + bytes.length) * 8 / 6));
  });
  const base64 = [bytes.toString("base64"), ...within];
  return [
    canary,
    JSON.stringify(canary).slice(1, -1),
    encodeURIComponent(canary),
    encodeURIComponent(canary).replace(/%../g, (code) => code.toLowerCase()),
    new URLSearchParams([["", canary]]).toString().slice(1),
    ...base64,
    ...base64.map((text) => text.replaceAll("+", "-").replaceAll("/", "_")),
    bytes.toString("hex"),
  ];
}

/** Names of the settings whose canary is in the text, in whichever form. */
function foundIn(text: string): string[] {
  return SECRET.filter(({ canary }) => formsOf(canary).some((form) => text.includes(form))).map(({ name }) => name);
}

const TABLE = `job_name,mqtt_topic,image,command,notify
bad,lab/bad,busybox,false,
named,lab/named,busybox,false,lab
`;

const URLS = {
  MQTT_URL: "mqtt://127.0.0.1:1",
  AWS_ENDPOINT_URL: "http://127.0.0.1:1",
  STATUS_URL: "https://page.example",
  WEBHOOK_URL: "https://hooks.example/x",
  NOTIFY_CHANNELS: "https://hooks.example/y",
  OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1",
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://127.0.0.1:1/v1/traces",
};

function envOf(urls: Readonly<Record<string, string>>): Record<string, string> {
  const all = SECRET.map(({ name, canary }) => [name, valueOf(name, canary, { ...URLS, ...urls })]);
  return { ...Object.fromEntries(all), AWS_ACCESS_KEY_ID: "AKIA-lab" };
}

Deno.test("the settings that may hold a secret are known", () => {
  const names = SECRET.map(({ name }) => name);
  for (
    const known of [
      "MQTT_PASSWORD",
      "MQTT_URL",
      "STATUS_TOKEN",
      "WEBHOOK_URL",
      "NOTIFY_CHANNELS",
      "AWS_SECRET_ACCESS_KEY",
    ]
  ) {
    ok(names.includes(known), known);
  }
  deepEqual(foundIn(SECRET.map(({ canary }) => canary).join()), names);
});

Deno.test("no way out of the program lets a canary through, whatever encoding an error has it in", async (t) => {
  forgetSecrets();
  try {
    const env = envOf({});
    const config = loadConfig({ env, readTextFile: () => "" });
    const leak = SECRET.flatMap(({ canary }) => formsOf(canary).map((form) => `<${form}>`)).join(" ");
    const error = () => new Error(`refused: ${leak.slice(0, 400)}`, { cause: new Error(leak) });
    const step = (name: string, out: () => string | Promise<string>) =>
      t.step(name, async () => deepEqual(foundIn(await out()), []));
    await step("an error's words", () => errorMessage(error()));
    for (const format of ["text", "json"] as const) {
      await step(`the log, ${format}`, () => {
        const lines: string[] = [];
        setupLog({ level: "trace", format, write: (line) => lines.push(line) });
        const log = getLogger("canary");
        for (const form of leak.split(" ")) {
          log.error("Said {form}", { form, error: error(), deep: { form: [form] } });
        }
        return lines.join("");
      });
    }
    await step("what is shown of the configuration", () => JSON.stringify(config) + Deno.inspect(config));
    for (const name of Object.keys(env)) {
      await step(`the fault of a wrong ${name}`, async () => {
        let told = "";
        for (const wrong of [`${env[name]}\0`, `x${env[name]}`, `mqtt://a:${canaryOf(name)}@h`, canaryOf(name)]) {
          const { out, err } = await call(["runs", "--json"], { ...env, [name]: wrong, CATALOG_POLL: "soon" });
          told += out + err;
        }
        ok(told.includes("CATALOG_POLL"), told);
        return told;
      });
    }
  } finally {
    forgetSecrets();
  }
});

/** Answers with a refusal that holds all that it was sent, as careless peers do. */
function startEcho() {
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const body = await request.text();
    const message = JSON.stringify([request.url, ...request.headers, body]);
    if (request.url.includes("/apis/") || request.url.includes("/api/")) {
      return Response.json({ kind: "Status", status: "Failure", reason: "Forbidden", code: 403, message }, {
        status: 403,
      });
    }
    const xml = message.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
    return new Response(`<Error><Code>AccessDenied</Code><Message>${xml}</Message></Error>`, { status: 403 });
  });
}

Deno.test({
  name: "peers that send back what they were shown put no canary into log, page, topics, records or command lines",
  ignore: !await needs("mosquitto"),
  async fn() {
    const dir = await scratchFolder("canaries");
    await using echo = startEcho();
    const echoUrl = `http://127.0.0.1:${echo.addr.port}`;
    const canary = SECRET.find(({ name }) => name === "MQTT_PASSWORD")!.canary;
    await using broker = await startMosquitto({ users: { lab: canary } });
    const kubeconfig = {
      clusters: [{ name: "c", cluster: { server: echoUrl } }],
      users: [{ name: "u", user: { token: canaryOf("STATUS_TOKEN") } }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    };
    await Deno.writeTextFile(`${dir}/kubeconfig`, JSON.stringify(kubeconfig));
    await Deno.writeTextFile(`${dir}/jobs.csv`, TABLE);
    const login = new URL(broker.url);
    login.username = "lab";
    login.password = encodeURIComponent(canary);
    const urls = { MQTT_URL: broker.url, AWS_ENDPOINT_URL: echoUrl, WEBHOOK_URL: echoUrl, NOTIFY_CHANNELS: echoUrl };
    const env = {
      ...envOf(urls),
      MQTT_URL: broker.url,
      MQTT_USERNAME: "lab",
      KUBECONFIG: `${dir}/kubeconfig`,
      LOG_LEVEL: "trace",
      RUNS_URL: `${dir}/runs`,
    };
    const local = { CLUSTER: "local", LOCAL_DIR: `${dir}/local`, CATALOG_URL: `${dir}/jobs.csv` };
    const s3 = { CATALOG_URL: "s3://lab/jobs.csv", LOGS_URL: "s3://lab/logs" };
    let seen = "";
    try {
      await using ear = await MqttEar.connect(login.href, ["#"]);
      for (const format of ["text", "json"]) {
        const more = {
          ...local,
          LOGS_URL: `${dir}/logs`,
          TOPIC_PREFIX: `services/${format}`,
          STATUS_ADDR: "127.0.0.1:0",
        };
        await using service = await startService({ ...env, ...more, LOG_FORMAT: format });
        const [, page] = /Page and metrics at (http:[^\s"]+)/.exec(await service.log()) ?? [];
        await ear.publish("lab/bad", "x");
        await ear.publish("lab/named", "x");
        // The webhooks hear of the ends, refuse with all that they were sent, and that is logged.
        await eventually(async () => ((await service.log()).match(/Cannot send the notice/g)?.length ?? 0) >= 2, {
          what: () => service.logTail(40),
        });
        const pages = ["/", "/runs", "/table", "/graph", "/rows/named", "/messages", "/usage", "/nothing"];
        const data = pages.map((path) => path === "/" ? "/index.json" : `${path}.json`);
        for (const path of [...pages, ...data, "/healthz", "/readyz", "/metrics"]) {
          seen += await (await fetch(new URL(path, page))).text();
        }
        seen += await service.log();
      }
      const hear = async (line: string[], more: Record<string, string>) => {
        const { out, err } = await call(line, { ...env, ...more });
        seen += out + err;
      };
      for (const line of [["check"], ["runs"], ["logs", "bad-a"], ["run", "bad", "--timeout", "100ms"], ["health"]]) {
        await hear(line, { ...s3, RUNS_URL: "s3://lab/runs", STATUS_ADDR: "127.0.0.1:1" });
      }
      await hear(["check", `${dir}/jobs.csv`, "--server"], {});
      seen += ear.heard.map(({ topic, text }) => `${topic} ${text}`).join("\n");
      for (const { name } of Deno.readDirSync(`${dir}/runs`)) {
        if (name.endsWith(".json")) seen += await Deno.readTextFile(`${dir}/runs/${name}`);
      }
      // The peers did send it back.
      ok(/AccessDenied|Forbidden|refuse/i.test(seen), seen.slice(-2_000));
      const lines = seen.split("\n").filter((line) => foundIn(line).length > 0);
      deepEqual(lines.map((line) => `${foundIn(line)}: ${line.slice(0, 600)}`), []);
    } finally {
      await removeFolder(dir);
    }
  },
});
