/**
 * The image and the compose file as they are: built by an engine of their own, and run with a real cluster behind them.
 * Only what they take from registries is stood in for (tests/image/bases.ts, tests/image/denort).
 */
import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { parse } from "yaml";
import { startCluster, type TestCluster } from "../harness/cluster.ts";
import { needs } from "../harness/needs.ts";
import { freePort } from "../harness/ports.ts";
import { run } from "../harness/process.ts";
import { PROJECT, readProject } from "../harness/project.ts";
import { TcpProxy } from "../harness/proxy.ts";
import { S3TestClient } from "../harness/s3.ts";
import { eventually } from "../harness/wait.ts";
import { importBases } from "./bases.ts";
import { type Engine, startEngine } from "./engine.ts";

const ROOT = PROJECT.pathname.replace(/\/$/, "");
const USER = 65532;
const TOPIC = "demo/hello";
/** As the compose file names them. */
const LISTENER = "mqtt-job-listener-listener-1";
const [BROKER, STORE] = ["mqtt-job-listener-mosquitto-1", "mqtt-job-listener-s3-1"];
const FOLDER = "s3://braingeneers/services/mqtt_job_listener";

/** Flags for `docker run` under which the image must work: what the compose file and the Deployment ask for. */
const CLOSED = ["--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true"];

Deno.test({
  name: "the image is built, and compose runs it with a broker, a store and a cluster: nothing is lost",
  ignore: !await needs("docker", "node", "kubectl"),
  async fn(t) {
    await using engine = await startEngine();
    const { version } = JSON.parse(await readProject("deno.json"));
    const images = { binary: `mqtt-job-listener:${version}`, deno: `mqtt-job-listener:${version}-deno` };

    await t.step("the Dockerfile builds both of its targets", async () => {
      await importBases(engine, await baseNames());
      // The preset is asked for by no name. It reuses what the other has built.
      await build(engine, images.deno, "--target", "deno");
      await build(engine, images.binary, "--build-arg", "REVISION=0123abc");
    });

    for (const [target, image] of Object.entries(images)) {
      await t.step(`target ${target} runs closed off, as nobody in particular, and says its version`, async () => {
        match(
          await engine.docker("run", ...CLOSED, image, "version"),
          new RegExp(`${version.replaceAll(".", "\\.")}\n$`),
        );
        const { Config } = JSON.parse(await engine.docker("image", "inspect", image))[0];
        equal(Config.User, `${USER}:${USER}`);
        deepEqual(Config.Cmd, ["start"]);
        equal(Config.Labels["org.opencontainers.image.version"], version);
        if (target === "binary") equal(Config.Labels["org.opencontainers.image.revision"], "0123abc");
        const shell = await engine.tryDocker("run", ...CLOSED, "--entrypoint=/bin/sh", image, "-c", "true");
        match(shell.err, /no such file/);
      });

      await t.step(`target ${target} says in one sentence what it cannot start with, and ends`, async () => {
        const bad = await engine.tryDocker("run", ...CLOSED, "--env=MQTT_URL=http://broker", image);
        notEqual(bad.code, 0);
        match(bad.err + bad.out, /MQTT_URL/);
        ok(!/^\s+at /m.test(bad.err + bad.out), bad.err + bad.out);
      });
    }

    await t.step("target deno looks nothing up in the bundle that the build has looked up", async () => {
      await engine.docker("run", "--name=looked", "--network=none", images.deno, "version");
      await engine.docker("cp", "looked:/data/deno", `${engine.dir}/looked`);
      await engine.docker("rm", "looked");
      // What Deno adds stands in the log of its database, which it does not fold in when it ends: three pages, and 1.7 MB
      // where it has to look up all of the bundle.
      const { size } = await Deno.stat(`${engine.dir}/looked/dep_analysis_cache_v2-wal`);
      ok(size < 100_000, `${size} bytes were added`);
    });

    await using cluster = await startCluster({ node: "real", serverNames: [engine.gateway] });
    // What the table of the profile dev names.
    await cluster.nameBusybox(cluster.nodes[0]!, "docker.io/library/busybox:1.37.0");
    await using lab = await Lab.start(engine, cluster);
    const sent: string[] = [];
    const send = async (count: number) => {
      const messages = Array.from({ length: count }, (_, index) => `m${sent.length + index + 1}`);
      sent.push(...messages);
      for (const message of messages) await lab.publish(message);
    };

    await t.step("compose up, a message, its Job, its log, the next of the chain", async () => {
      await lab.up();
      await send(1);
      await lab.settled(sent);
      const [log] = await lab.logs("hello");
      match(log!, /^Hello, m1$/m);
      match((await lab.logs("goodbye"))[0]!, /^Goodbye$/m);
    });

    await t.step("the service runs as its user, without rights, on a root that it cannot write to", async () => {
      const { State } = await engine.inspect(LISTENER);
      const status = await Deno.readTextFile(`/proc/${State.Pid}/status`);
      match(status, new RegExp(`^Uid:(\\s+${USER}){4}$`, "m"));
      match(status, new RegExp(`^Gid:(\\s+${USER}){4}$`, "m"));
      match(status, /^CapEff:\s+0+$/m);
      match(status, /^CapBnd:\s+0+$/m);
      match(status, /^NoNewPrivs:\s+1$/m);
      const mounts = (await Deno.readTextFile(`/proc/${State.Pid}/mountinfo`)).split("\n").map((line) =>
        line.split(" ")
      );
      const options = (point: string) => mounts.find((mount) => mount[4] === point)?.[5]?.split(",");
      ok(options("/")?.includes("ro"));
      ok(options("/etc/mqtt-job-listener/kubeconfig")?.includes("ro"));
      ok(options("/data")?.includes("rw"));
      // Broker and store are no more than they need to be either.
      for (const container of [BROKER, STORE]) {
        const { State } = await engine.inspect(container);
        match(await Deno.readTextFile(`/proc/${State.Pid}/status`), /^CapEff:\s+0+$/m);
      }
    });

    await t.step("its health is what the image's own command says", async () => {
      await lab.healthy();
    });

    await t.step("docker stop ends it with 0, and what comes meanwhile runs after the start", async () => {
      await send(2);
      await engine.docker("stop", "--time=60", LISTENER);
      equal((await engine.inspect(LISTENER)).State.ExitCode, 0);
      await send(2);
      await engine.docker("start", LISTENER);
      await lab.settled(sent);
    });

    await t.step("kill -9 loses nothing and runs nothing twice", async () => {
      await send(3);
      await engine.docker("kill", LISTENER);
      equal((await engine.inspect(LISTENER)).State.ExitCode, 137);
      await engine.docker("start", LISTENER);
      await lab.settled(sent);
    });

    await t.step(
      "compose down and up keeps what waited, and the other target goes on where the first left off",
      async () => {
        await engine.docker("stop", "--time=60", LISTENER);
        await send(2);
        await lab.compose("down");
        equal((await engine.docker("ps", "--all", "--quiet")).trim(), "");
        await engine.docker("tag", images.deno, images.binary);
        await lab.up();
        await send(1);
        await lab.settled(sent);
        await eventually(async () => (await engine.inspect(LISTENER)).State.Health?.Status === "healthy", {
          what: "the container of target deno to be healthy",
        });
        const { State, RestartCount } = await engine.inspect(LISTENER);
        match(await Deno.readTextFile(`/proc/${State.Pid}/cmdline`), /^\/usr\/local\/bin\/deno\0run\0/);
        equal(RestartCount, 0);
        await engine.docker("stop", "--time=60", LISTENER);
        equal((await engine.inspect(LISTENER)).State.ExitCode, 0);
      },
    );
  },
});

