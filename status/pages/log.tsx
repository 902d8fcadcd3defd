/**
 * The page `/runs/{run}/log/view`: a window of a log as a terminal shows it, with the ways to its other parts. A pure
 * function of its input. Lines are bounded where the window is read.
 */
import type { Child } from "hono/jsx";
import type { LogPart, LogText } from "../../logs.ts";
import { compact } from "../../util/compact.ts";
import { visible } from "../../util/text.ts";
import type { SearchAnswer } from "../log_search.ts";
import type { LogQuery, LogShown } from "../log_view.ts";
import type { LogLine, LogWindow } from "../log_window.ts";
import { plainText, type Span, Terminal } from "../terminal.ts";
import { frame, runHref, type RunState, short, StateWord } from "./parts.tsx";

/** Path of a run's log in the viewer. */
export function logHref(runName: string): string {
  return `${runHref(runName)}/log/view`;
}

/** Characters of a log's head shown: the events of a run have no end. */
const MOST_HEAD = 8_000;

/** The page as HTML text. */
export function logPage(shown: LogShown): string {
  const { runName, live, record, text, window } = shown;
  const state: RunState = record?.status ?? live?.state ?? "pending";
  return frame({
    title: `Log of ${runName}`,
    heading: `Log of ${runName}`,
    here: "runs",
    run: runName,
    beside: (
      <p id="log-state" class="line" data-live>
        <StateWord state={state} />
        <a href={runHref(runName)}>The run</a>
        <a href={`${runHref(runName)}/log?download`}>Download</a>
        <a href={`${runHref(runName)}/log`}>As text</a>
      </p>
    ),
    children: (
      <>
        <p id="log-reason" class="reason" data-live>{short(record?.message ?? live?.detail, 2_000)}</p>
        {text && text.parts.length > 1 && <Parts parts={text.parts} {...shown} />}
        {text && text.head !== "" && (
          <details id="log-head" open={text.size === 0}>
            <summary>What the service wrote about the run</summary>
            <pre tabindex={0} role="group" aria-label="Head of the log">{short(text.head, MOST_HEAD)}</pre>
          </details>
        )}
        {text && window && text.size > 0 ? <Viewer {...shown} /> : <NoText {...shown} />}
      </>
    ),
  });
}

/** The lines alone, for a page that follows a log. */
export function logLinesPage(shown: LogShown): string {
  return visible((<Lines {...shown} />).toString());
}

/** Lines that a run's page shows, and characters of each. */
export const END_LINES = 15;
export const END_TEXT = 400;

/** The last lines that are not blank, for the page of a run; they grow while it runs. */
export function LogEnd({ runName, output, window }: { runName: string; output: LogText; window: LogWindow }) {
  const lines = window.lines.filter(({ text }) => plainText(text).trim() !== "").slice(-END_LINES);
  const part = output.parts.find(({ name }) => name === output.part);
  const query = part ? { part: part.name } : {};
  return (
    <>
      {part && (
        <p>
          Of {short(part.pod, 70)} / {short(part.container, 70)} <PartState part={part} />, one of {output.parts.length}
          {" "}
          containers
        </p>
      )}
      <Lines runName={runName} query={query} text={output} window={{ ...window, lines }} most={END_LINES} />
    </>
  );
}

function NoText({ failure, record, live, text }: LogShown) {
  const words = failure ??
    (text?.isLive ?? live
      ? "No output yet."
      : text
      ? "It wrote nothing."
      : record?.log_url === ""
      ? "It had no Job, so there is no log."
      : "There is no log of it in the store: nothing was written, or somebody or a rule of the bucket deleted it.");
  return (
    <section id="log-none" aria-label="Output" data-live>
      <p class={failure ? "bad" : undefined}>{words}</p>
    </section>
  );
}

