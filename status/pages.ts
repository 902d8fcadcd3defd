/**
 * The status page as HTML text: pure functions of what they are given, laid out and drawn on the server.
 * Everything that comes from a table, a message, a log or the cluster is escaped by `html`; nothing external is loaded.
 * Must not fetch, read clocks nor know HTTP (status.ts).
 */
import dagre from "@dagrejs/dagre";
import { createHash } from "node:crypto";
import { type ChainEdge, type ChainGraph, type ChainNode, type Mark, markRows } from "../catalog/chains.ts";
import type { Outcome, Row, RunRecord, RunView } from "../ports.ts";
import type { Problem, Table } from "../catalog.ts";
import { finish } from "../util/slices.ts";

// ---------------------------------------------------------------- escaping

/** Text that is HTML already. Only `html` and this module's constants make it. */
class Markup {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

type Piece = Markup | string | number | undefined | readonly Piece[];

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/** Text for HTML and for quoted attributes. Control characters, which HTML forbids, become U+FFFD. */
export function escapeHtml(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g, "\ufffd")
    .replace(/[&<>"']/g, (char) => ENTITIES[char] ?? char);
}

function render(piece: Piece): string {
  if (piece === undefined) return "";
  if (piece instanceof Markup) return piece.text;
  if (typeof piece === "object") return piece.map(render).join("");
  return escapeHtml(String(piece));
}

/** A template in which each value is escaped, unless it is markup made by this tag. */
function html(strings: TemplateStringsArray, ...values: Piece[]): Markup {
  return new Markup(strings.map((text, at) => text + render(values[at])).join(""));
}

// ---------------------------------------------------------------- what pages are made of

/** How the service is, as `/healthz` says it. */
export interface HealthView {
  readonly ok: boolean;
  readonly ready: boolean;
  /** What was looked at, and what was seen in words. */
  readonly checks: Readonly<Record<string, string>>;
}

/** A state that the filter of runs knows: of a live run or of an ended one. */
export type RunState = RunView["state"] | Outcome["status"];

export const LIVE_STATES: readonly RunView["state"][] = ["pending", "running", "ending"];
export const END_STATES: readonly Outcome["status"][] = ["succeeded", "failed", "cancelled"];

/** What a reader asked to see, as it stands in the query. */
export interface RunQuery {
  readonly row?: string;
  readonly state?: RunState;
  /** Of the end of a run. */
  readonly since?: Date;
  readonly until?: Date;
}

export interface OverviewInput {
  readonly now: Date;
  readonly health: HealthView;
  readonly table: Table | undefined;
  /** Why the table in force is not what the store has. */
  readonly tableFailure?: string;
  readonly graph: GraphPicture | undefined;
  readonly live: readonly RunView[];
  readonly records: readonly RunRecord[];
  /** Why the history cannot be shown; a sentence. */
  readonly recordsFailure?: string;
  /** Link to the records before these. */
  readonly olderHref?: string;
  readonly query: RunQuery;
  /** Whether a token is set, so that there is something to act with. */
  readonly actions: boolean;
}

export interface RunPageInput {
  readonly now: Date;
  readonly runName: string;
  /** One of the two is set, or both for a moment. */
  readonly live?: RunView;
  readonly record?: RunRecord;
  /** The message as text; undefined: it cannot be shown, and `payloadNote` says why. */
  readonly payload?: string;
  readonly payloadNote?: string;
  readonly children: readonly { readonly runName: string; readonly state: RunState }[];
  /** The Job as YAML; undefined: it is not known any more. */
  readonly manifest?: string;
  /** End of the log as it is now; undefined: there is none yet. */
  readonly logTail?: string;
  /** The log has more than `logTail`. */
  readonly logCut: boolean;
  readonly actions: boolean;
}

// ---------------------------------------------------------------- the frame

const STYLE = `
:root{color-scheme:light dark;--bg:#fbfcfd;--card:#fff;--text:#1b1f24;--muted:#535c66;--line:#d3d9e0;--link:#0b5cad;
--bad:#a4161a;--good:#1a6b34;--warn:#7a4b00;--focus:#0b5cad;--node:#eef3f9;--end:#f3eefb}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1b1f24;--text:#e6e9ec;--muted:#a9b3bd;--line:#3a424b;
--link:#7cb8ff;--bad:#ff9a92;--good:#7ddb98;--warn:#f0c06a;--focus:#7cb8ff;--node:#222b35;--end:#2b2536}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:16px/1.5 system-ui,sans-serif}
header,main,footer{max-width:80rem;margin:0 auto;padding:0 1rem}
header{padding-top:1rem}
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:0 0 .6rem}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.25rem 1rem;margin:.25rem 0;padding:0}
a{color:var(--link)}
a:focus-visible,button:focus-visible,input:focus-visible,select:focus-visible,textarea:focus-visible,
summary:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--focus);outline-offset:2px}
.skip{position:absolute;left:-100rem}
.skip:focus{left:1rem;top:.5rem;background:var(--card);padding:.5rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:1rem;margin:1rem 0}
.scroll{overflow:auto;max-height:36rem}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;color:var(--muted);padding-bottom:.25rem}
th,td{text-align:left;vertical-align:top;padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--line)}
td{overflow-wrap:break-word;min-width:5rem}code,a{overflow-wrap:anywhere}td:last-child{min-width:9rem}
th{white-space:nowrap}
code,pre,.mono{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.85rem}
pre{margin:0;padding:.75rem;border:1px solid var(--line);border-radius:.25rem;white-space:pre-wrap;overflow-wrap:anywhere;
max-height:32rem;overflow:auto}
dl{display:grid;grid-template-columns:11rem 1fr;gap:.25rem 1rem;margin:0}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
dl+dl{margin-top:.25rem}
form{display:flex;flex-wrap:wrap;gap:.75rem;align-items:end}
label{display:block;font-size:.85rem;color:var(--muted)}
input,select,textarea,button{font:inherit;color:inherit;background:var(--bg);border:1px solid var(--muted);
border-radius:.25rem;padding:.35rem .5rem;max-width:100%}
textarea{width:24rem;min-height:4.5rem}
button{cursor:pointer;font-weight:600}
.muted{color:var(--muted)}.bad{color:var(--bad);font-weight:600}.good{color:var(--good);font-weight:600}
.warn{color:var(--warn);font-weight:600}
.reason{font-size:1.05rem}
svg text{font:12px ui-monospace,"DejaVu Sans Mono",monospace;fill:var(--text)}
svg .mark{fill:var(--bad);font-weight:600}
svg .node{fill:var(--card);stroke:var(--muted)}
svg .topic{fill:var(--node)}svg .end{fill:var(--end)}
svg .odd{stroke:var(--bad);stroke-width:2;stroke-dasharray:5 3}
svg .edge{fill:none;stroke:var(--muted)}svg .fails{stroke-dasharray:4 3}svg .tip{fill:var(--muted)}
@media(max-width:40rem){dl{grid-template-columns:1fr}dd{margin-bottom:.4rem}textarea,form>div{width:100%}
input,select{width:100%}}
`;

/**
 * Reload of the parts marked `data-live` when the service tells something, and the growing log. Reading needs none
 * of it. Parsed markup runs no script, and the policy would not let it.
 */
const SCRIPT = `
(() => {
  const note = document.getElementById("live-note");
  const say = (text) => { if (note && note.textContent !== text) note.textContent = text; };
  let due, busy = false;
  const refresh = async () => {
    due = undefined;
    if (busy) return plan();
    busy = true;
    try {
      const response = await fetch(location.href);
      if (!response.ok) return;
      const next = new DOMParser().parseFromString(await response.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const fresh = next.getElementById(part.id);
        if (!fresh || fresh.innerHTML === part.innerHTML) continue;
        const at = part.contains(document.activeElement) ? document.activeElement : undefined;
        const href = at && at.getAttribute("href");
        const top = part.querySelector(".scroll") ? part.querySelector(".scroll").scrollTop : 0;
        part.replaceWith(fresh);
        if (fresh.querySelector(".scroll")) fresh.querySelector(".scroll").scrollTop = top;
        if (href) {
          for (const link of fresh.querySelectorAll("a")) {
            if (link.getAttribute("href") === href) { link.focus(); break; }
          }
        } else if (at && fresh.querySelector("[tabindex]")) fresh.querySelector("[tabindex]").focus();
      }
    } catch { /* The event source says that the service is away. */ } finally { busy = false; }
  };
  const plan = () => { due = due || setTimeout(refresh, 500); };
  const source = new EventSource("/events");
  let opened = false;
  source.onopen = () => { say("Live: changes show by themselves"); if (opened) plan(); opened = true; };
  source.onerror = () => say("Not live: the service does not answer, trying again");
  const run = document.body.dataset.run;
  for (const type of ["created", "started", "waiting", "finished", "table", "broker", "leader", "resync"]) {
    source.addEventListener(type, (event) => {
      const name = run && event.data ? JSON.parse(event.data).run_name : undefined;
      if (!run || !name || name === run) plan();
    });
  }
  setInterval(() => { if (!document.hidden) plan(); }, 15000);
  const log = document.querySelector("pre[data-follow]");
  const follow = async () => {
    const response = await fetch(log.dataset.follow);
    if (!response.ok || !response.body) return false;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let first = true;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return true;
      const atEnd = first || log.scrollTop + log.clientHeight >= log.scrollHeight - 40;
      const text = value.replace(/\\u001b\\[[0-9;?]*[ -\\/]*[@-~]/g, "");
      log.textContent = ((first ? "" : log.textContent) + text).slice(-262144);
      first = false;
      if (atEnd) log.scrollTop = log.scrollHeight;
    }
  };
  if (log) {
    (async () => {
      for (let tries = 0; tries < 600; tries++) {
        try { if (await follow()) return plan(); } catch { /* try again */ }
        await new Promise((resolve) => setTimeout(resolve, 2000));
      }
    })();
  }
})();
`;

function digest(text: string): string {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

/** The policy for every HTML answer: the one script and the one style of these pages, by hash, and nothing else. */
export function contentSecurityPolicy(): string {
  return [
    "default-src 'none'",
    `script-src ${digest(SCRIPT)}`,
    `style-src ${digest(STYLE)}`,
    "img-src data:",
    "connect-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join("; ");
}

function frame(
  { title, heading, body, run }: { title: string; heading: string; body: Piece; run?: string },
): string {
  return html`
    <!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>${title}</title>
        <link rel="icon" href="data:,">
        <style>${new Markup(STYLE)}</style>
      </head>
      <body${run === undefined ? "" : html`
        data-run="${run}"
      `}><a class="skip" href="#main">Skip to the content</a>
    <header><h1>${heading}</h1>
    <nav aria-label="Pages"><ul><li><a href="/">Overview</a></li><li><a href="/#live">Live runs</a></li>
    <li><a href="/#history">History</a></li><li><a href="/#table">Table</a></li></ul></nav>
    <p id="live-note" class="muted" role="status"></p></header>
    <main id="main" tabindex="-1">${body}</main>
    <footer><p class="muted">MQTT Job Listener. Times are UTC.</p></footer>
    <script>${new Markup(SCRIPT)}</script></body></html>
  `.text;
}

// ---------------------------------------------------------------- small parts

function timeOf(at: Date | string | null | undefined): Piece {
  if (at === null || at === undefined) return "–";
  const date = typeof at === "string" ? new Date(at) : at;
  if (Number.isNaN(date.getTime())) return String(at);
  const iso = date.toISOString();
  return html`<time datetime="${iso}">${iso.slice(0, 19).replace("T", " ")}</time>`;
}

/** A length of time as people say it: `45 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`. */
export function ageWords(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor(seconds / 3600) % 24} h`;
}

function runHref(runName: string): string {
  return `/runs/${encodeURIComponent(runName)}`;
}

function runLink(runName: string): Markup {
  return html`<a class="mono" href="${runHref(runName)}">${runName}</a>`;
}

function stateWord(state: RunState): Markup {
  const tone = state === "succeeded" ? "good" : state === "failed" ? "bad" : state === "cancelled" ? "warn" : "";
  return html`<span class="${tone}">${state}</span>`;
}

/** `cpu 2 (limit 4), memory 8Gi, 1 GPU`. */
function resourceWords(
  { gpu = 0, requests, limits }: {
    gpu?: number;
    requests: Readonly<Record<string, string>>;
    limits: Readonly<Record<string, string>>;
  },
): string {
  const names = [...new Set([...Object.keys(requests), ...Object.keys(limits)])].filter((name) =>
    !name.includes("gpu")
  );
  const words = names.map((name) => {
    const [request, limit] = [requests[name], limits[name]];
    const short = name === "ephemeral-storage" ? "disk" : name;
    if (request === undefined) return `${short} limit ${limit}`;
    return limit === undefined || limit === request ? `${short} ${request}` : `${short} ${request} (limit ${limit})`;
  });
  if (gpu > 0) words.push(`${gpu} GPU${gpu > 1 ? "s" : ""}`);
  return words.join(", ") || "none set";
}

function scrollTable(label: string, table: Piece): Markup {
  return html`<div class="scroll" tabindex="0" role="group" aria-label="${label}">${table}</div>`;
}

function heads(...names: string[]): Markup {
  return html`
    <thead>
      <tr>${names.map((name) => html`<th scope="col">${name}</th>`)}</tr>
    </thead>
  `;
}

function tokenField(id: string): Markup {
  return html`<div><label for="${id}">Token</label>
<input id="${id}" name="token" type="password" required autocomplete="current-password"></div>`;
}

// ---------------------------------------------------------------- overview

/** Rows, problems and live runs shown at most; the rest is counted. */
const MAX_SHOWN = 300;

/** The page `/`. */
export function overviewPage(input: OverviewInput): string {
  const { table, live, query } = input;
  // A time is that of an end, which a live run has not had.
  const wantsLive = query.state === undefined ? !query.since && !query.until : isLiveState(query.state);
  const wantsEnded = query.state === undefined || !isLiveState(query.state);
  const body = [
    healthSection(input),
    findSection(input),
    wantsLive ? liveSection(live, input.now) : undefined,
    wantsEnded ? historySection(input) : undefined,
    tableSection(input),
    input.actions && table ? runSection() : undefined,
    table ? rowNames(table.rows) : undefined,
  ];
  return frame({ title: "MQTT Job Listener", heading: "MQTT Job Listener", body });
}

/** Whether the state is one of a run that has not ended. */
export function isLiveState(state: RunState): state is RunView["state"] {
  return (LIVE_STATES as readonly string[]).includes(state);
}

function healthSection({ health, tableFailure }: OverviewInput): Markup {
  const word = !health.ok
    ? html`<span class="bad">in trouble</span>`
    : health.ready
    ? html`<span class="good">working</span>`
    : html`<span class="warn">not ready</span>`;
  return html`
    <section id="health" data-live aria-labelledby="health-h"><h2 id="health-h">Service: ${word}</h2>
    ${tableFailure === undefined ? "" : html`<p class="bad">${tableFailure}</p>`}
    <dl>${Object.entries(health.checks).map(([name, words]) =>
      html`
        <dt>${name}</dt>
        <dd>${words}</dd>
      `
    )}</dl></section>
  `;
}

function findSection({ query }: OverviewInput): Markup {
  const option = (state: RunState) =>
    html`
      <option value="${state}" ${query.state === state
        ? html`
          selected
        `
        : ""}>${state}</option>
    `;
  const field = (name: "since" | "until", label: string) =>
    html`<div><label for="find-${name}">${label}</label><input id="find-${name}" name="${name}" type="datetime-local"
 value="${query[name]?.toISOString().slice(0, 16) ?? ""}"></div>`;
  return html`
    <section aria-labelledby="find-h">
      <h2 id="find-h">Find runs</h2>
      <form method="get" action="/" role="search" aria-labelledby="find-h">
    <div><label for="find-row">Row</label><input id="find-row" name="row" list="row-names" value="${query.row ??
      ""}"></div>
    <div><label for="find-state">State</label><select id="find-state" name="state"><option value="">any</option>
    ${[...LIVE_STATES, ...END_STATES].map(option)}</select></div>
    ${field("since", "Ended since (UTC)")}${field("until", "Ended before (UTC)")}
    <div><button>Show</button> <a href="/">Show all</a></div></form>
    </section>
  `;
}

function liveSection(live: readonly RunView[], now: Date): Markup {
  const shown = live.slice(0, MAX_SHOWN);
  const rest = live.length - shown.length;
  const row = (run: RunView) =>
    html`
      <tr>
        <th scope="row">${runLink(run.runName)}</th>
        <td>${run.jobName}</td>
        <td>${stateWord(run.state)}${run.detail === "" ? "" : html`<br>${run.detail}`}</td>
        <td>${ageWords(now.getTime() - run.receivedAt.getTime())}</td>
        <td><code>${run.topic}</code>${run.parentRun === undefined
          ? ""
          : html`<br>after ${runLink(run.parentRun)}`}</td>
        <td>${run.nodes.join(", ") || "–"}</td>
        <td>${resourceWords(run)}</td>
      </tr>
    `;
  const table = html`<table><caption>${live.length} ${live.length === 1 ? "run" : "runs"}${
    rest > 0 ? `, ${rest} of them not shown; name a row above` : ""
  }</caption>${heads("Run", "Row", "State", "Age", "Message", "Node", "Requests and limits")}
<tbody>${shown.map(row)}</tbody></table>`;
  return html`
    <section id="live" data-live aria-labelledby="live-h"><h2 id="live-h">Live runs</h2>
    ${live.length === 0 ? html`<p class="muted">Nothing runs now.</p>` : scrollTable("Live runs", table)}</section>
  `;
}

function historySection({ records, recordsFailure, olderHref }: OverviewInput): Markup {
  const row = (record: RunRecord) =>
    html`
      <tr>
        <th scope="row">${runLink(record.run_name)}</th>
        <td>${record.job_name}</td>
        <td>${stateWord(record.status)}</td>
        <td>${record.message}</td>
        <td>${timeOf(record.finished_at)}</td>
        <td>${durationOf(record)}</td>
        <td>${record.node ?? "–"}</td>
      </tr>
    `;
  const table = html`<table>${heads("Run", "Row", "State", "Why", "Ended", "Took", "Node")}
<tbody>${records.map(row)}</tbody></table>`;
  return html`
    <section id="history" data-live aria-labelledby="history-h"><h2 id="history-h">History</h2>
    ${recordsFailure === undefined ? "" : html`<p class="bad">${recordsFailure}</p>`}
    ${records.length === 0 ? html`<p class="muted">No run that ended fits.</p>` : scrollTable("Runs that ended", table)}
    ${olderHref === undefined ? "" : html`<p><a href="${olderHref}">Older runs</a></p>`}</section>
  `;
}

function durationOf({ started_at, finished_at }: RunRecord): string {
  return started_at === null ? "never started" : ageWords(Date.parse(finished_at) - Date.parse(started_at));
}

function tableSection({ table, graph }: OverviewInput): Markup {
  if (!table) {
    return html`
      <section id="table" data-live aria-labelledby="table-h">
        <h2 id="table-h">Table</h2>
        <p class="warn">There is no usable table yet.</p>
      </section>
    `;
  }
  return html`
    <section id="table" data-live aria-labelledby="table-h"><h2 id="table-h">Table</h2>
    <p>${table.rows.length} ${table.rows.length === 1 ? "row" : "rows"} in use, ${table.badRows.length} left out.</p>
    ${problemList(table.problems)}${graphFigure(graph)}${rowList(table)}</section>
  `;
}

function problemList(problems: readonly Problem[]): Markup {
  if (problems.length === 0) return html`<p class="good">No errors and no warnings.</p>`;
  const sorted = [...problems].sort((a, b) => Number(b.severity === "error") - Number(a.severity === "error"));
  const shown = sorted.slice(0, MAX_SHOWN);
  const row = ({ severity, line, jobName, column, value, message }: Problem) =>
    html`
      <tr>
        <td class="${severity === "error" ? "bad" : "warn"}">${severity}</td>
        <td>${line}</td>
        <td>${jobName ?? "–"}</td>
        <td>${column ?? "–"}</td>
        <td><code>${value ?? ""}</code></td>
        <td>${message}</td>
      </tr>
    `;
  const rest = problems.length - shown.length;
  const table = html`<table><caption>Errors leave their row out${
    rest > 0 ? `; ${rest} more are not shown` : ""
  }</caption>
${heads("Kind", "Line", "Row", "Column", "Value", "What is wrong")}<tbody>${shown.map(row)}</tbody></table>`;
  return html`<h3>Problems</h3>${scrollTable("Problems of the table", table)}`;
}

function rowList({ rows, chains }: Table): Markup {
  const shown = rows.slice(0, MAX_SHOWN);
  const marks = markRows(chains, new Set(shown));
  const item = (row: Row) =>
    html`
      <tr>
        <th scope="row"><a href="/?row=${encodeURIComponent(row.jobName)}#history">${row
          .jobName}</a>${(marks.get(row) ?? []).map(
            (mark) => html`<br><span class="bad">${MARK_WORDS[mark]}</span>`,
          )}</th>
        <td>${row.line}</td>
        <td><code>${row.mqttTopic}</code></td>
        <td><code>${row.image}</code></td>
        <td><code>${row.command?.join(" ") ?? "the image's own"}</code></td>
        <td>${resourceWords(rowResources(row))}${row.parallelism > 1 ? `, ${row.parallelism} pods` : ""}</td>
      </tr>
    `;
  const rest = rows.length - shown.length;
  const table = html`<table>${rest > 0 ? html`<caption>${rest} more rows are not shown</caption>` : ""}
${heads("Row", "Line", "Topic", "Image", "Command", "Requests and limits")}<tbody>${shown.map(item)}</tbody></table>`;
  return html`<h3>Rows</h3>${scrollTable("Rows of the table", table)}`;
}

function rowResources(row: Row) {
  const pick = (cpu?: string, memory?: string, disk?: string): Record<string, string> => ({
    ...cpu === undefined ? {} : { cpu },
    ...memory === undefined ? {} : { memory },
    ...disk === undefined ? {} : { disk },
  });
  return {
    gpu: row.gpu,
    requests: pick(row.cpuRequest, row.memoryRequest, row.diskRequest),
    limits: pick(row.cpuLimit, row.memoryLimit, row.diskLimit),
  };
}

function rowNames(rows: readonly Row[]): Markup {
  return html`
    <datalist id="row-names">${rows.slice(0, MAX_SHOWN).map(({ jobName }) =>
      html`<option value="${jobName}"></option>`
    )}</datalist>
  `;
}

function runSection(): Markup {
  return html`
    <section aria-labelledby="run-h">
      <h2 id="run-h">Run a row</h2>
      <form method="post" action="/actions/run" aria-labelledby="run-h">
    <div><label for="run-row">Row</label><input id="run-row" name="job_name" list="row-names" required></div>
    <div><label for="run-payload">Payload of the message</label><textarea id="run-payload" name="payload"></textarea></div>
    ${tokenField("run-token")}<div><button>Run</button></div></form>
    </section>
  `;
}

// ---------------------------------------------------------------- the graph

const MARK_WORDS: Readonly<Record<Mark, string>> = {
  "bad": "has errors, does not run",
  "orphan": "waits for a job that no row has",
  "cycle": "in a circle",
  "self-trigger": "starts itself",
  "never": "never runs: not the end of a job",
};
/** Width of a character of the drawing's font at 12 px, in px; a little more than DejaVu Sans Mono's 7.22. */
const CHAR_PX = 7.4;
const LINE_PX = 16;
const MAX_LABEL = 44;
/** Nodes drawn at most: more cannot be read, and the layout's time grows faster than their number. */
const MAX_NODES = 100;
const MARGIN_PX = 8;
const PART_GAP_PX = 14;

/** A drawing made once a table: SVG text, made by `drawGraph` alone. */
export interface GraphPicture {
  readonly svg: string;
  /** Nodes that are not drawn, for there are too many. */
  readonly omitted: number;
}

/** Rows taken into a drawing at most. */
export const MAX_DRAWN_ROWS = 400;

/**
 * Lays the graph out and draws it, ends of jobs without `topicPrefix`, which all of them have. Of a large graph: the
 * marked rows and the chains first, then what else fits.
 */
export function drawGraph(graph: ChainGraph, topicPrefix: string): GraphPicture {
  return finish(drawGraphSteps(graph, topicPrefix));
}

/** `drawGraph` in steps: yields after each connected part, so that a caller can let others work. */
export function* drawGraphSteps(graph: ChainGraph, topicPrefix: string): Generator<void, GraphPicture> {
  const nodes = chooseNodes(graph).map((node) => ({ ...node, label: shortLabel(node, topicPrefix) }));
  const ids = new Set(nodes.map(({ id }) => id));
  const edges = graph.edges.filter(({ from, to }) => ids.has(from) && ids.has(to));
  yield;
  const drawn: Markup[] = [];
  let [width, height] = [0, MARGIN_PX];
  for (const part of partsOf(nodes, edges)) {
    const laid = drawPart(part, height);
    drawn.push(laid.markup);
    width = Math.max(width, laid.width);
    height += laid.height + PART_GAP_PX;
    yield;
  }
  const size = { width: Math.ceil(width) + 2 * MARGIN_PX, height: Math.ceil(height) - PART_GAP_PX + MARGIN_PX };
  const svg = html`
    <svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="graph-t graph-d"
      width="${size.width}" height="${size.height}" viewBox="0 0 ${size.width} ${size.height}">
    <title id="graph-t">The table as a graph</title><desc id="graph-d">${describe(nodes)}</desc>
    <defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
    <path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>
    ${drawn}</svg>
  `;
  return { svg: svg.text, omitted: graph.nodes.length - nodes.length + graph.omittedRows };
}

interface Part {
  readonly nodes: ChainNode[];
  readonly edges: ChainEdge[];
}

/** The connected parts, in the order of their first nodes. */
function partsOf(nodes: readonly ChainNode[], edges: readonly ChainEdge[]): Part[] {
  const above = new Map<string, string>();
  const root = (id: string): string => {
    let at = id;
    for (let up = above.get(at); up !== undefined; up = above.get(at)) at = up;
    return at;
  };
  for (const { from, to } of edges) {
    const [a, b] = [root(from), root(to)];
    if (a !== b) above.set(a, b);
  }
  const parts = new Map<string, Part>();
  for (const node of nodes) {
    const id = root(node.id);
    const part = parts.get(id);
    if (part) part.nodes.push(node);
    else parts.set(id, { nodes: [node], edges: [] });
  }
  for (const edge of edges) parts.get(root(edge.from))?.edges.push(edge);
  return [...parts.values()];
}

/** One connected part, its upper edge at `top`. */
function drawPart({ nodes, edges }: Part, top: number): { markup: Markup; width: number; height: number } {
  const layout = new dagre.graphlib.Graph({ multigraph: true });
  layout.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 56, marginx: 0, marginy: 0 });
  layout.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) layout.setNode(node.id, sizeOf(node));
  for (const { from, to, kind } of edges) {
    layout.setEdge(from, to, kind === "fails" ? { width: 40, height: 14, labelpos: "c" } : {}, kind);
  }
  dagre.layout(layout);
  const { width = 0, height = 0 } = layout.graph();
  const markup = html`<g transform="translate(${MARGIN_PX} ${round(top)})">${
    edges.map(({ from, to, kind }) => drawEdge(layout.edge(from, to, kind), kind === "fails"))
  }${nodes.map((node) => drawNode(node, layout.node(node.id)))}</g>`;
  return { markup, width, height };
}

function shortLabel({ kind, label }: ChainNode, topicPrefix: string): string {
  return kind === "end" && label.startsWith(`${topicPrefix}/`) ? `…${label.slice(topicPrefix.length)}` : label;
}

function chooseNodes({ nodes, edges }: ChainGraph): ChainNode[] {
  if (nodes.length <= MAX_NODES) return [...nodes];
  const chained = new Set(edges.filter(({ kind }) => kind !== "starts").flatMap(({ from, to }) => [from, to]));
  const rank = ({ marks, id }: ChainNode) => marks.length > 0 ? 0 : chained.has(id) ? 1 : 2;
  const byRank = [0, 1, 2].flatMap((wanted) => nodes.filter((node) => rank(node) === wanted));
  const chosen = new Set(byRank.slice(0, MAX_NODES));
  return nodes.filter((node) => chosen.has(node));
}

function linesOf(node: ChainNode): string[] {
  const cut = node.label.length > MAX_LABEL ? `${node.label.slice(0, MAX_LABEL - 1)}…` : node.label;
  return [cut, ...node.marks.map((mark) => `! ${MARK_WORDS[mark]}`)];
}

function sizeOf(node: ChainNode): { width: number; height: number } {
  const lines = linesOf(node);
  const widest = Math.max(...lines.map((line) => line.length));
  return { width: Math.ceil(widest * CHAR_PX) + 20, height: lines.length * LINE_PX + 12 };
}

function describe(nodes: readonly ChainNode[]): string {
  const count = (kind: ChainNode["kind"]) => nodes.filter((node) => node.kind === kind).length;
  const odd = nodes.filter(({ marks }) => marks.length > 0)
    .map(({ label, marks }) => `${label}: ${marks.map((mark) => MARK_WORDS[mark]).join(", ")}`);
  return `${count("topic")} topics, ${count("row")} rows, ${count("end")} ends of jobs that rows wait for. ` +
    (odd.length > 0 ? `Marked: ${odd.join("; ")}.` : "Nothing is marked.") + " The list of rows below says the same.";
}

interface Placed {
  readonly x?: number;
  readonly y?: number;
  readonly width?: number;
  readonly height?: number;
}

function drawNode(node: ChainNode, placed: Placed): Markup {
  const { x = 0, y = 0, width = 0, height = 0 } = placed;
  const [left, top] = [round(x - width / 2), round(y - height / 2)];
  const radius = node.kind === "row" ? 3 : 12;
  const style = `node ${node.kind}${node.marks.length > 0 ? " odd" : ""}`;
  return html`
    <g><title>${node.label}${node.line === undefined ? "" : ` (line ${node.line})`}</title><rect class="${style}"
    x="${left}" y="${top}" width="${width}" height="${height}" rx="${radius}"/>${linesOf(node).map((line, at) =>
      html`
        <text x="${left + 10}" y="${round(top + 18 + at * LINE_PX)}" ${at > 0
          ? html`
            class="mark"
          `
          : ""}>${line}</text>
      `
    )}</g>
  `;
}

interface Drawn extends Placed {
  readonly points?: readonly { readonly x: number; readonly y: number }[];
}

function drawEdge(edge: Drawn, fails: boolean): Markup {
  const points = edge.points ?? [];
  const path = points.map(({ x, y }, at) => `${at === 0 ? "M" : "L"}${round(x)} ${round(y)}`).join("");
  const word = fails && edge.x !== undefined && edge.y !== undefined
    ? html`<text text-anchor="middle" x="${round(edge.x)}" y="${round(edge.y - 3)}">fails</text>`
    : "";
  return html`
    <path class="edge${fails ? " fails" : ""}" d="${path}" marker-end="url(#tip)" />${word}
  `;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function graphFigure(picture: GraphPicture | undefined): Markup {
  if (!picture) return html``;
  const rest = picture.omitted > 0 ? html`<p class="muted">${picture.omitted} topics and rows are not drawn.</p>` : "";
  return html`
    <h3>Topics, rows and chains</h3>
    <p class="muted">Round: topics and ends of jobs. Square: rows. Dashed and marked with !: look here.</p>${rest}
    ${scrollTable("Drawing of the table", new Markup(picture.svg))}
  `;
}

// ---------------------------------------------------------------- one run

/** The page `/runs/{run}`. */
export function runPage(input: RunPageInput): string {
  const { runName, live, record } = input;
  const state: RunState = record?.status ?? live?.state ?? "pending";
  const body = [
    html`
      <section id="state" data-live aria-labelledby="state-h"><h2 id="state-h">State: ${stateWord(state)}</h2>
      <p class="reason">${record?.message ?? live?.detail ?? ""}</p>${record
        ? recordFacts(record)
        : live
        ? liveFacts(live, input.now)
        : ""}
      ${relatives(input)}</section>
    `,
    logSection(input),
    messageSection(input),
    input.actions ? actionSection(input) : undefined,
    manifestSection(input),
  ];
  return frame({ title: `${runName}: ${state}`, heading: `Run ${runName}`, body, run: runName });
}

function recordFacts(record: RunRecord): Markup {
  return html`
    <dl>
      <dt>Row</dt>
      <dd>${record.job_name}</dd>
      <dt>Reason</dt>
      <dd>${record.reason}${record.exit_code === null ? "" : `, exit code ${record.exit_code}`}</dd>
      <dt>Message came</dt>
      <dd>${timeOf(record.received_at)}</dd>
      <dt>Started</dt>
      <dd>${timeOf(record.started_at)}</dd>
      <dt>Ended</dt>
      <dd>${timeOf(record.finished_at)}</dd>
      <dt>Took</dt>
      <dd>${durationOf(record)}</dd>
      <dt>Node</dt>
      <dd>${record.node ?? "–"}</dd>
      <dt>Image</dt>
      <dd><code>${record.image}</code></dd>
      <dt>Requests and limits</dt>
      <dd>${resourceWords({
        ...record,
        gpu: Number(record.requests["nvidia.com/gpu"] ?? record.limits["nvidia.com/gpu"] ?? 0),
      })}</dd>
      <dt>Log</dt>
      <dd><code>${record.log_url}</code></dd>
    </dl>
  `;
}

function liveFacts(run: RunView, now: Date): Markup {
  return html`
    <dl>
      <dt>Row</dt>
      <dd>${run.jobName}</dd>
      <dt>Age</dt>
      <dd>${ageWords(now.getTime() - run.receivedAt.getTime())}</dd>
      <dt>Message came</dt>
      <dd>${timeOf(run.receivedAt)}</dd>
      <dt>Started</dt>
      <dd>${timeOf(run.startedAt)}</dd>
      <dt>Node</dt>
      <dd>${run.nodes.join(", ") || "–"}</dd>
      <dt>Image</dt>
      <dd><code>${run.image}</code></dd>
      <dt>Requests and limits</dt>
      <dd>${resourceWords(run)}</dd>
    </dl>
  `;
}

function relatives({ live, record, children, runName }: RunPageInput): Markup {
  const parent = record?.parent_run ?? live?.parentRun;
  const root = record?.root_run ?? live?.rootRun;
  return html`<dl><dt>Started by</dt><dd>${parent ? runLink(parent) : "a message from outside"}</dd>${
    root !== undefined && root !== runName && root !== parent
      ? html`
        <dt>First of the chain</dt>
        <dd>${runLink(root)}</dd>
      `
      : ""
  }<dt>Started runs</dt><dd>${
    children.length === 0
      ? "none"
      : children.map((child, at) => html`${at > 0 ? ", " : ""}${runLink(child.runName)} (${child.state})`)
  }</dd></dl>`;
}

/** Control sequences of terminals, which colour logs and would be noise here. */
// deno-lint-ignore no-control-regex
const TERMINAL = /\u001b\[[0-9;?]*[ -/]*[@-~]/g;

function logSection({ runName, live, record, logTail, logCut }: RunPageInput): Markup {
  const href = `${runHref(runName)}/log`;
  const follows = live !== undefined && record === undefined;
  return html`
    <section aria-labelledby="log-h">
      <h2 id="log-h">Log</h2>
      <p id="log-note" data-live><a href="${href}">The whole log as text</a>${follows
        ? " (grows while it runs)"
        : ""}${logCut ? ". Here is its end:" : ""}</p>
      <pre id="log" tabindex="0" role="group" aria-labelledby="log-h" ${follows
        ? html`
          data-follow="${href}"
        `
        : ""}>${(logTail ?? "No output yet.").replace(TERMINAL, "")}</pre>
    </section>
  `;
}

function messageSection({ live, record, payload, payloadNote }: RunPageInput): Markup {
  return html`
    <section aria-labelledby="message-h"><h2 id="message-h">Message</h2>
    <p>On <code>${record?.topic ?? live?.topic ?? ""}</code></p>${payload === undefined
      ? html`<p class="muted">${payloadNote ?? "Its payload cannot be shown."}</p>`
      : payload === ""
      ? html`<p class="muted">Its payload is empty.</p>`
      : html`<pre tabindex="0" role="group" aria-labelledby="message-h">${payload}</pre>`}</section>
  `;
}

function actionSection({ runName, record }: RunPageInput): Markup {
  const [action, title, button] = record
    ? ["/actions/rerun", "Run again with the same message", "Run again"] as const
    : ["/actions/cancel", "Cancel this run", "Cancel the run"] as const;
  return html`
    <section id="act" data-live aria-labelledby="act-h">
      <h2 id="act-h">${title}</h2>
      <form method="post" action="${action}"
        aria-labelledby="act-h"><input type="hidden" name="run_name" value="${runName}">
    ${tokenField("act-token")}<div><button>${button}</button></div></form>
    </section>
  `;
}

function manifestSection({ manifest }: RunPageInput): Markup {
  return html`
    <section aria-labelledby="job-h"><h2 id="job-h">Job</h2>${manifest === undefined
      ? html`<p class="muted">Its Job is not known any more.</p>`
      : html`
        <details>
          <summary>As YAML</summary>
          <pre tabindex="0" role="group" aria-labelledby="job-h">${manifest}</pre>
        </details>
      `}</section>
  `;
}

/** A page that says why there is nothing else to show. */
export function messagePage({ title, message }: { title: string; message: string }): string {
  return frame({
    title,
    heading: title,
    body: html`
      <section aria-labelledby="why-h">
        <h2 id="why-h">Why</h2>
        <p>${message}</p>
      </section>
    `,
  });
}
