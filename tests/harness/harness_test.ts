/**
 * Proves the tests' own infrastructure: the cluster runs real containers, faults do what they say, and nothing is left
 * behind. Says nothing about the service.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { KubeConfig, type V1Job, type V1Node, type V1Pod, type V1PodList } from "@kubernetes/client-node";
import mqtt from "mqtt";
import { BUSYBOX_IMAGE, startCluster, type TestCluster } from "./cluster.ts";
import { findShims, ownBridge } from "./containers.ts";
import { removeFolder, scratchFolder, sweep } from "./folder.ts";
import { KubeApi } from "./kube_api.ts";
import { startKit } from "./kit.ts";
import { startMosquitto } from "./mosquitto.ts";
import { needs } from "./needs.ts";
import { subnetOf } from "./node.ts";
import { freePort } from "./ports.ts";
import { run } from "./process.ts";
import { HttpProxy, TcpProxy } from "./proxy.ts";
import { startS3 } from "./s3.ts";
import { endingLater } from "./table.ts";
import { eventually } from "./wait.ts";

const JOBS = "/apis/batch/v1/namespaces/default/jobs";
const PODS = "/api/v1/namespaces/default/pods";

Deno.test("eventually() gives up with the last error as the cause", async () => {
  const look = () => Promise.reject(new Error("not there"));
  await rejects(eventually(look, { timeoutMs: 60, intervalMs: 10, what: "a thing" }), (error: Error) => {
    match(error.message, /Waited 60 ms in vain for a thing: not there/);
    return error.cause instanceof Error;
  });
});

Deno.test("no port is given twice while who has it lives, be it another process", async () => {
  const script = `import { freePort } from ${JSON.stringify(import.meta.resolve("./ports.ts"))};
    console.log(Array.from({ length: 300 }, freePort).join());
    await new Promise((resolve) => setTimeout(resolve, 600_000));`;
  await using other = new Deno.Command(Deno.execPath(), { args: ["eval", script], stdout: "piped" }).spawn();
  const own = Array.from({ length: 300 }, freePort);
  let said = "";
  for await (const text of other.stdout.pipeThrough(new TextDecoderStream())) if ((said += text).endsWith("\n")) break;
  const all = [...own, ...said.trim().split(",").map(Number), ...Array.from({ length: 300 }, freePort)];
  equal(all.length, 900);
  equal(new Set(all).size, 900);
});

Deno.test({
  name: "mosquitto keeps a retained message over kill9() when persistence is `always`",
  ignore: !await needs("mosquitto"),
  async fn() {
    await using broker = await startMosquitto({ persistence: "always" });
    const publisher = await mqtt.connectAsync(broker.url);
    await publisher.publishAsync("lab/state", "kept", { qos: 1, retain: true });
    await publisher.endAsync();
    await broker.kill9();
    await broker.start();
    equal(await firstMessage(await mqtt.connectAsync(broker.url), "lab/state"), "kept");
  },
});

Deno.test({
  name: "mosquitto with mutual TLS takes a client with a certificate and a password, and no other",
  ignore: !await needs("mosquitto", "openssl"),
  async fn() {
    await using broker = await startMosquitto({ tls: "mutual", users: { lab: "secret" } });
    const { cert, key } = await broker.authority!.client("listener");
    const once = { reconnectPeriod: 0, connectTimeout: 5_000, ca: broker.authority!.ca, username: "lab" };
    const client = await mqtt.connectAsync(broker.url, { ...once, cert, key, password: "secret" });
    await client.endAsync();
    await rejects(mqtt.connectAsync(broker.url, { ...once, cert, key, password: "wrong" }, false), /Not authorized/);
    await rejects(mqtt.connectAsync(broker.url, { ...once, password: "secret" }, false));
  },
});

Deno.test({
  name: "the S3 server keeps its objects and its port over kill9()",
  ignore: !await needs("s3"),
  async fn() {
    await using s3 = await startS3();
    await s3.put("s3://braingeneers/services/jobs.csv", "job_name\n");
    await s3.kill9();
    await rejects(s3.list("s3://braingeneers/"));
    await s3.start();
    deepEqual(await s3.list("s3://braingeneers/services/"), ["s3://braingeneers/services/jobs.csv"]);
    equal(await s3.get("s3://braingeneers/services/jobs.csv"), "job_name\n");
    equal(await s3.get("s3://braingeneers/none"), undefined);
  },
});

Deno.test("TcpProxy passes, swallows, cuts and refuses", async (t) => {
  await using echo = new EchoServer();
  await using proxy = new TcpProxy(echo.port);
  const connect = () => Deno.connect({ hostname: "127.0.0.1", port: proxy.port });
  using first = await connect();
  await t.step("pass", async () => equal(await ask(first, "one"), "one"));
  await t.step("slow", async () => {
    proxy.mode = { delayMs: 50 };
    const start = performance.now();
    equal(await ask(first, "two"), "two");
    ok(performance.now() - start >= 95, "each way takes 50 ms");
  });
  await t.step("black hole: bytes go in and nothing comes out, even after the link is good again", async () => {
    proxy.mode = "blackhole";
    await first.write(new TextEncoder().encode("lost"));
    await eventually(() => proxy.lostBytes === 4);
    proxy.mode = "pass";
    using second = await connect();
    equal(await ask(second, "new"), "new");
    equal(echo.heard.includes("lost"), false);
  });
  await t.step("cut", async () => {
    proxy.cut();
    equal(await readOrEnd(first), "");
    await eventually(() => proxy.connections === 0);
  });
  await t.step("refuse", async () => {
    proxy.mode = "refuse";
    using third = await connect();
    equal(await readOrEnd(third), "");
  });
});

Deno.test("HttpProxy passes, answers itself, cuts, falls silent and swallows", async (t) => {
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const body = `${request.method} ${await request.text()}`.padEnd(100, ".");
    return new Response(request.method === "HEAD" ? null : body, {
      headers: { etag: '"1"', "content-type": "text/plain" },
    });
  });
  await using proxy = await HttpProxy.start({ target: `http://127.0.0.1:${server.addr.port}` });
  using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
  await t.step("pass", async () => {
    const answer = await fetch(`${proxy.url}/a?b=c`, { method: "PUT", body: "x", client });
    equal(answer.headers.get("etag"), '"1"');
    match(await answer.text(), /^PUT x\.+$/);
    deepEqual(proxy.requests, ["PUT /a?b=c"]);
  });
  await t.step("a body that the server would pack", async () => {
    const answer = await fetch(`${proxy.url}/big`, { method: "PUT", body: "y".repeat(1_000), client });
    match(await answer.text(), /^PUT y{1000}$/);
    proxy.requests.length = 0;
  });
  await t.step("status", async () => {
    proxy.hook = () => ({ status: 429, headers: { "retry-after": "1" }, body: "later" });
    const answer = await fetch(proxy.url, { client });
    deepEqual([answer.status, answer.headers.get("retry-after"), await answer.text()], [429, "1", "later"]);
  });
  await t.step("cut after bytes", async () => {
    proxy.hook = () => ({ cutAfterBytes: 10 });
    await rejects(fetch(proxy.url, { client }).then((answer) => answer.text()));
  });
  await t.step("silent after bytes, until cut", async () => {
    proxy.hook = () => ({ silentAfterBytes: 3 });
    const reader = (await fetch(proxy.url, { client })).body!.getReader();
    equal(new TextDecoder().decode((await reader.read()).value), "GET");
    const next = reader.read();
    proxy.cut();
    await rejects(next);
  });
  await t.step("swallow: done, but never answered", async () => {
    proxy.hook = () => "swallow";
    await rejects(fetch(proxy.url, { method: "POST", body: "x", client }).then((answer) => answer.text()));
  });
});

Deno.test({
  name: "S3 works through an HttpProxy, signatures and all",
  ignore: !await needs("s3"),
  async fn() {
    await using s3 = await startS3();
    await using proxy = await HttpProxy.start({ target: s3.url });
    const near = s3.clientAt(proxy.url);
    await near.put("s3://braingeneers/a.txt", "through");
    equal(await near.get("s3://braingeneers/a.txt"), "through");
    equal(await s3.get("s3://braingeneers/a.txt"), "through");
    near.destroy();
  },
});

Deno.test({
  name: "a cluster with a real node",
  ignore: !await needs("node"),
  async fn(t) {
    await using cluster = await startCluster({ node: "real", gpus: 2, gpuProduct: "NVIDIA-A10" });
    await t.step("shows the node's GPUs", async () => {
      const { status, metadata } = await cluster.api.get<V1Node>("/api/v1/nodes/node1");
      equal(status?.allocatable?.["nvidia.com/gpu"], "2");
      equal(metadata?.labels?.["nvidia.com/gpu.product"], "NVIDIA-A10");
    });
    await t.step("runs a Job that asks for a GPU in a real container, and serves its log", async () => {
      await createJob(cluster, "hello", "echo hello from $(hostname)", { "nvidia.com/gpu": "1" });
      await jobEnd(cluster, "hello", "Complete");
      const pod = await podOf(cluster, "hello");
      equal(await cluster.api.text(`${PODS}/${pod.metadata!.name}/log`), `hello from ${pod.metadata!.name}\n`);
    });
    await t.step("kills a container for its memory", async () => {
      await createJob(cluster, "hungry", endingLater("tail /dev/zero"), { memory: "16Mi" });
      await jobEnd(cluster, "hungry", "Failed");
      const { status } = await podOf(cluster, "hungry");
      equal(status?.containerStatuses?.[0]?.state?.terminated?.reason, "OOMKilled");
    });
    await t.step("keeps its Jobs when the API server is killed and started again", async () => {
      const before = await cluster.api.get<V1Job>(`${JOBS}/hello`);
      await cluster.restartApiServer();
      equal((await cluster.api.get<V1Job>(`${JOBS}/hello`)).metadata?.uid, before.metadata?.uid);
    });
    await t.step("lets a ServiceAccount do what its Role allows, and no more", async () => {
      using api = await apiOf(await cluster.serviceAccountKubeconfig({ roleYaml: ROLE, namespace: "lab" }));
      await api.get("/apis/batch/v1/namespaces/lab/jobs");
      await rejects(api.get("/api/v1/namespaces/lab/secrets"), /answered 403/);
      await rejects(api.get(JOBS), /answered 403/);
    });
    await t.step("takes a client certificate", async () => {
      const config = new KubeConfig();
      config.loadFromFile(await cluster.certificateKubeconfig({ user: "ann" }));
      const [cert, key] = [config.users[0]!.certFile!, config.users[0]!.keyFile!].map((f) => Deno.readTextFileSync(f));
      using client = Deno.createHttpClient({ caCerts: [cluster.authority.ca], cert: cert!, key: key! });
      const answer = await fetch(`${cluster.server}${JOBS}`, { client });
      await answer.body?.cancel();
      equal(answer.status, 200);
    });
    await t.step("gives tokens by an exec plugin", async () => {
      const { kubeconfig, callsFile } = await cluster.execKubeconfig();
      using api = await apiOf(kubeconfig);
      await api.get(JOBS);
      equal(Deno.readTextFileSync(callsFile), "called\n");
    });
    await t.step("follows a log through a proxy that can cut it", async () => {
      await createJob(cluster, "talker", "echo one; sleep 60");
      const name = await eventually(async () => {
        const pod = await podOf(cluster, "talker");
        return pod.status?.phase === "Running" && pod.metadata!.name;
      });
      const certificate = await cluster.authority.server("proxy");
      await using proxy = await HttpProxy.start({
        target: cluster.server,
        targetCa: cluster.authority.ca,
        certificate,
      });
      using api = await apiOf(await cluster.tokenKubeconfig(proxy.url));
      const reader = (await api.request("GET", `${PODS}/${name}/log?follow=true`)).body!.getReader();
      equal(new TextDecoder().decode((await reader.read()).value), "one\n");
      proxy.cut();
      await rejects(reader.read());
    });
  },
});

Deno.test({
  name: "a killed node's pods are evicted when another node lives",
  ignore: !await needs("node"),
  async fn() {
    await using cluster = await startCluster({ node: "real", nodeCount: 2, quickEviction: true });
    await createJob(cluster, "long", "sleep 600");
    const pod = await eventually(async () => {
      const seen = await podOf(cluster, "long");
      return seen.status?.phase === "Running" && seen;
    }, { what: "the pod to run" });
    await cluster.killNode(pod.spec!.nodeName!);
    await eventually(async () => {
      const { metadata, status } = await cluster.api.get<V1Pod>(`${PODS}/${pod.metadata!.name}`);
      return metadata?.deletionTimestamp !== undefined &&
        status?.conditions?.some(({ type, reason }) =>
          type === "DisruptionTarget" && reason === "DeletionByTaintManager"
        );
    }, { what: "the pod to be evicted" });
  },
});

Deno.test({
  name: "fake nodes end a hundred Jobs with the exit code that was asked for",
  ignore: !await needs("kwok"),
  async fn() {
    // Kubernetes' own default is 20 requests a second.
    const controllerFlags = ["--kube-api-qps=1000", "--kube-api-burst=1000"];
    await using cluster = await startCluster({
      node: "kwok",
      fakePods: { exitCode: 3 },
      controllerFlags,
      schedulerFlags: controllerFlags,
    });
    await Promise.all(Array.from({ length: 100 }, (_, index) => createJob(cluster, `job-${index}`, "true")));
    await eventually(async () => {
      const { items } = await cluster.api.get<V1PodList>(PODS);
      return items.length === 100 &&
        items.every((pod) => pod.status?.containerStatuses?.[0]?.state?.terminated?.exitCode === 3);
    }, { intervalMs: 250, what: "100 pods to end" });
  },
});

Deno.test({
  name: "two kits run side by side and leave no process, mount or folder",
  ignore: !await needs("mosquitto", "s3", "node"),
  async fn() {
    const dirs: string[] = [];
    {
      await using one = await startKit();
      await using two = await startKit();
      dirs.push(one.cluster.dir, two.cluster.dir);
      await Promise.all([one, two].map(async ({ cluster }, index) => {
        await createJob(cluster, "same-name", `echo kit ${index}; sleep 600`);
        const pod = await eventually(async () => {
          const seen = await podOf(cluster, "same-name");
          return seen.status?.phase === "Running" && seen;
        });
        const log = () => cluster.api.text(`${PODS}/${pod.metadata!.name}/log`);
        await eventually(async () => await log() === `kit ${index}\n`);
      }));
    }
    for (const dir of dirs) deepEqual(leftovers(dir), []);
  },
});

Deno.test({
  name: "the bridge of a killed engine goes with its folder",
  ignore: !await needs("docker"),
  async fn() {
    const port = freePort();
    const [name, address] = [`mjl-${port}`, subnetOf(port).replace("/26", "")];
    const dir = await scratchFolder("bridge");
    await ownBridge(dir, address);
    await run("ip", ["link", "add", name, "type", "bridge"]);
    await run("ip", ["address", "add", `${address}/26`, "dev", name]);
    await removeFolder(dir);
    await rejects(run("ip", ["link", "show", name]), /does not exist/);
  },
});

Deno.test({
  name: "sweep() clears away what a killed test run left",
  ignore: !await needs("node"),
  async fn() {
    const script = `import { startCluster } from ${JSON.stringify(import.meta.resolve("./cluster.ts"))};
      const cluster = await startCluster({ node: "real" });
      await cluster.api.create("${PODS}", ${JSON.stringify(podObject("left", "sleep 600"))});
      for (;;) {
        const pod = await cluster.api.get("${PODS}/left");
        if (pod.status?.phase === "Running") break;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      console.log(cluster.dir);
      await new Promise((resolve) => setTimeout(resolve, 600_000));`;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["eval", "--quiet", `--config=${new URL("../../deno.json", import.meta.url).pathname}`, script],
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const reader = child.stdout.getReader();
    const dir = new TextDecoder().decode((await reader.read()).value).trim();
    ok(leftovers(dir).length > 5, "the child's cluster runs");
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
    await sweep();
    // Another test file that starts at this moment may be the one that clears it away.
    await eventually(() => leftovers(dir).length === 0, { what: () => `${leftovers(dir)} to go` });
  },
});

const ROLE = `
apiVersion: v1
kind: ServiceAccount
metadata: { name: ignored }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: { name: jobs-reader }
rules:
  - { apiGroups: [batch], resources: [jobs], verbs: [list] }
`;

function podObject(name: string, script: string, limits: Record<string, string> = {}) {
  const container = { name: "main", image: BUSYBOX_IMAGE, command: ["sh", "-c", script], resources: { limits } };
  return { metadata: { name }, spec: { restartPolicy: "Never", containers: [container] } };
}

async function createJob(cluster: TestCluster, name: string, script: string, limits?: Record<string, string>) {
  const { spec } = podObject(name, script, limits);
  await cluster.api.create(JOBS, { metadata: { name }, spec: { backoffLimit: 0, template: { spec } } });
}

async function jobEnd(cluster: TestCluster, name: string, condition: "Complete" | "Failed"): Promise<void> {
  await eventually(async () => {
    const { status } = await cluster.api.get<V1Job>(`${JOBS}/${name}`);
    return status?.conditions?.some(({ type, status }) => type === condition && status === "True");
  }, {
    what: async () => `Job ${name} to be ${condition}: ${JSON.stringify(await podOf(cluster, name))}`,
  });
}

async function podOf(cluster: TestCluster, job: string): Promise<V1Pod> {
  const { items } = await cluster.api.get<V1PodList>(`${PODS}?labelSelector=job-name%3D${job}`);
  const [pod] = items;
  if (pod === undefined) throw new Error(`Job ${job} has no pod yet`);
  return pod;
}

/** A client that authenticates as the kubeconfig says, exec plugins included. */
async function apiOf(kubeconfig: string): Promise<KubeApi> {
  const config = new KubeConfig();
  config.loadFromFile(kubeconfig);
  const { server, caFile } = config.getCurrentCluster()!;
  const options: { headers: Record<string, string> } = { headers: {} };
  await config.applyToHTTPSOptions(options);
  const token = options.headers.Authorization?.replace("Bearer ", "");
  return new KubeApi(server, Deno.readTextFileSync(caFile!), token);
}

