/** `deno task start` names its permissions one by one, and fails loudly without one of them. */
import { deepEqual, match, ok } from "node:assert/strict";

const root = new URL("../..", import.meta.url).pathname;
const { tasks } = JSON.parse(await Deno.readTextFile(`${root}deno.json`));
const command = String(tasks.start.command).replaceAll("$HOME", Deno.env.get("HOME") ?? "/root").split(" ");
const flags = command.filter((word) => word.startsWith("--allow"));

async function start(given: readonly string[], env: Record<string, string> = {}) {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", ...given, "main.ts", "start"],
    cwd: root,
    env: {
      CATALOG_URL: "/nowhere/jobs.csv",
      KUBECONFIG: "/nowhere/kubeconfig",
      STATUS_ADDR: "off",
      AWS_CA_BUNDLE: "",
      ...env,
    },
  }).output();
  return { code, err: new TextDecoder().decode(stderr) };
}

Deno.test("the start task names each permission", () => {
  deepEqual(flags.map((flag) => flag.split("=")[0]), [
    "--allow-net",
    "--allow-env",
    "--allow-sys",
    "--allow-read",
    "--allow-write",
  ]);
  ok(!command.includes("-A"));
  // Where the unit of systemd has its SPOOL_DIR, and nowhere else.
  ok(flags.includes("--allow-write=/var/lib/mqtt-job-listener"));
});

Deno.test("the binary has the rights of the start task, in the same words", () => {
  // Deno's permission sets take no $HOME, and `deno compile` calls them an experiment: so they stand twice, and are held here.
  const compiled = String(tasks.compile.command).split(" ").filter((word) => word.startsWith("--allow"));
  deepEqual(compiled, String(tasks.start.command).split(" ").filter((word) => word.startsWith("--allow")));
});

for (const name of ["--allow-net", "--allow-sys"]) {
  Deno.test(`the service does not start without ${name}, and says so`, async () => {
    const { code, err } = await start(flags.filter((flag) => !flag.startsWith(name)));
    ok(code !== 0);
    match(err, new RegExp(`Cannot start: Deno was not given .*${name}`));
  });
}

Deno.test("CLUSTER=local with the start task's permissions says how to start", async () => {
  const { code, err } = await start(flags, { CLUSTER: "local" });
  deepEqual(code, 2);
  match(err, /CLUSTER=local runs commands .* start with `deno run -A main\.ts start`/);
});

for (const name of ["--allow-env", "--allow-read"]) {
  Deno.test(`the service does not start without ${name}, and Deno says so`, async () => {
    const { code, err } = await start(flags.filter((flag) => !flag.startsWith(name)));
    ok(code !== 0);
    match(err, new RegExp(name));
  });
}
