/**
 * Proves by crashes that no message is lost and none runs twice: `deno task chaos [--short | --faults]
 * [--only=WORDS]`. Each case (of those whose names hold the words) sends messages, breaks something (the service at a
 * fault point, the broker, the store, the API server, the wire), mends it, and counts what came of it with eyes of its
 * own. `--long [--minutes=30] [--seed=N]` kills parts at random instead, see chaos/long.ts; a sixth of the time is then
 * for runs that write much (chaos/chatty.ts), with `--chatty` all of it. `--broker=hivemq` or `artemis`: on that one
 * instead of mosquitto, without runs that write much, which no broker takes part in. `--history=FILE`: all that was
 * seen, a JSON line each. Prints a table; the last line is `N passed, N failed`.
 */
import { isGoodChatty, renderChatty, runChatty } from "./chatty.ts";
import { isGood, renderLong, runLong, type Seen } from "./long.ts";
import { casesOf, type Extent } from "./matrix.ts";
import { type CaseResult, runCase } from "./stage.ts";
import { BROKERS } from "../harness/brokers/all.ts";
import { flag, numberFlag } from "../harness/flags.ts";
import { startKit } from "../harness/kit.ts";

export interface ChaosOptions {
  readonly extent: Extent;
  /** Only cases whose name holds this. */
  readonly only?: string;
  /** Cases at once, where they do not disturb each other. */
  readonly atOnce?: number;
  readonly onResult?: (result: CaseResult) => void;
}

/** Runs all cases of an extent on parts of their own. */
export async function runChaos(
  { extent, only = "", atOnce = 6, onResult = () => {} }: ChaosOptions,
): Promise<CaseResult[]> {
  await using kit = await startKit({
    broker: { persistence: "always", maxQueuedMessages: 0 },
    cluster: { node: "real", controllerFlags: ["--kube-api-qps=100", "--kube-api-burst=200"] },
  });
  const cases = casesOf(extent).filter(({ name }) => name.includes(only))
    .map((one, index) => ({ one, id: `c${index + 1}` }));
  const results: CaseResult[] = [];
  const work = async (queue: typeof cases) => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const result = await runCase(kit, next.one, next.id);
      results.push(result);
      onResult(result);
    }
  };
  const together = cases.filter(({ one }) => !one.alone);
  await Promise.all(Array.from({ length: atOnce }, () => work(together)));
  await work(cases.filter(({ one }) => one.alone));
  return results;
}

// ---------------------------------------------------------------- the table

/** The results as a table for people. */
export function renderTable(results: readonly CaseResult[]): string {
  const width = Math.max(...results.map(({ name }) => name.length), 4);
  const line = (cells: readonly (string | number)[]) =>
    [String(cells[0]).padEnd(width), ...cells.slice(1, 5).map((cell) => String(cell).padStart(8)), `  ${cells[5]}`]
      .join(" ");
  return [
    line(["case", "messages", "runs", "lost", "doubled", "outcome"]),
    ...results.map(({ name, messages, runs, lost, doubled, outcome }) =>
      line([name, messages, runs, lost, doubled, outcome])
    ),
  ].join("\n");
}

async function runMatrix(): Promise<boolean> {
  const results = await runChaos({
    extent: Deno.args.includes("--short") ? "short" : Deno.args.includes("--faults") ? "faults" : "full",
    only: flag("only") ?? "",
    onResult: ({ name, outcome, seconds }) => console.error(`${name}: ${outcome} (${seconds.toFixed(1)} s)`),
  });
  const failed = results.filter(({ outcome }) => outcome !== "ok").length;
  console.log(`${renderTable(results)}\n${results.length - failed} passed, ${failed} failed`);
  return failed === 0;
}

/** Writes each thing that was seen with its time, at once, so that a run that is broken off has its history too. */
async function openHistory(path: string | undefined): Promise<{ add(seen: Seen): void } & Disposable | undefined> {
  if (path === undefined) return undefined;
  const file = await Deno.open(path, { write: true, create: true, truncate: true });
  return {
    add(seen) {
      file.writeSync(new TextEncoder().encode(`${JSON.stringify({ at: new Date().toISOString(), ...seen })}\n`));
    },
    [Symbol.dispose]: () => file.close(),
  };
}

async function runRandom(): Promise<boolean> {
  const minutes = numberFlag("minutes", 30);
  const seed = numberFlag("seed", Math.floor(Math.random() * 1e9));
  console.log(`${minutes} minutes, --seed=${seed}`);
  const onProgress = (line: string) => console.error(`${new Date().toISOString().slice(11, 19)} ${line}`);
  const name = flag("broker");
  const broker = BROKERS.find(({ part, protocolVersion }) => part === name && protocolVersion === 5);
  if (name !== undefined && broker === undefined) throw new Error(`There is no broker ${name} that speaks MQTT 5`);
  const isAll = Deno.args.includes("--chatty");
  const chatty = broker === undefined
    ? await runChatty({ minutes: isAll ? minutes : minutes / 6, seed, onProgress })
    : undefined;
  if (chatty !== undefined) console.log(renderChatty(chatty));
  const isChattyGood = chatty === undefined || isGoodChatty(chatty);
  if (isAll) return isChattyGood;
  using history = await openHistory(flag("history"));
  const perSecond = numberFlag("per-second", 50);
  const result = await runLong({
    minutes,
    seed,
    perSecond,
    onProgress,
    ...(broker ? { broker } : {}),
    ...(history ? { onSeen: (seen) => history.add(seen) } : {}),
  });
  console.log(renderLong(result));
  return isGood(result) && isChattyGood;
}

if (import.meta.main) {
  const good = await (Deno.args.includes("--long") ? runRandom() : runMatrix());
  Deno.exit(good ? 0 : 1);
}
