/**
 * Limits as a model: the whole service on fake ports, one row of each way to be busy, random arrivals and ends, and deaths
 * of the process at any call. More cases: `MODEL_RUNS=3000 deno test -A tests/flows/limits_model_test.ts`; one again:
 * `MODEL_SEED`, with the seed that a failure names.
 */
import { deepEqual, ok } from "node:assert/strict";
import fc from "fast-check";
import { parsePolicy } from "../../catalog/policy.ts";
import type { RunRecord, WhenBusy } from "../../ports.ts";
import { playSteps, playToTheEnd, type Step } from "../harness/play.ts";
import { csv } from "../harness/table.ts";
import { VirtualTime } from "../harness/virtual_time.ts";
import { type Fate, type Turn, World, type WorldJob } from "../harness/world.ts";

const PREFIX = "services/mqtt_job_listener";

interface Case {
  readonly mode: WhenBusy;
  readonly maxRuns: number;
  readonly maxWaiting: number;
  /** Rows that share the limit. */
  readonly rows: 1 | 2;
  readonly isPaused: boolean;
  readonly messages: number;
  /** Numbers of messages whose output is there. */
  readonly there: readonly number[];
  readonly steps: readonly Step[];
  readonly turns: readonly Turn[];
  readonly seed: number;
}

function tableOf({ mode, maxRuns, maxWaiting, rows, isPaused, there }: Case, enabled = isPaused ? "paused" : "yes") {
  const limits = { max_runs: maxRuns, when_busy: mode, max_waiting: maxWaiting, concurrency_group: "one", enabled };
  const output = there.length === 0 ? {} : { output: "s3://lab/{payload.n}", skip_existing: "yes" };
  const of = (name: string) => ({ job_name: name, mqtt_topic: `lab/${name}`, image: "i:1", ...limits, ...output });
  return csv([
    of("r0"),
    ...(rows === 2 ? [of("r1")] : []),
    { job_name: "after", mqtt_topic: `${PREFIX}/job_complete/+`, image: "i:1", when: `payload.job_name != "after"` },
  ]);
}

const isLimited = ({ spec: { row } }: WorldJob) => row.jobName !== "after";

/** What a limit must hold whenever a run begins to run. */
function checkBegin(job: WorldJob, world: World, { maxRuns, mode, there }: Case): string[] {
  if (!isLimited(job)) return [];
  const many = world.running.filter(isLimited).length;
  const older = [...world.jobs.values()].filter(({ facts, spec }) =>
    facts.heldFor === "slot" && facts.cancelledBy === undefined &&
    spec.receivedAt.getTime() < job.spec.receivedAt.getTime()
  );
  return [
    ...(many > maxRuns ? [`${many} run, ${maxRuns} may`] : []),
    // Two that get a slot at the same time are let go on by two calls, of which either may be the first.
    // And one whose output is looked for may be later than one that came after it.
    ...(mode === "wait" && there.length === 0 && many + older.length > maxRuns
      ? [`${job.spec.runName} goes before ${older[0]!.spec.runName}`]
      : []),
  ];
}

const QUIET_SECONDS = 30;
const MOST_SECONDS = 1_800;

async function play(one: Case): Promise<void> {
  using time = new VirtualTime({ seed: one.seed, startMs: Date.UTC(2026, 0, 5) });
  const wrong: string[] = [];
  const failed: string[] = [];
  const children: string[] = [];
  const most = { held: 0 };
  const world: World = new World(tableOf(one), {
    topicPrefix: PREFIX,
    turns: one.turns,
    settings: { policy: parsePolicy('output_prefixes: ["s3://"]\n', "policy.yaml") },
    outputs: new Set(one.there.map((n) => `s3://lab/${n}`)),
    onCreate: (spec) => {
      if (spec.row.jobName === "after") children.push(spec.parentRun!);
      const held = [...world.jobs.values()].filter(({ facts }) => facts.heldFor !== undefined);
      most.held = Math.max(most.held, held.length);
    },
    onRunning: (job, world) => void wrong.push(...checkBegin(job, world, one)),
    onPublish: (topic) => {
      if (topic.includes("/job_failed/")) failed.push(topic);
    },
  });
  world.boot();
  await time.advance(1_000);
  world.begin();
  let sent = 0;
  const send = () => {
    if (sent < one.messages) world.send(`lab/r${sent % one.rows}`, JSON.stringify({ n: sent++ }));
  };
  const end = (job: WorldJob | undefined) => job && world.end(job.spec.runName, "ok");
  await playSteps({ world, time, send, end }, one.steps);
  while (sent < one.messages) send();
  if (one.isPaused) {
    await time.advance(20_000);
    deepEqual(world.running.filter(isLimited), [], "what a paused row starts");
    world.store.objects.set("jobs.csv", new TextEncoder().encode(tableOf(one, "yes")));
    world.kill();
  }
  await playToTheEnd({ world, time, end }, { quietSeconds: QUIET_SECONDS, mostSeconds: MOST_SECONDS });
  world.kill();
  await time.advance(QUIET_SECONDS * 1_000);
  void world.service?.stop({ drain: false });
  await time.advance(5_000);
  deepEqual(wrong, []);
  deepEqual(failed, [], "no message says that what gave way has failed");
  checkRecords(one, recordsIn(world));
  // A row's lanes admit a few at once, and those that are decided already are created.
  ok(most.held <= one.rows * (one.maxWaiting + 4), `${most.held} wait`);
  const parents = recordsIn(world).filter(({ job_name, status }) => job_name !== "after" && status === "succeeded");
  deepEqual(children.toSorted(), parents.map(({ run_name }) => run_name).sort(), "children, one for each end");
  const notes = [...world.store.objects.keys()].filter((key) => key.startsWith(".unstarted/"));
  deepEqual(notes, []);
}

