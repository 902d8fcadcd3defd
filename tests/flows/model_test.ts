/**
 * Flows as a model: the whole service on fake ports, random small tables, messages and ends, and deaths of the process at
 * any call. What exists in the end is what oracle.ts computes from the messages and the ends alone. More cases:
 * `MODEL_RUNS=5000 deno test -A tests/flows/model_test.ts`; the counterexample that a failure names, with all its calls:
 * `MODEL_CASE='{"rows":…}'`.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { parseTable } from "../../catalog.ts";
import { COLUMNS } from "../../catalog/columns.ts";
import type { RunSpec } from "../../ports.ts";
import { playSteps, playToTheEnd, type Step } from "../harness/play.ts";
import { VirtualTime } from "../harness/virtual_time.ts";
import { type End, type Fate, type Turn, World, type WorldJob } from "../harness/world.ts";
import {
  baseOf,
  BUSY,
  type Busy,
  BUSY_TOPIC,
  type Cause,
  endOf,
  expect,
  keyOf,
  type ModelMessage,
  type ModelRow,
  payloadOf,
  positionOf,
  PREFIX,
  tableOf,
  TICK,
  TICK_MS,
  TOPICS,
} from "./oracle.ts";

interface Case {
  readonly rows: readonly ModelRow[];
  readonly messages: readonly ModelMessage[];
  readonly steps: readonly Step[];
  readonly turns: readonly Turn[];
  /** A row that runs by itself is there, too. */
  readonly hasTick: boolean;
  /** A row of which one runs at a time is there, too. */
  readonly busy?: Busy | undefined;
  /** Jobs that the namespace may have at a time. */
  readonly quota?: number | undefined;
  readonly seed: number;
}

/** What the world saw, in the oracle's words. */
class Books {
  /** Keys of the runs that were created, as often as they were. */
  readonly created: string[] = [];
  readonly bases = new Map<string, string>();
  readonly groups = new Map<string, string>();
  /** By topic's kind and base: what was published of groups. */
  readonly groupEnds = new Map<string, string[]>();
  readonly jobEnds = new Map<string, Set<string>>();
  readonly exceeded: string[] = [];
  /** Due times of the row that runs by itself, as often as they ran. */
  readonly due: number[] = [];
  /** Numbers of the messages of which a run of the row BUSY was created. */
  readonly busy: number[] = [];

  constructor(readonly rows: readonly ModelRow[]) {}

  /** Reads the manifest of a group. */
  manifestOf: (group: string) => string | undefined = () => undefined;

  create(spec: RunSpec): void {
    const { runName, row, firstRun, attempt = 1, group, index, message } = spec;
    if (row.jobName === TICK) {
      const { due } = JSON.parse(new TextDecoder().decode(message.payload)) as { due: string };
      return void this.due.push(Date.parse(due));
    }
    if (row.jobName === BUSY) {
      return void this.busy.push(numberIn(JSON.parse(new TextDecoder().decode(message.payload))));
    }
    let base = firstRun === undefined ? undefined : this.bases.get(firstRun);
    if (base === undefined) {
      const cause = this.#causeOf(spec);
      const at = positionOf(row.jobName);
      base = baseOf(at, cause, index);
      if (group !== undefined) this.groups.set(group, baseOf(at, cause));
    }
    this.bases.set(runName, base);
    this.created.push(keyOf(base, attempt));
  }

