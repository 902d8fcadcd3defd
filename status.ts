/**
 * The status server: health, metrics, the page, logs, server-sent events and the actions behind a token, by hono.
 * Owns HTTP: who may do what, headers, streams, limits. Must not know how a run, record or log is had (StatusView)
 * nor what pages look like (status/pages.ts).
 */
import { Hono } from "hono";
import type { Context } from "hono";
import { bodyLimit } from "hono/body-limit";
import { createHash, timingSafeEqual } from "node:crypto";
import { stringify } from "yaml";
import { chainGraph } from "./catalog/chains.ts";
import { getLogger } from "./util/log.ts";
import {
  contentSecurityPolicy,
  drawGraphSteps,
  END_STATES,
  type GraphPicture,
  type HealthView,
  isLiveState,
  LIVE_STATES,
  MAX_DRAWN_ROWS,
  messagePage,
  overviewPage,
  runPage,
  type RunQuery,
  type RunState,
} from "./status/pages.ts";
import {
  type Emit,
  type JobFacts,
  type Outcome,
  RefusedError,
  type RunRecord,
  type RunView,
  type ServiceEvent,
  UnavailableError,
} from "./ports.ts";
import { isRunName } from "./run_spec.ts";
import { isLoopback } from "./util/loopback.ts";
import { errorMessage } from "./util/retry.ts";
import type { Table } from "./catalog.ts";
import { finishInSlices } from "./util/slices.ts";

// ---------------------------------------------------------------- what it needs

/** Which ended runs are wanted; all that is set must hold. */
export interface RecordFilter {
  readonly jobName?: string;
  readonly status?: Outcome["status"];
  readonly parentRun?: string;
  /** Ended at this time or later. */
  readonly since?: Date;
  /** Ended before this time. */
  readonly until?: Date;
  /** Only what comes after this one in the order of `selectRecords`: the next page. */
  readonly olderThan?: { readonly finishedAt: string; readonly runName: string };
  /** At most so many. */
  readonly limit: number;
}

/** What the page shows, in the ports' words. Whatever rejects is shown as a sentence, not as a broken page. */
export interface StatusView {
  /** The table in force; undefined: none yet. */
  table(): Table | undefined;
  /** Why the table in force is not what the store has; undefined: it is. */
  tableFailure(): string | undefined;
  liveRuns(): readonly RunView[];
  liveRun(runName: string): RunView | undefined;
  /** Newest first; see `selectRecords`. */
  records(filter: RecordFilter, signal: AbortSignal): Promise<readonly RunRecord[]>;
  record(runName: string, signal: AbortSignal): Promise<RunRecord | undefined>;
  /** A live run with its message, from the cluster. */
  job(runName: string, signal: AbortSignal): Promise<JobFacts | undefined>;
  /** The Job as YAML; undefined: gone. */
  manifest(runName: string, signal: AbortSignal): Promise<string | undefined>;
  /**
   * The run's log as text. `follow`: goes on until the run ended. `tailBytes`: only the end is wanted; more may come.
   * undefined: there is none (yet).
   */
  log(
    runName: string,
    options: { follow: boolean; tailBytes?: number; signal: AbortSignal },
  ): Promise<ReadableStream<Uint8Array> | undefined>;
}

/** What a token allows. Answers hold the run's name. RangeError: no such row or run. */
export interface StatusActions {
  run(jobName: string, payload: string): Promise<{ run_name: string }>;
  cancel(runName: string, who: string): Promise<{ run_name: string }>;
  rerun(runName: string): Promise<{ run_name: string }>;
}

export interface StatusOptions {
  readonly listen: { readonly hostname: string; readonly port: number };
  /** Absent: the page is read-only. */
  readonly token?: string;
  /** URL of the page as people have it; its host is accepted on a loopback address too. */
  readonly publicUrl?: string;
  /** As `Metrics` has it. */
  readonly metrics: { readonly contentType: string; render(): Promise<string> };
  readonly health: () => HealthView;
  readonly view: StatusView;
  readonly actions: StatusActions;
  /** Told by the core, listened to by browsers. */
  readonly events: LiveEvents;
}

