/**
 * The page `/`: how the service is, what runs and waits, what failed and why, and how each row did lately, on one screen.
 * A pure function of its input.
 */
import type { EndedRun, Reach } from "../../history.ts";
import { durationWords } from "../../util/duration.ts";
import type { HealthWords } from "../health.ts";
import type { Wait } from "../joins.ts";
import type { LiveLine } from "../live_lines.ts";
import { RUN_SORTS } from "../runs_query.ts";
import { ENDS_SHOWN, EndStrip, endsWords } from "./ends.tsx";
import { GroupLink, Strip } from "./group.tsx";
import { hrefWith, ListForm, type ListPage, PagesOf } from "./lists.tsx";
import { Ago, frame, rootHref, rowHref, RowLink, runHref, short, StateWord } from "./parts.tsx";
import { reachWords, runsHref } from "./runs.tsx";

export const ROW_SORTS = [["activity", "last active first"], ["failures", "most failures first"], [
  "name",
  "by name",
]] as const;

/** A row and how it did lately. */
export interface RowLine {
  readonly jobName: string;
  readonly owner?: string;
  readonly running: number;
  readonly waiting: number;
  /** Oldest first. */
  readonly ends: readonly EndedRun[];
}

/** A message that a row refused: no run came of it. */
export interface Refusal {
  readonly topic: string;
  readonly at: Date;
  /** Sentences. */
  readonly why: readonly string[];
}

/** Lines of failures. */
export const MAX_FAILURES = 5;

export interface OverviewInput {
  readonly now: Date;
  readonly health: HealthWords;
  readonly hasTable: boolean;
  readonly problems: { readonly errors: number; readonly warnings: number };
  readonly running: number;
  readonly waiting: number;
  /** Within 24 hours, without attempts that were tried again; absent: the history cannot be read. */
  readonly failed?: number;
  /** The newest, however old. */
  readonly failures: readonly EndedRun[];
  /** The last messages that a row refused, newest first. */
  readonly refusals?: readonly Refusal[];
  /** Why the history cannot be shown; a sentence. */
  readonly pastFailure?: string;
  readonly reach: Reach;
  readonly live: ListPage<LiveLine>;
  readonly rows: ListPage<RowLine>;
  /** Rows that wait for rows that they need. */
  readonly waits: readonly Wait[];
  /** As the links and forms of the page have it. */
  readonly query: Readonly<
    Partial<Record<"live" | "live_sort" | "live_page" | "rows" | "rows_sort" | "rows_page", string>>
  >;
}

/** The page as HTML text. */
export function overviewPage(input: OverviewInput): string {
  return frame({
    title: "Overview – MQTT Job Listener",
    heading: "Overview",
    here: "overview",
    beside: <HealthLine {...input} />,
    children: (
      <>
        <Troubles {...input} />
        <Figures {...input} />
        <div class="cols">
          <div>
            <FailureSection {...input} />
            <LiveSection {...input} />
          </div>
          <RowSection {...input} />
        </div>
      </>
    ),
  });
}

const HEALTH_TONES = { "working": "good", "not ready": "warn", "in trouble": "bad" } as const;

function HealthLine({ health, hasTable, problems: { errors, warnings } }: OverviewInput) {
  const count = (number: number, word: string) => number === 0 ? [] : [`${number} ${word}${number === 1 ? "" : "s"}`];
  const problems = [...count(errors, "error"), ...count(warnings, "warning")].join(", ");
  return (
    <div id="health" data-live class="line">
      <span class={`tag ${HEALTH_TONES[health.state]}`}>{health.state}</span>
      <span class="muted small wideonly">{short(health.fine.join(" · "))}</span>
      {hasTable && problems !== "" && (
        <a class={`small ${errors > 0 ? "bad" : "warn"}`} href="/table">{problems} in the table</a>
      )}
    </div>
  );
}

