import { deepEqual, equal, match, ok } from "node:assert/strict";
import { startMosquitto } from "../harness/mosquitto.ts";
import { needs } from "../harness/needs.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { eventually } from "../harness/wait.ts";
import { getLogger, type LogOptions, setupLog } from "../../util/log.ts";
import { forgetSecrets, redact, registerSecret } from "../../util/redact.ts";

function collect(options: Partial<LogOptions> = {}): string[] {
  const lines: string[] = [];
  setupLog({ level: "info", format: "text", write: (line) => lines.push(line), ...options });
  return lines;
}

/** A line without its time. */
function bare(line: string | undefined): string {
  return (line ?? "").replace(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /, "");
}

Deno.test("a text line holds time, level, category, message and the other values", () => {
  const lines = collect();
  getLogger("listener").info("Created {run}", { run: "a-1", job: "a b", ms: 3, at: new Date(0) });
  match(lines[0]!, /^\d{4}-\d\d-\d\dT/);
  equal(bare(lines[0]), 'INFO  listener: Created a-1 run=a-1 job="a b" ms=3 at=1970-01-01T00:00:00.000Z\n');
});

Deno.test("a JSON line holds the values as fields", () => {
  const lines = collect({ format: "json" });
  getLogger("listener").warn("Waits: {why}", { run: "a-1", why: "quota", message: "x", deep: { n: 1 }, none: null });
  const { time, ...rest } = JSON.parse(lines[0]!);
  ok(!Number.isNaN(Date.parse(time)));
  deepEqual(rest, {
    level: "warning",
    logger: "listener",
    message: "Waits: quota",
    run: "a-1",
    why: "quota",
    message_: "x",
    deep: { n: 1 },
    none: null,
  });
});

Deno.test("a logger with a run puts it on every line, in both formats", () => {
  for (const format of ["text", "json"] as const) {
    const lines = collect({ format });
    const logger = getLogger("completion").with({ run: "a-1" });
    logger.info("Logs are in the store");
    logger.error("Cannot publish: {error}", { error: new Error("no") });
    equal(lines.length, 2);
    for (const line of lines) match(line, format === "text" ? / run=a-1\b/ : /"run":"a-1"/);
  }
});

Deno.test("setupLog() leaves out what is below the level", () => {
  const lines = collect({ level: "warning" });
  const logger = getLogger("x");
  logger.info("no");
  logger.warn("yes");
  equal(lines.length, 1);
});

Deno.test("an error is told with its causes, and in JSON with its stack", () => {
  const error = new Error("Cannot create", { cause: new Error("refused", { cause: "tcp" }) });
  let lines = collect();
  getLogger("x").error("Failed", { error });
  equal(bare(lines[0]), 'ERROR x: Failed error="Cannot create: refused: tcp"\n');
  lines = collect({ format: "json" });
  getLogger("x").error("Failed", { error });
  const told = JSON.parse(lines[0]!).error;
  equal(told.error, "Cannot create: refused: tcp");
  match(told.stack, /log_test/);
});

Deno.test("a value cannot write a line of its own nor reach the terminal", () => {
  const lines = collect();
  getLogger("x").info("Topic {topic}", { topic: "a\n2026 INFO forged\x1b[2J", payload: "b\r\nc\u2028d" });
  equal(lines.length, 1);
  equal(bare(lines[0]), 'INFO  x: Topic a\\n2026 INFO forged\\u001b[2J payload="b\\r\\nc\\u2028d"\n');
});

Deno.test("values that JSON cannot hold do not stop the log", () => {
  const cycle: Record<string, unknown> = {};
  cycle["self"] = cycle;
  for (const format of ["text", "json"] as const) {
    const lines = collect({ format });
    getLogger("x").info("Odd", { cycle, big: 1n, bytes: new Uint8Array(5), none: undefined, date: new Date(NaN) });
    equal(lines.length, 1);
    match(lines[0]!, /5 bytes/);
  }
});

