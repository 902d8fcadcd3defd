/**
 * The status server: health, metrics, the page, logs, server-sent events and the actions behind a token, by hono.
 * Owns the routes: what is answered where. Must not know how a run, record or log is had (status/view.ts), what pages
 * look like (status/pages/), nor who may ask (status/gate.ts).
 */
import { type Context, Hono } from "hono";
import { rowNamed, sheetTemplate } from "./catalog.ts";
import type { Config } from "./config.ts";
import { type Cluster, type ObjectStore, UnavailableError } from "./ports.ts";
import type { Service } from "./service.ts";
import { addActions, type StatusActions } from "./status/actions.ts";
import { answerPage, pathOf, securityHeaders } from "./status/answers.ts";
import type { ConnectionLimits } from "./status/connections.ts";
import { type Env, gate, type GateOptions, type Refusal } from "./status/gate.ts";
import { GraphReading } from "./status/graph/reading.ts";
import { HttpServer } from "./status/http_server.ts";
import { eventStream, LiveEvents } from "./status/live_events.ts";
import { boundToReader } from "./status/log_stream.ts";
import { readLogView } from "./status/log_view.ts";
import { readMessages } from "./status/messages.ts";
import type { HealthView } from "./status/health.ts";
import { readOverview } from "./status/overview.ts";
import { messagesPage } from "./status/pages/messages.tsx";
import { groupHref, messagePage } from "./status/pages/parts.tsx";
import { type Looking, lookSignal } from "./status/look.ts";
import { readGroup, readMessageRuns } from "./status/message_runs.ts";
import { findRun, manifestOf, payloadOf, readRun } from "./status/run.ts";
import { readRunsList } from "./status/runs_list.ts";
import { SharedPages } from "./status/shared_pages.ts";
import { readTable } from "./status/table.ts";
import { readUsage, readUsageCsv } from "./status/usage.ts";
import { isRoot } from "./run_spec.ts";
import { addSignIn } from "./status/sign_in.ts";
import { sessionFile, type SessionPlace } from "./status/session_file.ts";
import { TokenCheck } from "./status/token.ts";
import { FormReader } from "./status/forms.ts";
import { type VisitorOptions, Visitors } from "./status/visitors.ts";
import { readRowPage } from "./status/row.ts";
import { type StatusView, statusView } from "./status/view.ts";
import { Scope } from "./util/abort.ts";
import { compact } from "./util/compact.ts";
import { errorMessage } from "./util/errors.ts";
import { getLogger } from "./util/log.ts";

/** Longest wait for a window of a log, or a search in it. */
const LOG_MS = 8_000;

export interface StatusOptions extends GateOptions, VisitorOptions {
  readonly actions: StatusActions;
  readonly listen: { readonly hostname: string; readonly port: number };
  /** As `Metrics` has it. */
  readonly metrics: { readonly contentType: string; render(): Promise<string> };
  readonly health: () => HealthView;
  readonly view: StatusView;
  /** Told by the core, listened to by browsers. */
  readonly events: LiveEvents;
}

export interface PageOptions {
  readonly status: Config["status"];
  readonly metrics: StatusOptions["metrics"] & { refused(why: Refusal): void };
  readonly cluster: Cluster;
  readonly logs: ObjectStore;
  /** Where sessions are kept over a restart; absent: nowhere. */
  readonly data?: SessionPlace;
}

/** Serves the page, health and metrics of a service; undefined where nothing shall be served. */
export async function openPage(
  service: Service,
  { status, metrics, cluster, logs, data }: PageOptions,
): Promise<{ readonly url: string; close(): Promise<void> } | undefined> {
  if (!status.listen) return undefined;
  const events = new LiveEvents();
  service.subscribe(events.emit);
  return await serveStatus({
    listen: status.listen,
    ...compact({ token: status.token || undefined, publicUrl: status.url || undefined, hosts: status.hosts }),
    ...compact({ userHeader: status.userHeader, keeper: data && sessionFile(data, logs.url) }),
    metrics,
    onRefusal: (why) => metrics.refused(why),
    health: () => service.health(),
    view: statusView(service, { cluster, logs }),
    actions: service.actions,
    events,
  });
}

