/** k8s.ts on a real API server with a real node. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import type { V1Job } from "@kubernetes/client-node";
import { connectKubernetes, type KubernetesCluster, type KubernetesOptions } from "../k8s.ts";
import { type LeaseRecord, RefusedError, UnavailableError } from "../ports.ts";
import { clusterConformance, Seen } from "./conformance/cluster.ts";
import { BUSYBOX_IMAGE, startCluster, type TestCluster } from "./harness/cluster.ts";
import { KubeApi } from "./harness/kube_api.ts";
import { needs } from "./harness/needs.ts";
import { buildJob } from "../k8s/manifest.ts";
import { HttpProxy, type ProxiedRequest } from "./harness/proxy.ts";
import { endingLater } from "./harness/table.ts";
import { eventually } from "./harness/wait.ts";

const ready = await needs("cluster", "node");
const ROLE = await Deno.readTextFile(new URL("../deploy/role.yaml", import.meta.url));

function connect(kubeconfig: string, options: Partial<KubernetesOptions> = {}): Promise<KubernetesCluster> {
  return connectKubernetes({ kubeconfig, instance: "test", qps: 0, burst: 0, ttlSeconds: 600, ...options });
}

clusterConformance("Kubernetes, with no rights but those of deploy/role.yaml", async () => {
  const kubernetes = await startCluster({ node: "real" });
  const kubeconfig = await kubernetes.serviceAccountKubeconfig({ roleYaml: ROLE, namespace: "lab" });
  await kubernetes.api.patch("/api/v1/namespaces/lab", { metadata: { labels: { lab: "yes" } } });
  await defaultAccount(kubernetes, "lab");
  const cluster = await connect(kubeconfig);
  return {
    cluster,
    image: BUSYBOX_IMAGE,
    async [Symbol.asyncDispose]() {
      cluster[Symbol.dispose]();
      await kubernetes.stop();
    },
  };
}, { ignore: !ready });

function defaultAccount({ api }: TestCluster, namespace: string): Promise<unknown> {
  return eventually(() => api.find(`/api/v1/namespaces/${namespace}/serviceaccounts/default`));
}

async function namespace(kubernetes: TestCluster, name: string): Promise<string> {
  await kubernetes.api.create("/api/v1/namespaces", { metadata: { name } });
  await defaultAccount(kubernetes, name);
  return name;
}

let proxies = 0;

/** With a certificate of the cluster's authority, for client-node sends no token over plain http. */
async function proxyFor({ server: target, authority }: TestCluster): Promise<HttpProxy> {
  const certificate = await authority.server(`proxy-${++proxies}`, ["127.0.0.1"]);
  return await HttpProxy.start({ target, targetCa: authority.ca, certificate });
}

function isWatchOf(kind: string, { path }: ProxiedRequest): boolean {
  return path.includes(`/${kind}?`) && path.includes("watch=true");
}

interface Rule {
  readonly apiGroups: string[];
  readonly resources: string[];
  readonly resourceNames?: string[];
  readonly verbs: string[];
}

/** What the API server says that the account may do there, beside what everybody may ask about himself. */
async function rightsOf(kubernetes: TestCluster, kubeconfig: string, namespace: string): Promise<string[]> {
  const { users } = JSON.parse(await Deno.readTextFile(kubeconfig));
  using api = new KubeApi(kubernetes.server, kubernetes.authority.ca, users[0].user.token);
  const path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
  const review = await api.create<{ status: { resourceRules: Rule[] } }>(path, { spec: { namespace } });
  return review.status.resourceRules
    .filter(({ resources }) => !resources.every((resource) => resource.startsWith("selfsubject")))
    .flatMap(({ apiGroups, resources, resourceNames = [], verbs }) =>
      resources.map((resource) =>
        `${[`${apiGroups}/${resource}`, ...resourceNames].join(" ")}: ${verbs.toSorted().join(" ")}`
      )
    )
    .sort();
}

const JOBS = "/apis/batch/v1/namespaces/default/jobs";

interface Manifest {
  metadata: {
    name: string;
    namespace: string;
    uid?: string;
    labels: Record<string, string>;
    annotations: Record<string, string>;
    deletionTimestamp?: string;
    ownerReferences?: unknown[];
  };
  spec: {
    selector?: unknown;
    suspend?: boolean;
    template: {
      metadata: { labels: Record<string, string> };
      spec: { containers: { name: string; env: { name: string; value: string }[] }[] };
    };
  };
}

