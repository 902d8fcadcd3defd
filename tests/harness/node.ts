/**
 * A real node for the test cluster: containerd and kubelet in a folder of their own, so that several can run side by
 * side and nothing of them is left when they are ended. Needs root. Knows the API server by a kubeconfig only.
 */
import { BUSYBOX_IMAGE, packImages, PAUSE_IMAGE } from "../cluster/images.ts";
import { cacheFolder, commandPath, isFile } from "./cache.ts";
import { endContainers, unmountBelow } from "./containers.ts";
import { freePort } from "./ports.ts";
import { ManagedProcess, run, spawn } from "./process.ts";

export interface NodeOptions {
  name: string;
  /** The cluster's folder, for logs and pid files; the node's own files go to `{dir}/{name}`. */
  dir: string;
  /** The multi-call program, see tests/cluster. */
  binary: string;
  kubeconfig: string;
  /** Authority of the certificate that the API server shows when it fetches logs. */
  caFile: string;
  /** Report to the API server every second, so that a dead node is seen within seconds. */
  quickStatus?: boolean;
}

/** containerd, up and with the images, before there is an API server to register with. */
export interface Runtime {
  readonly containerd: ManagedProcess;
  readonly nodeDir: string;
  readonly kubeletPort: number;
}

/** Starts containerd and imports the images. */
export async function startRuntime({ dir, name }: Pick<NodeOptions, "dir" | "name">): Promise<Runtime> {
  const nodeDir = `${dir}/${name}`;
  await Deno.mkdir(`${nodeDir}/cni`, { recursive: true });
  const kubeletPort = freePort();
  await Deno.writeTextFile(`${nodeDir}/containerd.toml`, containerdConfig(nodeDir));
  await Deno.writeTextFile(`${nodeDir}/cni/10-test.conflist`, JSON.stringify(networkConfig(nodeDir, kubeletPort)));
  const ctr = (...args: string[]) => run(commandPath("ctr")!, ["-a", `${nodeDir}/containerd.sock`, ...args]);
  const images = imageArchive();
  const containerd = await spawn({
    name: `${name}-containerd`,
    command: commandPath("containerd")!,
    args: ["-c", `${nodeDir}/containerd.toml`],
    dir,
    ready: () => ctr("version").then(() => true),
  });
  await ctr("-n", "k8s.io", "images", "import", await images);
  return { containerd, nodeDir, kubeletPort };
}

/**
 * Starts the kubelet, which registers itself, and once more where it does not: another process of the tests may have
 * taken its port since that was found free.
 */
export async function startKubelet(
  options: NodeOptions,
  { nodeDir, kubeletPort }: Runtime,
  isRegistered: () => Promise<boolean>,
): Promise<ManagedProcess> {
  const { name, dir, binary, kubeconfig } = options;
  await Deno.writeTextFile(`${nodeDir}/kubelet.json`, JSON.stringify(kubeletConfig(options, nodeDir, kubeletPort)));
  const start = () =>
    spawn({
      name: `${name}-kubelet`,
      command: binary,
      args: [
        "kubelet",
        `--config=${nodeDir}/kubelet.json`,
        `--kubeconfig=${kubeconfig}`,
        `--hostname-override=${name}`,
        // The kubelet refuses a loopback address as its own; with a cloud provider outside it waits to be given one.
        "--cloud-provider=external",
        `--root-dir=${nodeDir}/kubelet`,
        // Its default is one folder for all kubelets of a machine.
        `--cert-dir=${nodeDir}/pki`,
      ],
      dir,
      ready: isRegistered,
      readyTimeoutMs: 90_000,
    });
  return await start().catch(start);
}

/** Ends a node at once, as a power cut would, and removes its containers and mounts. */
export async function endNode(processes: readonly ManagedProcess[], nodeDir: string): Promise<void> {
  // The kubelet first: it would start containers again.
  for (const process of processes) await process.kill9();
  await endContainers(nodeDir);
  await unmountBelow(nodeDir);
  await removeLogLinks(nodeDir);
}

/** The kubelet links each container's log in /var/log/containers, a path that cannot be configured. */
async function removeLogLinks(nodeDir: string): Promise<void> {
  const folder = "/var/log/containers";
  try {
    for await (const entry of Deno.readDir(folder)) {
      const target = await Deno.readLink(`${folder}/${entry.name}`).catch(() => "");
      if (target.startsWith(`${nodeDir}/`)) await Deno.remove(`${folder}/${entry.name}`);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

function containerdConfig(nodeDir: string): string {
  return `version = 2
root = "${nodeDir}/root"
state = "${nodeDir}/state"
[grpc]
  address = "${nodeDir}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  # An unprivileged outer container may not lower a score.
  restrict_oom_score_adj = true
  # Else they are mounted in /run/netns, where nobody would know whose they are.
  netns_mounts_under_state_dir = true
  disable_tcp_service = true
  sandbox_image = "${PAUSE_IMAGE}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  Root = "${nodeDir}/runc"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "${nodeDir}/cni"
`;
}

/**
 * A subnet for containers: the port's number counted in /26 nets through 100.64.0.0/10 (RFC 6598, exactly 2^16 of them),
 * so what is unique for a port is unique for a subnet, over all test runs of the machine.
 */
export function subnetOf(port: number): string {
  const low = port * 64;
  return `100.${64 + (low >> 16)}.${(low >> 8) & 255}.${low & 255}/26`;
}

/** A pod network of the node's own. */
function networkConfig(nodeDir: string, port: number): unknown {
  const ipam = { type: "host-local", subnet: subnetOf(port), dataDir: `${nodeDir}/ipam` };
  return { cniVersion: "0.4.0", name: "test", plugins: [{ type: "ptp", ipMasq: false, ipam }] };
}

function kubeletConfig({ caFile, quickStatus = false }: NodeOptions, nodeDir: string, port: number): unknown {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    address: "127.0.0.1",
    port,
    healthzPort: 0,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: false },
      x509: { clientCAFile: caFile },
    },
    authorization: { mode: "AlwaysAllow" },
    cgroupDriver: "cgroupfs",
    cgroupsPerQOS: false,
    enforceNodeAllocatable: [],
    failCgroupV1: false,
    failSwapOn: false,
    containerRuntimeEndpoint: `unix://${nodeDir}/containerd.sock`,
    podLogsDir: `${nodeDir}/logs`,
    resolvConf: "",
    clusterDNS: ["10.0.0.10"],
    syncFrequency: "2s",
    makeIPTablesUtilChains: false,
    evictionHard: { "memory.available": "50Mi" },
    // Its preset with cgroup v1. With v2 else all of a container is killed at once, see endingLater() in table.ts.
    singleProcessOOMKill: true,
    // A /26 net has 61 addresses for pods.
    maxPods: 60,
    ...(quickStatus ? { nodeStatusUpdateFrequency: "1s", nodeLeaseDurationSeconds: 16 } : {}),
  };
}

/** The packed images in the cache, made when they are not there or busybox has changed. */
async function imageArchive(): Promise<string> {
  const busybox = commandPath("busybox")!;
  const { size, mtime } = await Deno.stat(busybox);
  const archive = `${cacheFolder()}/images-1-${size}-${mtime?.getTime() ?? 0}.tar`;
  if (isFile(archive)) return archive;
  await Deno.mkdir(cacheFolder(), { recursive: true });
  // Renamed when whole: another test may look at the same moment.
  const half = await Deno.makeTempFile({ dir: cacheFolder(), prefix: "images-" });
  await Deno.writeFile(half, await packImages(busybox));
  await Deno.rename(half, archive);
  return archive;
}

export { BUSYBOX_IMAGE };