function recordsIn({ store }: World): RunRecord[] {
  return [...store.objects].filter(([key]) => /^[^./][^/]*\.json$/.test(key) && key !== "jobs.csv")
    .map(([, body]) => JSON.parse(new TextDecoder().decode(body)) as RunRecord);
}

/** Each message has one end, and each way to be busy its own reasons. */
function checkRecords({ mode, messages, there }: Case, records: readonly RunRecord[]): void {
  const own = records.filter(({ job_name }) => job_name !== "after");
  const numbered = own.map((record) => ({ record, n: (JSON.parse(record.payload!) as { n: number }).n }));
  deepEqual(numbered.map(({ n }) => n).sort((a, b) => a - b), Array.from({ length: messages }, (_, n) => n));
  const skipped = numbered.filter(({ record }) => record.reason === "Skipped" && record.status === "succeeded");
  deepEqual(skipped.map(({ n }) => n).sort(), there.filter((n) => n < messages).toSorted());
  const others = numbered.filter((one) => !skipped.includes(one)).map(({ record }) => record);
  const reasons = new Set(others.map(({ reason }) => reason));
  const allowed: Record<WhenBusy, string[]> = {
    wait: ["Completed"],
    forbid: ["Completed", "Skipped"],
    latest: ["Completed", "Superseded"],
    replace: ["Completed", "Superseded", "Replaced"],
  };
  deepEqual([...reasons].filter((reason) => !allowed[mode].includes(reason)), []);
  if (others.length === 0) return;
  const newest = others.toSorted((a, b) => Date.parse(a.received_at) - Date.parse(b.received_at)).at(-1)!;
  const rivals = others.filter(({ received_at }) => received_at === newest.received_at);
  // Whom nobody outdid has run.
  if (mode === "latest" || mode === "replace") ok(rivals.some(({ reason }) => reason === "Completed"));
  if (mode === "forbid") ok(reasons.has("Completed"));
}

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Step>({ do: "send" }) },
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.constantFrom(1, 10, 40, 300, 3_000) }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant("end" as const), which: fc.nat(5) }) },
  { weight: 1, arbitrary: fc.constant<Step>({ do: "kill" }) },
);

const anyCase: fc.Arbitrary<Case> = fc.record({
  mode: fc.constantFrom<WhenBusy>("wait", "wait", "forbid", "replace", "latest"),
  maxRuns: fc.integer({ min: 1, max: 3 }),
  maxWaiting: fc.constantFrom(1, 2, 100),
  rows: fc.constantFrom<1 | 2>(1, 2),
  isPaused: fc.constantFrom(false, false, false, true),
  messages: fc.integer({ min: 1, max: 9 }),
  there: fc.oneof(fc.constant([]), fc.uniqueArray(fc.nat(8), { maxLength: 4 })),
  steps: fc.array(step, { maxLength: 40 }),
  turns: fc.array(
    fc.record({
      after: fc.nat(20),
      fate: fc.constantFrom<Fate>("die before", "die after", "die, late", "fail", "fail after"),
    }),
    { maxLength: 8 },
  ),
  seed: fc.nat(),
}).filter(({ mode, isPaused, maxWaiting, messages }) =>
  // Of a paused row no more than max_waiting are taken; the rest comes when it goes on.
  !isPaused || mode === "wait" && maxWaiting >= 1 && messages > 0
);

const RUNS = Number(Deno.env.get("MODEL_RUNS") ?? 200);
const SEED = Deno.env.get("MODEL_SEED");

Deno.test("whatever dies, no limit is exceeded, each message has one end, and what follows it runs once", async () => {
  await fc.assert(fc.asyncProperty(anyCase, play), {
    numRuns: RUNS,
    ...(SEED === undefined ? {} : { seed: Number(SEED) }),
  });
});

Deno.test("a case without deaths comes to what its way to be busy says", async () => {
  const base: Case = {
    mode: "wait",
    maxRuns: 1,
    maxWaiting: 100,
    rows: 1,
    isPaused: false,
    messages: 4,
    there: [],
    steps: [{ do: "send" }, { do: "wait", ms: 5_000 }],
    turns: [],
    seed: 1,
  };
  for (const mode of ["wait", "forbid", "replace", "latest"] as const) await play({ ...base, mode });
  await play({ ...base, isPaused: true });
  await play({ ...base, there: [0, 1, 2, 3] });
});
