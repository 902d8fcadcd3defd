/**
 * Under which conditions a run of the bench was made, and the file that keeps them with its lines. Judges nothing.
 */
import { cacheFolder } from "../harness/cache.ts";
import type { ScaleLine } from "./scale_page.ts";
import { run } from "../harness/process.ts";
import type { BenchPoint, BenchRow } from "./measure.ts";
import type { CreatesLine, PeerLine } from "./peers/line.ts";

/** The first line of a saved run. */
export interface Conditions {
  /** When it began, ISO 8601. */
  readonly date: string;
  /** The sources, by git; `+` behind it: with changes that are not committed. */
  readonly commit: string;
  readonly cores: number;
  readonly memoryGb: number;
  /** 1, 5 and 15 minutes. */
  readonly loadBefore: readonly number[];
  readonly versions: Readonly<Record<string, string>>;
  readonly repeats: number;
  readonly messages: number;
}

/** How long one measurement took, all repeats and the boot of what it needs. */
export interface Took {
  readonly measurement: string;
  readonly seconds: number;
}

/** What the machine is and does now. */
export async function conditions(asked: { readonly repeats: number; readonly messages: number }): Promise<Conditions> {
  const project = new URL("../../", import.meta.url).pathname;
  const git = (...args: string[]) => run("git", args, { cwd: project }).then((text) => text.trim()).catch(() => "");
  const changed = await git("status", "--porcelain", "--untracked-files=no") !== "";
  return {
    date: new Date().toISOString(),
    commit: await git("rev-parse", "--short", "HEAD") + (changed ? "+" : ""),
    cores: navigator.hardwareConcurrency,
    memoryGb: Math.round(Deno.systemMemoryInfo().total / 1e9),
    loadBefore: Deno.loadavg(),
    versions: { deno: Deno.version.deno, v8: Deno.version.v8, ...await versionsOfParts() },
    ...asked,
  };
}

async function versionsOfParts(): Promise<Record<string, string>> {
  const goMod = await Deno.readTextFile(new URL("../cluster/go.mod", import.meta.url));
  const argoMod = await Deno.readTextFile(new URL("./peers/argo/go.mod", import.meta.url));
  const pins = await Deno.readTextFile(new URL("./peers/requirements.txt", import.meta.url));
  // Exit code 3 after the help text of `mosquitto -h`, whose first line has the version.
  const mosquitto = await new Deno.Command("mosquitto", { args: ["-h"] }).output().then(
    ({ stdout, stderr }) => new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr),
    () => "",
  );
  const tools = await Array.fromAsync(Deno.readDir(cacheFolder()), ({ name }) => name).catch((): string[] => []);
  const found: Record<string, string | undefined> = {
    kubernetes: /k8s\.io\/kubernetes v(\S+)/.exec(goMod)?.[1],
    mosquitto: /mosquitto version (\S+)/.exec(mosquitto)?.[1],
    versitygw: tools.find((name) => name.startsWith("versitygw-"))?.slice("versitygw-v".length),
    kwok: tools.find((name) => name.startsWith("kwok-"))?.slice("kwok-v".length),
    "Argo Events": /argoproj\/argo-events v(\S+)/.exec(argoMod)?.[1],
    nats: tools.find((name) => name.startsWith("nats-"))?.slice("nats-v".length),
    "peer's kubernetes": /^kubernetes==(.*)$/m.exec(pins)?.[1],
    "peer's paho-mqtt": /^paho-mqtt==(.*)$/m.exec(pins)?.[1],
  };
  return Object.fromEntries(Object.entries(found).flatMap(([name, version]) => version ? [[name, version]] : []));
}

/** Prints lines, and keeps them in a file if there is one; whole lines, so that a run that is broken off can be read. */
export class Saved {
  constructor(private readonly file: string | undefined) {
    if (file !== undefined) Deno.writeTextFileSync(file, "");
  }

  /** For the file and the reader. */
  tell(line: BenchRow | BenchPoint | Took | PeerLine | CreatesLine | ScaleLine): void {
    console.log(JSON.stringify(line));
    this.add(line);
  }

  /** For the file only. */
  add(line: object): void {
    if (this.file !== undefined) Deno.writeTextFileSync(this.file, `${JSON.stringify(line)}\n`, { append: true });
  }
}