  #causeOf({ message: { topic, payload }, row }: RunSpec): string {
    return this.#causeIn(topic, JSON.parse(new TextDecoder().decode(payload)), row.needs !== undefined);
  }

  #causeIn(topic: string, said: Said, isJoin: boolean): string {
    const n = numberIn(said);
    if (isJoin) return `join ${n}`;
    if (!topic.startsWith(PREFIX)) return `message ${n}`;
    const [kind = ""] = topic.slice(PREFIX.length + 1).split("/");
    return `${kind} ${
      kind.startsWith("group") ? this.#groupOf(said.group ?? "") : this.bases.get(said.run_name ?? "")
    }`;
  }

  /** Of a group without items nothing was created: its manifest says what caused it. */
  #groupOf(group: string): string {
    const known = this.groups.get(group);
    if (known !== undefined) return known;
    const { row, topic, payload } = JSON.parse(this.manifestOf(group) ?? "{}") as {
      readonly row: { readonly jobName: string; readonly needs?: readonly string[] };
      readonly topic: string;
      readonly payload: string;
    };
    return baseOf(positionOf(row.jobName), this.#causeIn(topic, JSON.parse(payload), row.needs !== undefined));
  }

  publish(topic: string, body: string): void {
    const [, kind, jobName] = /\/((?:job|group)_(?:complete|failed))\/([^/]+)$/.exec(topic) ?? [];
    if (kind === undefined || jobName === undefined) return;
    const said = JSON.parse(body) as Said & { total?: number; failed?: number; attempt?: number };
    if (kind.startsWith("group")) {
      const base = this.#groupOf(said.group ?? "");
      const told = this.groupEnds.get(base) ?? [];
      this.groupEnds.set(base, [...told, `${kind} ${said.failed}/${said.total}`]);
      return;
    }
    if (jobName === TICK || jobName === BUSY) return;
    const key = keyOf(this.bases.get(said.run_name ?? "") ?? "?", said.attempt ?? 1);
    this.jobEnds.set(key, (this.jobEnds.get(key) ?? new Set()).add(kind.slice("job_".length)));
  }

  run({ spec }: WorldJob, world: World): void {
    const maxRuns = spec.row.jobName === BUSY ? 1 : this.rows[positionOf(spec.row.jobName)]?.maxRuns;
    if (maxRuns === undefined) return;
    const many = world.running.filter(({ spec: { row } }) => row.jobName === spec.row.jobName).length;
    if (many > maxRuns) this.exceeded.push(`${many} runs of ${spec.row.jobName}, which may have ${maxRuns}`);
  }
}

interface Said {
  readonly n?: number;
  readonly input?: string;
  readonly run_name?: string;
  readonly group?: string;
}

/** Of the message that began it all. */
function numberIn({ n, input }: Said): number {
  return n ?? numberIn(JSON.parse(input ?? "{}") as Said);
}

/** Longest time until all has come to its end, in steps of a second: retries wait for six minutes at most. */
const MOST_SECONDS = 3_600;
/** So long nothing happens: then it is over. */
const QUIET_SECONDS = 45;
/** So long after a due time its run is there. */
const SOON_MS = 10_000;
/** From then to the end: one more due time, and all that it leads to. */
const LAST_SECONDS = 75;

