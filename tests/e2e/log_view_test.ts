/** The log viewer on real parts: a run of two pods on a node, while they write and when one of them has failed. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { GATE_MOUNT, Gates, untilOpen } from "../harness/gate.ts";
import { startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { freePort } from "../harness/ports.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
/** 1.5 MB: more than is read whole where there is no index. */
const SCRIPT = [
  "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo part $JOB_COMPLETION_INDEX line $i of thirty thousand lines; done",
  String.raw`printf "\033[31mred\033[0m\n1%%\r99%%\n"`,
  `${untilOpen("end")}; echo the end; exit $((3 * JOB_COMPLETION_INDEX))`,
].join("; ");
const TABLE = csv([{
  job_name: "parts",
  mqtt_topic: "lab/parts",
  image: "busybox:lab",
  parallelism: 2,
  mounts: GATE_MOUNT,
  command: shell(SCRIPT),
}]);

interface Window {
  readonly size: number;
  readonly live: boolean;
  readonly part?: string;
  readonly parts: readonly { name: string; state: string; failure?: string }[];
  readonly lines: readonly { line: number; text: string }[];
}

Deno.test({
  name: "of a run of two pods each log is shown while it grows, and then which of them has failed",
  ignore: !await needs("mosquitto", "s3", "node"),
  async fn() {
    await using kit = await startKit({ cluster: { node: "real" } });
    const gates = await Gates.make(kit.cluster);
    const port = freePort();
    const env = { ...kit.env(), STATUS_ADDR: `127.0.0.1:${port}` } as Record<string, string>;
    await kit.s3.put(env["CATALOG_URL"]!, TABLE);
    await using ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
    await using service = await startService(env);
    await ear.publish("lab/parts", "");
    const ask = async (path: string) => await (await fetch(`http://127.0.0.1:${port}${path}`)).json();
    const run = await eventually(async () => (await ask("/index.json")).live[0]?.run_name as string | undefined);
    const window = (query = ""): Promise<Window> => ask(`/runs/${run}/log/view.json${query}`);
    const ofPart = (name: string, query = "") => window(`?part=${encodeURIComponent(name)}${query}`);
    const live = await eventually(async () => {
      const now = await window();
      const each = await Promise.all(now.parts.map(({ name }) => ofPart(name)));
      const isWritten = [now, ...each].every(({ lines }) => lines.at(-1)?.text === "99%");
      return now.parts.length === 2 && now.live && isWritten && now;
    }, { what: () => service.logTail(5).then((tail) => `output of two pods; ${tail}`) });
    equal(live.lines.at(-1)!.line, 30_002);
    for (const { name } of live.parts) {
      const { lines } = await ofPart(name, "&line=20000");
      match(lines.find(({ line }) => line === 20_000)!.text, /^part [01] line 20000 of/);
    }
    await gates.open("end");
    await eventually(() => ear.json(`${PREFIX}/job_failed/parts`).length > 0);
    const stored = await eventually(async () => {
      const now = await window("?line=45000");
      return !now.live && now;
    });
    const failures = stored.parts.map(({ failure }) => failure);
    ok(failures.includes("exit code 3"), JSON.stringify(stored.parts));
    // Behind the second pod's heading, or that of the first one.
    match(stored.lines.find(({ line }) => line === 45_000)!.text, /^part [01] line 1499[0-9] of/);
    const failed = stored.parts.find(({ failure }) => failure === "exit code 3")!;
    const end = await ofPart(failed.name);
    deepEqual(end.lines.slice(-2).map(({ line, text }) => [line, text]), [[30_002, "99%"], [30_003, "the end"]]);
    const html = await (await fetch(`http://127.0.0.1:${port}/runs/${run}`)).text();
    match(html, /failed: exit code 3/);
  },
});
