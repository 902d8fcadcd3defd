/** The Python client, installed as people do, with a real broker and the real service on the local runner. */
import { equal, match } from "node:assert/strict";
import { cacheFolder, isFile } from "../harness/cache.ts";
import { scratchFolder } from "../harness/folder.ts";
import { startMosquitto } from "../harness/mosquitto.ts";
import { needs } from "../harness/needs.ts";
import { spawn } from "../harness/process.ts";
import { PROJECT } from "../harness/project.ts";
import { startService } from "../harness/service.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

/** The line of the page's address in the log. */
const PAGE = /Page and metrics at (http:\S+)/;

async function python(args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const venv = `${cacheFolder()}/python-client`;
  if (!isFile(`${venv}/bin/python`)) await run("python3", ["-m", "venv", venv]);
  return await run(`${venv}/bin/python`, args, env);
}

let installed: Promise<string> | undefined;

/** As people do; once for all tests, for it takes its time. */
async function install(): Promise<void> {
  await (installed ??= python(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "./clients/python"]));
}

async function run(command: string, args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args: [...args], env, cwd: PROJECT.pathname })
    .output();
  const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  equal(success, true, text);
  return text;
}

Deno.test({
  name: "the Python client starts rows, and hears how their runs end",
  ignore: !await needs("mosquitto", "python3"),
  async fn() {
    await install();
    await using broker = await startMosquitto();
    const dir = await scratchFolder("python");
    const cells = { image: "none", mqtt_topic: "lab/x" };
    await Deno.writeTextFile(
      `${dir}/jobs.csv`,
      csv([
        {
          ...cells,
          job_name: "echo",
          command: shell('echo "$MQTT_PAYLOAD"; printf %s "$MQTT_PAYLOAD" > "$RESULT_FILE"'),
        },
        { ...cells, job_name: "fail", command: shell("exit 3") },
        { ...cells, job_name: "again", command: shell('[ "$ATTEMPT" = 2 ]'), retries: 1 },
        { ...cells, job_name: "long", command: shell("sleep 60") },
      ]),
    );
    await using service = await startService({
      CLUSTER: "local",
      MQTT_URL: broker.url,
      CATALOG_URL: `${dir}/jobs.csv`,
      LOGS_URL: `${dir}/logs`,
      RUNS_URL: `${dir}/runs`,
      LOCAL_DIR: `${dir}/work`,
      STATUS_ADDR: "127.0.0.1:0",
      RETRY_DELAY: "100ms",
    });
    const page = PAGE.exec(await service.log())?.[1] ?? "";
    await python(["-m", "unittest", "discover", "-s", "clients/python/tests"], { BROKER: broker.url, PAGE: page });
  },
});

Deno.test({
  name: "the Python client's example runs as its README says, against the demo, whose broker speaks MQTT 3.1.1",
  ignore: !await needs("python3"),
  async fn() {
    await install();
    const dir = await scratchFolder("python-demo");
    await using demo = await spawn({
      name: "demo",
      command: Deno.execPath(),
      args: ["run", "-A", "main.ts", "demo", "--dir", `${dir}/data`, "--json"],
      cwd: PROJECT.pathname,
      dir,
    });
    const said = await eventually(() => {
      const text = Deno.readTextFileSync(demo.logFile);
      return /^publish /m.test(text) && text;
    });
    const broker = /^Broker (mqtt:[^,]+),/m.exec(said)?.[1] ?? "";
    const page = /^Page (http:\S+)/m.exec(said)?.[1] ?? "";
    match(await python(["clients/python/examples/demo.py", broker, page]), /succeeded: [^]*Hello, Python/);
  },
});