/** Resolves to whether every fate of the case has met a call. */
async function play(one: Case, say: (line: string) => void = () => {}): Promise<boolean> {
  const { rows, messages, steps, turns, hasTick, busy, quota, seed } = one;
  const expected = expect(rows, messages);
  fc.pre(expected !== undefined);
  const table = tableOf(rows, { hasTick, ...(busy ? { busy } : {}) });
  deepEqual(parseTable(new TextEncoder().encode(table), { topicPrefix: PREFIX }).problems.filter(isError), []);
  using time = new VirtualTime({ seed, startMs: Date.UTC(2026, 0, 5) });
  const books = new Books(rows);
  const world = new World(table, {
    topicPrefix: PREFIX,
    turns,
    ...(quota === undefined ? {} : { quota }),
    onCreate: (spec) => books.create(spec),
    onRunning: (job, world) => books.run(job, world),
    onPublish: (topic, body) => books.publish(topic, body),
    onCall: (what) => say(`${(performance.now() / 1_000).toFixed(3)} ${what}`),
  });
  books.manifestOf = (group) => world.store.text(`.groups/${group}.json`);
  world.boot();
  const sinceMs = Date.now();
  await time.advance(1_000);
  world.begin();
  let sent = 0;
  const send = () => {
    const message = messages[sent];
    if (message) world.send(TOPICS[message.topic]!, payloadOf(message, sent++));
  };
  const end = (job: WorldJob | undefined) => {
    if (!job) return;
    const { row, runName, index = 0, attempt = 1 } = job.spec;
    if (row.jobName === TICK || row.jobName === BUSY) return world.end(runName, "ok");
    const base = books.bases.get(runName)!;
    const n = Number(/(?:message|join) (\d+)\)/.exec(base)![1]);
    world.end(runName, endOf(rows[positionOf(row.jobName)]!, { n, index, attempt }));
  };
  await playSteps({ world, time, send, end }, steps);
  while (sent < messages.length) send();
  await playToTheEnd({ world, time, end }, { quietSeconds: QUIET_SECONDS, mostSeconds: MOST_SECONDS });
  // Who comes later finds nothing to do.
  world.kill();
  for (let second = 0; second < LAST_SECONDS; second++) {
    await time.advance(1_000);
    for (const job of world.running) end(job);
  }
  const untilMs = Date.now();
  world.close();
  await time.advance(5_000);
  deepEqual(uncaught.splice(0), []);
  deepEqual(books.created.toSorted(), [...expected!.runs.keys()].sort());
  const told = [...expected!.runs].filter(([, end]) => end !== "retried");
  deepEqual(sorted(books.jobEnds), told.map(([key, end]) => `${key} ${end}`).sort());
  const groupEnds = [...expected!.groups].map(([base, { total, failed }]) =>
    `${base} group_${failed === 0 ? "complete" : "failed"} ${failed}/${total}`
  );
  deepEqual(sorted(new Map([...books.groupEnds].map(([base, ends]) => [base, new Set(ends)]))), groupEnds.sort());
  deepEqual(books.exceeded, []);
  const records = [...world.store.objects.keys()].filter((key) => /^r\d[^/]*\.json$/.test(key));
  equal(records.length, expected!.runs.size, "records");
  deepEqual([...world.store.objects.keys()].filter((key) => key.startsWith(".open-groups/")), [], "open groups");
  deepEqual([...world.store.objects.keys()].filter((key) => key.startsWith(".open-attempts/")), [], "open attempts");
  if (busy) {
    checkBusy(busy, {
      books,
      world,
      sent: messages.flatMap(({ topic }, n) => topic === BUSY_TOPIC ? [n] : []),
    });
  }
  // Behind a full quota due times coalesce at any time.
  if (hasTick && quota === undefined) {
    checkDueTimes(books.due, { sinceMs, untilMs, isDisturbed: world.deaths > 1 || turns.length > 0 });
  }
  return world.turnsLeft === 0;
}

/** Each message has one record; the newest one has run where it goes before the others. */
function checkBusy(
  busy: Busy,
  { books, world, sent }: { books: Books; world: World; sent: readonly number[] },
): void {
  const records = [...world.store.objects.keys()].filter((key) => key.startsWith(`${BUSY}-`))
    .map((key) => JSON.parse(world.store.text(key)!) as { payload: string; status: string; reason: string });
  const ends = new Map(
    records.map(({ payload, status, reason }) => [numberIn(JSON.parse(payload)), { status, reason }]),
  );
  equal(records.length, sent.length);
  deepEqual([...ends.keys()].sort(), sent);
  const skipped = sent.filter((n) => ends.get(n)!.reason === "Skipped");
  if (busy === "forbid") deepEqual(books.busy.toSorted(), sent.filter((n) => !skipped.includes(n)));
  else deepEqual(books.busy.toSorted(), sent);
  const last = ends.get(sent.at(-1)!);
  // A message that comes again after a death has been received later than it first was.
  if (busy !== "forbid" && last && world.deaths === 1) equal(last.status, "succeeded");
  if (sent.length > 0) ok([...ends.values()].some(({ status }) => status === "succeeded"));
}