/** The place is there from the first, for the page is brought up to date part by part. */
function Troubles({ health: { troubles }, hasTable, pastFailure }: OverviewInput) {
  const all = [
    ...troubles,
    ...hasTable ? [] : ["There is no usable table yet, so that no message starts a run."],
    ...pastFailure === undefined ? [] : [pastFailure],
  ];
  return (
    <div id="troubles" data-live>
      {all.length > 0 && (
        <section class="alarm" aria-label="Troubles">
          {all.map((sentence) => <p>{short(sentence, 2_000)}</p>)}
        </section>
      )}
    </div>
  );
}

function Figures({ running, waiting, failed }: OverviewInput) {
  const tiles = [
    ["run", running, "running", runsHref({ state: "running" })],
    ["warn", waiting, "waiting", runsHref({ state: "pending" })],
    ["bad", failed, "failed in 24 h", runsHref({ state: "failed", time: "24h" })],
  ] as const;
  return (
    <ul id="figures" data-live class="tiles">
      {tiles.map(([tone, figure, words, href]) => (
        <li>
          <a class={figure ? `tile ${tone}` : "tile"} href={href}>
            <b>{figure ?? "?"}</b> <span>{words}</span>
          </a>
        </li>
      ))}
    </ul>
  );
}

/** A run that failed, or a message that a row refused, as a line. */
interface FailureLine {
  readonly at: string;
  readonly tag: string;
  readonly href: string;
  readonly name: string;
  /** What the name stands for. */
  readonly title: string;
  readonly why: string;
}

function failureLines({ failures, refusals = [] }: OverviewInput): FailureLine[] {
  const runs = failures.map(({ run_name, job_name, message, finished_at, reason }) => ({
    at: finished_at,
    tag: short(reason, 60),
    href: runHref(run_name),
    name: short(job_name),
    title: short(run_name),
    why: short(message),
  }));
  const messages = refusals.map(({ topic, at, why }) => ({
    at: at.toISOString(),
    tag: "refused",
    href: `/messages?${new URLSearchParams({ topic })}`,
    name: short(topic),
    title: "a message",
    why: short(why.join("; ")),
  }));
  return [...runs, ...messages].sort((a, b) => a.at < b.at ? 1 : -1).slice(0, MAX_FAILURES);
}

function FailureSection(input: OverviewInput) {
  const { failures, pastFailure, now, reach } = input;
  const lines = failureLines(input);
  return (
    <section id="failures" data-live aria-labelledby="failures-h">
      <div class="line">
        <h2 id="failures-h">Failures</h2>
        {failures.length > 0 && <a class="end small" href={runsHref({ state: "failed" })}>all failures</a>}
      </div>
      {lines.length === 0
        ? (
          <p class="muted">
            {pastFailure === undefined ? "No run has failed. " : ""}
            {reachWords(reach)}
          </p>
        )
        : (
          <ul class="lines few">
            {lines.map(({ at, tag, href, name, title, why }) => (
              <li>
                <div class="line">
                  <span class="tag bad">{tag}</span>
                  <a class="name grow" title={title} href={href}>{name}</a>
                  <span class="muted small">
                    <Ago at={at} now={now} />
                  </span>
                </div>
                <p class="cut">{why}</p>
              </li>
            ))}
          </ul>
        )}
    </section>
  );
}

function LiveSection({ live, query, now, waits }: OverviewInput) {
  const isFiltered = query.live !== undefined;
  return (
    <section aria-labelledby="live-h">
      <div class="line">
        <h2 id="live-h">Live runs</h2>
        <ListForm
          of="live runs"
          path="/"
          filter={{ name: "live", value: query.live, label: "Filter live runs" }}
          sort={{ name: "live_sort", value: query.live_sort, choices: RUN_SORTS }}
          resets="live_page"
          kept={query}
          wideOnly
        />
        <a class="end small" href={runsHref({ state: "live" })}>all live runs</a>
      </div>
      <div id="live" data-live>
        {live.total === 0
          ? <p class="muted">{isFiltered ? "No live run has this in it." : "Nothing runs now."}</p>
          : <ul class="lines few">{live.rows.map((line) => <LiveItem line={line} now={now} />)}</ul>}
        <PagesOf of="live runs" list={live} path={(page) => hrefWith("/", query, { live_page: `${page}` })} />
        <Waits waits={waits} />
      </div>
    </section>
  );
}

