/** The commands: called with captured output, and as processes where the process is the matter. */
import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { LocalStore } from "../local/store.ts";
import { RunRecords } from "../records.ts";
import { connectKubernetes } from "../k8s.ts";
import { call, type Heard } from "./harness/command.ts";
import { job, row } from "./harness/fakes.ts";
import { BUSYBOX_IMAGE, startCluster } from "./harness/cluster.ts";
import { startMosquitto } from "./harness/mosquitto.ts";
import { needs } from "./harness/needs.ts";
import { MqttEar } from "./harness/service.ts";
import { eventually } from "./harness/wait.ts";
import { aRecord } from "./harness/fakes.ts";
import { PREFIX } from "./harness/page_kit.ts";

const ROOT = new URL("..", import.meta.url).pathname;
const LAB = `${ROOT}tests/data/jobs-lab-2023-08.csv`;

async function process(args: readonly string[], env: Record<string, string> = {}): Promise<Heard> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "main.ts", ...args],
    cwd: ROOT,
    env: { ...env, NO_COLOR: "1" },
  }).output();
  return { code, out: new TextDecoder().decode(stdout), err: new TextDecoder().decode(stderr) };
}

async function inFolder(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const BAD_TABLE = "job_name,mqtt_topic,image,gpu\na,t,busybox,many\n";

// ---------------------------------------------------------------- use

Deno.test("a misspelt command is named with the nearest one, and exits with 2", async () => {
  const { code, out, err } = await call(["chek"]);
  deepEqual([code, out, err], [2, "", 'Unknown command "chek": did you mean "check"?\n']);
});

Deno.test("with --json an error is an object too, with the exit code", async () => {
  const { code, out, err } = await call(["check", "no-such-file.csv", "--json"]);
  deepEqual([code, out], [2, ""]);
  const { error, exit_code: told } = JSON.parse(err) as { error: string; exit_code: number };
  match(error, /no-such-file\.csv/);
  equal(told, 2);
});

Deno.test("a missing word, one too many and an unknown flag are wrong use", async () => {
  for (const line of [["explain"], ["version", "now"], ["version", "--jsn"], ["completions", "tcsh"]]) {
    const { code, err } = await call(line);
    equal(code, 2, line.join(" "));
    match(err, /Usage: mqtt-job-listener /);
  }
});

Deno.test("a wrong setting exits with 2 and names itself", async () => {
  const { code, err } = await call(["runs"], { CATALOG_POLL: "soon" });
  equal(code, 2);
  match(err, /^Wrong configuration: .*\n {2}CATALOG_POLL "soon": /);
});

Deno.test("help names each command, exit code and setting", async () => {
  const { code, out } = await call(["help"]);
  equal(code, 0);
  for (const word of ["check [FILE|URL]", "explain TOPIC", "Exit codes", "MQTT_URL"]) ok(out.includes(word), word);
});

Deno.test("help of one command tells its flags, in either way of asking", async () => {
  const { out } = await call(["help", "check"]);
  match(out, /^Usage: mqtt-job-listener check .*\[--server\]/);
  equal((await call(["check", "--help"])).out, out);
});

Deno.test("flags may stand before the command, those of the command and settings too", async () => {
  const table = ["check", "-", "--strict"];
  const wanted = (await call(table, {}, BAD_TABLE)).out;
  equal((await call(["--strict", "check", "-"], {}, BAD_TABLE)).out, wanted);
  equal((await call(["--log-level", "debug", "--no-color", "check", "-"], {}, BAD_TABLE)).out, wanted);
  equal((await call(["--log-level=debug", "check", "-"], {}, BAD_TABLE)).out, wanted);
  deepEqual(JSON.parse((await call(["--json", "version"])).out), JSON.parse((await call(["version", "--json"])).out));
  match((await call(["--format", "dot", "graph", LAB])).out, /^digraph/);
});

Deno.test("--json before a command gives one error, as JSON", async () => {
  const { code, out, err } = await call(["--json", "run", "X"], { MQTT_URL: "mqtt://127.0.0.1:1" });
  deepEqual([code, out, JSON.parse(err).exit_code], [3, "", 3]);
  match(JSON.parse(err).error, /^Cannot reach the broker/);
});

Deno.test("with --json nothing but one object is on standard error, warnings of the settings included", async () => {
  const env = { MQTT_URL: "mqtt://127.0.0.1:1", STATUS_ADDR: "0.0.0.0:8080" };
  const { err } = await call(["run", "X", "--json"], env);
  const { error, warnings } = JSON.parse(err);
  match(error, /^Cannot reach the broker/);
  match(warnings.join(), /STATUS_ADDR/);
  match((await call(["run", "X"], env)).err, /^Warning: STATUS_ADDR[^]*\nCannot reach the broker/);
});

Deno.test("--version and -V need no settings, wherever they stand", async () => {
  const { out } = await call(["version"]);
  for (const line of [["--version"], ["-V"], ["check", "--version"], ["--mqtt-url", "x", "-V"]]) {
    deepEqual(await call(line, { CATALOG_POLL: "soon" }), { code: 0, out, err: "" }, line.join(" "));
  }
});

Deno.test("what other programs call a command leads to ours", async () => {
  match((await call(["ls"])).err, /did you mean "runs"\?/);
  match((await call(["help", "chek"])).err, /^There is no command "chek": did you mean "check"\?/);
  match((await call(["constructor"])).err, /^Unknown command "constructor"/);
  match(
    (await call(["--mqtt-ulr", "mqtt://x", "runs"])).err,
    /^--mqtt-ulr: there is no such flag; did you mean --mqtt-url\?/,
  );
  match((await call(["check", "-x"])).err, /^-x: there is no such flag/);
});

Deno.test("help shows examples first, and is wrapped to the terminal's width", async () => {
  const { printHelp } = await import("../cli/help.ts");
  let out = "";
  const io = { screen: { width: 70, colour: false }, write: (text: string) => Promise.resolve(void (out += text)) };
  equal(await printHelp(io as never, undefined, false), 0);
  ok(out.indexOf("Examples:") < out.indexOf("Commands:"));
  // Commands and variables are not parted.
  const long = out.split("\n").filter((line) => line.length > 70);
  deepEqual(long.filter((line) => !/^ {2}(--|mqtt-job-listener )/.test(line)), []);
});

Deno.test("the program hands commands to the command line", async () => {
  const [help, bad] = await Promise.all([process(["start", "--help"]), process(["chek"])]);
  match(help.out, /^Commands:$/m);
  deepEqual([bad.code, bad.err], [2, 'Unknown command "chek": did you mean "check"?\n']);
});

Deno.test("start --json logs JSON, as --log-format json does", async () => {
  await inFolder(async (dir) => {
    await Deno.writeTextFile(`${dir}/jobs.csv`, "job_name,mqtt_topic,image,command\na,t,busybox,true\n");
    const settings = ["--mqtt-url", "mqtt://127.0.0.1:1", "--cluster", "local", "--status-addr", "off"];
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", `${ROOT}main.ts`, "start", "--json", ...settings, "--catalog-url", `${dir}/jobs.csv`],
      cwd: dir,
      env: { NO_COLOR: "1" },
      stdout: "null",
      stderr: "piped",
    }).spawn();
    let said = "";
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      said += text;
      if (said.includes("connection refused")) child.kill("SIGTERM");
    }
    await child.status;
    const lines = said.trim().split("\n").filter((line) => !/^(Download|Initialize) /.test(line));
    for (const line of lines) ok(JSON.parse(line).level, line);
  });
});