/** Ended runs that fit, newest first; among those of one time, by name downwards. */
export function selectRecords(records: Iterable<RunRecord>, filter: RecordFilter): RunRecord[] {
  const { jobName, status, parentRun, since, until, olderThan, limit } = filter;
  const fits: RunRecord[] = [];
  for (const record of records) {
    const at = Date.parse(record.finished_at);
    if (jobName !== undefined && record.job_name !== jobName) continue;
    if (status !== undefined && record.status !== status) continue;
    if (parentRun !== undefined && record.parent_run !== parentRun) continue;
    if (since && !(at >= since.getTime()) || until && !(at < until.getTime())) continue;
    if (olderThan && newerFirst(Date.parse(olderThan.finishedAt), olderThan.runName, at, record.run_name) >= 0) {
      continue;
    }
    fits.push(record);
  }
  fits.sort((a, b) => newerFirst(Date.parse(a.finished_at), a.run_name, Date.parse(b.finished_at), b.run_name));
  return fits.slice(0, limit);
}

function newerFirst(atA: number, nameA: string, atB: number, nameB: string): number {
  return atB - atA || (nameA === nameB ? 0 : nameA < nameB ? 1 : -1);
}

// ---------------------------------------------------------------- events

/** What browsers are told of an event: names and words, never a payload. */
export interface BrowserEvent {
  readonly type: ServiceEvent["type"];
  readonly data: Readonly<Record<string, string | number | boolean>>;
}

/** Passes what the core tells on to who listens now. Give the core its `tell`. */
export class LiveEvents {
  readonly #listeners = new Set<(event: BrowserEvent) => void>();