/** Each once; none is missing but those that somebody's death, or a call that failed, let coalesce with a later one. */
function checkDueTimes(
  due: readonly number[],
  { sinceMs, untilMs, isDisturbed }: { sinceMs: number; untilMs: number; isDisturbed: boolean },
): void {
  const found = due.toSorted((one, other) => one - other);
  deepEqual(found, [...new Set(found)], "due times");
  deepEqual(found.filter((at) => at % TICK_MS !== 0 || at < sinceMs || at > untilMs), [], "times that are not due");
  const all: number[] = [];
  for (let at = Math.ceil(sinceMs / TICK_MS) * TICK_MS; at <= untilMs - SOON_MS; at += TICK_MS) all.push(at);
  const missing = all.filter((at) => !found.includes(at));
  if (!isDisturbed) deepEqual(missing, [], "due times");
  else equal(missing.includes(all.at(-1)!), false, "the last due time");
}

function sorted(ends: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  return [...ends].flatMap(([key, all]) => [...all].map((end) => `${key} ${end}`)).sort();
}

function isError({ severity }: { readonly severity: string }): boolean {
  return severity === "error";
}

// ---------------------------------------------------------------- cases

const has = (column: keyof typeof COLUMNS) => !("planned" in COLUMNS[column]);

/** A row by draws; those that point to earlier rows are taken modulo their number. */
interface Draw {
  readonly on: Cause["on"];
  readonly of: readonly number[];
  readonly items: "list" | number | undefined;
  readonly retries: number;
  readonly rungs: number;
  readonly maxRuns: number | undefined;
  readonly ends: readonly End[];
}

function rowsOf(draws: readonly Draw[]): ModelRow[] {
  const rows: ModelRow[] = [];
  for (const { on, of, items, maxRuns, ...rest } of draws) {
    rows.push({
      ...rest,
      cause: causeOf(on, of, rows),
      ...(items === undefined ? {} : { items }),
      ...(maxRuns === undefined ? {} : { maxRuns }),
    });
  }
  return rows;
}

function causeOf(on: Cause["on"], of: readonly number[], earlier: readonly ModelRow[]): Cause {
  const [first = 0] = of;
  if (earlier.length === 0 || on === "message") return { on: "message", topic: first % TOPICS.length };
  const at = first % earlier.length;
  if (on === "needs") return { on, rows: [...new Set(of.map((one) => one % earlier.length))].sort() };
  const isGroup = earlier[at]!.items !== undefined;
  return { on: isGroup || !on.startsWith("group") ? on : on.replace("group", "job") as "job_complete", of: at };
}

const causes: Cause["on"][] = ["message", "job_complete", "job_complete", "job_failed"];
if (has("forEach")) causes.push("group_complete", "group_complete", "group_failed");
if (has("needs")) causes.push("needs", "needs", "needs");

const draw: fc.Arbitrary<Draw> = fc.record({
  on: fc.constantFrom(...causes),
  of: fc.array(fc.nat(11), { minLength: 1, maxLength: 3 }),
  items: has("forEach")
    ? fc.constantFrom(undefined, undefined, "list" as const, 1, 2, 3)
    : fc.constant<undefined>(undefined),
  retries: has("retries") ? fc.constantFrom(0, 0, 1, 2) : fc.constant(0),
  rungs: has("retries") ? fc.constantFrom(1, 1, 2, 3) : fc.constant(1),
  maxRuns: has("maxRuns") ? fc.constantFrom(undefined, undefined, 1, 2) : fc.constant<undefined>(undefined),
  ends: fc.array(fc.constantFrom<End>("ok", "ok", "ok", "exit", "oom"), { minLength: 1, maxLength: 4 }),
});

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 3, arbitrary: fc.constant<Step>({ do: "send" }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant("wait" as const), ms: fc.constantFrom(1, 10, 40, 300, 3_000, 20_000) }),
  },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("end" as const), which: fc.nat(9) }) },
  { weight: 1, arbitrary: fc.constant<Step>({ do: "kill" }) },
);

