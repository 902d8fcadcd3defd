/**
 * `deno task bench peers [CASE…] [--large] [--with=NAME,…] [--turns=N] [--out=FILE]`: the service beside what else makes
 * Jobs of messages, by turns on one broker and one control plane. Prints a JSON line a turn; FILE gets the conditions
 * too, and bench/plot.ts makes tables and plots of it. Measures nothing itself.
 */
import { flag, numberFlag } from "../harness/flags.ts";
import type { JobTemplate } from "./bare_creator.ts";
import { bundleEntry } from "../harness/bundled.ts";
import { conditions, Saved } from "./conditions.ts";
import { rounded } from "./measure.ts";
import { SERVICE } from "./peers/contestants.ts";
import type { CreatesLine, Outcome, PeerLine } from "./peers/line.ts";
import { CASES, CONTESTANTS, CREATES, type Planned } from "./peers/names.ts";
import { takeTurn } from "./peers/turn.ts";
import { benchRow, JOBS_ONLY, Scene } from "./scene.ts";

/** Exit code. */
export async function benchPeers(args: readonly string[]): Promise<number> {
  const asked = args.filter((arg) => !arg.startsWith("--"));
  const known = [...Object.keys(CONTESTANTS), CREATES.name];
  const who = flag("with")?.split(",") ?? known;
  const unknown = asked.find((name) => !(name in CASES)) ?? who.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    console.error(`Cannot measure ${unknown}: there are ${[...Object.keys(CASES), ...known].join(", ")}`);
    return 2;
  }
  for (const name of who) {
    const missing = await CONTESTANTS[name]?.missing?.();
    if (missing === undefined) continue;
    console.error(`Cannot measure ${name}: ${missing}`);
    return 2;
  }
  const turns = flag("turns") === undefined ? undefined : numberFlag("turns", 1);
  const saved = new Saved(flag("out"));
  saved.add(await conditions({ repeats: turns ?? 3, messages: 2_000 }));
  const preset = Object.keys(CASES).filter((name) => !CASES[name]!.large || args.includes("--large"));
  const names = asked.length > 0 ? asked : preset;
  const failed = await measureAll({ names, who, turns, tell: (line) => saved.tell(line) });
  saved.add({ loadAfter: Deno.loadavg() });
  return failed ? 1 : 0;
}

async function measureAll(
  { names, who, turns, tell }: {
    readonly names: readonly string[];
    readonly who: readonly string[];
    readonly turns: number | undefined;
    readonly tell: (line: PeerLine | CreatesLine) => void;
  },
): Promise<boolean> {
  const bundle = await bundleEntry();
  await using scene = await Scene.start({
    rows: [benchRow("job", "lab/first/+")],
    cluster: JOBS_ONLY,
    // For the restart: the broker keeps what the service's session has not acknowledged.
    broker: { persistence: "on-stop" },
    bare: true,
  });
  const template = await templateOf(scene, bundle);
  let serial = 0;
  let failed = false;
  for (const name of names) {
    const one = CASES[name]!;
    for (let turn = 0; turn < (turns ?? one.turns); turn++) {
      for (const peer of who) {
        if (one.without?.includes(peer) || turn > 0 && one.once?.includes(peer)) continue;
        const begun = performance.now();
        try {
          const line = await oneTurn(peer, one, { scene, bundle, template, id: `${peer}-${++serial}` });
          if (line !== undefined) tell({ peer, case: name, ...line });
        } catch (error) {
          failed = true;
          console.error(`Cannot measure ${peer} with ${name}: ${error instanceof Error ? error.message : error}`);
        }
        console.error(`${name} ${peer}: ${Math.round((performance.now() - begun) / 1_000)} s`);
      }
    }
  }
  return failed;
}

async function oneTurn(
  peer: string,
  one: Planned,
  options: { scene: Scene; bundle: string; template: JobTemplate; id: string },
): Promise<Outcome | Pick<Outcome, "jobs" | "seconds" | "perSecond"> | undefined> {
  if (peer !== CREATES.name) {
    return await takeTurn(CONTESTANTS[peer]!, one, { ...options, template: () => Promise.resolve(options.template) });
  }
  if (one.perSecond !== undefined) return undefined;
  const made = await options.scene.createBare(one.messages, { warmUp: 200, template: options.template });
  const seconds = made.ms / 1_000;
  return { jobs: one.messages, seconds: rounded(seconds), perSecond: rounded(one.messages / seconds) };
}

/** The Job that the service makes of a message, for those who are to make the same. */
async function templateOf(scene: Scene, bundle: string): Promise<JobTemplate> {
  const [id, filter] = ["first", "lab/first/+"];
  const never = () => Promise.reject(new Error("The service needs no template"));
  await using _service = await SERVICE.start({ scene, id, filter, bundle, template: never });
  await scene.publish(["lab/first/one"]);
  const template = await scene.template();
  return { ...template, metadata: { ...template.metadata, namespace: "default" } };
}
