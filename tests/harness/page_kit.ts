/** Runs, records, tables and a view of them for the tests of the page. */
import type { JobFacts, RunRecord, RunView } from "../../ports.ts";
import type { WaitingJoin } from "../../flows.ts";
import type { SeenMessage } from "../../observers/messages.ts";
import type { Reach, RunHistory } from "../../history.ts";
import { ModelHistory } from "./model_history.ts";
import { pageOf } from "../../status/pages/lists.tsx";
import { type OverviewInput, overviewPage } from "../../status/pages/overview.tsx";
import { statusApp, type StatusOptions } from "../../status.ts";
import type { Exchange } from "../../status/http_server.ts";
import { LiveEvents } from "../../status/live_events.ts";
import { Sessions } from "../../status/session.ts";
import type { StatusView } from "../../status/view.ts";
import type { RunPageInput } from "../../status/pages/run.tsx";
import { parseTable, type Table } from "../../catalog/table.ts";

export const PREFIX = "services/mqtt_job_listener";

/** A table with a chain, a misspelt completion topic, a self-trigger, a circle and a bad row, plus `more` lines. */
export function tableOf(...more: string[]): Table {
  const done = `${PREFIX}/job_complete`;
  const lines = [
    "job_name,mqtt_topic,image,cpu_request,memory_request,gpu",
    "sort-spikes,experiments/+/uploaded,lab/sorter:3,4,16Gi,1",
    `curate,${done}/sort-spikes,lab/curate:2,1,4Gi,0`,
    `plot,${done}/curate,lab/plot:1,1,2Gi,0`,
    `alarm,${PREFIX}/job_failed/sort-spikes,lab/alarm:1,100m,64Mi,0`,
    `report,${done}/curatte,lab/report:1,1,1Gi,0`,
    `loop,${done}/loop,lab/loop:1,1,1Gi,0`,
    `ping,${done}/pong,lab/ping:1,1,1Gi,0`,
    `pong,${done}/ping,lab/pong:1,1,1Gi,0`,
    "broken,experiments/+/uploaded,lab/broken:1,four,1Gi,0",
    ...more,
  ];
  return parseTable(lines.join("\n") + "\n", { topicPrefix: PREFIX });
}

/** What the page of a run is made of, but for `more`. */
export function aRunPage(more: Partial<RunPageInput> = {}): RunPageInput {
  return {
    now: new Date("2026-03-01T12:00:00Z"),
    runName: "a-1",
    root: "rootrootroot",
    timeline: { received_at: "2026-03-01T10:00:00.000Z", steps: [], ms: 0 },
    waits: [],
    ancestors: [],
    descendants: [],
    reruns: [],
    family: { lines: [], left: 0 },
    actions: false,
    ...more,
  };
}

export interface FakeView {
  readonly table?: Table;
  readonly tableFailure?: string;
  readonly messages?: readonly SeenMessage[];
  readonly live?: readonly RunView[];
  readonly ended?: readonly RunRecord[];
  readonly find?: RunHistory["find"];
  readonly reach?: Reach;
  readonly onRecord?: (runName: string) => void;
  readonly waiting?: readonly WaitingJoin[];
  readonly marks?: readonly string[];
  readonly job?: JobFacts;
  readonly log?: (
    options: { readonly follow: boolean; readonly tailBytes?: number; readonly signal: AbortSignal },
  ) => ReadableStream<Uint8Array> | undefined;
}

