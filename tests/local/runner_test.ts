/** LocalRunner: what is its own. What it shares with Kubernetes is in tests/conformance/cluster.ts. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { LocalRunner } from "../../local/runner.ts";
import { judge } from "../../outcome.ts";
import { type ClusterEvents, type JobFacts, type PodFacts, RefusedError, type Row, type RunSpec } from "../../ports.ts";
import { compact } from "../../util/compact.ts";
import { clusterConformance } from "../conformance/cluster.ts";
import { eventually } from "../harness/wait.ts";

const GRACES = { imagePullMs: 1000, unschedulableMs: 1000, nodeLostMs: 1000 };

clusterConformance("LocalRunner", async () => {
  const dir = await Deno.makeTempDir({ prefix: "runner-test-" });
  const cluster = new LocalRunner({ dir });
  return {
    cluster,
    image: "ignored:1",
    async [Symbol.asyncDispose]() {
      await cluster.close();
      await Deno.remove(dir, { recursive: true });
    },
  };
});

interface Fixture {
  readonly dir: string;
  readonly runner: LocalRunner;
  /** What a watch has told. */
  readonly jobs: Map<string, JobFacts>;
  readonly pods: Map<string, PodFacts>;
  readonly troubles: readonly string[];
}

/** A runner on `dir` (a fresh folder) with a watch; everything is stopped at the end. */
async function withRunner(
  work: (fixture: Fixture) => Promise<void>,
  options: { dir?: string; path?: string; maxLogBytes?: number; killAfterMs?: number; secretsDir?: string } = {},
): Promise<void> {
  const dir = options.dir ?? await Deno.makeTempDir({ prefix: "runner-test-" });
  const { path: PATH, dir: _, ...more } = options;
  const runner = new LocalRunner({ ...more, dir, ...compact({ env: PATH === undefined ? undefined : { PATH } }) });
  const troubles: string[] = [];
  const jobs = new Map<string, JobFacts>();
  const pods = new Map<string, PodFacts>();
  const synced = Promise.withResolvers<void>();
  const events: ClusterEvents = {
    onJob: (job) => jobs.set(job.runName, job),
    onJobGone: (runName) => jobs.delete(runName),
    onPod: (pod) => pods.set(pod.podName, pod),
    onPodGone: (podName) => pods.delete(podName),
    onSynced: () => synced.resolve(),
    onTrouble: (reason) => troubles.push(reason),
  };
  const stop = new AbortController();
  const watching = runner.watch(events, stop.signal);
  try {
    await synced.promise;
    await work({ dir, runner, jobs, pods, troubles });
  } finally {
    stop.abort();
    await watching;
    await runner.close();
    if (options.dir === undefined) await Deno.remove(dir, { recursive: true });
  }
}

function spec(runName: string, row: Partial<Row>, payload = "{}"): RunSpec {
  return {
    runName,
    row: { line: 2, jobName: "Sort", mqttTopic: "t", image: "none", gpu: 0, parallelism: 1, backoffLimit: 0, ...row },
    message: { topic: "t", payload: new TextEncoder().encode(payload) },
    messageHash: "abcdefghijkl",
    root: "rootrootroot",
    rootRun: runName,
    chainDepth: 0,
    receivedAt: new Date(),
  };
}

function shell(script: string): Pick<Row, "command"> {
  return { command: ["sh", "-c", script] };
}

function until<T>(get: () => T | undefined | false, what: string) {
  return eventually(get, { intervalMs: 10, what });
}

function ended({ jobs }: Fixture, runName: string): Promise<JobFacts> {
  return until(() => jobs.get(runName)?.end && jobs.get(runName), `the end of ${runName}`);
}

async function log({ runner }: Fixture, podName: string, timestamps = false): Promise<string> {
  const stream = await runner.logs(podName, "main", { follow: false, timestamps });
  ok(stream, `no log of ${podName}`);
  return await new Response(stream).text();
}