Deno.test("a reader that goes away ends a command quietly", async () => {
  const script = `"$0" run -A main.ts help | head -n 1; echo "\${PIPESTATUS[0]}"`;
  const { stdout, stderr } = await new Deno.Command("bash", { args: ["-c", script, Deno.execPath()], cwd: ROOT })
    .output();
  match(new TextDecoder().decode(stdout), /^mqtt-job-listener.*\n0\n$/);
  doesNotMatch(new TextDecoder().decode(stderr), /BrokenPipe/);
});

Deno.test("demo --once runs a chain of three rows", async () => {
  const { code, out } = await process(["demo", "--once"]);
  equal(code, 0);
  equal(out.match(/^succeeded /gm)?.length, 3);
});

Deno.test("demo --table pipeline splits, sorts each by itself, tries again, skips what is there, reports once and raises an alarm", async () => {
  const { code, out } = await process(["demo", "--once", "--table", "pipeline", "--json"]);
  equal(code, 0, out);
  const told = out.trim().split("\n").map((line) => JSON.parse(line));
  const ended = told.filter(({ type }) => type === "finished");
  const count = (job: string, words: RegExp) =>
    ended.filter(({ job_name, message }) => job_name === job && words.test(message)).length;
  equal(told.filter(({ type }) => type === "retrying").length, 1);
  deepEqual(
    [count("sort-wells", /without error/), count("sort", /without error/), count("sort", /is there already/)],
    [3, 2, 2],
  );
  deepEqual([count("report", /./), count("sort", /exit code 3/), count("alarm", /without error/)], [1, 1, 1]);
});

Deno.test("demo names the tables that there are", async () => {
  const { code, err } = await call(["demo", "--table", "none"]);
  equal(code, 2);
  match(err, /--table "none": there are chain and pipeline/);
});

Deno.test("demo --once --json prints an object for each thing that happens", async () => {
  const { code, out, err } = await process(["demo", "--once", "--json"]);
  equal(code, 0, err);
  const told = out.trim().split("\n").map((line) => JSON.parse(line));
  const ended = told.filter(({ type }) => type === "finished").map(({ job_name, status }) => [job_name, status]);
  deepEqual(ended, ["Greet", "Count", "Report"].map((name) => [name, "succeeded"]));
});

Deno.test("the demo serves its page, and takes a free port where its own is taken", async () => {
  await inFolder(async (dir) => {
    const { demo } = await import("../cli/demo.ts");
    const stop = new AbortController();
    const starts = ["a", "b"].map(async (name) => {
      const lines: string[] = [];
      const page = Promise.withResolvers<string>();
      const write = (line: string) => {
        lines.push(line);
        if (line.startsWith("Page ")) page.resolve(line.split(" ")[1]!);
      };
      const ended = demo({ once: false, write, dir: `${dir}/${name}`, signal: stop.signal });
      return { url: await page.promise, ended };
    });
    const demos = await Promise.all(starts);
    try {
      for (const { url } of demos) {
        const text = await (await fetch(new URL("/table", url))).text();
        ok(text.includes("Greet") && text.includes("Run a row"));
      }
      equal(new Set(demos.map(({ url }) => url)).size, 2);
    } finally {
      stop.abort();
      equal((await Promise.all(demos.map(({ ended }) => ended))).join(), "0,0");
    }
  });
});

Deno.test("the demo says at once that no row of a table which it keeps is for its message", async () => {
  await inFolder(async (dir) => {
    const { demo } = await import("../cli/demo.ts");
    await Deno.writeTextFile(`${dir}/jobs.csv`, "job_name,mqtt_topic,image,command\nMine,lab/mine,busybox,true\n");
    const lines: string[] = [];
    const code = await demo({ once: true, sample: "pipeline", write: (line) => lines.push(line), dir, port: 0 });
    equal(code, 1);
    match(lines.join("\n"), /^No row of .*jobs\.csv is for experiments\/upload, .* with --dir FOLDER/m);
  });
});

Deno.test("the demo says soon that an edited table does not lead to the sample's last row", async () => {
  await inFolder(async (dir) => {
    const { demo } = await import("../cli/demo.ts");
    const table = "job_name,mqtt_topic,image,command\nGreet,demo/hello,busybox,echo hello\n";
    await Deno.writeTextFile(`${dir}/jobs.csv`, table);
    const lines: string[] = [];
    const code = await demo({ once: true, write: (line) => lines.push(line), dir, port: 0 });
    equal(code, 1);
    match(lines.join("\n"), /^succeeded +greet-/m);
    match(lines.at(-1)!, /^Nothing is under way any more, and no run of the row Report has succeeded: .* --dir FOLDER/);
  });
});

Deno.test("the demo says that images are not pulled", async () => {
  const { code, out } = await process(["demo", "--once"]);
  equal(code, 0);
  match(out, /images are not pulled/);
});

Deno.test("the demo names what is odd about an edited table, and where commands find it", async () => {
  await inFolder(async (dir) => {
    const { demo } = await import("../cli/demo.ts");
    const stop = new AbortController();
    const lines: string[] = [];
    const said = (start: string) => eventually(() => lines.find((line) => line.trim().startsWith(start)));
    const ended = demo({ once: false, write: (line) => lines.push(line), dir, port: 0, signal: stop.signal });
    try {
      // What a person pastes into the other terminal.
      const pasted = (await said("export ")).trim().split(" ").slice(1);
      const env = Object.fromEntries(pasted.map((pair) => pair.split(/=(.*)/s).slice(0, 2)));
      const [run] = JSON.parse((await call(["runs", "--json", "--row", "Greet"], env)).out);
      equal(run.status, "succeeded");
      match((await call(["logs", run.run_name], env)).out, /Hello, world/);
      equal((await call(["run", "Greet", "{}"], env)).code, 0);
      // Its record is written a moment after its end is told.
      const stranger = await eventually(async () => {
        const greeted: { run_name: string }[] = JSON.parse((await call(["runs", "--json", "--row", "Greet"], env)).out);
        return greeted.find(({ run_name }) => run_name !== run.run_name);
      });
      match((await call(["logs", stranger.run_name], env)).out, /Hello, stranger/);
      equal((await call(["health"], env)).code, 0);
      await Deno.writeTextFile(`${dir}/jobs.csv`, `Next,${PREFIX}/job_complete/Gret,busybox,true,,,,\n`, {
        append: true,
      });
      match(await said("warning"), /^warning {4}Line 5, mqtt_topic .* did you mean "Greet"\?$/);
    } finally {
      stop.abort();
      await ended;
    }
  });
});

Deno.test("a terminal is shown what a job wrote, and takes no order from it; a pipe gets each byte", async () => {
  await inFolder(async (dir) => {
    const log = "\x1b[2J\x1b]0;title\x07red \u009b31m\u202etxt\r\nend\n";
    await Deno.writeTextFile(`${dir}/align-a.txt`, log);
    const env = { LOGS_URL: dir, NO_COLOR: "1" };
    const command = `${Deno.execPath()} run -A main.ts logs align-a`;
    const seen = async (args: string[]) =>
      new TextDecoder().decode(
        (await new Deno.Command(args[0]!, { args: args.slice(1), cwd: ROOT, env }).output()).stdout,
      );
    const [terminal, pipe] = await Promise.all([
      seen(["script", "-qec", command, "/dev/null"]),
      seen(command.split(" ")),
    ]);
    ok(
      terminal.includes("\\u001b[2J\\u001b]0;title\\u0007red \\u009b31m\\u202etxt\r\nend\r\n"),
      JSON.stringify(terminal),
    );
    equal(pipe, log);
  });
});