/** Serves until `close`. Rejects with an Error that names the address if it cannot be had. */
export function serveStatus(
  options: StatusOptions & { readonly limits?: ConnectionLimits },
): Promise<{ url: string; port: number; close(): Promise<void> }> {
  const { hostname, port } = options.listen;
  const closing = new AbortController();
  const app = statusApp(options, closing.signal);
  let server: HttpServer;
  try {
    server = new HttpServer(options.listen, async (request, env) => await app.fetch(request, env), options.limits);
  } catch (cause) {
    const why = errorMessage(cause);
    return Promise.reject(
      new Error(`Cannot serve the status page on ${hostname}:${port}: ${why}; set STATUS_ADDR`, { cause }),
    );
  }
  const host = hostname.includes(":") ? `[${hostname.replace(/^\[|\]$/g, "")}]` : hostname;
  return Promise.resolve({
    url: `http://${host}:${server.port}`,
    port: server.port,
    async close() {
      closing.abort(new DOMException("The status server stops", "AbortError"));
      await server.close();
    },
  });
}

/** Pages that all who ask at a time share. */
const SHARED: ReadonlySet<string> = new Set(["/", "/runs", "/usage"]);

/** The handlers without a port. Streams end when `closing` aborts. */
export function statusApp(options: StatusOptions, closing: AbortSignal): Hono<Env> {
  const { metrics, view, events, token, publicUrl, onRefusal } = options;
  const app = new Hono<Env>({ getPath: pathOf });
  const visitors = new Visitors(options);
  const gateOptions = { ...options, hosts: [...options.hosts ?? [], options.listen.hostname] };
  app.use(securityHeaders, gate(gateOptions), visitors.middleware);
  const health = (c: Context, what: "ok" | "ready") => {
    const seen = options.health();
    return c.json(seen, seen[what] ? 200 : 503);
  };
  app.get("/healthz", (c) => health(c, "ok"));
  app.get("/readyz", (c) => health(c, "ready"));
  app.get("/metrics", async (c) => c.body(await metrics.render(), 200, { "content-type": metrics.contentType }));

  const looking: Looking = { view, actions: token !== undefined, signal: () => lookSignal(closing) };
  const shared = new SharedPages();
  const isAgain = (c: Context) => c.req.header("x-again") !== undefined;
  app.use(async (c, next) => {
    if (isAgain(c) && !SHARED.has(new URL(c.req.url).pathname)) await shared.turn();
    await next();
  });
  app.get("/", async (c) => {
    const { searchParams: params, search } = new URL(c.req.url);
    const root = params.get("root");
    if (root !== null && isRoot(root)) return answerPage(c, await readMessageRuns(root, params, looking));
    // Where lists of runs were on former versions' page.
    if (["row", "state", "since", "until", "older"].some((word) => params.has(word))) {
      return c.redirect(`/runs${search}`, 303);
    }
    return answerPage(c, await shared.read(c.req.url, () => readOverview(looking, options.health, params), isAgain(c)));
  });
  app.get("/runs", async (c) => {
    const params = new URL(c.req.url).searchParams;
    return answerPage(c, await shared.read(c.req.url, () => readRunsList(looking, params), isAgain(c)));
  });
  app.get("/table", (c) => answerPage(c, readTable(looking, new URL(c.req.url).searchParams)));
  app.get("/usage", async (c) => {
    const url = new URL(c.req.url);
    return answerPage(c, await shared.read(c.req.url, () => readUsage(looking, url.searchParams), isAgain(c)));
  });
  app.get("/usage.csv", async (c) => {
    const headers = {
      "content-type": "text/csv; charset=utf-8",
      "content-disposition": 'attachment; filename="usage.csv"',
    };
    return c.body(await readUsageCsv(looking, new URL(c.req.url).searchParams), 200, headers);
  });
  const graphs = new GraphReading(view, closing);
  app.get("/rows/:row", async (c) => {
    const { page, status } = await readRowPage(c.req.param("row"), looking);
    return answerPage(c, page, status);
  });
  app.get("/graph", async (c) => answerPage(c, await graphs.page(new URL(c.req.url).searchParams)));
  app.get("/runs/:run", async (c) => {
    const run = c.req.param("run");
    const page = await readRun(run, looking);
    if (page !== undefined) return answerPage(c, page);
    // A group bears a run's name, and stands where one could.
    const { searchParams, search, pathname } = new URL(c.req.url);
    if (await readGroup(run, searchParams, looking) === undefined) return noRun(c);
    return c.redirect(groupHref(run) + (pathname.endsWith(".json") ? ".json" : "") + search, 303);
  });
  app.get("/groups/:run", async (c) => {
    const page = await readGroup(c.req.param("run"), new URL(c.req.url).searchParams, looking);
    return page === undefined ? noRun(c) : answerPage(c, page);
  });
  app.get("/runs/:run/log", async (c) => {
    const found = await findRun(c.req.param("run"), looking);
    return found ? await answerLog(c, view, { follow: found.record === undefined, closing }) : noRun(c);
  });
  app.get("/runs/:run/message", async (c) => answerText(c, await payloadOf(c.req.param("run"), looking)));
  app.get("/runs/:run/job", async (c) => answerText(c, await manifestOf(c.req.param("run"), looking)));
  app.get("/runs/:run/log/view", async (c) => {
    const run = c.req.param("run");
    const found = await findRun(run, looking);
    if (!found) return noRun(c);
    const params = new URL(c.req.url).searchParams;
    // A search ends with who asked for it.
    const ends = [closing, AbortSignal.timeout(LOG_MS), ...c.env?.over ? [c.env.over] : []];
    return answerPage(c, await readLogView(view, run, found, params, AbortSignal.any(ends)));
  });
  app.get("/messages", (c) => {
    const shown = readMessages(view, new URL(c.req.url).searchParams);
    return answerPage(c, { data: shown, html: () => messagesPage(shown) });
  });
  app.get("/sheets/:file", (c) => {
    const name = /^(.*)\.csv$/s.exec(c.req.param("file"))?.[1];
    const row = name === undefined ? undefined : rowNamed(view.table()?.rows, name);
    if (!row) return answerPage(c, messagePage({ title: "Not found", message: "There is no such row." }), 404);
    return c.body(sheetTemplate(row), 200, {
      "content-type": "text/csv; charset=utf-8",
      "content-disposition": 'attachment; filename="sheet.csv"',
    });
  });
  app.get("/events", (c) => {
    const headers = { "content-type": "text/event-stream" };
    // hono answers HEAD by GET's handler and drops the body, which would leave its stream open.
    if (c.req.raw.method === "HEAD") return c.body(null, 200, headers);
    return c.body(eventStream(events, closing), 200, headers);
  });
  const check = token === undefined
    ? undefined
    : new TokenCheck({ token, ...compact({ onWrong: onRefusal && (() => onRefusal("token")) }) });
  const acting = { visitors, check, forms: new FormReader(), publicUrl };
  addSignIn(app, acting);
  addActions(app, { ...acting, actions: options.actions, looking });

  app.notFound((c) => answerPage(c, messagePage({ title: "Not found", message: "There is no such page." }), 404));
  app.onError((error, c) => {
    if (closing.aborted) return c.text("The service is stopping", 503);
    const run = c.req.param("run");
    getLogger("status").error("Cannot answer {path}", { path: c.req.path, error, ...(run ? { run } : {}) });
    const message = "The service could not make this page; its log says why.";
    return answerPage(c, messagePage({ title: "Something failed", message }), 500);
  });
  return app;
}

