/**
 * `deno run -A tests/bench/ranges.ts [times]`: what a message, a run, a command and a table cost, each as a ratio to what
 * the same machine needs for less in the same half minute. ranges.json says how large each may be; ranges_test.ts, a part
 * of `deno task test`, fails where one is larger. By turns, so that other work on the machine hits both; mostly processor
 * time, of all turns together, for the kernel tells it in steps of 10 ms; medians of what other work can stretch.
 */
import { JobEnder } from "../chaos/ender.ts";
import { MqttEar } from "../harness/service.ts";
import { csv } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";
import { parseTable } from "../../catalog.ts";
import { cpuSeconds, cpuSecondsOf, median, rounded, rssMb } from "./measure.ts";
import { bundleEntry } from "../harness/bundled.ts";
import { benchRow, JOBS_ONLY, Scene } from "./scene.ts";

/** Of one figure: what it is on a machine that is not slow, and what fails the build. */
export interface Range {
  readonly usual: number;
  readonly most: number;
  /** What the figure is the ratio of. */
  readonly is: string;
}

/** By figure. */
export type Figures = Readonly<Record<string, number>>;

const FILE = new URL("ranges.json", import.meta.url);
const PREFIX = "services/mqtt_job_listener";
const TABLE = new URL("../data/jobs-lab-2023-08.csv", import.meta.url).pathname;
const TURNS = 7;
/** Messages of a turn. */
const EACH = 150;
/** Until V8 has compiled what is called often. */
const WARM_UP = 400;

export async function readRanges(): Promise<Record<string, Range>> {
  return JSON.parse(await Deno.readTextFile(FILE));
}

/** A sentence for each figure that is larger than it may be, or of which one file knows nothing. */
export function outside(figures: Figures, ranges: Readonly<Record<string, Range>>): string[] {
  const names = new Set([...Object.keys(figures), ...Object.keys(ranges)]);
  return [...names].flatMap((name) => {
    const [value, range] = [figures[name], ranges[name]];
    if (value === undefined || range === undefined) return `${name}: it is not in both, ranges.ts and ranges.json`;
    // Not larger, and a number.
    if (value <= range.most) return [];
    return `${name} is ${value}, at most ${range.most} is allowed, ${range.usual} is usual (${range.is})`;
  });
}

export async function measureRanges(): Promise<Figures> {
  const all = { ...await messagesAndRuns(), ...await commands(), ...tables() };
  return Object.fromEntries(Object.entries(all).map(([name, value]) => [name, rounded(value)]));
}

interface Turn {
  readonly seconds: number;
  /** Processor time of the process in question. */
  readonly own: number;
  /** And of the control plane. */
  readonly server: number;
}

async function messagesAndRuns(): Promise<Record<string, number>> {
  await using scene = await Scene.start({
    rows: [benchRow("live", "lab/live"), benchRow("ends", "lab/ends")],
    cluster: JOBS_ONLY,
  });
  await using ender = new JobEnder(scene.kit.cluster.api);
  await using clock = await scene.clock("default", (runName, createdAt) => {
    if (runName.startsWith("ends-")) ender.end({ runName, createdAt, fails: false, afterMs: 0 });
  });
  await using bareClock = await scene.clock("bare");
  await using ear = await MqttEar.connect(scene.kit.broker.url, [`${PREFIX}/job_complete/ends`]);
  const same = (topic: string, count = EACH) => Array.from({ length: count }, () => topic);
  let serial = 0;
  const each = (count = EACH) => Array.from({ length: count }, () => `lab/bare/${serial++}`);
  const { service, kit } = scene;
  await scene.publish(same("lab/live", 1));
  await clock.until(1);
  await using bare = await scene.listenBare("lab/bare/+");

  const turn = async (pid: number, work: () => Promise<unknown>): Promise<Turn> => {
    const spent = () => [cpuSeconds(pid), cpuSecondsOf(kit.cluster.controlPlanePids)] as const;
    const [begun, [own, server]] = [performance.now(), spent()];
    await work();
    const [ownAfter, serverAfter] = spent();
    return { seconds: (performance.now() - begun) / 1_000, own: ownAfter - own, server: serverAfter - server };
  };
  const send = async (topics: readonly string[], seen: { count: number; until(count: number): Promise<number> }) => {
    const before = seen.count;
    await scene.publish(topics);
    await seen.until(before + topics.length);
  };
  const end = async (count = EACH) => {
    const before = ear.heard.length;
    await scene.publish(same("lab/ends", count));
    await eventually(() => ear.heard.length >= before + count, { timeoutMs: 60_000, what: `${count} ends` });
  };
  await send(same("lab/live", WARM_UP), clock);
  await end(WARM_UP / 2);
  await send(each(WARM_UP), bareClock);

  const [ours, theirs, ended]: [Turn[], Turn[], Turn[]] = [[], [], []];
  for (let n = 0; n < TURNS; n++) {
    // Each waits three seconds for pods that there are none of.
    if (n % 3 === 0) ended.push(await turn(service.pid, () => end()));
    const turns = [
      async () => ours.push(await turn(service.pid, () => send(same("lab/live"), clock))),
      async () => theirs.push(await turn(bare.pid, () => send(each(), bareClock))),
    ];
    for (const one of n % 2 === 0 ? turns : turns.toReversed()) await one();
  }
  const mean = (of: readonly Turn[], what: keyof Turn) => of.reduce((all, one) => all + one[what], 0) / of.length;
  const ratio = (of: readonly Turn[], what: keyof Turn) => mean(of, what) / mean(theirs, what);
  return {
    "message-cpu": ratio(ours, "own"),
    "message-server-cpu": ratio(ours, "server"),
    "message-time": median(ours.map(({ seconds }, n) => seconds / theirs[n]!.seconds)),
    "run-cpu": ratio(ended, "own"),
    "memory": rssMb(service.pid) / rssMb(bare.pid),
  };
}