Deno.test("a terminal is shown colours of ours alone: what a table holds is made plain, and NO_COLOR ends them", async () => {
  await inFolder(async (dir) => {
    await Deno.writeTextFile(`${dir}/jobs.csv`, "job_name,mqtt_topic,image,gpu\na,t,i,\x1b[2J\x1b[31m\u202e\u009b5m\n");
    const shown = async (env: Record<string, string>, flags = "") => {
      const command = `${Deno.execPath()} run -A main.ts check ${dir}/jobs.csv ${flags}`;
      const { stdout } = await new Deno.Command("script", {
        args: ["-qec", command, "/dev/null"],
        cwd: ROOT,
        env: { TERM: "xterm", NO_COLOR: "", ...env },
      }).output();
      return new TextDecoder().decode(stdout);
    };
    const coloured = await shown({});
    ok(coloured.includes("\x1b[31merror:\x1b[0m Line 2, gpu "), coloured);
    // Of the table's own orders nothing is left.
    for (const order of ["\x1b[2J", "\u202e", "\u009b"]) ok(!coloured.includes(order), coloured);
    for (
      const plain of [await shown({ NO_COLOR: "1" }), await shown({ TERM: "dumb" }), await shown({}, "--no-color")]
    ) {
      match(plain, /^error: Line 2, gpu /m);
    }
  });
});

// ---------------------------------------------------------------- table

Deno.test("check finds the misspelt completion topic of the lab's own tables", async () => {
  for (const month of ["07", "08"]) {
    const { code, out } = await call(["check", `${ROOT}tests/data/jobs-lab-2023-${month}.csv`]);
    equal(code, 0);
    match(out, /^warning: Line 3, mqtt_topic .*did you mean "hello-world-test-1"\?$/m);
  }
});

Deno.test("check --strict exits with 1 for a warning", async () => {
  const lab = `${ROOT}tests/data/jobs-lab-2023-08.csv`;
  equal((await call(["check", lab])).code, 0);
  equal((await call(["check", lab, "--strict"])).code, 1);
});

Deno.test("check --json gives line and column of an error, and exits with 1", async () => {
  const { code, out } = await call(["check", "-", "--json"], {}, BAD_TABLE);
  equal(code, 1);
  const { rows, errors, problems: [problem] } = JSON.parse(out);
  deepEqual([rows, errors, problem.line, problem.column, problem.value], [0, 1, 2, "gpu", "many"]);
});

Deno.test("check --watch prints a table's problems again when they change, until it is interrupted", async () => {
  await inFolder(async (dir) => {
    const path = `${dir}/jobs.csv`;
    await Deno.writeTextFile(path, BAD_TABLE);
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "main.ts", "check", path, "--watch"],
      cwd: ROOT,
      env: { NO_COLOR: "1" },
      stdout: "piped",
      stderr: "null",
    }).spawn();
    let out = "";
    const reading = (async () => {
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) out += text;
    })();
    try {
      await eventually(() => /: 0 good rows, 1 error, 0 warnings\n/.test(out), { what: "the first look" });
      await Deno.writeTextFile(path, BAD_TABLE.replace("many", "1"));
      await eventually(() => /: 1 good row, 0 errors, 0 warnings\n/.test(out), { what: "the second look" });
    } finally {
      child.kill("SIGINT");
    }
    equal((await child.status).code, 0);
    await reading;
    equal(out.match(/good row/g)?.length, 2);
  });
});

Deno.test("check goes by the policy", async () => {
  await inFolder(async (dir) => {
    await Deno.writeTextFile(`${dir}/policy.yaml`, "limits_within_percent_of_requests: 20\n");
    const { code, out } = await call(["check", LAB], { POLICY_FILE: `${dir}/policy.yaml` });
    equal(code, 1);
    match(out, /^error: Line 2, cpu_limit "1": against the policy/m);
  });
});

Deno.test("check names a policy that cannot be used, with exit code 2", async () => {
  await inFolder(async (dir) => {
    await Deno.writeTextFile(`${dir}/policy.yaml`, "max_job: 4\n");
    const { code, err } = await call(["check", LAB], { POLICY_FILE: `${dir}/policy.yaml` });
    equal(code, 2);
    match(err, /POLICY_FILE .*did you mean max_jobs\?/);
  });
});

Deno.test("check reads a table by HTTP, and says what is wrong with the address", async () => {
  const body = await Deno.readTextFile(LAB);
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
    return url.endsWith("/jobs.csv") ? new Response(body) : new Response("no", { status: 404 });
  });
  const base = `http://127.0.0.1:${server.addr.port}`;
  match((await call(["check", `${base}/jobs.csv`])).out, /: 5 good rows, 0 errors, 1 warning\n$/);
  equal((await call(["check", `${base}/jobs.cvs`])).code, 2);
});

Deno.test("check says where no table is", async () => {
  const { code, err } = await call(["check", "no/such.csv"]);
  equal(code, 2);
  match(err, /^There is no table at no\/such\.csv/);
});

Deno.test("check --server needs an API server", async () => {
  const local = await call(["check", LAB, "--server"], { CLUSTER: "local" });
  deepEqual([local.code, local.err], [2, "--server: needs CLUSTER=kubernetes\n"]);
});

Deno.test("check needs no Kubernetes", async () => {
  const args = ["info", "--json", "cli/table.ts"];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args, cwd: ROOT }).output();
  interface Dependency {
    isDynamic?: boolean;
    code?: { specifier: string };
  }
  const { modules, roots } = JSON.parse(new TextDecoder().decode(stdout)) as {
    modules: { specifier: string; dependencies?: Dependency[] }[];
    roots: string[];
  };
  const loaded = new Set(roots);
  for (const specifier of loaded) {
    for (const { code, isDynamic } of modules.find((one) => one.specifier === specifier)?.dependencies ?? []) {
      if (code && !isDynamic) loaded.add(code.specifier);
    }
  }
  ok([...loaded].some((specifier) => specifier.endsWith("/cli/context.ts")));
  deepEqual([...loaded].filter((specifier) => /k8s|kubernetes|mqtt@|aws-sdk/.test(specifier)), []);
});

Deno.test("graph draws Mermaid, DOT, SVG and JSON", async () => {
  match((await call(["graph", LAB])).out, /^flowchart LR\n/);
  match((await call(["graph", LAB, "--format", "dot"])).out, /^digraph/);
  match((await call(["graph", LAB, "--format", "svg"])).out, /^<svg [^]*<\/svg>\n$/);
  ok(JSON.parse((await call(["graph", LAB, "--json"])).out).nodes.length > 5);
  const wrong = await call(["graph", LAB, "--format", "dto"]);
  deepEqual([wrong.code, wrong.err.split("\n")[0]], [2, '"dto": write one of mermaid, dot, svg']);
});

// ---------------------------------------------------------------- explain