  readonly emit: Emit = (event) => {
    if (this.#listeners.size === 0) return;
    const short = shortEvent(event);
    for (const listener of this.#listeners) listener(short);
  };

  /** Number of listeners. */
  get size(): number {
    return this.#listeners.size;
  }

  /** `listener` must neither throw nor block. Returns what ends it. */
  subscribe(listener: (event: BrowserEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}

/** An event in names and words that a program may show to anybody. */
export function shortEvent(event: ServiceEvent): BrowserEvent {
  const { type } = event;
  switch (type) {
    case "message":
      return { type, data: { topic: event.topic, rows: event.rows, outcome: event.outcome } };
    case "created":
    case "started":
      return {
        type,
        data: { run_name: event.run.runName, job_name: event.run.jobName, state: event.run.state },
      };
    case "waiting":
      return { type, data: { run_name: event.runName, job_name: event.jobName, reason: event.reason } };
    case "finished": {
      const { run_name, job_name, status, reason, message } = event.record;
      return { type, data: { run_name, job_name, status, reason, message } };
    }
    case "table":
      return { type, data: { rows: event.rows, errors: event.errors, warnings: event.warnings } };
    case "broker":
      return { type, data: { connected: event.connected } };
    case "leader":
      return { type, data: { leading: event.leading } };
    case "error":
      return { type, data: { scope: event.scope, reason: event.report.reason, message: event.report.message } };
  }
}

/** Events that wait for one slow browser; what comes then is dropped, and it is told to look for itself. */
const MAX_QUEUED = 200;
const MAX_BROWSERS = 100;
const KEEPALIVE_MS = 15_000;

function eventStream(events: LiveEvents, signal: AbortSignal): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let missed = false;
  let end = () => {};
  return new ReadableStream<Uint8Array>({
    start(controller) {
      const send = (text: string) => controller.enqueue(encoder.encode(text));
      send("retry: 3000\n\n");
      const unsubscribe = events.subscribe(({ type, data }) => {
        if ((controller.desiredSize ?? 0) <= 0) missed = true;
        // JSON has no raw line break, so that no value can begin a field of its own. `error` is EventSource's own word.
        else send(`event: ${type === "error" ? "report" : type}\ndata: ${JSON.stringify(data)}\n\n`);
      });
      const keepalive = setInterval(() => {
        if ((controller.desiredSize ?? 0) > 0) send(": still here\n\n");
      }, KEEPALIVE_MS);
      const stop = () => {
        end();
        controller.close();
      };
      end = () => {
        unsubscribe();
        clearInterval(keepalive);
        signal.removeEventListener("abort", stop);
      };
      if (signal.aborted) stop();
      else signal.addEventListener("abort", stop, { once: true });
    },
    pull(controller) {
      if (!missed) return;
      missed = false;
      controller.enqueue(encoder.encode("event: resync\ndata: {}\n\n"));
    },
    cancel() {
      end();
    },
  }, { highWaterMark: MAX_QUEUED });
}

// ---------------------------------------------------------------- the server

/** Serves until `close`. Rejects with an Error that names the address if it cannot be had. */
export function serveStatus(
  options: StatusOptions,
): Promise<{ url: string; port: number; close(): Promise<void> }> {
  const { hostname, port } = options.listen;
  const closing = new AbortController();
  const app = statusApp(options, closing.signal);
  let server: Deno.HttpServer<Deno.NetAddr>;
  try {
    server = Deno.serve({ hostname, port, onListen: () => {} }, (request) => app.fetch(request));
  } catch (cause) {
    const why = errorMessage(cause);
    return Promise.reject(
      new Error(`Cannot serve the status page on ${hostname}:${port}: ${why}; set STATUS_ADDR`, { cause }),
    );
  }
  const host = hostname.includes(":") ? `[${hostname.replace(/^\[|\]$/g, "")}]` : hostname;
  return Promise.resolve({
    url: `http://${host}:${server.addr.port}`,
    port: server.addr.port,
    async close() {
      closing.abort(new DOMException("The status server stops", "AbortError"));
      await server.shutdown();
    },
  });
}

const RECORDS_A_PAGE = 50;
const MAX_CHILDREN = 100;
const MAX_TAIL_BYTES = 64 * 1024;
const MAX_PAYLOAD_SHOWN = 96 * 1024;
const MAX_BODY_BYTES = 1024 * 1024;
/** Longest wait for a store or cluster that a page asks. */
const LOOK_MS = 5_000;

/** The handlers without a port. Streams end when `closing` aborts. */
export function statusApp(options: StatusOptions, closing: AbortSignal): Hono {
  const { metrics, health, events } = options;
  const app = new Hono();
  app.use(async (c, next) => {
    const refusal = hostRefusal(options, c.req.raw);
    if (refusal) return c.text(refusal, 421);
    await next();
    setHeaders(c.res.headers);
  });
  const answerHealth = (c: Context, what: "ok" | "ready") => {
    const seen = health();
    return c.json(seen, seen[what] ? 200 : 503);
  };
  app.get("/healthz", (c) => answerHealth(c, "ok"));
  app.get("/readyz", (c) => answerHealth(c, "ready"));
  app.get("/metrics", async (c) => c.body(await metrics.render(), 200, { "content-type": metrics.contentType }));
  const pages = new Pages(options, closing);
  app.get("/", (c) => pages.overview(c));
  app.get("/runs/:run", (c) => pages.run(c));
  app.get("/runs/:run/log", (c) => pages.log(c));
  app.get("/events", (c) => {
    if (events.size >= MAX_BROWSERS) return c.text(`Too many listeners: at most ${MAX_BROWSERS}`, 503);
    const headers = { "content-type": "text/event-stream" };
    // hono answers HEAD by GET's handler and drops the body, which would leave its stream open.
    if (c.req.raw.method === "HEAD") return c.body(null, 200, headers);
    return c.body(eventStream(events, closing), 200, headers);
  });
  addActions(app, options);
  app.notFound((c) => page(c, messagePage({ title: "Not found", message: "There is no such page." }), 404));
  app.onError((error, c) => {
    if (closing.aborted) return c.text("The service is stopping", 503);
    const run = c.req.param("run");
    getLogger("status").error("Cannot answer {path}", { path: c.req.path, error, ...(run ? { run } : {}) });
    const message = "The service could not make this page; its log says why.";
    return page(c, messagePage({ title: "Something failed", message }), 500);
  });
  return app;
}

/**
 * A page on loopback is reachable by any site that a browser on this machine visits, once that site's name is made
 * to point here (DNS rebinding): only the names of loopback and that of STATUS_URL are answered then.
 */
function hostRefusal({ listen, publicUrl }: StatusOptions, request: Request): string | undefined {
  if (!isLoopback(listen.hostname)) return undefined;
  const { hostname, host } = new URL(request.url);
  if (isLoopback(hostname)) return undefined;
  if (publicUrl !== undefined && URL.parse(publicUrl)?.host === host) return undefined;
  return `Not answered under the name ${host}: set STATUS_URL to the page's URL if a proxy serves it\n`;
}

function setHeaders(headers: Headers): void {
  headers.set("x-content-type-options", "nosniff");
  headers.set("referrer-policy", "same-origin");
  headers.set("cross-origin-resource-policy", "same-origin");
  headers.set("cache-control", "no-store");
  if (!headers.has("content-security-policy")) headers.set("content-security-policy", "default-src 'none'; sandbox");
}

function page(c: Context, text: string, status: 200 | 400 | 401 | 403 | 404 | 409 | 500 | 503 = 200): Response {
  return c.html(text, status, { "content-security-policy": contentSecurityPolicy() });
}

// ---------------------------------------------------------------- reading

class Pages {
  readonly #options: StatusOptions;
  readonly #closing: AbortSignal;
  readonly #pictures = new WeakMap<Table, Promise<GraphPicture>>();

  constructor(options: StatusOptions, closing: AbortSignal) {
    this.#options = options;
    this.#closing = closing;
  }

  async overview(c: Context): Promise<Response> {
    const { view, health, token } = this.#options;
    const query = readQuery(new URL(c.req.url).searchParams);
    const table = view.table();
    const failure = view.tableFailure();
    const history = await this.#history(query, new URL(c.req.url).searchParams);
    const live = view.liveRuns()
      .filter((run) => query.row === undefined || run.jobName === query.row)
      .filter((run) => query.state === undefined || run.state === query.state)
      .sort((a, b) => b.receivedAt.getTime() - a.receivedAt.getTime());
    return page(
      c,
      overviewPage({
        now: new Date(),
        health: health(),
        table,
        ...(failure === undefined ? {} : { tableFailure: failure }),
        graph: table && await this.#picture(table),
        live,
        ...history,
        query,
        actions: token !== undefined,
      }),
    );
  }

  /** Made once a table, in slices: messages must not wait for it. */
  #picture(table: Table): Promise<GraphPicture> {
    let picture = this.#pictures.get(table);
    if (!picture) {
      const graph = chainGraph(table, { maxRows: MAX_DRAWN_ROWS });
      picture = finishInSlices(drawGraphSteps(graph, table.topicPrefix), {});
      this.#pictures.set(table, picture);
    }
    return picture;
  }

  async #history(query: RunQuery, params: URLSearchParams) {
    if (query.state !== undefined && isLiveState(query.state)) return { records: [] };
    const olderThan = readCursor(params.get("older"));
    const filter: RecordFilter = {
      ...(query.row === undefined ? {} : { jobName: query.row }),
      ...(query.state === undefined ? {} : { status: query.state }),
      ...(query.since ? { since: query.since } : {}),
      ...(query.until ? { until: query.until } : {}),
      ...(olderThan ? { olderThan } : {}),
      limit: RECORDS_A_PAGE + 1,
    };
    try {
      const found = await this.#options.view.records(filter, this.#lookSignal());
      const records = found.slice(0, RECORDS_A_PAGE);
      const last = records.at(-1);
      if (found.length <= RECORDS_A_PAGE || !last) return { records };
      const older = new URLSearchParams(params);
      older.set("older", `${last.finished_at} ${last.run_name}`);
      return { records, olderHref: `/?${older}#history` };
    } catch (error) {
      return { records: [], recordsFailure: `The history cannot be read now: ${errorMessage(error)}` };
    }
  }

  async run(c: Context): Promise<Response> {
    const runName = c.req.param("run") ?? "";
    const found = await this.#find(runName);
    if (!found) return this.#noRun(c, runName);
    const { view, token } = this.#options;
    const { live, record } = found;
    // What cannot be had leaves its part of the page out.
    const [children, manifest, tail, message] = await Promise.all([
      this.#children(runName),
      record ? manifestOf(record) : view.manifest(runName, this.#lookSignal()).catch(() => undefined),
      this.#tail(runName),
      record ? messageOf(record) : this.#liveMessage(runName),
    ]);
    return page(
      c,
      runPage({
        now: new Date(),
        runName,
        ...(live ? { live } : {}),
        ...(record ? { record } : {}),
        ...message,
        children,
        ...(manifest === undefined ? {} : { manifest }),
        ...(tail === undefined ? {} : { logTail: tail.text }),
        logCut: tail?.cut ?? false,
        actions: token !== undefined,
      }),
    );
  }

  async log(c: Context): Promise<Response> {
    const runName = c.req.param("run") ?? "";
    const found = await this.#find(runName);
    if (!found) return this.#noRun(c, runName);
    // Not the request's own signal: Deno prints a paragraph on it into the log when it is asked for.
    const gone = new AbortController();
    const signal = AbortSignal.any([this.#closing, gone.signal]);
    const headers = {
      "content-type": "text/plain; charset=utf-8",
      "content-disposition": `inline; filename="${runName}.txt"`,
    };
    if (c.req.raw.method === "HEAD") return c.body(null, 200, headers);
    try {
      const follow = found.record === undefined;
      const log = await this.#options.view.log(runName, { follow, signal });
      if (!log) return c.text(`There is no log of ${runName}\n`, 404);
      // Through a pipe of our own, so that a stop ends it whatever the source does, and the source hears of a reader
      // that went away while it waits for output.
      const pipe = new TransformStream<Uint8Array, Uint8Array>({ cancel: (reason) => gone.abort(reason) });
      return c.body(log.pipeThrough(pipe, { signal }), 200, headers);
    } catch (error) {
      if (error instanceof UnavailableError) return c.text(`The log cannot be read now: ${error.message}\n`, 503);
      throw error;
    }
  }

  async #find(runName: string): Promise<{ live?: RunView; record?: RunRecord } | undefined> {
    if (!isRunName(runName)) return undefined;
    const { view } = this.#options;
    const live = view.liveRun(runName);
    if (live) return { live };
    const record = await view.record(runName, this.#lookSignal());
    return record && { record };
  }

  #noRun(c: Context, runName: string): Response {
    const message = `There is no run "${runName}", neither alive nor in the history.`;
    return page(c, messagePage({ title: "No such run", message }), 404);
  }

  async #children(runName: string): Promise<{ runName: string; state: RunState }[]> {
    const { view } = this.#options;
    const live = view.liveRuns().filter((run) => run.parentRun === runName);
    const filter = { parentRun: runName, limit: MAX_CHILDREN };
    const ended = await view.records(filter, this.#lookSignal()).catch(() => []);
    const states = new Map<string, RunState>(live.slice(0, MAX_CHILDREN).map((run) => [run.runName, run.state]));
    for (const record of ended) states.set(record.run_name, record.status);
    return [...states].map(([runName, state]) => ({ runName, state }));
  }

  async #liveMessage(runName: string): Promise<{ payload?: string; payloadNote?: string }> {
    try {
      const job = await this.#options.view.job(runName, this.#lookSignal());
      if (job?.payloadObject !== undefined) {
        return { payloadNote: `Its payload is large; it is at ${job.payloadObject}` };
      }
      if (!job?.payload) return {};
      return textOf(job.payload);
    } catch (error) {
      return { payloadNote: `Its payload cannot be read now: ${errorMessage(error)}` };
    }
  }

  async #tail(runName: string): Promise<{ text: string; cut: boolean } | undefined> {
    const signal = this.#lookSignal();
    try {
      const options = { follow: false, tailBytes: MAX_TAIL_BYTES, signal };
      const log = await this.#options.view.log(runName, options);
      return log && await readTail(log, MAX_TAIL_BYTES, signal);
    } catch (error) {
      return { text: `The log cannot be read now: ${errorMessage(error)}`, cut: false };
    }
  }

  #lookSignal(): AbortSignal {
    return AbortSignal.any([this.#closing, AbortSignal.timeout(LOOK_MS)]);
  }
}

/** The last `maxBytes` of a stream, with flat memory. What came until `signal` aborted counts. */
async function readTail(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
  signal: AbortSignal,
): Promise<{ text: string; cut: boolean }> {
  const reader = stream.getReader();
  const stop = () => void reader.cancel(signal.reason).catch(() => {});
  signal.addEventListener("abort", stop, { once: true });
  const chunks: Uint8Array[] = [];
  let kept = 0;
  let cut = false;
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      chunks.push(next.value);
      kept += next.value.length;
      while (chunks[0] && kept - chunks[0].length >= maxBytes) {
        kept -= chunks.shift()?.length ?? 0;
        cut = true;
      }
    }
  } finally {
    signal.removeEventListener("abort", stop);
  }
  const bytes = new Uint8Array(await new Blob(chunks as Uint8Array<ArrayBuffer>[]).arrayBuffer());
  // A stream that begins where the end begins was cut by who gave it.
  cut ||= bytes.length >= maxBytes;
  const text = new TextDecoder().decode(bytes.subarray(Math.max(0, bytes.length - maxBytes)));
  return { text: cut ? text.slice(text.indexOf("\n") + 1) : text, cut };
}

