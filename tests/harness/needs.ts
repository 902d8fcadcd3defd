/**
 * Says whether the real parts that a test wants are on this machine. Without them a test is left out with one line
 * that tells how to get them; where CI=true a missing part is an error, so that a green run has run everything.
 */
import {
  clusterBinaryPath,
  commandPath,
  denortPath,
  dockerPath,
  isFile,
  javaBrokerFolder,
  lighthouseFolder,
  toolPath,
} from "./cache.ts";

/**
 * `cluster`: a control plane; `node`: real containers too (root); `kwok`: fake nodes; `docker`: what builds and runs the
 * image (root); the others as they are called.
 */
export type Part =
  | "mosquitto"
  | "s3"
  | "cluster"
  | "node"
  | "kwok"
  | "chromium"
  | "lighthouse"
  | "openssl"
  | "python3"
  | "zsh"
  | "fish"
  | "typos"
  | "docker-compose"
  | "docker"
  | "kubectl"
  | "promtool"
  | "metrics-server"
  | "systemd-analyze"
  | BrokerPart;

/** Brokers beside mosquitto: `tests/install.sh brokers` gets those of CI, `tests/install.sh all-brokers` all. */
export type BrokerPart = typeof IN_CI[number] | typeof NOT_IN_CI[number];
const IN_CI = ["hivemq", "rabbitmq", "artemis", "mochi"] as const;
/** Left out where they are missing even when CI=true. */
const NOT_IN_CI = ["nats", "moquette", "ejabberd"] as const;
/** Parts of tests/install.sh that are called as what they install. */
const BY_NAME: readonly Part[] = ["metrics-server"];

const told = new Set<string>();

/**
 * Whether all parts are here. Use: `Deno.test({ name, ignore: !await needs("cluster"), fn })`.
 * Throws an Error when CI=true and one is missing. MJL_UNIT=yes, as `deno task test:unit` sets it: no part is wanted.
 */
export async function needs(...parts: Part[]): Promise<boolean> {
  if (Deno.env.get("MJL_UNIT") === "yes") return false;
  const missing = (await Promise.all(parts.map(missingFor))).flat();
  if (missing.length === 0) return true;
  const has = (names: readonly Part[]) => parts.some((part) => names.includes(part));
  const named = BY_NAME.find((part) => parts.includes(part));
  const script = `tests/install.sh${
    named ? ` ${named}` : has(NOT_IN_CI) ? " all-brokers" : has(IN_CI) ? " brokers" : ""
  }`;
  const line = `Left out: tests that need ${parts.join(", ")} (missing: ${missing.join(", ")}); run ${script} as root`;
  if (Deno.env.get("CI") === "true" && !has(NOT_IN_CI)) throw new Error(line);
  if (!told.has(line)) console.error(line);
  told.add(line);
  return false;
}

async function missingFor(part: Part): Promise<string[]> {
  switch (part) {
    case "lighthouse":
      return isFile(`${lighthouseFolder()}/node_modules/lighthouse/package.json`) ? [] : [part];
    case "s3":
      return toolPath("versitygw") === undefined ? ["versitygw"] : [];
    case "typos":
    case "docker-compose":
    case "mochi":
    case "nats":
    case "promtool":
    case "metrics-server":
      return toolPath(part) === undefined ? [part] : [];
    case "cluster":
      return [...isFile(await clusterBinaryPath()) ? [] : ["the cluster program"], ...missingCommands("openssl")];
    case "kwok":
      return [...await missingFor("cluster"), ...toolPath("kwok") === undefined ? ["kwok"] : []];
    case "node":
      return [
        ...await missingFor("cluster"),
        ...missingCommands("containerd", "ctr", "runc", "busybox", "umount"),
        ...isFile("/usr/lib/cni/ptp") ? [] : ["containernetworking-plugins"],
        ...Deno.uid() === 0 ? [] : ["root"],
      ];
    case "docker":
      return [
        ...(["docker", "dockerd"] as const).filter((command) => dockerPath(command) === undefined),
        ...isFile(await denortPath()) ? [] : ["the stand-in for denort"],
        ...await missingFor("docker-compose"),
        ...await missingFor("s3"),
        ...missingCommands(
          "containerd",
          "runc",
          "busybox",
          "ldd",
          "tar",
          "unshare",
          "ip",
          "mosquitto",
          "mosquitto_pub",
        ),
        ...Deno.uid() === 0 ? [] : ["root"],
      ];
    case "hivemq":
    case "artemis":
    case "moquette":
      return [...missingCommands("java"), ...isFile(`${await javaBrokerFolder(part)}/Main.class`) ? [] : [part]];
    case "rabbitmq":
      return missingCommands("epmd", "rabbitmq-server");
    case "ejabberd":
      return missingCommands("erl", "ejabberdctl");
    default:
      return missingCommands(part);
  }
}

function missingCommands(...commands: string[]): string[] {
  return commands.filter((command) => commandPath(command) === undefined);
}
