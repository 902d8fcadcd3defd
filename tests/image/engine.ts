/**
 * A container engine for one test: dockerd from where tests/install.sh unpacked it, in a folder, a mount namespace and
 * a subnet of its own. It writes no firewall rule and changes no setting of the machine; what it leaves when it is
 * killed, its bridge too, goes with its folder at the next start. Knows nothing of the images that it runs.
 */
import { dockerPath, toolPath } from "../harness/cache.ts";
import { ownBridge } from "../harness/containers.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { subnetOf } from "../harness/node.ts";
import { freePort } from "../harness/ports.ts";
import { type ManagedProcess, run, spawn } from "../harness/process.ts";
import { eventually } from "../harness/wait.ts";

/** Bytes; all images take 1 GB of it. */
const MEMORY_WANTED = 6e9;
const IN_MEMORY = (dir: string) => [
  ...["sh", "-c", 'mount -t tmpfs -o size=4g image "$1" && shift && exec "$@"', "sh", dir],
];

/** Starts an engine. Needs `needs("docker")`; an Error says why the machine cannot run one. */
export async function startEngine(): Promise<Engine> {
  const dir = await scratchFolder("image");
  // Nothing listens on the port: it makes the subnet this engine's own.
  const subnet = subnetOf(freePort());
  const engine = new Engine(dir, subnet);
  try {
    await engine.start();
    return engine;
  } catch (error) {
    await engine[Symbol.asyncDispose]();
    throw error;
  }
}

/** What `docker inspect` says of a container, as far as the tests look. */
export interface Container {
  readonly State: { Pid: number; ExitCode: number; Status: string; Health?: { Status: string } };
  readonly RestartCount: number;
}

/** A running engine. Disposing it ends its containers and removes all that it had. */
export class Engine implements AsyncDisposable {
  /** The host's address in the one network that containers get. It is there while that network is. */
  readonly gateway: string;
  readonly #env: Record<string, string>;
  #dockerd: ManagedProcess | undefined;

  /** Use startEngine. */
  constructor(readonly dir: string, readonly subnet: string) {
    const [address = ""] = subnet.split("/");
    // Docker takes a subnet's first address for the host.
    this.gateway = address.replace(/\d+$/, (last) => String(Number(last) + 1));
    this.#env = {
      DOCKER_HOST: `unix://${dir}/docker.sock`,
      DOCKER_CONFIG: `${dir}/config`,
      // BuildKit of an engine without its plugin is not to be had from Debian.
      DOCKER_BUILDKIT: "0",
      COMPOSE_ANSI: "never",
    };
  }

  /** Called by startEngine. */
  async start(): Promise<void> {
    const dockerd = dockerPath("dockerd") ?? fail("dockerd is missing; run tests/install.sh as root");
    const plugins = `${this.#env["DOCKER_CONFIG"]}/cli-plugins`;
    await Deno.mkdir(plugins, { recursive: true });
    await Deno.mkdir(`${this.dir}/data`);
    await ownBridge(this.dir, this.gateway);
    await Deno.symlink(toolPath("docker-compose") ?? "docker-compose", `${plugins}/docker-compose`);
    try {
      this.#dockerd = await spawn({
        name: "dockerd",
        command: "unshare",
        args: [
          ...["--mount", "--propagation", "private"],
          // In memory a build takes half the time, and what it was goes with the namespace.
          ...Deno.systemMemoryInfo().available < MEMORY_WANTED ? [] : IN_MEMORY(`${this.dir}/data`),
          dockerd,
          ...["--data-root", `${this.dir}/data`, "--exec-root", `${this.dir}/exec`],
          ...["--pidfile", `${this.dir}/dockerd.number`, "--host", this.#env["DOCKER_HOST"]!],
          // Published ports go through docker-proxy, so no rule is needed; nothing goes out.
          ...["--bridge", "none", "--iptables=false", "--ip-masq=false", "--ip-forward=false"],
          ...["--default-address-pool", `base=${this.subnet},size=${this.subnet.split("/")[1]}`],
        ],
        // docker-proxy lies beside dockerd.
        env: { PATH: `${dockerd.replace(/\/\w+$/, "")}:/usr/local/sbin:/usr/sbin:/sbin:${Deno.env.get("PATH")}` },
        dir: this.dir,
        ready: async () => (await this.docker("info", "--format", "{{.ServerVersion}}")).trim() !== "",
      });
      // Bridges are first asked for here; an engine starts without.
      await this.docker("network", "create", "probe");
      await this.docker("network", "rm", "probe");
    } catch (error) {
      const log = await Deno.readTextFile(`${this.dir}/dockerd.log`).catch(() => "");
      const why = /failed to start daemon: (.*)/.exec(log)?.[1] ?? (error as Error).message;
      fail(`${why}\nIt needs root, cgroups, overlayfs and network bridges of the kernel.`, error);
    }
  }

  /** Runs a docker command; returns its output, throws an Error with what it said. */
  async docker(...args: string[]): Promise<string> {
    return await run(dockerPath("docker")!, args, { env: this.#env });
  }

  /** The same, for those that fail on purpose, or say something on standard error. */
  async tryDocker(...args: string[]): Promise<{ code: number; out: string; err: string }> {
    const output = await new Deno.Command(dockerPath("docker")!, { args, env: this.#env, stdin: "null" }).output();
    const text = new TextDecoder();
    return { code: output.code, out: text.decode(output.stdout), err: text.decode(output.stderr) };
  }

  /** What there is of a container. */
  async inspect(name: string): Promise<Container> {
    return JSON.parse(await this.docker("inspect", name))[0];
  }

  /** Makes an image of a folder, with instructions of a Dockerfile such as `CMD ["sh"]`. */
  async import(folder: string, name: string, instructions: readonly string[]): Promise<void> {
    const changes = instructions.flatMap((instruction) => ["--change", instruction]);
    await run("sh", [
      "-c",
      'folder=$1; shift; tar -C "$folder" --numeric-owner -c . | "$@" >/dev/null',
      ...["sh", folder, dockerPath("docker")!, "import", ...changes, "-", name],
    ], { env: this.#env });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // It ends its containers, containerd and its mounts.
    await this.#dockerd?.stop();
    // Files of an image may be held for a moment by what has just ended.
    await eventually(() => removeFolder(this.dir).then(() => true), { what: `${this.dir} to go` });
  }
}

function fail(why: string, cause?: unknown): never {
  throw new Error(`Cannot run a container engine here: ${why}`, { cause });
}
