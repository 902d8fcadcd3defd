/**
 * What all pages are made of: the frame, and small parts such as times, links and tables. Everything from outside goes
 * through JSX, which escapes it, and each page through `visible`, which shows what JSX lets through.
 * Must not fetch, read clocks nor know HTTP.
 */
import type { Child } from "hono/jsx";
import { raw } from "hono/html";
import { tookMs } from "../../history.ts";
import type { Outcome, RunView } from "../../ports.ts";
import { cut, visible } from "../../util/text.ts";
import type { Page } from "../answers.ts";
import { preciseWords } from "../timeline.ts";
import { SCRIPT, STYLE } from "./assets.ts";
import { Done, Who } from "./who.tsx";

/** A state that the filter of runs knows: of a live run or of an ended one. */
export type RunState = RunView["state"] | Outcome["status"];

export const LIVE_STATES: readonly RunView["state"][] = ["pending", "running", "ending"];
export const END_STATES: readonly Outcome["status"][] = ["succeeded", "failed", "cancelled"];

/** Whether the state is one of a run that has not ended. */
export function isLiveState(state: RunState): state is RunView["state"] {
  return (LIVE_STATES as readonly string[]).includes(state);
}

/** Names that a field offers. */
const MAX_OFFERED = 300;

/** Characters of a name, topic or sentence shown at most: whoever sends them decides their length. */
const MAX_TEXT = 500;

/** Text of foreign length for a cell or a line; "" for none. */
export function short(text: string | undefined, most = MAX_TEXT): string {
  return cut(text ?? "", most);
}

/** Pages that the navigation leads to. */
const NAVIGATION = [
  ["overview", "/", "Overview"],
  ["runs", "/runs", "Runs"],
  ["table", "/table", "Table"],
  ["graph", "/graph", "Graph"],
  ["messages", "/messages", "Messages"],
  ["usage", "/usage", "Usage"],
] as const;

export interface FrameInput {
  readonly title: string;
  readonly heading: string;
  /** Beside the heading, on its line. */
  readonly beside?: Child;
  /** Which page of the navigation it is, or belongs to. */
  readonly here?: (typeof NAVIGATION)[number][0];
  /** Of a run's page: events of other runs do not concern it. */
  readonly run?: string;
  readonly children: Child;
}

/** A whole page as HTML text. */
export function frame({ title, heading, beside, here, run, children }: FrameInput): string {
  const page = (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>{title}</title>
        <link rel="icon" href="data:," />
        <style>{raw(STYLE)}</style>
      </head>
      <body data-run={run}>
        <a class="skip" href="#main">Skip to the content</a>
        <header class="top">
          <div class="bar">
            <a class="brand" href="/">MQTT Job Listener</a>
            <nav aria-label="Pages">
              <ul>
                {NAVIGATION.map(([name, href, words]) => (
                  <li>
                    <a href={href} aria-current={name === here ? "page" : undefined}>{words}</a>
                  </li>
                ))}
              </ul>
            </nav>
            <p id="live-note" role="status"></p>
            <div class="who">
              <Who />
            </div>
          </div>
        </header>
        <main id="main" tabindex={-1}>
          <div class="head">
            <h1>{heading}</h1>
            {beside}
          </div>
          <Done />
          {children}
        </main>
        <footer>
          <p class="muted">
            <span>Times are UTC.</span> <button id="zone" type="button" hidden>Show local times</button>
          </p>
        </footer>
        <script>{raw(SCRIPT)}</script>
      </body>
    </html>
  );
  return `<!doctype html>\n${visible(page.toString())}`;
}

/** A time in UTC; `–` where there is none, the text itself where it is none. */
export function Time({ at }: { at: Date | string | null | undefined }) {
  if (at === null || at === undefined) return <>–</>;
  const date = typeof at === "string" ? new Date(at) : at;
  if (Number.isNaN(date.getTime())) return <>{short(String(at))}</>;
  const iso = date.toISOString();
  return <time datetime={iso}>{iso.slice(0, 19).replace("T", " ")}</time>;
}

/** How long an ended run took, the same on every page. */
export function tookWords(record: Parameters<typeof tookMs>[0]): string {
  const ms = tookMs(record);
  return ms === undefined ? "never started" : preciseWords(ms);
}