Deno.test("explain shows the Job that a message would make", async () => {
  const { code, out } = await call(["explain", "experiments/upload", '{"uuid":"x"}'], { CATALOG_URL: LAB });
  equal(code, 0);
  match(out, /^# Row "h5-repack-init", line 4 of /);
  match(out, /kind: Job\n/);
  match(out, /name: PAYLOAD_UUID\n\s+value: x\n/);
  doesNotMatch(out, /&a1/);
});

Deno.test("explain gives the run of a chain the very name that it would have", async () => {
  const line = [
    "explain",
    "services/mqtt_job_listener/job_complete/h5-repack-init",
    '{"run_name":"h5-repack-init-aaaaaaaaaaaa","root_run":"h5-repack-init-aaaaaaaaaaaa","chain_depth":0}',
    "--json",
  ];
  const [first, second] = await Promise.all([call(line, { CATALOG_URL: LAB }), call(line, { CATALOG_URL: LAB })]);
  const [{ job_name, job }] = JSON.parse(first.out);
  equal(job_name, "h5-repack-workers");
  equal(job.metadata.annotations["mqtt-job-listener/parent-run"], "h5-repack-init-aaaaaaaaaaaa");
  equal(job.metadata.annotations["mqtt-job-listener/chain-depth"], "1");
  equal(job.metadata.name, JSON.parse(second.out)[0].job.metadata.name);
});

Deno.test("explain gives all runs of one message the same root", async () => {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${dir}/jobs.csv`, "job_name,mqtt_topic,image\na,lab/up,x\nb,lab/up,x\n");
    const { out } = await call(["explain", "lab/up", "{}", "--json"], { CATALOG_URL: `${dir}/jobs.csv` });
    const roots = JSON.parse(out).map(({ job }: { job: { metadata: { labels: Record<string, string> } } }) =>
      job.metadata.labels["mqtt-job-listener/root"]
    );
    equal(roots.length, 2);
    ok(roots[0] !== undefined && roots[0] === roots[1], roots.join());
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("explain says what would have to succeed for rows that need what the message starts", async () => {
  await inFolder(async (dir) => {
    const done = "services/mqtt_job_listener/job_complete";
    const lines = ["job_name,mqtt_topic,image,needs", "sort,lab/up,x,", `plot,${done}/sort,x,`, "lfp,lab/other,x,"];
    const joins = ['report,,x,"sort, plot"', "all,,x,report", 'half,,x,"sort, lfp"', "none,,x,lfp"];
    await Deno.writeTextFile(`${dir}/jobs.csv`, [...lines, ...joins, ""].join("\n"));
    const { code, err } = await call(["explain", "lab/up", "{}"], { CATALOG_URL: `${dir}/jobs.csv` });
    equal(code, 0);
    match(err, /Row "report", line 5, would run when all that it needs has succeeded: "sort", "plot"/);
    match(err, /Row "all", line 6, would run when all that it needs has succeeded: "report"/);
    match(err, /Row "half", line 7, would not run, for this message does not lead to what it needs: "lfp"/);
    doesNotMatch(err, /"none"/);
    const { out } = await call(["explain", "lab/up", "{}", "--json"], { CATALOG_URL: `${dir}/jobs.csv` });
    deepEqual(JSON.parse(out).slice(1), [
      { job_name: "report", line: 5, needs: ["sort", "plot"], missing: [] },
      { job_name: "all", line: 6, needs: ["report"], missing: [] },
      { job_name: "half", line: 7, needs: ["sort", "lfp"], missing: ["lfp"] },
    ]);
  });
});

Deno.test("explain shows the Job of a row that needs others, on the topic of its own", async () => {
  await inFolder(async (dir) => {
    const args = "{input.uuid} {result.sort.units=7} {payload.needs.sort.output}";
    await Deno.writeTextFile(
      `${dir}/jobs.csv`,
      `job_name,mqtt_topic,image,needs,args\nsort,lab/up,x,,\nreport,,x,sort,${args}\n`,
    );
    const topic = "services/mqtt_job_listener/join/report";
    const sample = await call(["explain", topic, "--json"], { CATALOG_URL: `${dir}/jobs.csv` });
    deepEqual(argsOf(sample.out), ["any", "any", "any"]);
    const said = JSON.stringify({ input: '{"uuid":"e1"}', needs: { sort: { run_name: "sort-a", output: "/x" } } });
    const given = await call(["explain", topic, said, "--json"], { CATALOG_URL: `${dir}/jobs.csv` });
    deepEqual(argsOf(given.out), ["e1", "7", "/x"]);
  });

  function argsOf(out: string): string[] {
    return JSON.parse(out)[0].job.spec.template.spec.containers[0].args;
  }
});

Deno.test("explain shows what the local runner would start: command, environment and folder, and nothing of Kubernetes", async () => {
  await inFolder(async (dir) => {
    const table = "job_name,mqtt_topic,image,command,args,working_dir,memory_limit,mounts\n" +
      "Greet,lab/hello,busybox,echo,{payload.name},,1Gi,\nWork,lab/work,busybox,pwd,,/srv,,pvc:data:/data\n" +
      "Image,lab/image,busybox,,,,,\n";
    await Deno.writeTextFile(`${dir}/jobs.csv`, table);
    const env = { CATALOG_URL: `${dir}/jobs.csv`, CLUSTER: "local", LOCAL_DIR: `${dir}/processes` };
    const { code, out, err } = await call(["explain", "lab/hello", '{"name":"world"}'], env);
    equal(code, 0);
    match(out, /^# Row "Greet", line 2 of [^]*command:\n {2}- echo\n {2}- world\n/);
    match(out, new RegExp(`dir: ${dir}/processes/greet-\\w+/0\\n`));
    match(out, /env:\n(.*\n)*? {2}PAYLOAD_NAME: world\n/);
    doesNotMatch(out + err, /kind: Job|kubeconfig|apiVersion/);
    match(err, /1 row would run; .* The local runner starts commands on this machine \(CLUSTER=local\)/);
    const [{ process }] = JSON.parse((await call(["explain", "lab/work", "--json"], env)).out);
    deepEqual([process.command, process.dir, process.not_followed], [["pwd"], "/srv", ["mounts"]]);
    const refused = await call(["explain", "lab/image"], env);
    equal(refused.code, 1);
    match(refused.err, /^Cannot run job "Image" locally: its command column is empty/);
  });
});

Deno.test("explain shows the concurrency group of a run whose row limits its runs", async () => {
  await inFolder(async (dir) => {
    const table = "job_name,mqtt_topic,image,max_runs,concurrency_group\n" +
      "a,t,i,1,probe {payload.probe}\nb,t,i,2,\nc,t,i,,\n";
    await Deno.writeTextFile(`${dir}/jobs.csv`, table);
    const { out } = await call(["explain", "t", '{"probe":7}', "--json"], { CATALOG_URL: `${dir}/jobs.csv` });
    const groups = JSON.parse(out).map(({ job }: { job: { metadata: { annotations: Record<string, string> } } }) =>
      job.metadata.annotations["mqtt-job-listener/concurrency-group"]
    );
    deepEqual(groups, ["probe 7", "b", undefined]);
  });
});

Deno.test("explain shows the first attempt of a row that names it", async () => {
  await inFolder(async (dir) => {
    const table = "job_name,mqtt_topic,image,args,retries,env\na,t,i,--seed {attempt},2,TRY=n{attempt}\n";
    await Deno.writeTextFile(`${dir}/jobs.csv`, table);
    equal((await call(["check", `${dir}/jobs.csv`])).code, 0);
    const { out } = await call(["explain", "t", "--json"], { CATALOG_URL: `${dir}/jobs.csv` });
    const [container] = JSON.parse(out)[0].job.spec.template.spec.containers;
    deepEqual(container.args, ["--seed", "1"]);
    equal(container.env.find(({ name }: { name: string }) => name === "TRY").value, "n1");
  });
});

Deno.test("explain names the nearest topic where no row would run", async () => {
  const { code, out, err } = await call(["explain", "experiment/uplod"], { CATALOG_URL: LAB });
  deepEqual([code, out], [1, ""]);
  match(err, /did you mean "experiments\/upload"\?/);
});

Deno.test("explain names rows that would run but for their errors", async () => {
  await inFolder(async (dir) => {
    await Deno.writeTextFile(`${dir}/jobs.csv`, BAD_TABLE);
    const { code, err } = await call(["explain", "t"], { CATALOG_URL: `${dir}/jobs.csv` });
    equal(code, 1);
    match(err, /^Row "a", line 2, would not run/);
  });
});

Deno.test("explain says what the message lacks for a row, and shows the others", async () => {
  await inFolder(async (dir) => {
    const table = "job_name,mqtt_topic,image,args\na,t,i,{payload.uuid}\nb,t,i,{payload.uuid=none}\n";
    await Deno.writeTextFile(`${dir}/jobs.csv`, table);
    const { code, out, err } = await call(["explain", "t", "{}"], { CATALOG_URL: `${dir}/jobs.csv` });
    equal(code, 1);
    match(err, /column args of job "a" \(line 2\): \{payload\.uuid\} has no value: the payload has no "uuid"/);
    match(out, /^# Row "b", line 3 of [^]*args:\n\s+- none\n/);
  });
});

Deno.test("explain says which conditions are false, and the values that decided", async () => {
  await inFolder(async (dir) => {
    const table = "job_name,mqtt_topic,image,when\na,t,i,payload.size > 3\nb,t,i,payload.size <= 3\n";
    await Deno.writeTextFile(`${dir}/jobs.csv`, table);
    const settings = { CATALOG_URL: `${dir}/jobs.csv` };
    const { code, out, err } = await call(["explain", "t", '{"size":4}'], settings);
    equal(code, 0);
    match(err, /^Row "b", line 3, would not run, for its condition \(when\) is false: payload\.size is 4$/m);
    match(out, /^# Row "a", line 2 of /);
    const other = await call(["explain", "t", "{}", "--json"], settings);
    equal(other.code, 1);
    deepEqual(JSON.parse(other.out), [
      { job_name: "a", line: 2, filtered: "payload.size is missing" },
      { job_name: "b", line: 3, filtered: "payload.size is missing" },
    ]);
  });
});

Deno.test("check names line and column of a condition that is none", async () => {
  await inFolder(async (dir) => {
    const path = `${dir}/jobs.csv`;
    await Deno.writeTextFile(path, `job_name,mqtt_topic,image,when\na,t,i,"payload.files.all(x, x > 1)"\n`);
    const { code, out } = await call(["check", path], {});
    equal(code, 1);
    match(out, /^error: Line 2, when .*which a condition may not/);
  });
});

Deno.test("explain tells the next five due times of a row, and what its runs by schedule get", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const table = "job_name,mqtt_topic,image,schedule,time_zone,enabled\na,t,busybox,0 3 * * *,Europe/Berlin,\n" +
      "b,,busybox,every 1h,,\nc,,busybox,@daily,,no\n";
    await Deno.writeTextFile(`${dir}/jobs.csv`, table);
    const settings = { CATALOG_URL: `${dir}/jobs.csv` };
    const byTopic = await call(["explain", "t"], settings);
    match(byTopic.err, /Row "a" runs by its schedule, next: (\d{4}-\d\d-\d\d 0[12]:00(, )?){5} \(UTC\)/);
    const prefix = "services/mqtt_job_listener";
    const { code, out } = await call(["explain", `${prefix}/schedule/b`, "--json"], settings);
    equal(code, 0);
    const [found] = JSON.parse(out);
    equal(found.next_due.length, 5);
    const env = found.job.spec.template.spec.containers[0].env as { name: string; value: string }[];
    const value = (name: string) => env.find((one) => one.name === name)?.value;
    equal(value("PAYLOAD_SCHEDULE"), "every 1h");
    equal(value("PAYLOAD_DUE"), found.next_due[0]);
    const off = await call(["explain", `${prefix}/schedule/c`], settings);
    equal(off.code, 1);
    match(off.err, /Row "c", line 4, would not run, for it is switched off/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("check and explain lay rows over the operator's pod templates", async () => {
  await inFolder(async (dir) => {
    const table = "job_name,mqtt_topic,image,pod_template\na,t,i,cache\nb,t,i,cash\nc,t,i,\n";
    await Deno.writeTextFile(`${dir}/jobs.csv`, table);
    const cache = {
      kind: "PodTemplate",
      metadata: { name: "cache" },
      template: { spec: { nodeSelector: { a: "b" } } },
    };
    await Deno.writeTextFile(`${dir}/templates.yaml`, JSON.stringify(cache));
    await Deno.writeTextFile(`${dir}/policy.yaml`, 'pod_templates: ["*"]\n');
    const settings = {
      CATALOG_URL: `${dir}/jobs.csv`,
      POD_TEMPLATES: `${dir}/templates.yaml`,
      POLICY_FILE: `${dir}/policy.yaml`,
    };
    const checked = await call(["check"], settings);
    equal(checked.code, 1);
    match(checked.out, /^error: Line 3, pod_template "cash": there is no pod template "cash"; there are cache$/m);
    const { out } = await call(["explain", "t", "--json"], settings);
    const specs = JSON.parse(out).map((one: { job: { spec: { template: { spec: unknown } } } }) =>
      one.job.spec.template.spec
    );
    deepEqual(specs.map((one: { nodeSelector?: unknown }) => one.nodeSelector), [{ a: "b" }, undefined]);
  });
});

Deno.test("explain refuses a filter where a topic is meant", async () => {
  equal((await call(["explain", "a/#"], { CATALOG_URL: LAB })).code, 2);
});

// ---------------------------------------------------------------- runs, logs

async function withRuns(work: (env: Record<string, string>, dir: string) => Promise<void>): Promise<void> {
  await inFolder(async (dir) => {
    const records = new RunRecords(new LocalStore(`${dir}/runs`));
    const failure = { status: "failed", reason: "OOMKilled", message: "Out of\nmemory" } as const;
    await records.put(aRecord());
    await records.put(
      aRecord({ run_name: "align-b", job_name: "align", finished_at: "2026-03-02T00:00:00Z", ...failure }),
    );
    await records.putLive([
      job({ runName: "align-c", jobName: "align" }),
      job({ runName: "align-b", jobName: "align" }),
    ]);
    await work({ RUNS_URL: `${dir}/runs`, LOGS_URL: `${dir}/logs`, CLUSTER: "local" }, dir);
  });
}

function names({ out }: Heard): string[] {
  return JSON.parse(out).map(({ run_name }: { run_name: string }) => run_name);
}

Deno.test("runs lists live runs, then ended ones, newest first, each once", async () => {
  await withRuns(async (env) => {
    deepEqual(names(await call(["runs", "--json"], env)), ["align-c", "align-b", "sort-spikes-zzzzzzzz2345"]);
  });
});

Deno.test("runs narrows by row, state and number", async () => {
  await withRuns(async (env) => {
    deepEqual(names(await call(["runs", "--json", "--row", "align"], env)), ["align-c", "align-b"]);
    deepEqual(names(await call(["runs", "--json", "--state", "failed"], env)), ["align-b"]);
    deepEqual(names(await call(["runs", "--json", "--limit", "1"], env)), ["align-c"]);
    equal((await call(["runs", "--state", "fialed"], env)).code, 2);
    equal((await call(["runs", "--limit", "0"], env)).code, 2);
  });
});

Deno.test("runs says what a run waits for that the service holds back", async () => {
  await withRuns(async (env) => {
    const live = [
      job({ runName: "align-d", jobName: "align", heldFor: "slot" }),
      job({ runName: "align-e", jobName: "align", heldFor: "pause" }),
    ];
    await Deno.writeTextFile(`${env["RUNS_URL"]}/.live.json`, JSON.stringify(live));
    const { out } = await call(["runs", "--state", "pending"], env);
    match(out, /^align-d\s+pending\s+Waits for a free slot \(max_runs\)$/m);
    match(out, /^align-e\s+pending\s+Waits until the row is no longer paused$/m);
  });
});

Deno.test("runs prints one line a run, with the reason of a failure", async () => {
  await withRuns(async (env) => {
    const lines = (await call(["runs", "--state", "failed"], env)).out.split("\n");
    match(lines[0]!, /^RUN\s+STATE\s+ENDED\s+TOOK\s+WHY$/);
    match(lines[1]!, /^align-b\s+failed\s+2026-03-02T00:00:00Z\s+\d+ h \d+ min\s+Out of memory$/);
    equal(lines.length, 3);
  });
});

Deno.test("logs prints the stored log as it is, or a JSON object a line", async () => {
  await withRuns(async (env, dir) => {
    await Deno.mkdir(`${dir}/logs`);
    await Deno.writeTextFile(`${dir}/logs/align-b.txt`, "one\n\x1b[1mtwo");
    equal((await call(["logs", "align-b"], env)).out, "one\n\x1b[1mtwo");
    const lines = (await call(["logs", "align-b", "--json"], env)).out.trim().split("\n").map((line) =>
      JSON.parse(line)
    );
    deepEqual(lines[0], { run_name: "align-b", line: "one" });
  });
});

Deno.test("logs says whether the run goes on, lost its log or never was", async () => {
  await withRuns(async (env) => {
    match((await call(["logs", "align-c"], env)).err, /the run goes on; wait for it with -f/);
    match((await call(["logs", "align-b"], env)).err, /its log is not at/);
    const never = await call(["logs", "align-z"], env);
    equal(never.code, 1);
    match(never.err, /^There is no log at/);
    equal((await call(["logs", "../x"], env)).code, 2);
  });
});

Deno.test("logs of a row's name leads to its last run", async () => {
  await withRuns(async (env) => {
    const records = new RunRecords(new LocalStore(env["RUNS_URL"]!));
    // Two of names that begin alike, and one that ended before but was written last.
    await records.put(
      aRecord({ run_name: "align-x-aaaaaaaaaaaa", job_name: "Align X", finished_at: "2026-03-03T00:00:00Z" }),
    );
    await records.put(
      aRecord({ run_name: "align-x-bbbbbbbbbbbb", job_name: "Align X", finished_at: "2026-03-01T00:00:00Z" }),
    );
    for (const word of ["Align X", "align-x"]) {
      const { code, out, err } = await call(["logs", word], env);
      equal(out, "");
      ok(code === 1 || code === 2);
      match(err, /is a row, not a run\. See the log of its last run: mqtt-job-listener logs align-x-aaaaaaaaaaaa$/m);
    }
    // One that goes on is followed.
    match((await call(["logs", "align"], env)).err, /mqtt-job-listener logs align-c -f$/m);
    match((await call(["logs", "Nobody's"], env)).err, /is no name of a run: see the command runs/);
  });
});

Deno.test("logs -f waits for the end of a run of this machine", async () => {
  await withRuns(async (env, dir) => {
    const waiting = call(["logs", "-f", "align-c"], env);
    await new LocalStore(`${dir}/logs`).put("align-c.txt", "done\n");
    equal((await waiting).out, "done\n");
  });
});

// ---------------------------------------------------------------- asking the service

const hasMosquitto = { ignore: !await needs("mosquitto") };

/** Answers the first request that comes, as the service would. */
async function answerOne(
  ear: MqttEar,
  what: string,
  answer: Record<string, unknown>,
): Promise<Record<string, unknown>> {
  const asked = await eventually(() => ear.json(`${PREFIX}/request/${what}`)[0], { what: "a request" });
  await ear.publish(`${PREFIX}/response/${what}`, "no JSON");
  await ear.publish(`${PREFIX}/response/${what}`, JSON.stringify({ ...answer, transaction: "somebody else's" }));
  await ear.publish(`${PREFIX}/response/${what}`, JSON.stringify({ ...answer, transaction: asked["transaction"] }));
  return asked;
}

Deno.test("run sends row and payload and prints the run's name", hasMosquitto, async () => {
  await using broker = await startMosquitto();
  await using ear = await MqttEar.connect(broker.url, [`${PREFIX}/request/#`]);
  await ear.publish(`${PREFIX}/state`, "online", { retain: true });
  const shown: string[] = [];
  const running = call(["run", "Align", "-"], { MQTT_URL: broker.url }, '{"uuid":"x"}', (line) => shown.push(line));
  const asked = await answerOne(ear, "run", { status: "ok", data: { run_name: "align-a" } });
  deepEqual([asked["job_name"], asked["payload"]], ["Align", '{"uuid":"x"}']);
  const { code, out } = await running;
  deepEqual([code, out], [0, "align-a\n"]);
  // What takes long is said where somebody watches, and wiped away.
  match(shown.join("\n"), /^Connecting to .*\n\nAsked; waiting up to 15 s for the answer\n$/);
});

Deno.test("run makes a JSON object of fields", hasMosquitto, async () => {
  await using broker = await startMosquitto();
  await using ear = await MqttEar.connect(broker.url, [`${PREFIX}/request/#`]);
  const running = call(["run", "Align", "uuid=a b=c", "mode="], { MQTT_URL: broker.url, USER: "ada" });
  const asked = await answerOne(ear, "run", { status: "ok", data: { run_name: "align-a" } });
  deepEqual(asked["payload"], '{"uuid":"a b=c","mode":""}');
  match(String(asked["requested_by"]), /^ada(@\S+)?$/);
  equal((await running).code, 0);
  const wrong = await call(["run", "Align", "uuid=a", "{}"], { MQTT_URL: broker.url });
  equal(wrong.code, 2);
  match(wrong.err, /^"\{\}": write one payload, or fields such as uuid=x mode=fast/);
});

Deno.test("explain refuses a message that lacks what a row needs, in words", async () => {
  await inFolder(async (dir) => {
    const table = 'job_name,mqtt_topic,image,inputs\na,t,i,"uuid, mode=fast|slow"\n';
    await Deno.writeTextFile(`${dir}/jobs.csv`, table);
    const settings = { CATALOG_URL: `${dir}/jobs.csv` };
    const { code, err } = await call(["explain", "t", "{}"], settings);
    equal(code, 1);
    match(err, /^Job "a" was not started: the message has no field "uuid"/);
    match((await call(["explain", "t", '{"uuid":1}'], settings)).out, /name: PAYLOAD_MODE\n\s+value: fast\n/);
  });
});

Deno.test("cancel and rerun name the run, over MQTT 3.1.1 too", hasMosquitto, async () => {
  await using broker = await startMosquitto();
  await using ear = await MqttEar.connect(broker.url, [`${PREFIX}/request/#`]);
  for (const [what, version] of [["cancel", "5"], ["rerun", "4"]] as const) {
    const env = { MQTT_URL: broker.url, MQTT_VERSION: version === "4" ? "3.1.1" : version };
    const running = call([what, "align-a", "--json"], env);
    const asked = await answerOne(ear, what, { status: "ok", data: { run_name: "align-b" } });
    equal(asked["run_name"], "align-a");
    const { code, out, err } = await running;
    deepEqual([code, out], [0, '{"run_name":"align-b"}\n'], err);
  }
});

Deno.test("a refusal of the service is told in its words, with exit code 1", hasMosquitto, async () => {
  await using broker = await startMosquitto();
  await using ear = await MqttEar.connect(broker.url, [`${PREFIX}/request/#`]);
  const running = call(["cancel", "align-a"], { MQTT_URL: broker.url });
  await answerOne(ear, "cancel", { status: "error", error: "no such run is under way" });
  const { code, out, err } = await running;
  deepEqual([code, out, err], [1, "", "no such run is under way\n"]);
});

Deno.test("nothing is asked of a service that says it is offline", hasMosquitto, async () => {
  await using broker = await startMosquitto();
  await using ear = await MqttEar.connect(broker.url, [`${PREFIX}/#`]);
  await ear.publish(`${PREFIX}/state`, "offline", { retain: true });
  const { code, err } = await call(["run", "Align"], { MQTT_URL: broker.url });
  equal(code, 3);
  match(err, /offline/);
  deepEqual(ear.on(`${PREFIX}/request/run`), []);
});

Deno.test("a service that does not answer is given up, with exit code 3", hasMosquitto, async () => {
  await using broker = await startMosquitto();
  const { code, err } = await call(["run", "Align", "--timeout", "200ms"], { MQTT_URL: broker.url });
  equal(code, 3);
  match(err, /^No service answered within 0\.2 s: is it running\?/);
});

Deno.test("a broker that cannot be reached or refuses is named without its password", hasMosquitto, async () => {
  const gone = await call(["run", "Align"], { MQTT_URL: "mqtt://me:hush@127.0.0.1:1" });
  equal(gone.code, 3);
  match(gone.err, /Cannot reach the broker mqtt:\/\/127\.0\.0\.1:1 \(MQTT_URL\): .*ECONNREFUSED/);
  await using broker = await startMosquitto({ users: { me: "secret" } });
  const refused = await call(["run", "Align"], { MQTT_URL: broker.url.replace("//", "//me:hush@") });
  equal(refused.code, 3);
  match(refused.err, /not authori[sz]ed/i);
  doesNotMatch(refused.err, /hush/);
});

Deno.test("health tells each check, and exits by the whole", async () => {
  for (const isWell of [true, false]) {
    const controller = new AbortController();
    const served = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => {}, signal: controller.signal },
      () => Response.json({ ok: isWell, ready: isWell, checks: { watch: isWell ? "alive" : "silent" } }),
    );
    const env = { STATUS_ADDR: `127.0.0.1:${served.addr.port}` };
    const { code, out } = await call(["health"], env);
    deepEqual([code, out], isWell ? [0, "healthy\nwatch: alive\n"] : [1, "not healthy\nwatch: silent\n"]);
    equal(JSON.parse((await call(["health", "--json"], env)).out).ok, isWell);
    controller.abort();
    await served.finished;
  }
});

