/** The program as a process: whoever starts it wrongly gets one sentence, in the log's own format, and exit code 2. */
import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { run } from "./harness/process.ts";
import { removeFolder, scratchFolder } from "./harness/folder.ts";

const ROOT = new URL("..", import.meta.url).pathname;
/** Deno looks for its cache in HOME otherwise, which is another one here. */
const { denoDir } = JSON.parse(await run(Deno.execPath(), ["info", "--json"]));
const { version } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`));

async function program(args: readonly string[], env: Record<string, string>, flags: readonly string[] = ["-A"]) {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-prompt", ...flags, "main.ts", ...args],
    cwd: ROOT,
    clearEnv: true,
    env: { PATH: Deno.env.get("PATH") ?? "", DENO_DIR: denoDir, NO_COLOR: "1", ...env },
    stdin: "null",
  }).output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

const CANARY = "canary-3f9c1b-token";
const kubeconfig = (more = "") =>
  `apiVersion: v1
kind: Config
clusters: [{ name: c, cluster: { server: "https://127.0.0.1:1" } }]
users: [{ name: u, user: { token: ${CANARY} } }]
contexts: [{ name: x, context: { cluster: c, user: u } }]
current-context: x
${more}`;

Deno.test("whoever starts it wrongly gets one sentence", async (t) => {
  const dir = await scratchFolder("main");
  try {
    const write = async (name: string, text: string) => {
      await Deno.writeTextFile(`${dir}/${name}`, text);
      return `${dir}/${name}`;
    };
    await write("jobs.csv", "job_name,mqtt_topic,image\na,t,busybox\n");
    const good = await write("kubeconfig", kubeconfig());
    using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const base = { HOME: dir, CATALOG_URL: `${dir}/jobs.csv`, STATUS_ADDR: "off", KUBECONFIG: good };
    const outside = ["--allow-net", "--allow-env", "--allow-sys", `--allow-read=${ROOT},${dir},/run/secrets`];
    const mayNot = "this program may not read there: put it into /run/secrets, or start it with --allow-read=/etc";
    const cases: [string, Record<string, string>, RegExp, string[]?][] = [
      ["no kubeconfig", { KUBECONFIG: "" }, /no ~\/\.kube\/config .*; set KUBECONFIG$/],
      ["a missing file", { KUBECONFIG: `${dir}/none` }, /kubeconfig .*none/],
      ["a wrong context", { KUBE_CONTEXT: "y" }, /context "y": the kubeconfig has x/],
      [
        "broken YAML",
        { KUBECONFIG: await write("bad", kubeconfig(`  x: [${CANARY}\n a: : b`)) },
        /kubeconfig .*bad: line \d+, column \d+ is not valid YAML/,
      ],
      ["an unknown alias", { KUBECONFIG: await write("alias", kubeconfig(`x: *${CANARY}`)) }, /kubeconfig .*alias/],
      ["a path that may not be read", { KUBECONFIG: "/etc/hostname" }, /\/etc\/hostname/, outside],
      ...["MQTT_CA_FILE", "MQTT_PASSWORD_FILE", "POLICY_FILE"].map((
        name,
      ): [string, Record<string, string>, RegExp, string[]] => [
        `a file of ${name} that may not be read`,
        { MQTT_USERNAME: "me", [name]: "/etc/hostname" },
        new RegExp(`${name} "/etc/hostname": cannot read the file: ${mayNot}$`),
        outside,
      ]),
      ["a taken port", { STATUS_ADDR: `127.0.0.1:${taken.addr.port}` }, /127\.0\.0\.1:\d+ \(STATUS_ADDR\): .*in use/],
      ["a % in a password", { MQTT_URL: `mqtt://me:${CANARY}%@broker` }, /MQTT_URL: .*% is %25/],
      ["a wrong policy", { POLICY_FILE: await write("policy", "max_job: 4\n") }, /policy.*max_jobs/],
      ["a wrong setting", { CATALOG_POLL: "soon" }, /CATALOG_POLL "soon": write a duration/],
    ];
    for (const [name, env, words, flags] of cases) {
      for (const format of ["text", "json"]) {
        await t.step(`${name}, ${format}`, async () => {
          const { code, out, err } = await program(["start"], { ...base, ...env, LOG_FORMAT: format }, flags);
          const lines = err.trimEnd().split("\n");
          const last = lines.at(-1)!;
          deepEqual([code, out], [2, ""], err);
          const said = format === "json" ? String(JSON.parse(last).message) : last;
          match(said, /Cannot start: /);
          match(said, words);
          ok(format === "json" ? JSON.parse(last).level === "error" : /^\S+Z ERROR main: /.test(last), last);
          // No stack, and nothing but the log's lines.
          for (const line of lines) {
            ok(format === "json" ? JSON.parse(line).level : /^\S+Z [A-Z]+ +\w+: /.test(line), line);
          }
          doesNotMatch(err, new RegExp(CANARY));
        });
      }
    }
  } finally {
    await removeFolder(dir);
  }
});