/** The end of a name, and what is wrong with it in a Job that is else like one of the service's. */
const FOREIGN: readonly (readonly [end: string, change: (job: Manifest, own: Manifest) => void])[] = [
  ["aaaa", ({ metadata }) => metadata.annotations["mqtt-job-listener/job-name"] = "evil/#"],
  ["bbbb", ({ metadata }) => metadata.annotations["mqtt-job-listener/job-name"] = "n".repeat(100_000)],
  ["cccc", ({ metadata }) => delete metadata.annotations["mqtt-job-listener/job-name"]],
  ["dddd", ({ metadata }) => metadata.annotations["mqtt-job-listener/job-name"] = "Other Row"],
  ["eeee", ({ metadata }) => metadata.annotations["mqtt-job-listener/topic"] = "lab/#"],
  ["ffff", ({ metadata }) => metadata.labels["mqtt-job-listener/run"] = "test-row-aaaaaaaaaaaa"],
  ["gggg", ({ metadata }) => metadata.labels["mqtt-job-listener/row"] = "other"],
  ["hhhh", ({ metadata }) => delete metadata.labels["mqtt-job-listener/message"]],
  ["iiii", ({ spec }) => spec.template.spec.containers[0]!.name = "else"],
  ["jjjj", ({ spec }) => {
    spec.template.spec.containers[0]!.env.push({ name: "MQTT_PAYLOAD_BASE64", value: "not base64!" });
  }],
  ["kkkk", ({ spec }) => spec.template.spec.containers[0]!.env.push({ name: "X", value: "x".repeat(300_000) })],
  ["llll", ({ metadata }, { metadata: { name, uid } }) => {
    metadata.ownerReferences = [{ apiVersion: "batch/v1", kind: "Job", name, uid }];
  }],
  ["-x", () => {}],
  ["0000", () => {}],
];

type Case = (kubernetes: TestCluster, cluster: KubernetesCluster) => Promise<void>;

