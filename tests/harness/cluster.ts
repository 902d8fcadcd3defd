/**
 * A throwaway Kubernetes cluster on loopback: etcd, API server, controller manager and scheduler of one program (see
 * tests/cluster), with real nodes (containerd and kubelet), fake ones (kwok), or none. Starts and ends it and makes
 * credentials for it; knows nothing of the service under test.
 */
import type { V1Node } from "@kubernetes/client-node";
import { parseAllDocuments } from "yaml";
import { clusterBinaryPath, commandPath, isFile, toolPath } from "./cache.ts";
import { type Authority, createAuthority } from "./certs.ts";
import { removeFolder, scratchFolder } from "./folder.ts";
import { KubeApi } from "./kube_api.ts";
import { certificateUser, execUser, type KubeUser, tokenUser, writeKubeconfig } from "./kubeconfig.ts";
import { type FakePods, kwokStages } from "./kwok.ts";
import { BUSYBOX_IMAGE, endNode, type Runtime, startKubelet, startRuntime } from "./node.ts";
import { freePort } from "./ports.ts";
import { type ManagedProcess, run, spawn } from "./process.ts";
import { eventually } from "./wait.ts";

export { BUSYBOX_IMAGE } from "./node.ts";

export interface ClusterOptions {
  /** `real`: Jobs run in containers (root only); `kwok`: pods only pretend to run; `none`: pods stay pending. */
  node?: "real" | "kwok" | "none";
  /** Number of nodes, named node1, node2, …; default 1. */
  nodeCount?: number;
  /** GPUs that each node pretends to have. Default 0. */
  gpus?: number;
  /** Node label `nvidia.com/gpu.product`. */
  gpuProduct?: string;
  /**
   * A dead node is noticed in about 20 s instead of 40, and its pods are evicted 1 s later instead of 300; one of a machine
   * that stalls for a while is not dead. Kubernetes evicts nothing when all nodes are dead, so such a test needs two.
   */
  quickEviction?: boolean;
  /** What pods on kwok's nodes do. Default: succeed at once. */
  fakePods?: FakePods;
  apiServerFlags?: readonly string[];
  /** Further names and addresses in the API server's certificate. */
  serverNames?: readonly string[];
  /** Other API servers may stand behind this one, see metrics_server.ts. */
  aggregation?: boolean;
  controllerFlags?: readonly string[];
  schedulerFlags?: readonly string[];
}

export interface ServiceAccountOptions {
  /** Text of one or more YAML documents; the Roles and ClusterRoles in it are created and bound, the rest is left. */
  roleYaml: string;
  namespace?: string;
  /** Name of the ServiceAccount. Default `tester`. */
  name?: string;
  /** At least 600, which is the default of this helper. */
  tokenSeconds?: number;
  /** Another URL of the API server, such as a proxy's whose certificate is of this cluster's authority. */
  server?: string;
}

interface RealNode {
  readonly runtime: Runtime;
  readonly kubelet: ManagedProcess;
}

/** Boots a cluster; takes a few seconds. Needs `needs("cluster")`, for real nodes `needs("node")`. */
export async function startCluster(options: ClusterOptions = {}): Promise<TestCluster> {
  const binary = await clusterBinaryPath();
  if (!isFile(binary)) throw new Error(`Cannot start a cluster: ${binary} does not exist; run tests/install.sh`);
  const dir = await scratchFolder("cluster");
  const cluster = new TestCluster(dir, binary, options);
  try {
    await cluster.boot();
    return cluster;
  } catch (error) {
    await cluster.stop();
    throw error;
  }
}

/** A running cluster. Disposing it ends it and removes its folder. */
export class TestCluster implements AsyncDisposable {
  /** URL of the API server. */
  readonly server: string;
  /** Bearer token of a cluster administrator. */
  readonly token = crypto.randomUUID();
  /** Path of an administrator's kubeconfig. */
  readonly kubeconfig: string;
  /** Logs of all parts are here, as `{part}.log`. */
  readonly dir: string;
  readonly port: number = freePort();
  readonly #binary: string;
  readonly #options: ClusterOptions;
  readonly #etcdPort = freePort();
  readonly #processes = new Map<string, ManagedProcess>();
  readonly #nodes = new Map<string, RealNode | "kwok">();
  /** Started, but not yet with a kubelet. */
  readonly #runtimes = new Map<string, Runtime>();
  #authority: Authority | undefined;
  #api: KubeApi | undefined;
  #serial = 0;