function manifestOf({ job }: RunRecord): string | undefined {
  return job && stringify(job, { lineWidth: 0, aliasDuplicateObjects: false });
}

function messageOf(record: RunRecord): { payload?: string; payloadNote?: string } {
  if (record.payload !== null) return { payload: record.payload };
  if (record.payload_object !== undefined) {
    return { payloadNote: `Its payload is large; it is at ${record.payload_object}` };
  }
  return { payloadNote: "Its payload is not text." };
}

function textOf(payload: Uint8Array): { payload?: string; payloadNote?: string } {
  if (payload.length > MAX_PAYLOAD_SHOWN) return { payloadNote: `Its payload has ${payload.length} bytes.` };
  try {
    return { payload: new TextDecoder("utf-8", { fatal: true }).decode(payload) };
  } catch {
    return { payloadNote: "Its payload is not text." };
  }
}

/** Reads the form's query; what makes no sense counts as not given. Times without a zone are UTC, as the form says. */
export function readQuery(params: URLSearchParams): RunQuery {
  const row = params.get("row")?.trim();
  const state = [...LIVE_STATES, ...END_STATES].find((state) => state === params.get("state"));
  const since = readTime(params.get("since"));
  const until = readTime(params.get("until"));
  return {
    ...(row ? { row } : {}),
    ...(state ? { state } : {}),
    ...(since ? { since } : {}),
    ...(until ? { until } : {}),
  };
}