/** A view of what it is given. */
export function fakeView(fake: FakeView = {}): StatusView {
  const { live = [], ended = [] } = fake;
  const past = new ModelHistory();
  for (const record of ended) past.emit({ type: "finished", record, completionMs: 0 });
  return {
    table: () => fake.table,
    tableFailure: () => fake.tableFailure,
    messages: () => fake.messages ?? [],
    liveRuns: () => live,
    liveRun: (runName) => live.find((run) => run.runName === runName),
    history: {
      find: fake.find ?? ((search) => past.find(search)),
      count: (filter) => past.count(filter),
      lastEnds: (most) => past.lastEnds(most),
      days: (query) => past.days(query),
      reach: () => fake.reach ?? { runs: ended.length, kind: "all" },
    },
    record: (runName) => {
      fake.onRecord?.(runName);
      return Promise.resolve(ended.find((record) => record.run_name === runName));
    },
    hasBegun: (runName) => Promise.resolve(ended.some((record) => record.run_name === runName)),
    waitingJoins: () => fake.waiting ?? [],
    joinMarks: () => Promise.resolve(new Set(fake.marks)),
    job: () => Promise.resolve(fake.job),
    log: (_, options) => Promise.resolve(fake.log?.(options)),
  };
}

/** The page `/` of what it is given, the lists as they are on one page. */
export function anOverview(
  { live = [], rows = [], ...more }: Partial<Omit<OverviewInput, "live" | "rows">> & {
    readonly live?: OverviewInput["live"]["rows"];
    readonly rows?: OverviewInput["rows"]["rows"];
  } = {},
): string {
  return overviewPage({
    now: new Date("2026-03-01T12:00:00Z"),
    health: { state: "working", fine: ["broker connected"], troubles: [] },
    hasTable: true,
    problems: { errors: 0, warnings: 0 },
    running: 0,
    waiting: 0,
    failed: 0,
    failures: [],
    reach: { runs: 0, kind: "all" },
    live: pageOf(live, 1, 1_000),
    rows: pageOf(rows, 1, 1_000),
    waits: [],
    query: {},
    ...more,
  });
}

// ---------------------------------------------------------------- the routes

/** Where `anApp` is asked. */
export const ORIGIN = "http://127.0.0.1:8080";
/** The token that `anApp` has. */
export const TOKEN = "correct horse battery";

export interface AppOptions extends Partial<StatusOptions> {
  readonly closing?: AbortController;
}

/**
 * The routes over a fake view: `ask` and `get` go through them; `calls` are the actions that were carried out, `askers`
 * who asked for each.
 */
export function anApp({ closing = new AbortController(), ...options }: AppOptions = {}) {
  const calls: unknown[][] = [];
  const askers: string[] = [];
  const events = options.events ?? new LiveEvents();
  const sessions = options.sessions ?? new Sessions({ publicUrl: options.publicUrl });
  const call = (...words: unknown[]) => {
    calls.push(words);
    return Promise.resolve({ run_name: "sort-abcdefgh2345" });
  };
  const app = statusApp({
    listen: { hostname: "127.0.0.1", port: 0 },
    token: TOKEN,
    metrics: { contentType: "text/plain; version=0.0.4", render: () => Promise.resolve("up 1\n") },
    health: () => ({ ok: true, ready: false, checks: { broker: "connected" } }),
    view: fakeView(),
    actions: {
      run: (jobName, payload, { requestedBy }) => (askers.push(requestedBy), call("run", jobName, payload)),
      cancel: (runName, who) => (askers.push(who), call("cancel", runName)),
      rerun: (runName, who) => (askers.push(who), call("rerun", runName)),
    },
    ...options,
    events,
    sessions,
  }, closing.signal);
  const ask = async (request: Request, env: Partial<Exchange> = {}) => await app.fetch(request, env);
  const get = (path: string, init: RequestInit = {}) => {
    const headers = new Headers(init.headers);
    if (!headers.has("host")) headers.set("host", new URL(ORIGIN).host);
    return ask(new Request(ORIGIN + path, { ...init, headers }));
  };
  /** The same request, of who has signed in. */
  const signedIn = (init: RequestInit = {}): RequestInit => {
    const [cookie = ""] = sessions.open(undefined).split(";");
    return { ...init, headers: { ...init.headers as Record<string, string>, cookie } };
  };
  return { ask, get, calls, askers, events, closing, sessions, signedIn };
}

/** What the page's own form sends. */
export function form(
  fields: Record<string, string>,
  headers: Record<string, string> = { origin: ORIGIN },
): RequestInit {
  return { method: "POST", body: new URLSearchParams(fields), headers };
}