Deno.test("health says where no service is", async () => {
  const { code, err } = await call(["health"], { STATUS_ADDR: "127.0.0.1:1" });
  equal(code, 3);
  match(err, /STATUS_ADDR/);
});

Deno.test("messages prints what became of each, and what a topic is for", async () => {
  const seen = {
    messages: [
      { at: "2026-03-01T10:00:00.000Z", topic: "lab/a", outcome: "runs", runs: ["a-1"], why: [] },
      {
        at: "2026-03-01T09:00:00.000Z",
        topic: "lab/a\u001b",
        outcome: "ignored",
        runs: [],
        why: ["No row is for this"],
      },
    ],
    known: 2,
    asked: { topic: "lab/a", rows: [], off: [], nearest: "lab/ab" },
  };
  let answer: unknown = seen;
  const asked: string[] = [];
  await using served = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
    asked.push(new URL(url).pathname + new URL(url).search);
    return Response.json(answer);
  });
  const env = { STATUS_ADDR: `127.0.0.1:${served.addr.port}` };
  const { code, out, err } = await call(["messages", "lab/a"], env);
  deepEqual([code, asked], [0, ["/messages.json?topic=lab%2Fa"]]);
  equal(
    out,
    "2026-03-01 10:00:00  lab/a  runs a-1\n2026-03-01 09:00:00  lab/a   for no row\n    No row is for this\n",
  );
  match(err, /No row is for "lab\/a": did you mean "lab\/ab"\?/);
  deepEqual(JSON.parse((await call(["messages", "--json"], env)).out), seen);
  answer = { messages: [{ topic: 1 }] };
  const wrong = await call(["messages"], env);
  deepEqual([wrong.code, /is not the service's/.test(wrong.err)], [1, true]);
});