/** The outcome that people are told. */
function outcome({ jobs, pods }: Fixture, runName: string) {
  const own = [...pods.values()].filter((pod) => pod.runName === runName);
  const verdict = judge(jobs.get(runName)!, own, { gracePeriods: GRACES, now: new Date() });
  equal(verdict.kind, "ended");
  return verdict.kind === "ended" ? verdict.outcome : undefined;
}

Deno.test("LocalRunner hands a process the message, and nothing of the service's environment", async () => {
  await withRunner(async (fixture) => {
    await fixture.runner.create(spec("r", shell('env; echo "[$PAYLOAD_NAME]"'), '{"name":"$(id) $HOME `x`"}'));
    equal((await ended(fixture, "r")).end?.type, "Complete");
    const lines = (await log(fixture, "r-0")).split("\n");
    ok(lines.includes("[$(id) $HOME `x`]"));
    const names = lines.filter((line) => /^\w+=/.test(line)).map((line) => line.slice(0, line.indexOf("=")));
    const shellsOwn = ["PWD", "SHLVL", "_", "OLDPWD"];
    deepEqual(
      names.filter((name) => !shellsOwn.includes(name)).sort(),
      ["HOME", "JOB_NAME", "MQTT_PAYLOAD", "MQTT_TOPIC", "PATH", "PAYLOAD_NAME", "RESULT_FILE", "RUN_NAME"],
    );
  });
});

Deno.test("LocalRunner refuses a row without a command and says what to do", async () => {
  await withRunner(async ({ runner }) => {
    await rejects(
      runner.create(spec("r", {})),
      (error) =>
        error instanceof RefusedError &&
        error.message.startsWith('Cannot run job "Sort" locally: its command column is empty;'),
    );
    equal(await runner.get("r"), undefined);
  });
});

Deno.test("LocalRunner refuses a run name that would leave its folder", async () => {
  await withRunner(async ({ runner }) => {
    await rejects(runner.create(spec("../r", shell("true"))), RefusedError);
  });
});

Deno.test("LocalRunner reports a command that does not exist as one that cannot be started", async () => {
  await withRunner(async (fixture) => {
    await fixture.runner.create(spec("r", { command: ["no-such-program"] }));
    await ended(fixture, "r");
    equal(outcome(fixture, "r")?.reason, "CannotStart");
    match(outcome(fixture, "r")?.message ?? "", /no program "no-such-program"/);
  });
});

