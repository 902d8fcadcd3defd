/** The Python client, installed as people do, with a real broker and the real service on the local runner. */
import { equal } from "node:assert/strict";
import { cacheFolder, isFile } from "../harness/cache.ts";
import { scratchFolder } from "../harness/folder.ts";
import { startMosquitto } from "../harness/mosquitto.ts";
import { needs } from "../harness/needs.ts";
import { PROJECT } from "../harness/project.ts";
import { startService } from "../harness/service.ts";
import { csv, shell } from "../harness/table.ts";

/** The line of the page's address in the log. */
const PAGE = /Page and metrics at (http:\S+)/;

async function python(args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const venv = `${cacheFolder()}/python-client`;
  if (!isFile(`${venv}/bin/python`)) await run("python3", ["-m", "venv", venv]);
  return await run(`${venv}/bin/python`, args, env);
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
    await python(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "./clients/python"]);
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