  /** Use startCluster. */
  constructor(dir: string, binary: string, options: ClusterOptions) {
    this.dir = dir;
    this.#binary = binary;
    this.#options = options;
    this.server = `https://127.0.0.1:${this.port}`;
    this.kubeconfig = `${dir}/kubeconfig`;
  }

  /** An administrator's client. */
  get api(): KubeApi {
    return this.#api ?? fail("the cluster has not been started");
  }

  /** The authority of the API server and of client certificates. */
  get authority(): Authority {
    return this.#authority ?? fail("the cluster has not been started");
  }

  /** The API server's process, to freeze it (`freeze()`) or read its log. */
  get apiServer(): ManagedProcess {
    return this.#processes.get("kube-apiserver") ?? fail("the API server is stopped");
  }

  /** Ids of the API server's and etcd's processes. */
  get controlPlanePids(): number[] {
    return ["kube-apiserver", "etcd"].flatMap((name) => this.#processes.get(name)?.pid ?? []);
  }

  /** Names of the nodes that were added and not killed. */
  get nodes(): string[] {
    return [...this.#nodes.keys()];
  }

  /** Called by startCluster. */
  async boot(): Promise<void> {
    const { node = "none", nodeCount = 1 } = this.#options;
    const names = node === "none" ? [] : Array.from({ length: nodeCount }, (_, index) => `node${index + 1}`);
    // The slow parts of a node do not need the control plane.
    const runtimes = node === "real" ? names.map((name) => this.#startRuntime(name)) : [];
    // Both are waited for even when one fails, so that nothing starts while stop() cleans up.
    const [control, ...started] = await Promise.allSettled([this.#bootControlPlane(), ...runtimes]);
    for (const result of [control!, ...started]) if (result.status === "rejected") throw result.reason;
    if (node === "kwok") await this.#startKwok();
    await Promise.all([this.#defaultAccount(), ...names.map((name) => this.addNode({ name }))]);
  }

  /** Adds a node of the kind the cluster was started with (`real` when it has none) and waits until it is ready. */
  async addNode(options: { name?: string; gpus?: number; gpuProduct?: string } = {}): Promise<string> {
    const { name = `node${this.#nodes.size + 1}`, gpus = this.#options.gpus ?? 0 } = options;
    const gpuProduct = options.gpuProduct ?? this.#options.gpuProduct;
    if (this.#options.node === "kwok") await this.#addKwokNode(name);
    else await this.#addRealNode(name);
    await eventually(async () => isReady(await this.#node(name)), {
      timeoutMs: 120_000,
      what: async () => `node ${name} to be ready: ${JSON.stringify((await this.#node(name)).status?.conditions)}`,
    });
    if (gpus > 0) await this.setGpus(name, gpus, gpuProduct);
    return name;
  }

  /** Makes the node pretend to have `count` GPUs. The kubelet keeps what others put into its node's status. */
  async setGpus(node: string, count: number, product?: string): Promise<void> {
    const resources = { "nvidia.com/gpu": String(count) };
    const status = { capacity: resources, allocatable: resources };
    await this.api.patch(`/api/v1/nodes/${node}/status`, { status });
    if (product === undefined) return;
    await this.api.patch(`/api/v1/nodes/${node}`, { metadata: { labels: { "nvidia.com/gpu.product": product } } });
  }

  /** Gives the busybox of a real node another name too, so that rows can name the image that they would anywhere. */
  async nameBusybox(node: string, name: string): Promise<void> {
    const found = this.#nodes.get(node);
    if (found === undefined || found === "kwok") throw new Error(`Cannot name an image: ${node} is no real node`);
    const socket = `${found.runtime.nodeDir}/containerd.sock`;
    await run(commandPath("ctr")!, ["-a", socket, "-n", "k8s.io", "images", "tag", BUSYBOX_IMAGE, name]);
  }

  /** Ends a real node at once with all its containers, as a power cut would; its Node object stays, as in life. */
  async killNode(name: string): Promise<void> {
    const node = this.#nodes.get(name);
    if (node === undefined || node === "kwok") throw new Error(`Cannot kill node ${name}: it is no real node`);
    this.#nodes.delete(name);
    await endNode([node.kubelet, node.runtime.containerd], node.runtime.nodeDir);
  }

  /** Kills the API server; etcd and everything else goes on. */
  async stopApiServer(): Promise<void> {
    await this.apiServer.kill9();
    this.#processes.delete("kube-apiserver");
  }

  /** Starts the API server again, on the same port and with the same data. */
  async startApiServer(): Promise<void> {
    const quick = this.#options.quickEviction ?? false;
    await this.#spawn("kube-apiserver", [
      `--etcd-servers=http://127.0.0.1:${this.#etcdPort}`,
      `--secure-port=${this.port}`,
      "--bind-address=127.0.0.1",
      "--advertise-address=127.0.0.1",
      `--cert-dir=${this.dir}/certs`,
      `--tls-cert-file=${this.dir}/apiserver.crt`,
      `--tls-private-key-file=${this.dir}/apiserver.key`,
      `--client-ca-file=${this.authority.caFile}`,
      `--kubelet-client-certificate=${this.dir}/kubelet-client.crt`,
      `--kubelet-client-key=${this.dir}/kubelet-client.key`,
      "--kubelet-preferred-address-types=InternalIP",
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-account-key-file=${this.dir}/sa.pub`,
      `--service-account-signing-key-file=${this.dir}/sa.key`,
      `--token-auth-file=${this.dir}/tokens.csv`,
      "--authorization-mode=RBAC",
      "--service-cluster-ip-range=10.0.0.0/24",
      "--allow-privileged=true",
      ...quick ? ["--default-not-ready-toleration-seconds=1", "--default-unreachable-toleration-seconds=1"] : [],
      ...this.#options.aggregation ? this.#aggregationFlags() : [],
      ...this.#options.apiServerFlags ?? [],
    ], async () => await this.api.text("/readyz") === "ok");
  }

  /** https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/ */
  #aggregationFlags(): string[] {
    return [
      `--requestheader-client-ca-file=${this.authority.caFile}`,
      "--requestheader-allowed-names=kubelet-client",
      "--requestheader-username-headers=X-Remote-User",
      "--requestheader-group-headers=X-Remote-Group",
      "--requestheader-extra-headers-prefix=X-Remote-Extra-",
      `--proxy-client-cert-file=${this.dir}/kubelet-client.crt`,
      `--proxy-client-key-file=${this.dir}/kubelet-client.key`,
    ];
  }

  /** SIGKILL and a new start; resolves when it answers again. */
  async restartApiServer(): Promise<void> {
    await this.stopApiServer();
    await this.startApiServer();
  }

  /** An administrator's kubeconfig that calls the API server at another URL; see ServiceAccountOptions.server. */
  async tokenKubeconfig(server: string): Promise<string> {
    return await this.#writeKubeconfig(tokenUser(this.token), { server });
  }

  /** A kubeconfig with a real, bound ServiceAccount token that may do what the Roles allow and no more. */
  async serviceAccountKubeconfig(options: ServiceAccountOptions): Promise<string> {
    const { roleYaml, namespace = "default", name = "tester", tokenSeconds = 600 } = options;
    if (namespace !== "default" && await this.api.find(`/api/v1/namespaces/${namespace}`) === undefined) {
      await this.api.create("/api/v1/namespaces", { metadata: { name: namespace } });
    }
    const accounts = `/api/v1/namespaces/${namespace}/serviceaccounts`;
    if (await this.api.find(`${accounts}/${name}`) === undefined) {
      await this.api.create(accounts, { metadata: { name } });
    }
    await this.#bindRoles(roleYaml, namespace, name);
    const request = { spec: { expirationSeconds: tokenSeconds } };
    const { status } = await this.api.create<{ status: { token: string } }>(`${accounts}/${name}/token`, request);
    const { server = this.server } = options;
    return await this.#writeKubeconfig(tokenUser(status.token), { namespace, server });
  }

  /** A kubeconfig with a client certificate; by default of an administrator (group system:masters). */
  async certificateKubeconfig({ user = "tester", group = "system:masters" } = {}): Promise<string> {
    const certificate = await this.authority.client(`${user}-${++this.#serial}`, { organization: group });
    return await this.#writeKubeconfig(certificateUser(certificate));
  }

  /**
   * A kubeconfig whose token comes from a command (an exec plugin). The command writes one line to `callsFile` each
   * time; `tokenFile` holds the token it gives (an administrator's) and may be rewritten.
   */
  async execKubeconfig(): Promise<{ kubeconfig: string; callsFile: string; tokenFile: string }> {
    const base = `${this.dir}/exec-${++this.#serial}`;
    const [script, callsFile, tokenFile] = [`${base}.sh`, `${base}.calls`, `${base}.token`];
    await Deno.writeTextFile(tokenFile, this.token);
    await Deno.writeTextFile(callsFile, "");
    await Deno.writeTextFile(
      script,
      `#!/bin/sh
echo called >> "${callsFile}"
printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}' "$(cat "${tokenFile}")"
`,
      { mode: 0o755 },
    );
    return { kubeconfig: await this.#writeKubeconfig(execUser(script)), callsFile, tokenFile };
  }

  /** Ends all processes, containers and mounts, and removes the folder. Safe to call twice. */
  async stop(): Promise<void> {
    for (const node of this.#nodes.values()) {
      if (node !== "kwok") await endNode([node.kubelet, node.runtime.containerd], node.runtime.nodeDir);
    }
    for (const { containerd, nodeDir } of this.#runtimes.values()) await endNode([containerd], nodeDir);
    this.#nodes.clear();
    this.#runtimes.clear();
    // The API server before etcd: without etcd it hangs on its way out.
    for (const process of [...this.#processes.values()].reverse()) await process.kill9();
    this.#processes.clear();
    this.#api?.[Symbol.dispose]();
    this.#api = undefined;
    await removeFolder(this.dir).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #bootControlPlane(): Promise<void> {
    await this.#makeCredentials();
    const client = `http://127.0.0.1:${this.#etcdPort}`;
    const peer = `http://127.0.0.1:${freePort()}`;
    await this.#spawn("etcd", [
      `--data-dir=${this.dir}/etcd`,
      `--listen-client-urls=${client}`,
      `--advertise-client-urls=${client}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=default=${peer}`,
      "--unsafe-no-fsync",
      "--log-level=warn",
    ]);
    await this.startApiServer();
    const common = [`--kubeconfig=${this.kubeconfig}`, "--leader-elect=false", "--secure-port=0"];
    const quick = this.#options.quickEviction ?? false;
    await this.#spawn("kube-controller-manager", [
      ...common,
      `--service-account-private-key-file=${this.dir}/sa.key`,
      `--root-ca-file=${this.authority.caFile}`,
      ...quick ? ["--node-monitor-period=500ms", "--node-monitor-grace-period=20s"] : [],
      ...this.#options.controllerFlags ?? [],
    ]);
    await this.#spawn("kube-scheduler", [...common, ...this.#options.schedulerFlags ?? []]);
  }

  async #makeCredentials(): Promise<void> {
    const openssl = commandPath("openssl")!;
    this.#authority = await createAuthority(this.dir);
    await Promise.all([
      this.authority.server("apiserver", [
        ...["127.0.0.1", "localhost", "10.0.0.1", "kubernetes.default.svc"],
        ...this.#options.serverNames ?? [],
      ]),
      this.authority.client("kubelet-client", { organization: "system:masters" }),
      run(openssl, ["genrsa", "-out", `${this.dir}/sa.key`, "2048"]),
      Deno.writeTextFile(`${this.dir}/tokens.csv`, `${this.token},admin,admin,system:masters\n`),
    ]);
    await run(openssl, ["rsa", "-in", `${this.dir}/sa.key`, "-pubout", "-out", `${this.dir}/sa.pub`]);
    this.#api = new KubeApi(this.server, this.authority.ca, this.token);
    await writeKubeconfig(
      this.kubeconfig,
      { server: this.server, caFile: this.authority.caFile },
      tokenUser(this.token),
    );
  }

  async #spawn(name: string, args: readonly string[], ready?: () => Promise<boolean>): Promise<void> {
    const process = await spawn({
      name,
      command: this.#binary,
      args: [name, ...args],
      dir: this.dir,
      ...(ready === undefined ? {} : { ready, readyTimeoutMs: 180_000 }),
    });
    this.#processes.set(name, process);
  }

  async #startRuntime(name: string): Promise<Runtime> {
    const runtime = await startRuntime({ dir: this.dir, name });
    this.#runtimes.set(name, runtime);
    return runtime;
  }

  async #addRealNode(name: string): Promise<void> {
    const runtime = this.#runtimes.get(name) ?? await this.#startRuntime(name);
    const { dir, kubeconfig } = this;
    const { quickEviction: quickStatus = false } = this.#options;
    const options = { name, dir, binary: this.#binary, kubeconfig, caFile: this.authority.caFile, quickStatus };
    const isRegistered = () => this.#node(name).then(() => true);
    this.#nodes.set(name, { runtime, kubelet: await startKubelet(options, runtime, isRegistered) });
    // Until then it is a runtime that is to be ended.
    this.#runtimes.delete(name);
    // What a cloud's controller would do: give the address, and take away the taint that waits for it.
    const addresses = [{ type: "InternalIP", address: "127.0.0.1" }, { type: "Hostname", address: name }];
    await this.api.patch(`/api/v1/nodes/${name}/status`, { status: { addresses } });
    await eventually(async () => {
      const { metadata, spec } = await this.#node(name);
      const taints = (spec?.taints ?? []).filter((taint) => !taint.key.startsWith("node.cloudprovider.kubernetes.io/"));
      const resourceVersion = metadata?.resourceVersion;
      await this.api.patch(`/api/v1/nodes/${name}`, { metadata: { resourceVersion }, spec: { taints } });
      return true;
    }, { what: `the taint of node ${name} to be removed` });
  }

  async #startKwok(): Promise<void> {
    const config = `${this.dir}/kwok.yaml`;
    await Deno.writeTextFile(config, kwokStages(this.#options.fakePods));
    const process = await spawn({
      name: "kwok",
      command: toolPath("kwok") ?? fail("kwok is missing; run tests/install.sh"),
      args: [
        `--kubeconfig=${this.kubeconfig}`,
        "--manage-all-nodes=true",
        // An address in TEST-NET-1 (RFC 5737), so that nothing ever connects to a fake node.
        "--node-ip=192.0.2.1",
        // Leases tell the controller manager that the nodes live.
        "--node-lease-duration-seconds=40",
        `--config=${config}`,
      ],
      // It also reads a configuration file in the home folder.
      env: { HOME: this.dir },
      dir: this.dir,
    });
    this.#processes.set("kwok", process);
  }

  async #addKwokNode(name: string): Promise<void> {
    const resources = { cpu: "1000", memory: "4Ti", pods: "100000", "ephemeral-storage": "100Ti" };
    await this.api.create("/api/v1/nodes", {
      metadata: { name, labels: { "kubernetes.io/hostname": name }, annotations: { "kwok.x-k8s.io/node": "fake" } },
      status: { capacity: resources, allocatable: resources },
    });
    this.#nodes.set(name, "kwok");
  }

  async #bindRoles(roleYaml: string, namespace: string, account: string): Promise<void> {
    const rbac = "/apis/rbac.authorization.k8s.io/v1";
    const scope = `${rbac}/namespaces/${namespace}`;
    const roles = parseAllDocuments(roleYaml).map((document) => document.toJS())
      .filter((object) => object?.kind === "Role" || object?.kind === "ClusterRole");
    if (roles.length === 0) throw new Error("Cannot bind roles: the text holds no Role and no ClusterRole");
    for (const { kind, metadata, rules } of roles) {
      // Names of this cluster's own, so that two accounts may have different roles of one name.
      const name = `${metadata.name}-${++this.#serial}`;
      await this.api.create(kind === "Role" ? `${scope}/roles` : `${rbac}/clusterroles`, { metadata: { name }, rules });
      const binding = {
        metadata: { name },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind, name },
        subjects: [{ kind: "ServiceAccount", name: account, namespace }],
      };
      const bindings = kind === "Role" ? `${scope}/rolebindings` : `${rbac}/clusterrolebindings`;
      await this.api.create(bindings, binding);
    }
  }

  #writeKubeconfig(user: KubeUser, { namespace = "default", server = this.server } = {}): Promise<string> {
    const at = { server, caFile: this.authority.caFile, namespace };
    return writeKubeconfig(`${this.dir}/kubeconfig-${++this.#serial}`, at, user);
  }

  #node(name: string): Promise<V1Node> {
    return this.api.get<V1Node>(`/api/v1/nodes/${name}`);
  }

  /** Pods can be made in the namespace only when its default ServiceAccount is there. */
  async #defaultAccount(): Promise<void> {
    await eventually(() => this.api.find("/api/v1/namespaces/default/serviceaccounts/default"), {
      timeoutMs: 120_000,
      what: "the default ServiceAccount",
    });
  }
}

/** Ready and without the taints of a node that is not; only then does a pod get there at once. */
function isReady(node: V1Node): boolean {
  const ready = node.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
  return ready && (node.spec?.taints ?? []).every((taint) => !taint.key.startsWith("node.kubernetes.io/not-ready"));
}

function fail(why: string): never {
  throw new Error(`Cannot use the test cluster: ${why}`);
}