/** Path of a run's page. */
export function runHref(runName: string): string {
  return `/runs/${encodeURIComponent(runName)}`;
}

/** Path of a row's page. */
export function rowHref(jobName: string): string {
  // What ends in .json is asked for as JSON.
  return `/rows/${encodeURIComponent(jobName).replace(/\.json$/, "%2Ejson")}`;
}

/** Path of the page of all that one message has set off. */
export function rootHref(root: string): string {
  return `/?root=${encodeURIComponent(root)}`;
}

/** Path of a group's page. */
export function groupHref(group: string): string {
  return `/groups/${encodeURIComponent(group)}`;
}

/** A run's name, leading to its page. */
export function RunLink({ runName }: { runName: string }) {
  return <a class="mono" href={runHref(runName)}>{runName}</a>;
}

/** Tone of each state, which gives its colour and its shape. */
const TONES: Readonly<Record<RunState, string>> = {
  pending: "",
  running: "run",
  ending: "run",
  succeeded: "good",
  failed: "bad",
  cancelled: "off",
};

/** A state by word, shape and colour. */
export function StateWord({ state }: { state: RunState }) {
  return <span class={`tag ${TONES[state]}`.trimEnd()}>{state}</span>;
}

/** A row's name, cut where it is too long for its place, leading to the row's page. */
export function RowLink({ jobName }: { jobName: string }) {
  return <a class="name" title={short(jobName)} href={rowHref(jobName)}>{short(jobName)}</a>;
}

/** How long ago something was, with its time in `title`. */
export function Ago({ at, now }: { at: Date | string; now: Date }) {
  const date = typeof at === "string" ? new Date(at) : at;
  if (Number.isNaN(date.getTime())) return <>{short(String(at))}</>;
  const iso = date.toISOString();
  return (
    <time datetime={iso} title={`${iso.slice(0, 19).replace("T", " ")} UTC`}>
      {agoWords(now.getTime() - date.getTime())}
    </time>
  );
}

/** `just now`, `45 s ago`, `3 min ago`, `2 h ago`, `3 d ago`: in one unit. */
export function agoWords(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h ago` : `${Math.floor(seconds / 86_400)} d ago`;
}

/** Kinds of resource named at most. */
const MAX_RESOURCES = 10;

/** `cpu 2 (limit 4), memory 8Gi, 1 GPU`. */
export function resourceWords(
  { gpu = 0, requests, limits }: {
    gpu?: number;
    requests: Readonly<Record<string, string>>;
    limits: Readonly<Record<string, string>>;
  },
): string {
  const names = [...new Set([...Object.keys(requests), ...Object.keys(limits)])]
    .filter((name) => !name.includes("gpu")).slice(0, MAX_RESOURCES);
  const words = names.map((name) => {
    const [request, limit] = [requests[name], limits[name]];
    const word = name === "ephemeral-storage" ? "disk" : name;
    if (request === undefined) return `${word} limit ${limit}`;
    return limit === undefined || limit === request ? `${word} ${request}` : `${word} ${request} (limit ${limit})`;
  });
  if (gpu > 0) words.push(`${gpu} GPU${gpu > 1 ? "s" : ""}`);
  return short(words.join(", ")) || "none set";
}

/** A table whose rows become cards on a phone; it shows all it has, and does not scroll within the page. */
export function StackTable({ label, children }: { label: string; children: Child }) {
  return <div class="stack" role="group" aria-label={label}>{children}</div>;
}

/** A table's head. */
export function Heads({ names }: { names: readonly string[] }) {
  return (
    <thead>
      <tr>{names.map((name) => <th scope="col">{name}</th>)}</tr>
    </thead>
  );
}

/** What a field offers for its text: `list` of the field is the `id`. */
export function Names({ id, names }: { id: string; names: readonly string[] }) {
  return <datalist id={id}>{names.slice(0, MAX_OFFERED).map((name) => <option value={name} />)}</datalist>;
}

/** A page that says why there is nothing else to show. */
export function messagePage({ title, message }: { title: string; message: string }): Page {
  const html = () =>
    frame({
      title: short(title),
      heading: short(title),
      children: (
        <section aria-labelledby="why-h">
          <h2 id="why-h">Why</h2>
          <p>{short(message, 2_000)}</p>
        </section>
      ),
    });
  return { data: { error: message }, html };
}