function LiveItem({ line, now }: { line: LiveLine; now: Date }) {
  if ("group" in line) {
    const { group, receivedAt, states } = line.group;
    return (
      <li>
        <div class="line">
          <span class="grow">
            <GroupLink group={group} />
          </span>
          <span class="muted small">{durationWords(now.getTime() - receivedAt.getTime())}</span>
        </div>
        <Strip states={states} />
      </li>
    );
  }
  const { runName, state, detail, receivedAt, startedAt, nodes } = line.run;
  const since = state === "pending" ? receivedAt : startedAt ?? receivedAt;
  return (
    <li class="line">
      <StateWord state={state} />
      <a class="mono name" title={short(runName)} href={runHref(runName)}>{short(runName)}</a>
      <span class="name grow muted small detail" title={short(detail) || undefined}>{short(detail, 200)}</span>
      <span class="muted small wideonly">{short(nodes.join(", "), 60)}</span>
      <span class="muted small">{durationWords(now.getTime() - since.getTime())}</span>
    </li>
  );
}

/** Left out where nothing waits: most tables have no rows that need others. */
function Waits({ waits }: { waits: readonly Wait[] }) {
  if (waits.length === 0) return null;
  return (
    <details id="waits" open={waits.length < 2}>
      <summary>Rows that wait for others: {waits.length}</summary>
      <ul>
        {waits.map(({ root, jobName, words }) => (
          <li>
            {short(jobName)} {short(words)} (<a href={rootHref(root)}>all of this message</a>)
          </li>
        ))}
      </ul>
    </details>
  );
}

function RowSection({ rows, query, now }: OverviewInput) {
  return (
    <section aria-labelledby="rows-h">
      <div class="line">
        <h2 id="rows-h">Rows</h2>
        <ListForm
          of="rows"
          path="/"
          filter={{ name: "rows", value: query.rows, label: "Filter rows" }}
          sort={{ name: "rows_sort", value: query.rows_sort, choices: ROW_SORTS }}
          resets="rows_page"
          kept={query}
        />
        <a class="end small" href="/table">table</a>
      </div>
      <div id="rows" data-live>
        {rows.total === 0
          ? <p class="muted">{query.rows === undefined ? "There are no rows." : "No row has this in its name."}</p>
          : <ul class="rowlist">{rows.rows.map((row) => <RowItem row={row} now={now} />)}</ul>}
        <PagesOf of="rows" list={rows} path={(page) => hrefWith("/", query, { rows_page: `${page}` })} />
        <p class="legend muted small">
          <span>The last {ENDS_SHOWN} ends, the newest at the right; the higher, the longer it took.</span>
          <span class="good">▮ succeeded</span>
          <span class="bad">▼ failed</span>
          <span class="warn">▯ cancelled</span>
        </p>
      </div>
    </section>
  );
}

function RowItem({ row: { jobName, running, waiting, ends }, now }: { row: RowLine; now: Date }) {
  const last = ends.at(-1);
  return (
    <li>
      <RowLink jobName={jobName} />
      <span class="counts">
        {running > 0 && (
          <span class="tag run">
            {running}
            <span class="vh">&nbsp;running</span>
          </span>
        )}
        {waiting > 0 && (
          <span class="tag">
            {waiting}
            <span class="vh">&nbsp;waiting</span>
          </span>
        )}
      </span>
      {last
        ? (
          <a href={rowHref(jobName)} aria-label={`${short(jobName)}: ${endsWords(ends)}`} title={endsWords(ends)}>
            <EndStrip ends={ends} />
          </a>
        )
        : <span class="muted small">no run has ended</span>}
      <span class="muted small wideonly">{last && <Ago at={last.finished_at} now={now} />}</span>
    </li>
  );
}