function Parts({ parts, text, query }: LogShown & { parts: readonly LogPart[] }) {
  const failed = parts.filter(({ failure }) => failure !== undefined).length;
  const href = (part: string | undefined) => hrefOf({ ...kept(query), part });
  return (
    <nav aria-label="Containers" class="parts">
      <ul class="chips">
        {!text?.isLive && (
          <li>
            <a href={href(undefined)} aria-current={text?.part === undefined ? "page" : undefined}>
              All {parts.length} containers{failed > 0 && `, ${failed} failed`}
            </a>
          </li>
        )}
        {parts.slice(0, MOST_PARTS).map((part) => (
          <li>
            <a href={href(part.name)} aria-current={text?.part === part.name ? "page" : undefined}>
              {short(part.pod, 70)} / {short(part.container, 70)} <PartState part={part} />
            </a>
          </li>
        ))}
      </ul>
      {parts.length > MOST_PARTS && <p class="muted">{parts.length - MOST_PARTS} more are not shown here.</p>}
    </nav>
  );
}

/** Containers that are links. */
const MOST_PARTS = 60;

function PartState({ part: { failure, state } }: { part: LogPart }) {
  if (failure !== undefined) return <span class="tag bad">failed: {short(failure, 100)}</span>;
  return <span class={state === "running" ? "tag run" : "tag"}>{state === "running" ? "running" : "ended"}</span>;
}

function Viewer(shown: LogShown) {
  const { query, text, window } = shown;
  const isAtEnd = window!.to >= text!.size;
  return (
    <>
      <div class="logbar">
        <form method="get" role="search" aria-label="Search the log">
          {query.part !== undefined && <input type="hidden" name="part" value={query.part} />}
          {query.nowrap && <input type="hidden" name="wrap" value="off" />}
          <input type="hidden" name="from" value={`${window!.from}`} />
          <div>
            <label for="log-q" class="vh">Search the log</label>
            <input id="log-q" name="q" type="search" value={query.q} placeholder="Search the log" required />
          </div>
          <button type="submit" name="next" value="0">Search</button>
        </form>
        <Ways {...shown} />
      </div>
      {shown.search && <SearchNote search={shown.search} {...shown} />}
      <Lines {...shown} />
      <div id="end" tabindex={-1}>
        <Ways {...shown} isBelow />
        {text!.isLive && isAtEnd && (
          <p id="log-follow" class="muted" role="status">The run goes on: load this page again for what comes.</p>
        )}
      </div>
    </>
  );
}

/** Links to the other windows. */
function Ways({ query, text, window, isBelow = false }: LogShown & { isBelow?: boolean }) {
  const keep = kept(query);
  const { from, to } = window!;
  const isAll = from === 0 && to >= text!.size;
  return (
    <div class="pager">
      {!isAll && (
        <>
          <Way words="Beginning" query={from > 0 && { ...keep, from: 0 }} />
          <Way words="Earlier" query={from > 0 && { ...keep, to: from }} />
          <Way words="Later" query={to < text!.size && { ...keep, from: to }} />
        </>
      )}
      {isBelow && <a href="#main">To the top</a>}
      {!(isBelow && to >= text!.size) && <a href={to >= text!.size ? "#end" : `${hrefOf(keep)}#end`}>To the end</a>}
      <a class="log-wrap" href={hrefOf({ ...keep, from, nowrap: query.nowrap ? undefined : true })}>
        {query.nowrap ? "Break long lines" : "Do not break long lines"}
      </a>
      <span class="muted">{placeWords(window!, text!.size)}</span>
    </div>
  );
}

function Way({ words, query }: { words: string; query: LogQuery | false }) {
  return query ? <a href={hrefOf(query)}>{words}</a> : <span class="muted">{words}</span>;
}

/** `Lines 1,201 to 1,700, 3.1 % to 4 % of 1.2 GiB`. */
function placeWords({ from, to, lines }: LogWindow, size: number): string {
  const [first, last] = [lines[0]?.number, lines.at(-1)?.number];
  const place = first === undefined || last === undefined
    ? `Bytes ${figure(from)} to ${figure(to)}`
    : first === last
    ? `Line ${figure(first)}`
    : `Lines ${figure(first)} to ${figure(last)}`;
  if (from === 0 && to >= size) return `${place}, all of ${sizeWords(size)}`;
  return `${place}, up to ${Number((100 * to / size).toPrecision(3))} % of ${sizeWords(size)}`;
}