/** Starts of each command. */
const STARTS = 7;

/** Commands from the bundle against an empty program. */
async function commands(): Promise<Record<string, number>> {
  const bundle = await bundleEntry();
  const dir = await Deno.makeTempDir({ prefix: "mjl-ranges-" });
  try {
    await Deno.writeTextFile(`${dir}/empty.js`, "");
    const lines = { empty: [`${dir}/empty.js`], version: [bundle, "version"], check: [bundle, "check", TABLE] };
    const spent: Record<string, number[]> = { empty: [], version: [], check: [] };
    for (let n = -1; n < STARTS; n++) {
      for (const [name, args] of Object.entries(lines)) {
        const seconds = await cpuOf([Deno.execPath(), "run", "-A", ...args]);
        // Deno compiles what it has not run before, and keeps that.
        if (n >= 0) spent[name]!.push(seconds);
      }
    }
    const ratio = (name: string) => median(spent[name]!) / median(spent["empty"]!);
    return { "command-version": ratio("version"), "command-check": ratio("check") };
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/** Processor time of a command in seconds: bash tells milliseconds. */
async function cpuOf(command: readonly string[]): Promise<number> {
  const script = 'TIMEFORMAT="cpu %U %S"; time "$@" >/dev/null';
  const { success, stderr } = await new Deno.Command("bash", { args: ["-c", script, "bash", ...command] }).output();
  const said = new TextDecoder().decode(stderr);
  const [, user, system] = /^cpu (\S+) (\S+)$/m.exec(said) ?? [];
  if (!success || user === undefined) throw new Error(`${command.join(" ")} has failed: ${said}`);
  return Number(user) + Number(system);
}

/** The shortest of all turns each: here other work only adds. */
function tables(): Record<string, number> {
  const rows = Array.from({ length: 5_000 }, (_, n) => benchRow(`row-${n}`, `lab/${n}/+`));
  const [text, json] = [csv(rows), JSON.stringify(rows)];
  const shortest = { table: Infinity, json: Infinity };
  for (let n = 0; n < TURNS; n++) {
    for (const name of ["table", "json"] as const) {
      const begun = performance.now();
      if (name === "table") parseTable(text, { topicPrefix: PREFIX });
      else for (let times = 0; times < 10; times++) JSON.stringify(JSON.parse(json));
      shortest[name] = Math.min(shortest[name], performance.now() - begun);
    }
  }
  return { "table-time": shortest.table / shortest.json };
}

if (import.meta.main) {
  const ranges = await readRanges();
  for (let n = 0; n < Number(Deno.args[0] ?? 1); n++) {
    const begun = performance.now();
    const figures = await measureRanges();
    const said = outside(figures, ranges);
    console.log(JSON.stringify({ ...figures, seconds: rounded((performance.now() - begun) / 1_000), outside: said }));
    if (said.length > 0) Deno.exitCode = 1;
  }
}
