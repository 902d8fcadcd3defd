/**
 * Ends what a node or an engine leaves outside its own process tree: containerd's shims with the containers below them,
 * their cgroups, sockets and mounts, and the engine's bridge. Finds them by the test's folder only, so another test's
 * are never touched.
 */
import { processIdentity, run, trySignal } from "./process.ts";
import { eventually } from "./wait.ts";

/** Ends the shims (and their containers) of every containerd whose socket lies below `dir`. */
export async function endContainers(dir: string): Promise<void> {
  const files = await filesElsewhere(dir);
  // Twice: a containerd that was killed in the midst of a start may have left a shim that just forked.
  for (let round = 0; round < 2; round++) {
    const shims = findShims(dir);
    if (shims.length === 0) break;
    const containers = shims.flatMap(childrenOf);
    const cgroups = new Set(containers.flatMap(cgroupsOf));
    // The first process of a container takes its whole pid namespace with it.
    for (const pid of [...containers, ...shims]) trySignal(pid, "SIGKILL");
    await eventually(() => [...containers, ...shims].every((pid) => processIdentity(pid) === undefined), {
      what: `the containers of ${dir} to end`,
    });
    await removeCgroups([...cgroups]);
  }
  for (const file of files) await Deno.remove(file).catch(() => {});
}

/** File of a test's folder with the host's address in the network of containers that it has an engine make. */
const GATEWAY = "gateway";

/** Says of a folder that a bridge with this address belongs to it. To be called before the bridge is made. */
export async function ownBridge(dir: string, address: string): Promise<void> {
  await Deno.writeTextFile(`${dir}/${GATEWAY}`, address);
}

/** Deletes the bridge that belongs to the folder, which outlives the engine that made it. */
export async function deleteBridge(dir: string): Promise<void> {
  const gateway = readOr(`${dir}/${GATEWAY}`);
  if (gateway === "") return;
  const links: { ifname: string; addr_info: { local: string }[] }[] = JSON.parse(
    await run("ip", ["-json", "-4", "address", "show"]),
  );
  for (const { ifname, addr_info } of links) {
    if (addr_info.some(({ local }) => local === gateway)) await run("ip", ["link", "delete", ifname]);
  }
}

/** Unmounts everything that is mounted below `dir`, the latest first. */
export async function unmountBelow(dir: string): Promise<void> {
  await eventually(async () => {
    const points = mountsBelow(dir);
    // Lazily: a process of another test run that is just starting may hold a copy of the mount for a moment.
    // Another run may also clear away the same folder; then umount fails, and the next look finds nothing.
    if (points.length > 0) await run("umount", ["-l", ...points.reverse()]);
    return mountsBelow(dir).length === 0;
  }, { what: `the mounts below ${dir} to go` });
}

function mountsBelow(dir: string): string[] {
  return Deno.readTextFileSync("/proc/self/mounts").split("\n")
    .map((line) => unescapeMount(line.split(" ")[1] ?? ""))
    .filter((point) => point.startsWith(`${dir}/`));
}

/** Process ids of the shims that were started by a containerd whose socket lies below `dir`. */
export function findShims(dir: string): number[] {
  const found: number[] = [];
  for (const entry of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(entry.name)) continue;
    const args = readOr(`/proc/${entry.name}/cmdline`).split("\0");
    if (!args[0]?.includes("containerd-shim")) continue;
    if (args[args.indexOf("-address") + 1]?.startsWith(`${dir}/`)) found.push(Number(entry.name));
  }
  return found;
}

function childrenOf(pid: number): number[] {
  return readOr(`/proc/${pid}/task/${pid}/children`).split(" ").concat(
    // A shim has many threads, and a child belongs to the one that forked it.
    [...listOr(`/proc/${pid}/task`)].flatMap((task) => readOr(`/proc/${pid}/task/${task}/children`).split(" ")),
  ).filter((text) => text.trim() !== "").map(Number);
}

/** The cgroup folders of a process, of every hierarchy (cgroup v1) or the one (v2). */
function cgroupsOf(pid: number): string[] {
  const mounts = readOr("/proc/self/mountinfo").split("\n").filter((line) => / - cgroup2? /.test(line));
  return readOr(`/proc/${pid}/cgroup`).trim().split("\n").flatMap((line) => {
    const [, controllers, path] = line.split(":");
    if (path === undefined || path === "/") return [];
    return mounts.filter((mount) =>
      controllers === ""
        ? mount.includes(" - cgroup2 ")
        : mount.split(" ").at(-1)?.split(",").includes(controllers!.split(",")[0]!)
    ).map((mount) => `${mount.split(" ")[4]}${path}`);
  });
}

async function removeCgroups(folders: string[]): Promise<void> {
  for (const folder of folders) {
    // Busy for a moment after the last process has gone; one that stays is harmless and empty.
    await eventually(() => Deno.remove(folder).then(() => true, (error) => error instanceof Deno.errors.NotFound), {
      timeoutMs: 500,
      what: folder,
    }).catch(() => {});
  }
}

/**
 * Files of containers that lie outside the node's folder, at paths that cannot be configured: the sockets of containerd
 * 1.6's shims, and libcni's notes of the networks it made.
 */
async function filesElsewhere(dir: string): Promise<string[]> {
  const files: string[] = [];
  const notes = listOr(CNI_NOTES);
  for (const node of [".", ...listOr(dir)]) {
    const tasks = `${dir}/${node}/state/io.containerd.runtime.v2.task/k8s.io`;
    for (const task of listOr(tasks)) {
      const address = await Deno.readTextFile(`${tasks}/${task}/address`).catch(() => "");
      if (address.startsWith("unix:///run/containerd/s/")) files.push(address.slice("unix://".length));
      files.push(...notes.filter((note) => note.includes(task)).map((note) => `${CNI_NOTES}/${note}`));
    }
  }
  return files;
}

const CNI_NOTES = "/var/lib/cni/results";

function listOr(dir: string): string[] {
  try {
    return [...Deno.readDirSync(dir)].map((entry) => entry.name);
  } catch {
    return [];
  }
}

function readOr(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}

/** /proc/self/mounts writes blanks and the like as octal numbers, see fstab(5). */
function unescapeMount(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
}