function noRun(c: Context): Response {
  const message = `There is no run "${c.req.param("run")}", neither alive nor in the history.`;
  return answerPage(c, messagePage({ title: "No such run", message }), 404);
}

/** As it is, for a browser to show and not to obey. */
function answerText(c: Context, text: string | Uint8Array | undefined): Response {
  if (text === undefined) return c.text("It is not known here\n", 404);
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text.slice();
  return c.body(bytes, 200, { "content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff" });
}

async function answerLog(
  c: Context,
  view: StatusView,
  { follow, closing }: { follow: boolean; closing: AbortSignal },
): Promise<Response> {
  const runName = c.req.param("run") ?? "";
  const headers = {
    "content-type": "text/plain; charset=utf-8",
    "content-disposition": `${
      c.req.query("download") === undefined ? "inline" : "attachment"
    }; filename="${runName}.txt"`,
  };
  if (c.req.raw.method === "HEAD") return c.body(null, 200, headers);
  const scope = new Scope(closing);
  try {
    const log = await view.log(runName, { follow, signal: scope.signal });
    if (log) return c.body(boundToReader(log, scope), 200, headers);
    scope.leave();
    return c.text(`There is no log of ${runName}\n`, 404);
  } catch (error) {
    scope.leave();
    if (error instanceof UnavailableError) return c.text(`The log cannot be read now: ${error.message}\n`, 503);
    throw error;
  }
}