// ---------------------------------------------------------------- cluster

const hasCluster = { ignore: !await needs("cluster", "node") };

Deno.test("commands ask a real cluster", hasCluster, async (t) => {
  await using kubernetes = await startCluster({ node: "real" });
  await inFolder(async (dir) => {
    const { kubeconfig } = kubernetes;
    const env = {
      KUBECONFIG: kubeconfig,
      INSTANCE: "cli",
      RUNS_URL: `${dir}/runs`,
      LOGS_URL: `${dir}/logs`,
      CATALOG_URL: LAB,
    };

    await t.step("check --server takes a table that the cluster takes", async () => {
      const { code, out, err } = await call(["check", "--server"], env);
      equal(code, 0, out + err);
      const { items } = await kubernetes.api.get<{ items: unknown[] }>("/apis/batch/v1/namespaces/default/jobs");
      deepEqual(items, []);
    });

    await t.step("check --server tells each row that the cluster refuses, in its words", async () => {
      const policy = {
        apiVersion: "admissionregistration.k8s.io/v1",
        kind: "ValidatingAdmissionPolicy",
        metadata: { name: "images" },
        spec: {
          matchConstraints: {
            resourceRules: [{ apiGroups: ["batch"], apiVersions: ["v1"], operations: ["CREATE"], resources: ["jobs"] }],
          },
          validations: [{
            expression: "!object.spec.template.spec.containers[0].image.startsWith('hello-world')",
            message: "no greetings here",
          }],
        },
      };
      const binding = {
        apiVersion: policy.apiVersion,
        kind: "ValidatingAdmissionPolicyBinding",
        metadata: { name: "images" },
        spec: { policyName: "images", validationActions: ["Deny"] },
      };
      const base = "/apis/admissionregistration.k8s.io/v1";
      await kubernetes.api.create(`${base}/validatingadmissionpolicies`, policy);
      await kubernetes.api.create(`${base}/validatingadmissionpolicybindings`, binding);
      await eventually(async () => (await call(["check", "--server"], env)).code === 1, {
        what: "the policy to be in force",
      });
      // Again: a row asked just before the policy came into force was not refused by the first answer.
      const { code, out } = await call(["check", "--server"], env);
      equal(code, 1, out);
      match(out, /^error: Line 2: the API server refuses its Job: .*no greetings here/m);
      match(out, /5 good rows, 2 errors, 1 warning\n$/);
    });

    using cluster = await connectKubernetes({ kubeconfig, instance: "cli", qps: 0, burst: 0, ttlSeconds: 600 });
    const start = (runName: string, script: string, parallelism = 1) =>
      cluster.create({
        runName,
        row: row({ image: BUSYBOX_IMAGE, command: ["sh", "-c", script], parallelism }),
        message: { topic: "t", payload: new Uint8Array() },
        messageHash: "hash",
        root: "rootrootroot",
        rootRun: runName,
        chainDepth: 0,
        receivedAt: new Date(),
      });

    await t.step("logs -f follows a run from before its start to its end", async () => {
      await start("count-livingaaaaaa", "for i in 1 2 3; do echo line $i; sleep 1; done");
      const { code, out, err } = await call(["logs", "-f", "count-livingaaaaaa"], env);
      deepEqual([code, out], [0, "line 1\nline 2\nline 3\n"], err);
    });

    await t.step("logs prints what there is, by pod where there are several", async () => {
      await start("count-livingbbbbbb", "echo here; sleep 600", 2);
      await eventually(async () => {
        const { out } = await call(["logs", "count-livingbbbbbb"], env);
        return out.match(/^count-livingbbbbbb-[01]-\w+: here$/gm)?.length === 2;
      }, { what: "the log of both pods" });
      const { out } = await call(["logs", "count-livingbbbbbb", "--json"], env);
      equal(JSON.parse(out.split("\n")[0]!).line, "here");
    });

    await t.step("logs says that there is no such run", async () => {
      const { code, err } = await call(["logs", "count-livingcccccc"], env);
      equal(code, 1);
      match(err, /^There is no run count-livingcccccc/);
    });
  });
});