function readTime(text: string | null): Date | undefined {
  if (!text) return undefined;
  const zoned = /(Z|[+-]\d\d:\d\d)$/.test(text) || !text.includes("T") ? text : `${text}Z`;
  const time = new Date(zoned);
  return Number.isNaN(time.getTime()) ? undefined : time;
}

function readCursor(text: string | null): RecordFilter["olderThan"] {
  const [finishedAt, runName] = text?.split(" ") ?? [];
  if (!finishedAt || !runName || Number.isNaN(Date.parse(finishedAt))) return undefined;
  return { finishedAt, runName };
}

// ---------------------------------------------------------------- acting

type Fields = Readonly<Record<string, string>>;

function addActions(app: Hono, options: StatusOptions): void {
  const { actions } = options;
  const limit = bodyLimit({
    maxSize: MAX_BODY_BYTES,
    onError: (c) => c.text(`Too large: at most ${MAX_BODY_BYTES} bytes\n`, 413),
  });
  const act = (path: string, carryOut: (fields: Fields) => Promise<{ run_name: string }>) =>
    app.post(path, limit, (c) => answerAction(c, options, carryOut));
  act("/actions/run", (fields) => actions.run(wanted(fields, "job_name"), fields.payload ?? ""));
  act("/actions/cancel", (fields) => actions.cancel(runNameOf(fields), "the status page"));
  act("/actions/rerun", (fields) => actions.rerun(runNameOf(fields)));
}