/** What still shows that a cluster was in this folder: processes that name it, shims, mounts, the folder itself. */
function leftovers(dir: string): string[] {
  const found = findShims(dir).map((pid) => `shim ${pid}`);
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === Deno.pid) continue;
    try {
      if (Deno.readTextFileSync(`/proc/${name}/cmdline`).includes(dir)) found.push(`process ${name}`);
    } catch { /* ended while we looked */ }
  }
  const mounts = Deno.readTextFileSync("/proc/self/mounts").split("\n").filter((line) => line.includes(dir));
  found.push(...mounts.map((line) => `mount ${line}`));
  try {
    Deno.statSync(dir);
    found.push(`folder ${dir}`);
  } catch { /* gone, as it should be */ }
  return found;
}

async function firstMessage(client: mqtt.MqttClient, topic: string): Promise<string> {
  const message = new Promise<string>((resolve) => client.on("message", (_, payload) => resolve(payload.toString())));
  await client.subscribeAsync(topic, { qos: 1 });
  const text = await message;
  await client.endAsync();
  return text;
}

class EchoServer implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly port = (this.#listener.addr as Deno.NetAddr).port;
  heard = "";
  readonly #running = this.#run();

  async #run(): Promise<void> {
    const all: Promise<void>[] = [];
    for await (const connection of this.#listener) {
      all.push(this.#echo(connection));
    }
    await Promise.all(all);
  }

  async #echo(connection: Deno.Conn): Promise<void> {
    const buffer = new Uint8Array(1024);
    try {
      for (let count; (count = await connection.read(buffer)) !== null;) {
        this.heard += new TextDecoder().decode(buffer.subarray(0, count));
        await connection.write(buffer.subarray(0, count));
      }
    } catch { /* cut */ }
    try {
      connection.close();
    } catch { /* closed */ }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#running;
  }
}

async function ask(connection: Deno.Conn, text: string): Promise<string> {
  await connection.write(new TextEncoder().encode(text));
  return await readOrEnd(connection);
}

/** The next bytes as text; nothing when the other side has ended the connection. */
async function readOrEnd(connection: Deno.Conn): Promise<string> {
  const buffer = new Uint8Array(1024);
  try {
    const count = await connection.read(buffer);
    return new TextDecoder().decode(buffer.subarray(0, count ?? 0));
  } catch {
    return "";
  }
}