Deno.test("LocalRunner looks programs up on the PATH that it is given", async () => {
  const folder = await Deno.makeTempDir({ prefix: "runner-path-" });
  await Deno.writeTextFile(`${folder}/greet`, "#!/bin/sh\necho hi\n", { mode: 0o755 });
  try {
    await withRunner(async (fixture) => {
      await fixture.runner.create(spec("r", { command: ["greet"] }));
      await ended(fixture, "r");
      equal(await log(fixture, "r-0"), "hi\n");
    }, { path: folder });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("LocalRunner starts one process for each of parallelism, told apart by JOB_COMPLETION_INDEX", async () => {
  await withRunner(async (fixture) => {
    await fixture.runner.create(spec("r", { ...shell('echo "$JOB_COMPLETION_INDEX"'), parallelism: 3 }));
    equal((await ended(fixture, "r")).end?.type, "Complete");
    deepEqual(await Promise.all([0, 1, 2].map((index) => log(fixture, `r-${index}`))), ["0\n", "1\n", "2\n"]);
  });
});

Deno.test("LocalRunner stops the other processes of a run when one fails", async () => {
  await withRunner(async (fixture) => {
    const script = '[ "$JOB_COMPLETION_INDEX" = 1 ] && exit 7; exec sleep 60';
    await fixture.runner.create(spec("r", { ...shell(script), parallelism: 2 }));
    equal((await ended(fixture, "r")).end?.reason, "BackoffLimitExceeded");
    equal(fixture.pods.get("r-1")?.containers[0]?.exitCode, 7);
    equal(fixture.pods.get("r-0")?.phase, "Failed");
  });
});

Deno.test("LocalRunner keeps a process below the row's memory_limit", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  await withRunner(async (fixture) => {
    const hungry = shell("x=$(head -c 200000000 /dev/zero | tr '\\0' x) && echo ${#x}");
    await fixture.runner.create(spec("small", { ...hungry, memoryLimit: "64Mi" }));
    await fixture.runner.create(spec("large", { ...hungry, memoryLimit: "2Gi" }));
    equal((await ended(fixture, "small")).end?.type, "Failed");
    equal((await ended(fixture, "large")).end?.type, "Complete");
    equal(await log(fixture, "large-0"), "200000000\n");
  });
});

Deno.test("LocalRunner ends a run at its active_deadline_seconds, with all that it started", async () => {
  await withRunner(async (fixture) => {
    await fixture.runner.create(spec("r", { ...shell("sleep 61 & echo $!; wait"), activeDeadlineSeconds: 5 }));
    equal((await ended(fixture, "r")).end?.reason, "DeadlineExceeded");
    equal(outcome(fixture, "r")?.reason, "DeadlineExceeded");
    const child = Number(await log(fixture, "r-0"));
    await until(() => !alive(child), "the end of the child");
  });
});

Deno.test("LocalRunner kills a cancelled process that ignores SIGTERM", async () => {
  await withRunner(async (fixture) => {
    await fixture.runner.create(spec("r", shell("trap '' TERM; echo ready; while :; do sleep 0.1; done")));
    await until(() => fixture.pods.get("r-0")?.phase === "Running", "the start");
    const stream = await fixture.runner.logs("r-0", "main", { follow: true, timestamps: false });
    const reader = stream!.getReader();
    equal(new TextDecoder().decode((await reader.read()).value), "ready\n");
    const from = Date.now();
    equal(await fixture.runner.cancel("r", "a tester"), true);
    const job = await ended(fixture, "r");
    // Real time is the subject: it had its grace.
    ok(Date.now() - from > 500);
    equal(job.cancelledBy, "a tester");
    equal(outcome(fixture, "r")?.message, "Cancelled by a tester");
    // The follower ends with the process.
    equal((await reader.read()).done, true);
  }, { killAfterMs: 600 });
});

Deno.test("LocalRunner keeps output byte for byte, long lines and a missing last newline included", async () => {
  await withRunner(async (fixture) => {
    const script = "head -c 100000 /dev/zero | tr '\\0' y; echo; printf '\\377\\000|'; printf end";
    await fixture.runner.create(spec("r", shell(script)));
    await ended(fixture, "r");
    const stream = await fixture.runner.logs("r-0", "main", { follow: false, timestamps: false });
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    equal(bytes.length, 100_000 + 1 + 6);
    deepEqual([...bytes.subarray(100_000)], [10, 255, 0, 124, 101, 110, 100]);
    const lines = (await log(fixture, "r-0", true)).split("\n");
    equal(lines.length, 2);
    for (const line of lines) match(line, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z /);
  });
});

Deno.test("LocalRunner gives each line a later time than the one before", async () => {
  await withRunner(async (fixture) => {
    await fixture.runner.create(spec("r", shell("seq 2000")));
    await ended(fixture, "r");
    const times = (await log(fixture, "r-0", true)).trimEnd().split("\n").map((line) => line.split(" ")[0]!);
    equal(times.length, 2000);
    deepEqual(times, [...new Set(times)].sort());
  });
});

Deno.test("LocalRunner finds runs that had ended when it is started again", async () => {
  const dir = await Deno.makeTempDir({ prefix: "runner-test-" });
  try {
    let before: JobFacts | undefined;
    await withRunner(async (fixture) => {
      await fixture.runner.create(spec("r", shell("echo kept; exit 3"), "payload"));
      before = await ended(fixture, "r");
    }, { dir });
    await withRunner(async (fixture) => {
      const data = ({ manifest, ...facts }: JobFacts) => ({ ...facts, kept: manifest?.() });
      deepEqual(data(fixture.jobs.get("r")!), data(before!));
      equal(outcome(fixture, "r")?.exitCode, 3);
      equal(await log(fixture, "r-0"), "kept\n");
      equal(await fixture.runner.create(spec("r", shell("true"))), "exists");
    }, { dir });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("LocalRunner reports a run whose process was lost with the service as failed", async () => {
  const dir = await Deno.makeTempDir({ prefix: "runner-test-" });
  try {
    let child = 0;
    await withRunner(async (fixture) => {
      await fixture.runner.create(spec("r", shell("echo $$; exec sleep 62")));
      await until(() => fixture.pods.get("r-0")?.phase === "Running", "the start");
      const stream = await fixture.runner.logs("r-0", "main", { follow: true, timestamps: false });
      const reader = stream!.getReader();
      child = Number(new TextDecoder().decode((await reader.read()).value));
      await reader.cancel();
    }, { dir });
    equal(alive(child), false);
    await withRunner((fixture) => {
      equal(fixture.pods.get("r-0")?.containers[0]?.reason, "Lost");
      equal(outcome(fixture, "r")?.reason, "Lost");
      match(outcome(fixture, "r")?.message ?? "", /ended before it did; run it again/);
      return Promise.resolve();
    }, { dir });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("LocalRunner kills what a service that crashed has left running", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  const dir = await Deno.makeTempDir({ prefix: "runner-test-" });
  const script = `
    const { LocalRunner } = await import(${JSON.stringify(import.meta.resolve("../../local/runner.ts"))});
    const runner = new LocalRunner({ dir: ${JSON.stringify(dir)} });
    const spec = ${JSON.stringify({ ...spec("r", shell("echo $$; exec sleep 64")), message: undefined })};
    spec.message = { topic: "t", payload: new Uint8Array() };
    spec.receivedAt = new Date();
    await runner.create(spec);
    for (;;) {
      const text = await Deno.readTextFile(${JSON.stringify(`${dir}/r/job.json`)});
      if (JSON.parse(text).groups.length > 0) break;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    Deno.kill(Deno.pid, "SIGKILL");`;
  try {
    const service = new Deno.Command(Deno.execPath(), { args: ["eval", script], stdout: "null", stderr: "inherit" });
    equal((await service.output()).signal, "SIGKILL");
    const child = JSON.parse(await Deno.readTextFile(`${dir}/r/job.json`)).groups[0][1];
    ok(alive(child));
    await withRunner(async (fixture) => {
      equal(outcome(fixture, "r")?.reason, "Lost");
      await until(() => !alive(child), "the end of the process");
    }, { dir });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("LocalRunner deletes a run that is running: its processes, its folder, its facts", async () => {
  await withRunner(async (fixture) => {
    await fixture.runner.create(spec("r", shell("exec sleep 63")));
    await until(() => fixture.pods.get("r-0")?.phase === "Running", "the start");
    await fixture.runner.delete("r");
    equal(fixture.jobs.size + fixture.pods.size, 0);
    equal(await fixture.runner.get("r"), undefined);
    await rejects(Deno.stat(`${fixture.dir}/r`), Deno.errors.NotFound);
    equal(await fixture.runner.logs("r-0", "main", { follow: false, timestamps: false }), undefined);
  });
});

Deno.test("LocalRunner gives a process none of the service's secrets, whatever the payload calls its fields", async () => {
  Deno.env.set("AWS_SECRET_ACCESS_KEY", "canary-of-the-service");
  try {
    await withRunner(async (fixture) => {
      const payload = JSON.stringify({ "x=y": "1", path: "/evil", "": "2", ld_preload: "/evil.so", "a\nb": "3" });
      await fixture.runner.create(spec("r", shell("env; cat /proc/self/environ | tr '\\0' '\\n'"), payload));
      await ended(fixture, "r");
      const output = await log(fixture, "r-0");
      ok(!output.includes("canary"), output);
      ok(!/^(PATH|LD_PRELOAD|HOME)=\/evil/m.test(output), output);
      match(output, /^PAYLOAD_LD_PRELOAD=/m);
    });
  } finally {
    Deno.env.delete("AWS_SECRET_ACCESS_KEY");
  }
});

Deno.test("LocalRunner keeps no more output of a process than it may, and lets it run on", async () => {
  await withRunner(async (fixture) => {
    await fixture.runner.create(spec("r", shell("yes 0123456789 | head -c 2000000; echo end >&2; exit 4")));
    await ended(fixture, "r");
    equal(outcome(fixture, "r")?.exitCode, 4);
    const { length } = await log(fixture, "r-0");
    ok(length > 100_000 && length < 300_000, `${length} characters`);
    deepEqual(fixture.troubles, ['Run "r": Output is lost, for there are more than 100000 bytes of it']);
  }, { maxLogBytes: 100_000 });
});

Deno.test("LocalRunner goes on beside a folder whose job.json a command has spoilt", async () => {
  const dir = await Deno.makeTempDir({ prefix: "runner-test-" });
  try {
    await withRunner(async (fixture) => {
      await fixture.runner.create(spec("good", shell("true")));
      await ended(fixture, "good");
    }, { dir });
    const saved = JSON.parse(await Deno.readTextFile(`${dir}/good/job.json`));
    const spoil = async (name: string, text: string) => {
      await Deno.mkdir(`${dir}/${name}`);
      await Deno.writeTextFile(`${dir}/${name}/job.json`, text);
    };
    await spoil("broken", "{");
    await spoil("nothing", "null");
    await spoil("foreign", JSON.stringify(saved));
    await spoil("large", " ".repeat(5_000_000));
    // A group of 1 would be every process of the machine.
    const own = JSON.parse(JSON.stringify(saved).replaceAll('"good', '"all'));
    await spoil("all", JSON.stringify({ ...own, job: { ...own.job, end: undefined }, groups: [[0, 1]] }));
    await Deno.mkdir(`${dir}/pipe`);
    await new Deno.Command("mkfifo", { args: [`${dir}/pipe/job.json`] }).output();
    await Deno.mkdir(`${dir}/link`);
    await Deno.symlink("../good/job.json", `${dir}/link/job.json`);
    await withRunner(async (fixture) => {
      deepEqual([...fixture.jobs.keys()], ["good"]);
      const named = fixture.troubles.map((reason) =>
        /^Cannot read .*\/(\w+)\/job.json: .*; delete the folder/.exec(reason)?.[1]
      );
      deepEqual(named.sort(), ["all", "broken", "foreign", "large", "link", "nothing", "pipe"]);
      await fixture.runner.create(spec("next", shell("true")));
      equal((await ended(fixture, "next")).end?.type, "Complete");
    }, { dir });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("LocalRunner leaves folders alone that are not its own", async () => {
  const dir = await Deno.makeTempDir({ prefix: "runner-test-" });
  await Deno.mkdir(`${dir}/holiday-pictures`);
  try {
    await withRunner(({ jobs }) => {
      equal(jobs.size, 0);
      return Promise.resolve();
    }, { dir });
    ok((await Deno.stat(`${dir}/holiday-pictures`)).isDirectory);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

function alive(pid: number): boolean {
  ok(pid > 1);
  try {
    // A zombie that nobody reaped is dead, too.
    return !/^\d+ \(.*\) [ZX]/.test(Deno.readTextFileSync(`/proc/${pid}/stat`));
  } catch {
    return false;
  }
}

Deno.test("LocalRunner does of a row's columns what it can, and says what it leaves out", async () => {
  await withRunner(async (fixture) => {
    const file = { root: "payload" as const, path: ["file"], source: "{payload.file}" };
    const folder = await Deno.realPath(fixture.dir);
    const row: Partial<Row> = {
      command: ["sh", "-c", 'printf "%s|" "$1" "$2" "$A" "$(pwd)"', "-"],
      args: [[file], ["x ", file]],
      env: [
        { from: "value", name: "A", value: ["<", file, ">"] },
        { from: "secret", name: "B", object: "s", key: "k" },
      ],
      mounts: [{ from: "pvc", object: "data", path: "/data", readOnly: false }],
      workingDir: [folder],
    };
    await fixture.runner.create(spec("r", row, JSON.stringify({ file: "a b; $(id)" })));
    await ended(fixture, "r");
    equal(await log(fixture, "r-0"), `a b; $(id)|x a b; $(id)|<a b; $(id)>|${folder}|`);
    const [event] = await fixture.runner.events("r");
    match(event?.message ?? "", /^left out, for only Kubernetes does it: env \(secrets.*\), mounts$/);
    deepEqual(await fixture.runner.events("other"), []);
  });
});

Deno.test("LocalRunner gives a run its secrets and config maps from a folder, and writes them nowhere", async () => {
  const secretsDir = await Deno.makeTempDir({ prefix: "runner-secrets-" });
  const write = async (name: string, key: string, text: string) => {
    await Deno.mkdir(`${secretsDir}/${name}`, { recursive: true });
    await Deno.writeTextFile(`${secretsDir}/${name}/${key}`, text);
  };
  await write("lab-s3", "key", "s3cret value\n");
  await write("lab-s3", "RUN_NAME", "not this");
  await write("lab-s3", "no.variable", "x");
  await write("lab", "mode", "slow");
  const script =
    'printf "%s|" "$KEY" "$MODE" "$key" "$RUN_NAME"; cat "$LOCAL_MOUNTS/etc/lab/mode" "$LOCAL_MOUNTS/etc/key"';
  const row: Partial<Row> = {
    ...shell(script),
    env: [
      { from: "secret", name: "KEY", object: "lab-s3", key: "key" },
      { from: "config", name: "MODE", object: "lab", key: "mode" },
      { from: "all", kind: "secret", object: "lab-s3" },
    ],
    mounts: [
      { from: "config", object: "lab", path: "/etc/lab" },
      { from: "secret", object: "lab-s3", key: "key", path: "/etc/key" },
    ],
  };
  try {
    await withRunner(async (fixture) => {
      await fixture.runner.create(spec("r", { ...row, parallelism: 2 }));
      const job = await ended(fixture, "r");
      for (const pod of ["r-0", "r-1"]) {
        equal(await log(fixture, pod), "s3cret value|slow|s3cret value|r|slows3cret value\n");
      }
      const saved = await Deno.readTextFile(`${fixture.dir}/r/job.json`);
      for (const text of [saved, JSON.stringify(job.manifest?.())]) equal(text.includes("s3cret"), false);
      const [event] = await fixture.runner.events("r");
      match(event?.message ?? "", /: mounts \(secrets and config maps are below \$LOCAL_MOUNTS\)$/);
      await fixture.runner.delete("r");
      equal(await Deno.readTextFile(`${secretsDir}/lab-s3/key`), "s3cret value\n");

      const missing: [Partial<Row>, RegExp][] = [
        [
          { env: [{ from: "secret", name: "A", object: "gone", key: "k" }] },
          /the secret "gone" does not exist: make the folder .*\/gone$/,
        ],
        [
          { env: [{ from: "config", name: "A", object: "lab", key: "gone" }] },
          /the config map "lab" has no key "gone": write the file .*\/lab\/gone$/,
        ],
        [{ mounts: [{ from: "secret", object: "lab-s3", key: "..", path: "/x" }] }, /has no key "\.\."/],
        [{ env: [{ from: "all", kind: "config", object: "gone" }] }, /the config map "gone" does not exist/],
      ];
      for (const [at, [changes, words]] of missing.entries()) {
        await fixture.runner.create(spec(`missing-${at}`, { ...shell("true"), ...changes }));
        await ended(fixture, `missing-${at}`);
        match(outcome(fixture, `missing-${at}`)?.message ?? "", words);
      }
    }, { secretsDir });
  } finally {
    await Deno.remove(secretsDir, { recursive: true });
  }
});

Deno.test("what a run's processes use is seen, those that it has started included", async () => {
  await withRunner(async ({ runner }) => {
    // 40 MB in a process of the run's process.
    await runner.create(spec("hungry", shell("head -c 40000000 /dev/zero | tail | sleep 30")));
    const memory = await eventually(async () => {
      const [used] = await runner.podUsage();
      return used !== undefined && used.memory > 40_000_000 && used.memory;
    });
    ok(memory < 200_000_000, `${memory} bytes`);
    const [used] = await runner.podUsage();
    equal(used!.podName.startsWith(used!.runName), true);
    ok(used!.cpu >= 0 && used!.cpu < 64);
  });
});