Deno.test("a cluster that cannot be reached or is not configured is told apart", async () => {
  await inFolder(async (dir) => {
    const missing = await call(["check", LAB, "--server"], { KUBECONFIG: `${dir}/none` });
    deepEqual([missing.code, missing.err.includes(`${dir}/none`)], [2, true], missing.err);
    const kubeconfig = `${dir}/kubeconfig`;
    const config = {
      clusters: [{ name: "gone", cluster: { server: "https://127.0.0.1:1" } }],
      users: [{ name: "me", user: { token: "x" } }],
      contexts: [{ name: "gone", context: { cluster: "gone", user: "me" } }],
      "current-context": "gone",
    };
    await Deno.writeTextFile(kubeconfig, JSON.stringify(config));
    const gone = await call(["check", LAB, "--server"], { KUBECONFIG: kubeconfig });
    deepEqual([gone.code, /Cannot reach the API server/.test(gone.err)], [3, true]);
  });
});

// ---------------------------------------------------------------- completions

const COMPLETED = [
  ["ch", "<check>"],
  ["check --se", "<check><--server>"],
  ["completions z", "<completions><zsh>"],
  ["help ex", "<help><explain>"],
  ["runs --row x --state f", "<runs><--row><x><--state><failed>"],
  ["graph --format m", "<graph><--format><mermaid>"],
  ["runs --mqtt-ur", "<runs><--mqtt-url>"],
  ["check tests/cli_", "<check><tests/cli_test.ts>"],
] as const;