const CASES: readonly (readonly [string, Case])[] = [
  ["a quota that is full is for now", async (kubernetes) => {
    const name = await namespace(kubernetes, "quota");
    await kubernetes.api.create(`/api/v1/namespaces/${name}/resourcequotas`, {
      metadata: { name: "none" },
      spec: { hard: { "count/jobs.batch": "0" } },
    });
    using cluster = await connect(kubernetes.kubeconfig, { namespace: name });
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    await eventually(() =>
      rejects(
        cluster.create(seen.spec("true")),
        (error) => error instanceof UnavailableError && /exceeded quota: none/.test(error.message),
      ).then(() => true)
    );
  }],

  ["a missing right is for now, for somebody will give it, and said with what to do", async (kubernetes) => {
    const roleYaml = ROLE.replace("[create, delete, get, list, patch, watch]", "[get, list, watch]");
    const kubeconfig = await kubernetes.serviceAccountKubeconfig({ roleYaml, namespace: "norights" });
    using cluster = await connect(kubeconfig);
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    await rejects(
      cluster.create(seen.spec("true")),
      (error) =>
        error instanceof UnavailableError && /role\.yaml/.test(error.advice!) &&
        /cannot create resource "jobs".*role\.yaml/s.test(error.message),
    );
  }],

  ["deploy/role.yaml gives the rights that are documented, and no more", async (kubernetes) => {
    const kubeconfig = await kubernetes.serviceAccountKubeconfig({ roleYaml: ROLE, namespace: "rights" });
    deepEqual(await rightsOf(kubernetes, kubeconfig, "rights"), [
      "/events: list watch",
      "/pods/log: get",
      "/pods: list watch",
      "batch/jobs: create delete get list patch watch",
      "coordination.k8s.io/leases mqtt-job-listener: get update",
      "coordination.k8s.io/leases: create",
      "metrics.k8s.io/pods: list",
    ]);
  }],

  ["a create whose answer is lost is for now, and the next one finds the run", async (kubernetes) => {
    await using proxy = await proxyFor(kubernetes);
    using cluster = await connect(await kubernetes.tokenKubeconfig(proxy.url));
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    await eventually(() => seen.synced > 0);
    const spec = seen.spec("exec sleep 60");
    proxy.hook = ({ method }) => method === "POST" ? "swallow" : "pass";
    await rejects(cluster.create(spec), UnavailableError);
    proxy.hook = () => "pass";
    equal(await cluster.create(spec), "exists");
    await cluster.delete(spec.runName);
  }],

  ["a run costs three calls", async (kubernetes) => {
    await using proxy = await proxyFor(kubernetes);
    using cluster = await connect(await kubernetes.tokenKubeconfig(proxy.url));
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    await eventually(() => seen.synced > 0);
    const before = () => proxy.requests.filter((request) => !request.includes("watch=true")).length;
    const from = before();
    const runName = await seen.run("echo x");
    await seen.ended(runName);
    const { podName } = await seen.pod(runName);
    equal(await seen.log(podName), "x\n");
    await eventually(async () => (await cluster.events(runName, [podName])).length > 0);
    await cluster.delete(runName);
    equal(before() - from, 3);
  }],

  ["a namespace that is not there is for now, and named", async (kubernetes) => {
    using cluster = await connect(kubernetes.kubeconfig, { namespace: "nowhere" });
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    await rejects(
      cluster.create(seen.spec("true")),
      (error) => error instanceof UnavailableError && /"nowhere" not found.*set NAMESPACE/s.test(error.message),
    );
  }],

  ["a rule of the cluster that denies the Job is for good, with its words", async (kubernetes, cluster) => {
    const admission = "/apis/admissionregistration.k8s.io/v1";
    await kubernetes.api.create(`${admission}/validatingadmissionpolicies`, {
      metadata: { name: "no-latest" },
      spec: {
        matchConstraints: {
          resourceRules: [{ apiGroups: ["batch"], apiVersions: ["v1"], operations: ["CREATE"], resources: ["jobs"] }],
        },
        validations: [{
          expression: "object.spec.template.spec.containers.all(c, !c.image.endsWith(':latest'))",
          message: "images need a version",
          reason: "Forbidden",
        }],
      },
    });
    await kubernetes.api.create(`${admission}/validatingadmissionpolicybindings`, {
      metadata: { name: "no-latest" },
      spec: { policyName: "no-latest", validationActions: ["Deny"] },
    });
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    await eventually(() =>
      rejects(
        cluster.create(seen.spec("true", { row: { image: "a:latest" } }), { dryRun: true }),
        (error) => error instanceof RefusedError && /images need a version/.test(error.message),
      ).then(() => true)
    );
  }],

  ["what only looks like a run is left alone, named once, and touched by no call", async (kubernetes, cluster) => {
    await using own = new Seen(cluster, BUSYBOX_IMAGE);
    const runName = await own.run("exec sleep 60");
    const good = (await kubernetes.api.get<Manifest>(`${JOBS}/${runName}`))!;
    const told: string[] = [];
    const foreign = (await Promise.all(FOREIGN.map(async ([name, change]) => {
      const copy = structuredClone({ ...good, status: undefined });
      const { labels, annotations } = copy.metadata;
      copy.metadata = { name: `${runName.slice(0, -4)}${name}`, namespace: "default", labels, annotations };
      labels["mqtt-job-listener/run"] = copy.metadata.name;
      for (const made of ["controller-uid", "job-name"]) {
        delete copy.spec.template.metadata.labels[`batch.kubernetes.io/${made}`];
        delete copy.spec.template.metadata.labels[made];
      }
      delete copy.spec.selector;
      change(copy, good);
      const { metadata } = await kubernetes.api.create<Manifest>(JOBS, copy);
      return metadata.name;
    }))).sort();
    const stop = new AbortController();
    const jobs = new Set<string>();
    const pods = new Set<string>();
    const watching = cluster.watch({
      onJob: (job) => void jobs.add(job.runName),
      onPod: (pod) => void pods.add(pod.runName),
      onJobGone: (name) => void jobs.add(`gone ${name}`),
      onPodGone: () => {},
      onTrouble: (reason) => void told.push(reason),
      onForeign: (what) => void told.push(what),
      onSynced: () => {},
    }, stop.signal);
    await eventually(() =>
      told.filter((what) => what.startsWith("The Job ")).length >= foreign.length && jobs.size > 0
    );
    const last = await own.run("exec sleep 60");
    await eventually(() => jobs.has(last));
    deepEqual([...jobs].sort(), [runName, last].sort());
    deepEqual(foreign.filter((name) => pods.has(name)), []);
    const named = told.map((what) => /^The Job (\S+) in the namespace default has .* left alone: /.exec(what)?.[1]);
    deepEqual(named.filter((name) => name !== undefined).sort(), foreign);
    for (const name of foreign) {
      equal(await cluster.get(name), undefined);
      equal(await cluster.cancel(name, "Ada"), false);
      await cluster.delete(name);
      const there = await kubernetes.api.get<Manifest>(`${JOBS}/${name}`);
      deepEqual([there.metadata.annotations["mqtt-job-listener/cancelled-by"], there.metadata.deletionTimestamp], [
        undefined,
        undefined,
      ]);
    }
    // One that takes the name of a run keeps it from being made; that is told, not taken for the run.
    const spec = own.spec("true");
    const taken = structuredClone({ ...good, status: undefined });
    taken.metadata = { name: spec.runName, namespace: "default", labels: {}, annotations: {} };
    taken.spec = { template: { spec: { ...good.spec.template.spec } } } as Manifest["spec"];
    await kubernetes.api.create(JOBS, taken);
    await rejects(
      cluster.create(spec),
      (error) => error instanceof RefusedError && /not this service's/.test(error.message),
    );
    stop.abort();
    await watching;
    await Promise.all([...foreign, spec.runName].map((name) => kubernetes.api.delete(`${JOBS}/${name}`)));
    await Promise.all([cluster.delete(runName), cluster.delete(last)]);
  }],

  ["a run that was replaced by another of its name is not deleted in its place", async (kubernetes) => {
    using cluster = await connect(kubernetes.kubeconfig);
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    const spec = seen.spec("exec sleep 60");
    equal(await cluster.create(spec), "created");
    await eventually(() => seen.jobs.has(spec.runName));
    // The watch is blind from now on.
    await seen[Symbol.asyncDispose]();
    await kubernetes.api.delete(`${JOBS}/${spec.runName}`);
    await eventually(async () => await kubernetes.api.find(`${JOBS}/${spec.runName}`) === undefined);
    equal(await cluster.create(spec), "created");
    await cluster.delete(spec.runName);
    const { metadata } = await kubernetes.api.get<Manifest>(`${JOBS}/${spec.runName}`);
    equal(metadata.deletionTimestamp, undefined);
    await kubernetes.api.delete(`${JOBS}/${spec.runName}`);
  }],

  ["no name leads out of the namespace's Jobs", async (kubernetes) => {
    const other = await namespace(kubernetes, "other");
    using elsewhere = await connect(kubernetes.kubeconfig, { namespace: other });
    await using seen = new Seen(elsewhere, BUSYBOX_IMAGE);
    const victim = await seen.run("exec sleep 60");
    await using proxy = await proxyFor(kubernetes);
    using cluster = await connect(await kubernetes.tokenKubeconfig(proxy.url));
    const names = [
      `../../${other}/jobs/${victim}`,
      `..%2F..%2F${other}%2Fjobs%2F${victim}`,
      `x/../../../${other}/jobs/${victim}`,
      "..",
      ".",
      "",
      "a?dryRun=All",
      "a#b",
      "A",
      "a".repeat(64),
    ];
    for (const name of names) {
      equal(await cluster.cancel(name, "Eve"), false);
      equal(await cluster.get(name), undefined);
      await cluster.delete(name);
      equal(await cluster.logs(`../../../${name}`, "main", { follow: false, timestamps: false }), undefined);
    }
    deepEqual(proxy.requests, []);
    equal((await elsewhere.get(victim))?.cancelledBy, undefined);
    await elsewhere.delete(victim);
  }],

  ["an image and a quantity that cannot be are for good", async (_kubernetes, cluster) => {
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    await rejects(cluster.create(seen.spec("true", { row: { image: "" } })), RefusedError);
    await rejects(cluster.create(seen.spec("true", { row: { cpuRequest: "lots" } })), RefusedError);
  }],

  ["429, 503, no answer and no server are for now", async (kubernetes) => {
    await using proxy = await proxyFor(kubernetes);
    const kubeconfig = await kubernetes.tokenKubeconfig(proxy.url);
    using cluster = await connect(kubeconfig);
    proxy.hook = () => ({ status: 429, headers: { "retry-after": "7" }, body: "slow down" });
    await rejects(cluster.get("x"), (error) => error instanceof UnavailableError && error.retryAfterMs === 7_000);
    proxy.hook = () => ({ status: 503, body: "<html>" });
    await rejects(cluster.get("x"), UnavailableError);
    using impatient = await connect(kubeconfig, { timeoutMs: 300 });
    proxy.hook = () => ({ delayMs: 600 });
    await rejects(impatient.get("x"), (error) => error instanceof UnavailableError && /0\.3 s/.test(error.message));
    // Nobody listens on port 1.
    using nobody = await connect(await kubernetes.tokenKubeconfig("https://127.0.0.1:1"));
    await rejects(nobody.get("x"), UnavailableError);
  }],

  ["a 410 in the stream makes the watch list again, and nothing is lost", async (kubernetes) => {
    await using proxy = await proxyFor(kubernetes);
    const expired = JSON.stringify({
      type: "ERROR",
      object: { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" },
    });
    let told = 0;
    proxy.hook = (request) => isWatchOf("jobs", request) && told++ < 1 ? { status: 200, body: expired + "\n" } : "pass";
    using cluster = await connect(await kubernetes.tokenKubeconfig(proxy.url));
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    // The second watch begins where the second list ended.
    await eventually(() => told >= 2 && seen.synced >= 1);
    deepEqual(seen.troubles, []);
    const runName = await seen.run("exec sleep 60");
    await eventually(() => seen.jobs.has(runName));
    await cluster.delete(runName);
    await eventually(() => seen.gone.has(runName));
  }],

  ["a deletion that the watch has missed is found by the next list", async (kubernetes, direct) => {
    await using proxy = await proxyFor(kubernetes);
    using cluster = await connect(await kubernetes.tokenKubeconfig(proxy.url), { watch: { maxBackoffMs: 100 } });
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    const runName = await seen.run("exec sleep 60");
    await eventually(() => seen.jobs.has(runName));
    proxy.hook = ({ path }) => path.includes("watch=true") ? { status: 410, body: "gone" } : { status: 503 };
    proxy.cut();
    await direct.delete(runName);
    await eventually(async () => await direct.get(runName) === undefined);
    await eventually(() => seen.troubles.length > 0);
    proxy.hook = () => "pass";
    await eventually(() => seen.gone.has(runName));
    equal(seen.gone.get(runName), undefined);
  }],

  ["a watch that falls silent is opened anew", async (kubernetes) => {
    await using proxy = await proxyFor(kubernetes);
    proxy.hook = (request) => isWatchOf("jobs", request) ? { silentAfterBytes: 0 } : "pass";
    using cluster = await connect(await kubernetes.tokenKubeconfig(proxy.url), { watch: { silenceMs: 1_000 } });
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    await eventually(() => seen.synced > 0);
    const runName = await seen.run("exec sleep 60");
    proxy.hook = () => "pass";
    await eventually(() => seen.jobs.has(runName), { what: "the run to be seen" });
    await cluster.delete(runName);
  }],

  ["a client certificate is enough", async (kubernetes) => {
    using cluster = await connect(await kubernetes.certificateKubeconfig());
    equal(await cluster.get("x"), undefined);
    ok(await cluster.logs("x", "main", { follow: true, timestamps: false }) === undefined);
  }],

  ["a token of a command is renewed after a 401", async (kubernetes) => {
    const { kubeconfig, callsFile, tokenFile } = await kubernetes.execKubeconfig();
    await Deno.writeTextFile(tokenFile, "stale");
    using cluster = await connect(kubeconfig);
    await rejects(cluster.get("x"), (error) => error instanceof UnavailableError && /401/.test(error.message));
    await Deno.writeTextFile(tokenFile, kubernetes.token);
    equal(await cluster.get("x"), undefined);
    const calls = (await Deno.readTextFile(callsFile)).trim().split("\n").length;
    equal(await cluster.get("y"), undefined);
    equal((await Deno.readTextFile(callsFile)).trim().split("\n").length, calls);
  }],

  ["a kubeconfig or context that is not there is named", async (kubernetes) => {
    await rejects(connect(`${kubernetes.dir}/nothing`), /Cannot read the kubeconfig .*nothing/);
    await rejects(connect(kubernetes.kubeconfig, { context: "other" }), /the context "other"/);
  }],

  ["with qps, calls wait for their turn", async (kubernetes) => {
    using cluster = await connect(kubernetes.kubeconfig, { qps: 20, burst: 1 });
    const from = performance.now();
    await Promise.all(Array.from({ length: 11 }, () => cluster.get("x")));
    // Real time is the subject: ten turns of 50 ms at least, however busy the machine is.
    ok(performance.now() - from >= 480);
  }],

  ["of two writers of a lease one wins", async (_kubernetes, cluster) => {
    const [lease, other] = [cluster.lease("leader"), cluster.lease("leader")];
    equal(await lease.read(), undefined);
    const next: LeaseRecord = {
      holder: "a",
      durationSeconds: 15,
      renewedAt: new Date("2026-01-02T03:04:05.678Z"),
      transitions: 0,
      version: "",
    };
    const wrote = await Promise.all([lease.write(next), other.write({ ...next, holder: "b" })]);
    equal(wrote.filter((record) => record !== undefined).length, 1);
    const read = (await lease.read())!;
    deepEqual([read.durationSeconds, read.renewedAt, read.transitions], [15, next.renewedAt, 0]);
    const written = (await lease.write({ ...read, holder: "c", transitions: 1 }))!;
    equal(await other.write({ ...read, holder: "d" }), undefined);
    deepEqual(await other.read(), written);
    // The version that a write gives is enough for the next one.
    ok(await lease.write({ ...written, holder: "e" }));
    equal((await other.read())!.stranger, undefined);
  }],

  ["the lease of another service is known as that", async (kubernetes, cluster) => {
    const next: LeaseRecord = { holder: "a", durationSeconds: 15, renewedAt: new Date(), transitions: 0, version: "" };
    await cluster.lease("shared").write(next);
    using other = await connect(kubernetes.kubeconfig, { instance: "other" });
    match(
      (await other.lease("shared").read())!.stranger!,
      /Lease shared is that of another service, "test"; .*LEASE_NAME/,
    );
  }],

  ["running out of memory, a wrong image and a pod too large are told as what they are", async (kubernetes) => {
    using cluster = await connect(kubernetes.kubeconfig);
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    const hungry = await seen.run(endingLater("head -c 200000000 /dev/zero | tail"), { row: { memoryLimit: "32Mi" } });
    const image = await seen.run("true", { row: { image: "127.0.0.1:9/missing:1" } });
    const large = await seen.run("true", { row: { memoryRequest: "900Ti" } });
    const gpus = await seen.run("true", { row: { gpu: 3 } });
    const memory = await seen.outcome(hungry);
    equal(memory.reason, "OOMKilled");
    match(memory.message, /32Mi/);
    equal((await seen.outcome(image)).reason, "ImagePull");
    match((await seen.outcome(large)).message, /900Ti of free memory/);
    match((await seen.outcome(gpus)).message, /3 free GPUs/);
    const [pod] = seen.podsOf(large);
    const events = await eventually(async () => {
      const found = await cluster.events(large, [pod!.podName]);
      return found.length > 0 && found;
    });
    match(events[0]!.message, /Insufficient memory/);
    deepEqual([events[0]!.type, events[0]!.reason], ["Warning", "FailedScheduling"]);
    equal(events[0]!.object, `Pod/${pod!.podName}`);
    // It has not started, so there is no log now.
    await rejects(cluster.logs(pod!.podName, "main", { follow: true, timestamps: false }), UnavailableError);
    await Promise.all([hungry, image, large, gpus].map((name) => cluster.delete(name)));
  }],

  [
    "a pod that a person deletes has not failed by the code that its program ends with then",
    async (kubernetes, cluster) => {
      await using seen = new Seen(cluster, BUSYBOX_IMAGE);
      const runName = await seen.run("trap 'exit 3' TERM; while :; do sleep 0.1; done");
      const { podName } = await seen.running(runName);
      const said = seen.log(podName);
      await kubernetes.api.delete(`/api/v1/namespaces/default/pods/${podName}`);
      equal((await seen.outcome(runName)).reason, "PodDeleted");
      await said;
      await cluster.delete(runName);
    },
  ],

  [
    "why a run waits is said: suspension, gates, init containers, secrets, claims, other containers",
    async (kubernetes, cluster) => {
      await using seen = new Seen(cluster, BUSYBOX_IMAGE);
      /** A run whose Job somebody else's rules have changed on its way. */
      const run = async (script: string, change: (job: V1Job) => void) => {
        const spec = seen.spec(script);
        const job = buildJob(spec, { namespace: "default", instance: "test", ttlSecondsAfterFinished: 600 });
        change(job);
        await kubernetes.api.create(JOBS, job);
        return spec.runName;
      };
      const template = (job: V1Job) => job.spec!.template.spec!;
      const busybox = (name: string, script: string) => ({ name, image: BUSYBOX_IMAGE, command: ["sh", "-c", script] });
      const cases: [change: (job: V1Job) => void, words: RegExp][] = [
        [({ spec }) => spec!.suspend = true, /^Suspended: somebody has set `suspend`/],
        [(job) => {
          job.spec!.suspend = true;
          job.metadata!.labels!["kueue.x-k8s.io/queue-name"] = "lab";
        }, /^Waits in queue "lab" for its turn/],
        [
          (job) => template(job).schedulingGates = [{ name: "example.com/wait" }],
          /scheduling gate "example.com\/wait"/,
        ],
        [
          (job) => template(job).initContainers = [busybox("fetch", "sleep 600")],
          /^Its init container "fetch" is running$/,
        ],
        [(job) => {
          template(job).containers[0]!.envFrom = [{ secretRef: { name: "lab-s3" } }];
        }, /^Its container cannot be started: the secret "lab-s3" does not exist in its namespace/],
        [(job) => {
          template(job).volumes = [{ name: "data", persistentVolumeClaim: { claimName: "data" } }];
          template(job).containers[0]!.volumeMounts = [{ name: "data", mountPath: "/data" }];
        }, /the claim "data" does not exist in its namespace/],
        [(job) => {
          template(job).containers.push(busybox("proxy", "sleep 600"));
          template(job).containers[0]!.command = ["true"];
        }, /^Its program has ended \(exit code 0\), but its container "proxy" goes on and holds the pod$/],
      ];
      const names = await Promise.all(cases.map(([change]) => run("sleep 600", change)));
      for (const [at, [, words]] of cases.entries()) {
        await eventually(() => words.test(seen.detail(names[at]!)), {
          what: () => `${words}: ${seen.detail(names[at]!)}`,
        });
      }
      // A mount that fails is told by events only.
      const mount = await run("true", (job) => {
        template(job).volumes = [{ name: "s", secret: { secretName: "lab-s3" } }];
        template(job).containers[0]!.volumeMounts = [{ name: "s", mountPath: "/s" }];
      });
      const said = await eventually(async () => {
        const [pod] = seen.podsOf(mount);
        const events = pod ? await cluster.events(mount, [pod.podName]) : [];
        return events.find(({ reason }) => reason === "FailedMount");
      });
      const trouble = { message: said.message, since: new Date() };
      match(
        seen.detail(mount, trouble),
        /^Its pod cannot be prepared: the secret "lab-s3" does not exist in its namespace/,
      );
      // An init container that fails is why the run has.
      const failing = await run("true", (job) => template(job).initContainers = [busybox("fetch", "exit 4")]);
      match((await seen.outcome(failing)).message, /^Its init container "fetch" ended with exit code 4/);
      await Promise.all([...names, mount, failing].map((name) => cluster.delete(name)));
    },
  ],

  ["two services in one namespace do not see each other's runs", async (kubernetes) => {
    using first = await connect(kubernetes.kubeconfig, { instance: "first" });
    using second = await connect(kubernetes.kubeconfig, { instance: "second" });
    await using seen = new Seen(second, BUSYBOX_IMAGE);
    await using own = new Seen(first, BUSYBOX_IMAGE);
    const runName = await own.run("exec sleep 60");
    const last = await seen.run("exec sleep 60");
    await eventually(() => seen.jobs.has(last) && own.jobs.has(runName));
    deepEqual([...seen.jobs.keys()], [last]);
    await Promise.all([first.delete(runName), second.delete(last)]);
  }],
];

Deno.test({
  name: "KubernetesCluster",
  ignore: !ready,
  async fn(t) {
    await using kubernetes = await startCluster({ node: "real", gpus: 2 });
    using cluster = await connect(kubernetes.kubeconfig);
    for (const [title, body] of CASES) await t.step(title, async () => await body(kubernetes, cluster));
  },
});
