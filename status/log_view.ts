/**
 * The log viewer `/runs/{run}/log/view`: which window of a log a query asks for, the search in it, and what is said of
 * it. Must not know what it looks like, nor where logs are.
 */
import type { LogText } from "../logs.ts";
import type { RunRecord, RunView } from "../ports.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import { oneLine } from "../util/text.ts";
import type { Page } from "./answers.ts";
import { MOST_WORDS, type SearchAnswer, searchLog } from "./log_search.ts";
import { type LogWindow, placeOfLine, WINDOW_BYTES, windowAround, windowBefore, windowFrom } from "./log_window.ts";
import { logLinesPage, logPage } from "./pages/log.tsx";
import { plainText } from "./terminal.ts";
import type { StatusView } from "./view.ts";

/** One who is so far behind a growing log goes on at its end. */
const FAR_BEHIND_BYTES = 4 * WINDOW_BYTES;

/** Lines shown before what a search found: it is on the first screen then. */
const BEFORE_HIT = 8;

/** What is asked of a log. Places are bytes of the output. */
export interface LogQuery {
  /** `{pod}/{container}`; absent: all. */
  readonly part?: string;
  /** The window begins or ends there. */
  readonly from?: number;
  readonly to?: number;
  /** The window has the line of this number. */
  readonly line?: number;
  /** What is searched for, or only marked where neither of the next two is given. */
  readonly q?: string;
  /** From where on the next one is looked for, and from where back the previous one. */
  readonly next?: number;
  readonly previous?: number;
  /** Long lines are not broken. */
  readonly nowrap?: true;
}

export interface LogShown {
  readonly runName: string;
  /** One of the two is set. */
  readonly live?: RunView;
  readonly record?: RunRecord;
  readonly query: LogQuery;
  /** Absent: there is none, and `failure` may say why. */
  readonly text?: LogText;
  readonly window?: LogWindow;
  readonly search?: SearchAnswer;
  /** Why there is no text. */
  readonly failure?: string;
}

/** The viewer's page, or, by `only=lines`, its lines alone. */
export async function readLogView(
  view: StatusView,
  runName: string,
  run: { readonly live?: RunView; readonly record?: RunRecord },
  params: URLSearchParams,
  signal: AbortSignal,
): Promise<Page> {
  const { part, ...asked } = readLogQuery(params);
  const found = await look(view, runName, { ...asked, ...compact({ part }) }, signal);
  // The one that is shown, whichever was asked for.
  const query = { ...asked, ...compact({ part: found.text?.part }) };
  const shown: LogShown = { runName, ...run, query, ...found };
  if (params.get("only") === "lines") return { data: dataOf(shown), html: () => logLinesPage(shown) };
  return { data: dataOf(shown), html: () => logPage(shown) };
}

async function look(
  view: StatusView,
  runName: string,
  query: LogQuery,
  signal: AbortSignal,
): Promise<Pick<LogShown, "text" | "window" | "search" | "failure">> {
  try {
    const text = await view.output?.(runName, { ...compact({ part: query.part }), signal });
    if (!text) return {};
    const search = await searchOf(text, query, signal);
    const window = search?.found
      ? await windowAround(text, search.found.from, { linesBefore: BEFORE_HIT })
      : await windowOf(text, query);
    return { text, window, ...compact({ search }) };
  } catch (error) {
    return { failure: `The log cannot be read now: ${errorMessage(error)}` };
  }
}

async function searchOf(text: LogText, query: LogQuery, signal: AbortSignal): Promise<SearchAnswer | undefined> {
  const { q, next, previous } = query;
  if (q === undefined || next === undefined && previous === undefined) return undefined;
  return await searchLog(text, { words: q, ...compact({ next, previous }) }, signal);
}

async function windowOf(text: LogText, { from, to, line }: LogQuery): Promise<LogWindow> {
  if (line !== undefined) {
    const place = await placeOfLine(text, line);
    if (place !== undefined) return await (place < text.size ? windowAround(text, place) : windowBefore(text, place));
  }
  const isFarBehind = text.isLive && from !== undefined && from > 0 && text.size - from > FAR_BEHIND_BYTES;
  if (from !== undefined && !isFarBehind) return await windowFrom(text, from);
  return await windowBefore(text, to ?? text.size);
}

/** Reads the query; what makes no sense counts as not given. */
function readLogQuery(params: URLSearchParams): LogQuery {
  const number = (name: string) => {
    const text = params.get(name);
    return text !== null && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  };
  const q = oneLine(params.get("q") ?? "").slice(0, MOST_WORDS);
  return compact({
    part: params.get("part") || undefined,
    from: number("from"),
    to: number("to"),
    line: number("line"),
    q: q === "" ? undefined : q,
    next: number("next"),
    previous: number("previous"),
    nowrap: params.get("wrap") === "off" || undefined,
  });
}

function dataOf({ runName, text, window, search, failure, query }: LogShown): unknown {
  if (!text || !window) {
    return { run_name: runName, ...compact({ error: failure }), size: 0, from: 0, to: 0, lines: [] };
  }
  return {
    run_name: runName,
    size: text.size,
    from: window.from,
    to: window.to,
    live: text.isLive,
    numbered: text.lines !== undefined,
    ...compact({ part: text.part, next_line: window.nextLine }),
    parts: text.parts,
    head: text.head,
    ...search
      ? {
        search: { words: query.q, found: search.found ?? null, from: search.from, to: search.to, done: search.isDone },
      }
      : {},
    lines: window.lines.map(({ number, from, to, text, isRest, goesOn }) => ({
      ...compact({ line: number }),
      from,
      to,
      text: plainText(text),
      ...isRest ? { rest: true } : {},
      ...goesOn ? { goes_on: true } : {},
    })),
  };
}