/** What Dockerfile and compose file take from registries. */
async function baseNames(): Promise<string[]> {
  const stages = [...(await readProject("Dockerfile")).matchAll(/^FROM (\S+)(?: AS (\S+))?$/gm)];
  const own = stages.map(([, , name]) => name);
  const { services }: { services: Record<string, { image: string; build?: unknown }> } = parse(
    await readProject("deploy/docker-compose.yml"),
    { merge: true },
  );
  const bases = stages.map(([, base]) => base!).filter((base) => !own.includes(base));
  const named = Object.values(services).filter(({ build }) => build === undefined).map(({ image }) => image);
  return [...new Set([...bases, ...named])];
}

/** Builds from the project's folder; what cannot be built is told by the end of the builder's output. */
async function build(engine: Engine, tag: string, ...options: string[]): Promise<void> {
  // The host's network, for the engine has none of its own that leads out.
  for (let left = 3;;) {
    const { code, out, err } = await engine.tryDocker("build", "--network=host", "--tag", tag, ...options, ROOT);
    if (code === 0) return;
    // A registry of packages that does not answer now and then says nothing of the Dockerfile.
    if (--left > 0 && /'\/bin\/sh -c deno install --frozen' returned/.test(err + out)) continue;
    throw new Error(`${out.slice(-4_000)}\n${err.slice(-4_000)}`);
  }
}

/** The compose file's services with the profile dev, in front of a cluster of this machine. */
class Lab implements AsyncDisposable {
  readonly #engine: Engine;
  readonly #cluster: TestCluster;
  readonly #ports = { page: freePort(), broker: freePort(), store: freePort() };
  readonly #secret = crypto.randomUUID();
  readonly #store: S3TestClient;
  readonly #envFile: string;
  readonly #kubeconfig: string;
  /** To the API server, which listens on loopback only. */
  #proxy: TcpProxy | undefined;