/** Programs send a bearer token and get JSON; the page's forms send the field `token` and are led to the run. */
async function answerAction(
  c: Context,
  options: StatusOptions,
  carryOut: (fields: Fields) => Promise<{ run_name: string }>,
): Promise<Response> {
  const bearer = /^Bearer +(.+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
  const refuse = (status: 400 | 401 | 403 | 404 | 409 | 500 | 503, message: string) =>
    bearer === undefined
      ? page(c, messagePage({ title: "Not done", message }), status)
      : c.json({ error: message }, status);
  if (options.token === undefined) return refuse(403, "The page is read-only: set STATUS_TOKEN to act by it.");
  if (bearer === undefined && !isSameOrigin(c.req.raw, options.publicUrl)) {
    return refuse(403, "The form was not sent from this page: open the page and try again.");
  }
  let fields: Fields;
  try {
    fields = await readFields(c);
  } catch (error) {
    if (error instanceof Error && error.name === "BodyLimitError") throw error;
    return refuse(400, "The fields cannot be read: send a form or a JSON object of strings.");
  }
  if (!sameSecret(bearer ?? fields.token ?? "", options.token)) return refuse(401, "The token is not the right one.");
  try {
    const answer = await carryOut(fields);
    getLogger("status").info("Action {path}", { path: c.req.path, run: answer.run_name });
    return bearer === undefined ? c.redirect(`/runs/${encodeURIComponent(answer.run_name)}`, 303) : c.json(answer);
  } catch (error) {
    if (error instanceof FieldError) return refuse(400, error.message);
    if (error instanceof RangeError) return refuse(404, error.message);
    if (error instanceof RefusedError) return refuse(409, error.message);
    if (error instanceof UnavailableError) return refuse(503, error.message);
    const about = fields["run_name"] === undefined ? {} : { run: fields["run_name"] };
    getLogger("status").error("Cannot carry out {path}", { path: c.req.path, error, ...about });
    return refuse(500, "It could not be done; the service's log says why.");
  }
}

/** A field of an action that is not given or not right. */
class FieldError extends Error {
  override name = "FieldError";
}

function wanted(fields: Fields, name: string): string {
  const value = fields[name];
  if (!value) throw new FieldError(`The field ${name} is empty: fill it in.`);
  return value;
}

function runNameOf(fields: Fields): string {
  const name = wanted(fields, "run_name");
  if (!isRunName(name)) throw new FieldError(`The field run_name is "${name}", which is no name of a run.`);
  return name;
}

async function readFields(c: Context): Promise<Fields> {
  const isJson = /^application\/json\b/i.test(c.req.header("content-type") ?? "");
  const body: unknown = isJson ? await c.req.json() : Object.fromEntries(await c.req.formData());
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw new TypeError("Not an object");
  const fields: Record<string, string> = {};
  for (const [name, value] of Object.entries(body)) {
    if (typeof value !== "string") throw new TypeError(`${name} is not a string`);
    fields[name] = value;
  }
  return fields;
}

/** Whether a browser says that one of our own pages sent this. A request that says nothing did not come from there. */
function isSameOrigin(request: Request, publicUrl: string | undefined): boolean {
  const site = request.headers.get("sec-fetch-site");
  if (site !== null) return site === "same-origin";
  const origin = URL.parse(request.headers.get("origin") ?? "");
  if (!origin) return false;
  return origin.host === new URL(request.url).host ||
    (publicUrl !== undefined && origin.host === URL.parse(publicUrl)?.host);
}

/** Compares digests, so that the time taken tells nothing of the token. */
function sameSecret(given: string, token: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}