/** Types each line and a tab into a shell at a terminal, where the program's name prints its arguments. */
async function typeInto(shell: string, args: readonly string[], env: Record<string, string>): Promise<string> {
  const child = new Deno.Command("script", {
    args: ["-qec", [shell, ...args].join(" "), "/dev/null"],
    cwd: ROOT,
    env: { ...env, TERM: "dumb" },
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const keys = child.stdin.getWriter();
  let seen = "";
  // A shell throws away what is typed before it asks for it.
  for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
    const isReady = !seen.includes("ready> ");
    seen += text;
    if (!isReady || !seen.includes("ready> ")) continue;
    const lines = [...COMPLETED.map(([typed]) => `mqtt-job-listener ${typed}\t`), "exit"];
    await keys.write(new TextEncoder().encode(lines.map((line) => `${line}\n`).join("")));
  }
  await keys.close().catch(() => {});
  await child.status;
  return seen;
}

const SAY = `mqtt-job-listener() { printf '<%s>' "$@"; echo; }\nPS1='ready> '\n`;

function wantedOf(seen: string): string[] {
  return seen.split(/\r?\n/).map((line) => line.trim()).filter((line) => /^(<[^<>]*>)+$/.test(line));
}

Deno.test("completions of bash complete commands, their flags, words and values at a terminal", async () => {
  await inFolder(async (dir) => {
    const { out } = await call(["completions", "bash"]);
    await Deno.writeTextFile(`${dir}/rc`, out + SAY);
    const seen = await typeInto("bash", ["--noprofile", "--rcfile", `${dir}/rc`, "-i"], {});
    deepEqual(wantedOf(seen), COMPLETED.map(([, all]) => all));
  });
});

Deno.test({
  name: "completions of zsh complete commands, their flags, words and values at a terminal",
  ignore: !await needs("zsh"),
  async fn() {
    await inFolder(async (dir) => {
      const { out } = await call(["completions", "zsh"]);
      await Deno.writeTextFile(`${dir}/.zshrc`, `autoload -Uz compinit; compinit -D -u\n${out}${SAY}`);
      const seen = await typeInto("zsh", ["-i"], { ZDOTDIR: dir });
      deepEqual(wantedOf(seen), COMPLETED.map(([, all]) => all));
    });
  },
});

Deno.test({
  name: "completions of fish complete commands, their flags, words and values",
  ignore: !await needs("fish"),
  async fn() {
    await inFolder(async (dir) => {
      const { out } = await call(["completions", "fish"]);
      await Deno.writeTextFile(`${dir}/completions.fish`, out);
      const asked = COMPLETED.map(([typed]) => `complete -C "mqtt-job-listener ${typed}"; echo .`).join("; ");
      const { stdout, stderr } = await new Deno.Command("fish", {
        args: ["--no-config", "-c", `source ${dir}/completions.fish; ${asked}`],
        cwd: ROOT,
        env: { HOME: dir },
      }).output();
      equal(new TextDecoder().decode(stderr), "");
      // One candidate each, with what it is for behind a tab.
      const found = new TextDecoder().decode(stdout).split("\n.\n").slice(0, -1).map((one) => one.split("\t")[0]);
      deepEqual(found, COMPLETED.map(([, all]) => /<([^<]*)>$/.exec(all)?.[1]));
    });
  },
});

Deno.test("completions are had as JSON too, and help tells programs each command", async () => {
  const { out } = await call(["completions", "fish", "--json"]);
  ok(JSON.parse(out).script.startsWith("# Completions of mqtt-job-listener for fish"));
  const { commands, settings } = JSON.parse((await call(["help", "--json"])).out);
  ok(settings.includes("MQTT_URL"));
  for (const { name, flags } of commands) ok("json" in flags, `${name} has no --json`);
});
