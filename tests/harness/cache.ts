/**
 * Where the harness finds the programs that tests/install.sh builds: `.cache/` of the project, or MJL_CACHE.
 * Only finds; building is the script's.
 */

const PROJECT = new URL("../../", import.meta.url).pathname.replace(/\/$/, "");

/** Versions of the programs that tests/install.sh puts into the cache; it has the same. */
const TOOLS = {
  versitygw: "v1.8.0",
  kwok: "v0.8.0",
  "metrics-server": "v0.9.0",
  minio: "v0.0.0-20260212201848-7aac2a2c5b7c",
  typos: "1.52.0",
  "docker-compose": "5.6.1.0",
  mochi: "v2.7.9",
  nats: "v2.15.2",
  promtool: "debian",
} as const;

/** Lighthouse and tests/look/audit, as tests/install.sh puts them into the cache; they may not exist yet. */
export function lighthouseFolder(): string {
  return `${cacheFolder()}/lighthouse-13.5.0`;
}

/** A program of the cache. */
export type Tool = keyof typeof TOOLS;

/** The folder of built programs and packed images. */
export function cacheFolder(): string {
  return Deno.env.get("MJL_CACHE") || `${PROJECT}/.cache`;
}

/** Path of the cluster program for the current sources; it may not exist yet. */
export async function clusterBinaryPath(): Promise<string> {
  return `${cacheFolder()}/cluster-${await keyOf("tests/cluster", "go.mod", "main.go")}/cluster`;
}

/** Path of the stand-in for Deno's runtime for binaries, for its current source; it may not exist yet. */
export async function denortPath(): Promise<string> {
  return `${cacheFolder()}/denort-${await keyOf("tests/image/denort", "main.go")}/denort`;
}

/** Path of Argo Events' event source and sensor for the current sources; it may not exist yet. */
export async function argoEventsPath(): Promise<string> {
  return `${cacheFolder()}/argo-events-${await keyOf("tests/bench/peers/argo", "go.mod", "main.go")}/argo-events`;
}

/** Path of a command of Docker's: of the engine in the cache, else of the machine, or undefined. */
export function dockerPath(command: "docker" | "dockerd"): string | undefined {
  const folder = `${cacheFolder()}/docker-engine/usr`;
  return [`${folder}/bin/${command}`, `${folder}/sbin/${command}`].find(isFile) ?? commandPath(command);
}

/** Folder of a Java broker's compiled program and, in `lib`, its libraries; it may not exist yet. */
export async function javaBrokerFolder(name: string): Promise<string> {
  return `${cacheFolder()}/${name}-${await keyOf(`tests/harness/brokers/${name}`, "pom.xml", "Main.java")}`;
}

/** What changes when a source does. */
async function keyOf(folder: string, ...names: string[]): Promise<string> {
  const sources = names.map((name) => Deno.readTextFileSync(`${PROJECT}/${folder}/${name}`));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(sources.join("")));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("").slice(0, 16);
}

/** Path of a tool of the cache (wheels: of their virtual environment; Debian's packages: where these have it), else of the machine, or undefined. */
export function toolPath(tool: Tool): string | undefined {
  const folder = `${cacheFolder()}/${tool}-${TOOLS[tool]}`;
  return [`${folder}/${tool}`, `${folder}/bin/${tool}`, `${folder}/usr/bin/${tool}`].find(isFile) ?? commandPath(tool);
}

/** Path of a command of the machine, or undefined. The sbin folders are searched too: not every user has them in PATH. */
export function commandPath(command: string): string | undefined {
  const folders = [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/local/sbin", "/usr/sbin", "/sbin"];
  return folders.filter((folder) => folder !== "").map((folder) => `${folder}/${command}`).find(isFile);
}

/** Whether there is a file at this path. */
export function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