function figure(count: number): string {
  return count.toLocaleString("en");
}

/** `812 bytes`, `3.4 KiB`, `1.2 GiB`. */
function sizeWords(bytes: number): string {
  const power = Math.min(4, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  if (power === 0) return `${bytes} bytes`;
  return `${Number((bytes / 1024 ** power).toPrecision(3))} ${["", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

function SearchNote({ query, search, text }: LogShown & { search: SearchAnswer }) {
  const keep = kept(query);
  const { found, from, to, isDone } = search;
  const isBack = query.previous !== undefined;
  const looked = `${sizeWords(to - from)} looked through`;
  const all = isDone && (isBack ? to >= text!.size : from === 0);
  return (
    <p id="found" class="line" role="status">
      {found
        ? (
          <>
            <span>
              Found <b>{query.q}</b>
            </span>
            <a class="button" href={`${hrefOf({ ...keep, previous: found.from })}#found`}>Previous</a>
            <a class="button" href={`${hrefOf({ ...keep, next: found.to })}#found`}>Next</a>
          </>
        )
        : (
          <>
            <span>
              {all
                ? "Nowhere in the log: "
                : isDone
                ? `No more up to its ${isBack ? "beginning" : "end"}: `
                : "Not so far: "}
              <b>{query.q}</b>, {looked}
              {!isDone && `, up to ${Number((100 * (isBack ? from : to) / text!.size).toPrecision(3))} % of the log`}
            </span>
            {!isDone && (
              <a class="button" href={`${hrefOf({ ...keep, ...isBack ? { previous: from } : { next: to } })}#found`}>
                Go on
              </a>
            )}
            {isDone && !all && (
              <a
                class="button"
                href={`${hrefOf({ ...keep, ...isBack ? { previous: text!.size } : { next: 0 } })}#found`}
              >
                From the {isBack ? "end" : "beginning"}
              </a>
            )}
          </>
        )}
    </p>
  );
}

type LinesInput = Pick<LogShown, "runName" | "query" | "text" | "window" | "search">;

/** `most`: so many of the last ones are shown, on a page of something else. */
function Lines({ runName, query, text, window, search, most }: LinesInput & { most?: number }) {
  if (!text || !window) return <div id="log-lines" class="log"></div>;
  const terminal = new Terminal();
  const last = window.lines.at(-1);
  const isOpen = text.isLive && window.to >= text.size && last !== undefined && last.text.length > 0 && isUnended(last);
  const marked = search?.found?.from;
  const spans = window.lines.map(({ text }) => terminal.line(text));
  const marks = marksOf(spans, query.q);
  return (
    <div
      id="log-lines"
      class={query.nowrap ? "log nowrap" : "log"}
      role="group"
      aria-label={most === undefined ? "Lines of the log" : "Last lines of the log"}
      tabindex={most === undefined ? 0 : undefined}
      data-log={most === undefined ? undefined : logHref(runName)}
      data-most={most}
      data-from={`${window.from}`}
      data-next={text.isLive ? `${isOpen ? last!.from : window.to}` : undefined}
      data-open={isOpen ? "" : undefined}
      data-part={text.isLive ? text.part : undefined}
    >
      {window.lines.map((line, at) => (
        <Line
          line={line}
          spans={most === undefined ? spans[at]! : cutTo(END_TEXT, spans[at]!)}
          marks={marks[at]!}
          query={query}
          log={most === undefined ? "" : logHref(runName)}
          isHit={isHit(line, query, marked)}
          nextLine={line === last ? window.nextLine : undefined}
        />
      ))}
    </div>
  );
}

/** Its line break has not come yet. */
function isUnended({ from, to, text }: LogLine): boolean {
  return new TextEncoder().encode(text).length >= to - from;
}

function isHit({ number, from, to }: LogLine, query: LogQuery, found: number | undefined): boolean {
  if (found !== undefined) return from <= found && found < to;
  return query.line !== undefined && query.line === number;
}