Deno.test("--version and help need no settings, and no service starts where nothing was asked for but them", async () => {
  const env = { MQTT_URL: "nonsense", CATALOG_POLL: "soon" };
  const answers = await Promise.all([["--version"], ["version"], ["--help"], ["-h"]].map((args) => program(args, env)));
  deepEqual(answers.map(({ code }) => code), [0, 0, 0, 0]);
  equal(answers[0]!.out, `mqtt-job-listener ${version}\n`);
  for (const { out } of answers.slice(2)) match(out, /^Commands:$/m);
});

Deno.test("the program without a word starts where nobody watches, as units and images of old have it", async () => {
  const { code, err } = await program([], { CATALOG_POLL: "soon" });
  equal(code, 2);
  match(err, /Cannot start: CATALOG_POLL/);
});

Deno.test("the program without a word or a setting shows the commands and exits with 2", async () => {
  const { code, out, err } = await program([], {});
  equal(code, 2);
  match(out, /^Commands:$/m);
  match(err, /^Which command\? See help/);
  const json = await program(["--json"], {});
  deepEqual([json.code, json.out, JSON.parse(json.err).exit_code], [2, "", 2]);
});

Deno.test("the program starts with flags alone, and with flags before its command", async () => {
  const [alone, before] = await Promise.all([
    program(["--catalog-poll", "soon"], {}),
    program(["--catalog-poll", "soon", "start"], {}),
  ]);
  for (const { code, err } of [alone, before]) {
    equal(code, 2);
    match(err, /Cannot start: .*catalog-poll/i);
  }
});

Deno.test("the program without a word shows the commands at a terminal", async () => {
  const args = ["-qec", `${Deno.execPath()} run --no-check -A main.ts`, "/dev/null"];
  const { stdout } = await new Deno.Command("script", { args, cwd: ROOT, env: { NO_COLOR: "1" } }).output();
  match(new TextDecoder().decode(stdout), /^Commands:\r?$/m);
});

Deno.test("an error that nobody caught is told without secrets and orders, and ends the program", async () => {
  for (const how of ["setTimeout(() => { throw error; })", "Promise.reject(error)"]) {
    const code = `
      import { tellCrashes } from "${ROOT}cli/failures.ts";
      import { registerSecret } from "${ROOT}util/redact.ts";
      tellCrashes();
      registerSecret("${CANARY}");
      const error = new Error("gone: \\x1b[2J ${CANARY}", { cause: new Error("https://u:p@h/?token=t0ken-t0ken") });
      ${how};`;
    const { code: exit, stderr } = await new Deno.Command(Deno.execPath(), { args: ["eval", code], cwd: ROOT })
      .output();
    const err = new TextDecoder().decode(stderr);
    equal(exit, 1);
    match(err, /^\S+Z FATAL main: The program ends by a fault of its own: gone: \\u001b\[2J \*\*\*: /m);
    doesNotMatch(err, new RegExp(`${CANARY}|t0ken|u:p@|\x1b\\[2J`));
  }
});
