/** The commands, run as processes. */
import { deepStrictEqual, match, ok, strictEqual } from "node:assert/strict";

const root = new URL("..", import.meta.url).pathname;

async function cli(args: readonly string[], env: Record<string, string> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "main.ts", ...args],
    cwd: root,
    env,
  }).output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

Deno.test("check finds the misspelt completion topic of the lab's own table", async () => {
  for (const month of ["07", "08"]) {
    const { code, out } = await cli(["check", `tests/data/jobs-lab-2023-${month}.csv`]);
    strictEqual(code, 0);
    match(out, /Line 3, mqtt_topic .*did you mean "hello-world-test-1"\?/);
  }
});

Deno.test("check --json gives line and column of an error, and exits with 1", async () => {
  const file = await Deno.makeTempFile({ suffix: ".csv" });
  await Deno.writeTextFile(file, "job_name,mqtt_topic,image,gpu\na,t,busybox,many\n");
  const { code, out } = await cli(["check", file, "--json"]);
  strictEqual(code, 1);
  const { problems } = JSON.parse(out);
  deepStrictEqual([problems[0].line, problems[0].column, problems[0].value], [2, "gpu", "many"]);
  await Deno.remove(file);
});

Deno.test("explain shows the Job that a message would make", async () => {
  const env = { CATALOG_URL: `${root}tests/data/jobs-lab-2023-08.csv` };
  const { code, out } = await cli(["explain", "experiments/upload", '{"uuid":"x"}'], env);
  strictEqual(code, 0);
  match(out, /# line 4: h5-repack-init/);
  match(out, /name: PAYLOAD_UUID\n\s+value: x/);
  strictEqual((await cli(["explain", "no/such/topic"], env)).code, 1);
});

Deno.test("graph draws the chains", async () => {
  match((await cli(["graph", "tests/data/jobs-lab-2023-08.csv"])).out, /^flowchart LR\n/);
  match((await cli(["graph", "tests/data/jobs-lab-2023-08.csv", "--format", "dot"])).out, /^digraph/);
});

Deno.test("runs and logs read what the demo left", async () => {
  const dir = await Deno.makeTempDir();
  const [runs, logs] = [`${dir}/runs`, `${dir}/logs`];
  await Promise.all([runs, logs].map((folder) => Deno.mkdir(folder)));
  const record = {
    run_name: "a-1",
    job_name: "a",
    status: "failed",
    message: "Out of memory",
    finished_at: "2026-01-01",
  };
  await Deno.writeTextFile(`${runs}/a-1.json`, JSON.stringify(record));
  await Deno.writeTextFile(`${logs}/a-1.txt`, "the log\n");
  const env = { RUNS_URL: runs, LOGS_URL: logs };
  match((await cli(["runs"], env)).out, /failed\s+a-1\s+Out of memory/);
  strictEqual((await cli(["logs", "a-1"], env)).out, "the log\n");
  const missing = await cli(["logs", "b-1"], env);
  deepStrictEqual([missing.code, missing.err.includes("There is no log")], [1, true]);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("a misspelt command or setting is named, with exit code 2", async () => {
  const command = await cli(["chek"]);
  deepStrictEqual([command.code, command.err.includes('did you mean "check"')], [2, true]);
  const setting = await cli(["start"], { CATALOG_POLL: "soon" });
  strictEqual(setting.code, 2);
  match(setting.err, /CATALOG_POLL/);
});

Deno.test("a broker that cannot be reached gives exit code 3", async () => {
  const { code, err } = await cli(["run", "a"], { MQTT_URL: "mqtt://127.0.0.1:1" });
  strictEqual(code, 3);
  match(err, /MQTT_URL/);
});

Deno.test("help names each command and each variable", async () => {
  const { code, out } = await cli(["help"]);
  strictEqual(code, 0);
  for (const word of ["check", "explain", "MQTT_URL", "CATALOG_URL", "Exit codes"]) ok(out.includes(word), word);
});

Deno.test("demo --once runs a chain of three rows", async () => {
  const { code, out } = await cli(["demo", "--once"]);
  strictEqual(code, 0);
  strictEqual(out.match(/^succeeded /gm)?.length, 3);
});