const anyCase: fc.Arbitrary<Case> = fc.record({
  rows: fc.array(draw, { minLength: 1, maxLength: 5 }).map(rowsOf),
  messages: fc.array(fc.record({ topic: fc.nat(TOPICS.length - 1), items: fc.constantFrom(0, 1, 2, 4) }), {
    minLength: 1,
    maxLength: 3,
  }),
  steps: fc.array(step, { maxLength: 40 }),
  turns: fc.array(
    fc.record({
      after: fc.nat(25),
      fate: fc.constantFrom<Fate>("die before", "die after", "die, late", "fail", "fail after"),
    }),
    { maxLength: 8 },
  ),
  busy: has("whenBusy")
    ? fc.constantFrom<(Busy | undefined)[]>(undefined, undefined, undefined, "forbid", "replace", "latest")
    : fc.constant(undefined),
  quota: fc.constantFrom(undefined, undefined, 1, 2, 4),
  hasTick: has("schedule") ? fc.constantFrom(false, false, false, false, true) : fc.constant(false),
  seed: fc.nat(),
});

const FATES: readonly Fate[] = ["die before", "die after", "die, late", "fail", "fail after"];

/** Plays a case once for each of its calls, which meets that fate. */
async function playEachCall(fate: Fate, one: Omit<Case, "steps" | "turns" | "seed" | "hasTick">): Promise<void> {
  const withFateOf = (call: number) =>
    play({ ...one, steps: [], turns: [{ after: call, fate }], seed: call, hasTick: false });
  let calls = 0;
  while (await withFateOf(calls)) calls++;
  ok(calls > 20, `${calls} calls`);
}

Deno.test("a group of items and what waits for its end come to the same, whichever of their calls is the last", async (t) => {
  const row: ModelRow = { cause: { on: "message", topic: 0 }, items: "list", retries: 0, rungs: 1, ends: ["ok"] };
  const after: ModelRow = { cause: { on: "group_complete", of: 0 }, retries: 0, rungs: 1, ends: ["ok"] };
  for (const fate of FATES) {
    for (const items of [0, 2]) {
      await t.step(
        `${fate}, ${items} items`,
        () => playEachCall(fate, { rows: [row, after], messages: [{ topic: 0, items }] }),
      );
    }
  }
});

Deno.test("as many failed runs as the namespace may have Jobs are all tried again, whichever of their calls is the last", async (t) => {
  const first: ModelRow = { cause: { on: "message", topic: 0 }, items: "list", retries: 2, rungs: 1, ends: ["exit"] };
  for (const [fate, ends] of FATES.flatMap((fate) => [[fate, ["exit"]], [fate, ["exit", "ok"]]] as [Fate, End[]][])) {
    await t.step(
      `${fate}, ${ends}`,
      () => playEachCall(fate, { rows: [{ ...first, ends }], messages: [{ topic: 0, items: 4 }], quota: 2 }),
    );
  }
});

const RUNS = Number(Deno.env.get("MODEL_RUNS") ?? 300);
const CASE = Deno.env.get("MODEL_CASE");

/** What nobody has caught would end the service. */
const uncaught: unknown[] = [];

Deno.test("whatever dies, a table's flows come to what its messages and ends say, and to nothing else", async () => {
  const hear = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    uncaught.push(event.reason);
  };
  globalThis.addEventListener("unhandledrejection", hear);
  try {
    if (CASE !== undefined) return void await play(JSON.parse(CASE), console.log);
    await fc.assert(fc.asyncProperty(anyCase, async (one) => void await play(one)), { numRuns: RUNS });
  } finally {
    globalThis.removeEventListener("unhandledrejection", hear);
  }
});