  private constructor(engine: Engine, cluster: TestCluster) {
    this.#engine = engine;
    this.#cluster = cluster;
    this.#envFile = `${engine.dir}/env`;
    this.#kubeconfig = `${engine.dir}/kubeconfig`;
    const access = { region: "us-east-1", accessKey: "lab", secretKey: this.#secret };
    this.#store = new S3TestClient(`http://127.0.0.1:${this.#ports.store}`, access);
  }

  /** Fills in .env.example as a newcomer would, and makes the containers; starts none. */
  static async start(engine: Engine, cluster: TestCluster): Promise<Lab> {
    const lab = new Lab(engine, cluster);
    const answers: Record<string, string> = {
      KUBECONFIG_FILE: lab.#kubeconfig,
      AWS_SECRET_ACCESS_KEY: lab.#secret,
      COMPOSE_PROFILES: "dev",
      STATUS_PORT: `127.0.0.1:${lab.#ports.page}`,
      MQTT_PORT: `127.0.0.1:${lab.#ports.broker}`,
      S3_PORT: `127.0.0.1:${lab.#ports.store}`,
    };
    const example = await readProject("deploy/.env.example");
    const filled = example.replace(
      /^#?([A-Z0-9_]+)=.*$/gm,
      (line, name) => answers[name] ? `${name}=${answers[name]}` : line,
    );
    for (const [name, value] of Object.entries(answers)) ok(filled.includes(`\n${name}=${value}\n`), name);
    await Deno.writeTextFile(lab.#envFile, filled);
    await Deno.writeTextFile(lab.#kubeconfig, "");
    await lab.compose("create");
    // Now there is the network, and with it the address at which a container reaches this machine.
    lab.#proxy = new TcpProxy(cluster.port, { hostname: engine.gateway });
    await lab.#writeKubeconfig(`https://${engine.gateway}:${lab.#proxy.port}`);
    return lab;
  }

  /** Starts all that is not up and waits until the service is ready. */
  async up(): Promise<void> {
    await this.compose("up", "--detach");
    await eventually(async () => (await fetch(`http://127.0.0.1:${this.#ports.page}/readyz`).then(text)).ok, {
      what: async () =>
        `the service to be ready: ${(await this.#engine.tryDocker("logs", LISTENER)).out.slice(-2_000)}`,
    });
  }

  /** Resolves when the container's health command has found it well: a quarter of a minute after a start or later. */
  async healthy(): Promise<void> {
    const health = async () => (await this.#engine.inspect(LISTENER)).State.Health;
    await eventually(async () => (await health())?.Status === "healthy", {
      timeoutMs: 180_000,
      what: async () => `the container to be healthy: ${JSON.stringify(await health())}`,
    });
  }

  async compose(...args: string[]): Promise<string> {
    const files = ["--file", `${ROOT}/deploy/docker-compose.yml`, "--env-file", this.#envFile];
    return await this.#engine.docker("compose", ...files, ...args);
  }

  /** Resolves when the broker has the message. */
  async publish(message: string): Promise<void> {
    const at = ["-h", "127.0.0.1", "-p", String(this.#ports.broker)];
    await run("mosquitto_pub", [...at, "-t", TOPIC, "-q", "1", "-m", message]);
  }

  /** Logs of all ended runs of a row, in the order of their names. */
  async logs(row: string): Promise<string[]> {
    const names = (await this.#store.list(`${FOLDER}/logs/${row}-`)).filter((name) => name.endsWith(".txt"));
    return await Promise.all(names.map(async (name) => await this.#store.get(name) ?? ""));
  }

  /** Resolves when each message has its one run, each of these its one follower, and the cluster is empty. */
  async settled(messages: readonly string[]): Promise<void> {
    const count = async (row: string) => (await this.#store.list(`${FOLDER}/runs/${row}-`)).length;
    const jobs = async () =>
      (await this.#cluster.api.get<{ items: unknown[] }>("/apis/batch/v1/namespaces/default/jobs")).items.length;
    await eventually(async () => await count("goodbye") >= messages.length && await jobs() === 0, {
      timeoutMs: 180_000,
      intervalMs: 300,
      what: async () => `${messages.length} messages to be done: ${await count("hello")} runs, ${await jobs()} Jobs`,
    });
    const greeted = (await this.logs("hello")).map((log) => /^Hello, (\S+)$/m.exec(log)?.[1]);
    deepEqual(greeted.sort(), [...messages].sort());
    deepEqual([await count("hello"), await count("goodbye")], [messages.length, messages.length]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#store.destroy();
    await this.compose("down", "--volumes").catch(() => {});
    await this.#proxy?.[Symbol.asyncDispose]();
  }

  /** By the rights of deploy/role.yaml, flattened as README.md says. */
  async #writeKubeconfig(server: string): Promise<void> {
    const file = await this.#cluster.serviceAccountKubeconfig({
      roleYaml: await readProject("deploy/role.yaml"),
      server,
      tokenSeconds: 3_600,
    });
    const flat = await run("kubectl", ["config", "view", "--raw", "--flatten", "--kubeconfig", file]);
    await Deno.writeTextFile(this.#kubeconfig, flat);
    await Deno.chmod(this.#kubeconfig, 0o644);
  }
}

/** The answer with its body read, which else would be left open. */
async function text(response: Response): Promise<Response> {
  await response.body?.cancel();
  return response;
}
