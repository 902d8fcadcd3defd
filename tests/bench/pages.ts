/**
 * Measurement of the pages on the server: how long each takes to be answered with 1,000 live runs, 300 rows and a million
 * ended runs, and what it weighs. The index is made as the measurement of the history makes it; each step is a process of
 * its own.
 */
import { parseTable } from "../../catalog/table.ts";
import type { RunView } from "../../ports.ts";
import { aRunView } from "../harness/fakes.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { anApp, fakeView, PREFIX } from "../harness/page_kit.ts";
import { openHistory, type Order, RUNS_A_MESSAGE, stepOf } from "./history.ts";
import { atMost, type Measurement, percentile, type Sample } from "./measure.ts";

/** By name. */
export const PAGES: Readonly<Record<string, Measurement>> = {
  "pages": {
    figures: {
      "pages-runs": { unit: "runs" },
      "pages-p95": { unit: "ms", goal: atMost(150, "value") },
      "pages-weight": { unit: "KB", goal: atMost(120, "value") },
      "pages-overview-median": { unit: "ms" },
    },
    once: true,
    run: measure,
  },
};

const LIVE = 1_000;
const ROWS = 300;
const ROUNDS = 20;

const PATHS = [
  "/",
  "/?rows_sort=failures&live_sort=longest",
  "/index.json",
  "/runs",
  "/runs?state=ended",
  "/runs?row=ROW-7&state=failed&time=24h",
  "/runs?text=chip4711",
  "/runs?reason=OOMKilled&sort=longest",
  "/runs?row=nobody",
  "/table",
  "/graph",
  "/rows/row-7",
  "/messages",
  "/usage",
];

async function measure(_repeats: number, messages: number): Promise<Sample[]> {
  const dir = await scratchFolder("pages");
  const runs = messages * RUNS_A_MESSAGE;
  try {
    for (const step of ["make", "build"] as const) await stepOf({ step, dir, runs });
    const { success, stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", import.meta.filename!],
      env: { PAGES_BENCH: JSON.stringify({ step: "ask", dir, runs } satisfies Order) },
      stdout: "piped",
      stderr: "inherit",
    }).output();
    if (!success) throw new Error("The pages failed");
    const figures = Object.entries<number>(JSON.parse(new TextDecoder().decode(stdout)));
    return [
      Object.fromEntries([["runs", runs] as const, ...figures].map(([name, value]) => [`pages-${name}`, { value }])),
    ];
  } finally {
    await removeFolder(dir);
  }
}

function liveRuns(): RunView[] {
  return Array.from({ length: LIVE }, (_, at) =>
    aRunView({
      runName: `row-${at % 40}-${String(at).padStart(12, "a").replaceAll(/[0189]/g, "z")}`,
      jobName: `row-${at % 40}`,
      ...(at % 4 === 3 ? { state: "pending", detail: "No node has a free GPU" } : {}),
    }));
}

async function ask(order: Order): Promise<Record<string, number>> {
  const history = openHistory(order);
  await history.find({ limit: 51 });
  const rows = Array.from({ length: ROWS }, (_, at) => `row-${at},lab/exp-${at}/uploaded,lab/x:1,owner-${at % 7},8Gi`);
  const table = parseTable(`job_name,mqtt_topic,image,owner,memory_request\n${rows.join("\n")}\n`, {
    topicPrefix: PREFIX,
  });
  const live = liveRuns();
  const { get } = anApp({ view: { ...fakeView({ table, live }), history } });
  let [slowest, heaviest, overview] = [0, 0, 0];
  for (const path of PATHS) {
    const times: number[] = [];
    let [bytes, status] = [0, 0];
    for (let round = 0; round < ROUNDS; round++) {
      const askedMs = performance.now();
      const answer = await get(path);
      bytes = (await answer.arrayBuffer()).byteLength;
      times.push(performance.now() - askedMs);
      status = answer.status;
    }
    const [median, p95] = [percentile(times, 50), percentile(times, 95)];
    console.error(`${path} ${status}: median ${median.toFixed(1)} ms, p95 ${p95.toFixed(1)} ms, ${bytes} bytes`);
    if (status !== 200) throw new Error(`${path} answers ${status}`);
    slowest = Math.max(slowest, p95);
    if (!path.includes(".json")) heaviest = Math.max(heaviest, bytes / 1_000);
    if (path === "/") overview = median;
  }
  history.close();
  return { p95: slowest, weight: heaviest, "overview-median": overview };
}

if (import.meta.main) {
  console.log(JSON.stringify(await ask(JSON.parse(Deno.env.get("PAGES_BENCH") ?? ""))));
  Deno.exit(0);
}