function Line({ line, log, spans, marks, query, isHit, nextLine }: {
  line: LogLine;
  /** Path of the viewer; "": this page. */
  log: string;
  spans: readonly Span[];
  marks: readonly Mark[];
  query: LogQuery;
  isHit: boolean;
  nextLine: number | undefined;
}) {
  const { number, from, to, isRest, goesOn } = line;
  const id = number === undefined ? `B${from}` : isRest ? `L${number}-${from}` : `L${number}`;
  const keep = { ...kept(query), q: undefined };
  const href = number === undefined || isRest ? { ...keep, from } : { ...keep, line: number };
  // The name of a container in each link would be half of the page; the script puts it there at a click.
  const isShort = log === "" && query.part !== undefined && number !== undefined;
  return (
    <div id={id} class={isHit ? "hit" : undefined}>
      <a href={isShort ? `#${id}` : `${log}${hrefOf(href)}#${id}`}>{number ?? from}</a>
      <code>
        {isRest && <i>… goes on from before:</i>}
        {markedSpans(spans, marks)}
        {goesOn && (
          <i>
            … the line goes on: <a href={hrefOf({ ...keep, from: to })}>its next part</a>
            {nextLine !== undefined && (
              <>
                , or <a href={hrefOf({ ...keep, from: nextLine })}>the next line</a>, {sizeWords(nextLine - to)} on
              </>
            )}
          </i>
        )}
      </code>
    </div>
  );
}

/** Spans with what is marked, over the borders of spans too. */
function markedSpans(spans: readonly Span[], marks: readonly Mark[]): Child[] {
  const text = spans.map((span) => span.text).join("");
  const out: Child[] = [];
  let begin = 0;
  for (const { text: whole, classes } of spans) {
    const end = begin + whole.length;
    const cuts = [begin, ...marks.flat().filter((at) => at > begin && at < end), end];
    for (let index = 0; index + 1 < cuts.length; index++) {
      const [from, to] = [cuts[index]!, cuts[index + 1]!];
      const piece = text.slice(from, to);
      const isMarked = marks.some(([start, stop]) => start <= from && to <= stop);
      const inner = isMarked ? <mark>{piece}</mark> : piece;
      out.push(classes === "" ? inner : <span class={classes}>{inner}</span>);
    }
    begin = end;
  }
  return out;
}

/** So many characters of a line, with a mark where there are more. */
function cutTo(most: number, spans: readonly Span[]): Span[] {
  const kept: Span[] = [];
  let left = most;
  for (const { text, classes } of spans) {
    if (text.length > left) return [...kept, { text: `${text.slice(0, left).toWellFormed()} …`, classes }];
    kept.push({ text, classes });
    left -= text.length;
  }
  return kept;
}

/** Marks in a window: a letter that is searched for would be half of the page; the rest is not marked. */
const MOST_MARKS = 300;

type Mark = readonly [from: number, to: number];

/** Where the words are in each line's text. */
function marksOf(lines: readonly (readonly Span[])[], words: string | undefined): Mark[][] {
  const wanted = words?.toLowerCase();
  let left = MOST_MARKS;
  return lines.map((spans) => {
    const text = spans.map((span) => span.text).join("");
    const lower = text.toLowerCase();
    const marks: Mark[] = [];
    // Some letters have more characters in lower case.
    if (wanted === undefined || lower.length !== text.length) return marks;
    for (let at = lower.indexOf(wanted); at >= 0 && left > 0; at = lower.indexOf(wanted, at + wanted.length)) {
      marks.push([at, at + wanted.length]);
      left--;
    }
    return marks;
  });
}

/** Of a query, what holds for all windows of the log. */
function kept({ part, q, nowrap }: LogQuery): { part?: string; q?: string; nowrap?: true } {
  return compact({ part, q, nowrap });
}

function hrefOf({ nowrap, ...query }: { readonly [name in keyof LogQuery]: LogQuery[name] | undefined }): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) params.set(name, `${value}`);
  if (nowrap) params.set("wrap", "off");
  return `?${params}`;
}