Deno.test("no registered secret is on any line, however it is written", () => {
  try {
    registerSecret('pa"ss w0rd');
    registerSecret("t0ken");
    registerSecret("t0ken-longer");
    for (const format of ["text", "json"] as const) {
      const lines = collect({ format });
      getLogger("x").info('Sent pa"ss w0rd to {url}', {
        url: `http://h/?p=${encodeURIComponent('pa"ss w0rd')}`,
        nested: { token: "t0ken-longer", password: 'pa"ss w0rd' },
        error: new Error("401 for t0ken", { cause: new Error('pa"ss w0rd') }),
      });
      ok(!/t0ken|w0rd|longer/.test(lines[0]!), lines[0] ?? "");
      if (format === "json") JSON.parse(lines[0]!);
    }
  } finally {
    forgetSecrets();
  }
});

Deno.test("redact() hides credentials that nobody registered", async (t) => {
  const cases: [string, string][] = [
    ["mqtt://lab:s3cret@broker:1883/x", "mqtt://***@broker:1883/x"],
    ["see https://user@host and http://host/a@b", "see https://***@host and http://host/a@b"],
    [
      "https://s3/k?X-Amz-Credential=A%2F1&X-Amz-Signature=abc&v=1",
      "https://s3/k?X-Amz-Credential=***&X-Amz-Signature=***&v=1",
    ],
    ["authorization: Bearer eyJhbGciOi.x.y", "authorization: Bearer ***"],
    ["mail lab@example.org", "mail lab@example.org"],
  ];
  for (const [text, clean] of cases) await t.step(text, () => equal(redact(text), clean));
});

Deno.test("registerSecret() leaves out what is too short to be one", () => {
  registerSecret("a");
  equal(redact("a banana"), "a banana");
  forgetSecrets();
});

Deno.test({
  name: "each line of the service's log that is about a run has the run",
  ignore: !await needs("mosquitto"),
  async fn() {
    const dir = await Deno.makeTempDir();
    const table = [
      "job_name,mqtt_topic,image,command",
      "good,lab/good,busybox,true",
      "bad,lab/bad,busybox,false",
      "long,lab/long,busybox,sleep 60",
    ];
    await Deno.writeTextFile(`${dir}/jobs.csv`, table.join("\n") + "\n");
    // A webhook that refuses: the log says of which run.
    await using hook = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {} },
      () => new Response("no", { status: 400 }),
    );
    await using broker = await startMosquitto();
    await using service = await startService({
      MQTT_URL: broker.url,
      CATALOG_URL: `${dir}/jobs.csv`,
      CLUSTER: "local",
      LOCAL_DIR: `${dir}/local`,
      STATUS_ADDR: "off",
      LOG_FORMAT: "json",
      LOG_LEVEL: "debug",
      WEBHOOK_URL: `http://127.0.0.1:${hook.addr.port}/`,
      WEBHOOK_ON: "all",
    });
    await using ear = await MqttEar.connect(broker.url, ["services/mqtt_job_listener/#"]);
    for (const name of ["good", "bad", "long"]) await ear.publish(`lab/${name}`, name);
    const runs = await eventually(() => {
      const names = ear.heard.flatMap(({ topic }) => /\/run\/\w+\/(.+)$/.exec(topic)?.[1] ?? []);
      return new Set(names).size === 3 ? [...new Set(names)] : undefined;
    });
    const long = runs.find((name) => name.startsWith("long-"));
    await ear.publish("services/mqtt_job_listener/request/cancel", JSON.stringify({ run_name: long }));
    const lines = await eventually(async () => {
      const all = (await service.log()).split("\n").filter((line) => line.startsWith("{"))
        .map((line) => JSON.parse(line) as { message: string; run?: string });
      return all.filter(({ message }) => message.startsWith("Cannot send the notice")).length === 3 ? all : undefined;
    });
    const about = lines.flatMap((line) => runs.filter((name) => JSON.stringify(line).includes(name)).map(() => line));
    ok(about.length >= 12, `only ${about.length} lines are about a run`);
    deepEqual(about.filter(({ run }) => !runs.includes(run ?? "")), []);
    await Deno.remove(dir, { recursive: true });
  },
});
