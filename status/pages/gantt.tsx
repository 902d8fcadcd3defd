/**
 * Runs of one message as bars over one axis of time: the part in which each waited against the part in which it ran. A
 * pure function of its input.
 */
import type { FamilyGroupLine, FamilyLine, FamilyRun, FamilyRunLine } from "../family.ts";
import { roundScale, valueWords } from "./charts.tsx";
import { preciseWords } from "../timeline.ts";
import { groupHref, isLiveState, RunLink, type RunState, short, StateWord } from "./parts.tsx";

const MAX_INDENT = 6;
/** No part is narrower, in percent. */
const LEAST = 0.4;

export interface GanttInput {
  readonly lines: readonly FamilyLine[];
  /** Runs that are not among the lines. */
  readonly left: number;
  readonly now: Date;
  /** Name of the run whose page it is. */
  readonly own?: string;
}

/** A list of all runs, each with its bar; the words beside it say the same. */
export function Gantt({ lines, left, now, own }: GanttInput) {
  if (lines.length === 0) return null;
  const span = spanOf(lines, now);
  return (
    <>
      <div class="gantt">
        <Axis ms={span.to - span.from} />
        <ol>
          {lines.map((line) =>
            "run" in line
              ? <RunBar line={line} span={span} now={now} isOwn={line.run.run_name === own} />
              : <GroupBar line={line} span={span} now={now} />
          )}
        </ol>
      </div>
      <p class="small muted">
        Thin: waited. Thick: ran, from its program's start to its end.
        {left > 0 && ` ${left} more ${left === 1 ? "run is" : "runs are"} not shown here.`}
      </p>
    </>
  );
}

interface Span {
  readonly from: number;
  readonly to: number;
}

/** From the first that waited to the last end, or to now where one lives. */
function spanOf(lines: readonly FamilyLine[], now: Date): Span {
  let [from, to] = [Infinity, -Infinity];
  const take = (run: FamilyRun, queuedAt: string) => {
    from = Math.min(from, ...[queuedAt, run.started_at ?? queuedAt].map((at) => Date.parse(at)).filter(isTime));
    to = Math.max(to, endOf(run, now));
  };
  for (const line of lines) {
    if ("run" in line) take(line.run, line.queued_at);
    else for (const item of line.items) take(item, item.received_at);
  }
  return isTime(from) && isTime(to) && to > from ? { from, to } : { from: now.getTime() - 1_000, to: now.getTime() };
}

function isTime(ms: number): boolean {
  return Number.isFinite(ms);
}

function endOf({ finished_at }: FamilyRun, now: Date): number {
  const at = finished_at === undefined ? now.getTime() : Date.parse(finished_at);
  return isTime(at) ? at : now.getTime();
}

function Axis({ ms }: { ms: number }) {
  const ticks = roundScale(ms, "ms").ticks.filter((tick) => tick <= ms);
  return (
    <div class="axis" aria-hidden="true">
      <svg width="100%" height={18}>
        {ticks.map((tick) => {
          const x = (tick / ms) * 100;
          const anchor = tick === 0 ? "start" : x > 92 ? "end" : "middle";
          return (
            <>
              <line class="grid" x1={`${percent(x)}%`} x2={`${percent(x)}%`} y1={14} y2={18} />
              <text x={`${percent(x)}%`} y={11} text-anchor={anchor}>{tick === 0 ? "0" : valueWords(tick, "ms")}</text>
            </>
          );
        })}
      </svg>
    </div>
  );
}

interface BarInput<L> {
  readonly line: L;
  readonly span: Span;
  readonly now: Date;
}

function RunBar({ line: { run, depth, queued_at }, span, now, isOwn }: BarInput<FamilyRunLine> & { isOwn: boolean }) {
  const to = endOf(run, now);
  const begun = run.started_at === null ? to : Date.parse(run.started_at);
  const queued = Math.min(Date.parse(queued_at), begun);
  return (
    <li class={isOwn ? "own" : undefined} aria-current={isOwn ? "true" : undefined}>
      <span class={`who d${Math.min(depth, MAX_INDENT)}`}>
        <StateWord state={run.state} />{" "}
        {isOwn ? <b class="mono">{short(run.run_name)}</b> : <RunLink runName={run.run_name} />}
        {noteOf(run)}
      </span>
      <svg aria-hidden="true">
        <Part span={span} from={queued} to={begun} name="wait" />
        {run.started_at !== null && <Part span={span} from={begun} to={to} name={toneOf(run.state)} />}
      </svg>
      <span class="took">{barWords(run, { queued, begun, to })}</span>
    </li>
  );
}

function noteOf({ index, attempt = 1, rerun_of, retried_as, group }: FamilyRun): string {
  const notes = [
    ...(group !== undefined && index !== undefined ? [`item ${index}`] : []),
    ...(attempt > 1 ? [`attempt ${attempt}`] : []),
    ...(rerun_of === undefined ? [] : ["a rerun"]),
    ...(retried_as === undefined ? [] : ["tried again"]),
  ];
  return notes.length === 0 ? "" : ` ${notes.join(", ")}`;
}

function barWords(run: FamilyRun, { queued, begun, to }: { queued: number; begun: number; to: number }): string {
  const wait = preciseWords(begun - queued);
  if (run.started_at === null) {
    if (!isLiveState(run.state)) return `waited ${wait}`;
    return `waits ${wait}${run.message === "" ? "" : `: ${short(run.message, 80)}`}`;
  }
  const ran = preciseWords(to - begun);
  return `${isLiveState(run.state) ? "runs" : "ran"} ${ran}, waited ${wait}`;
}

function GroupBar({ line: { group, depth, items }, span, now }: BarInput<FamilyGroupLine>) {
  const starts = items.flatMap(({ started_at }) => started_at === null ? [] : [Date.parse(started_at)]).filter(isTime);
  const to = Math.max(...items.map((item) => endOf(item, now)));
  const queued = Math.min(...items.map(({ received_at }) => Date.parse(received_at)).filter(isTime), to);
  const begun = Math.max(queued, starts.length === 0 ? to : Math.min(...starts));
  // Of those that were tried again the last attempt counts.
  const last = items.filter(({ retried_as }) => retried_as === undefined);
  const counts = [...Map.groupBy(last, ({ state }) => state)].map(([state, some]) => `${some.length} ${state}`);
  const state: RunState = last.some(({ state }) => isLiveState(state))
    ? "running"
    : last.every(({ state }) => state === "succeeded")
    ? "succeeded"
    : "failed";
  return (
    <li>
      <span class={`who d${Math.min(depth, MAX_INDENT)}`}>
        group <a class="mono" href={groupHref(group)}>{group}</a> {counts.join(", ")}
      </span>
      <svg aria-hidden="true">
        <Part span={span} from={queued} to={begun} name="wait" />
        {starts.length > 0 && <Part span={span} from={begun} to={to} name={`${toneOf(state)} group`} />}
      </svg>
      <span class="took">{preciseWords(to - queued)}</span>
    </li>
  );
}

const TONES: Readonly<Record<RunState, string>> = {
  pending: "wait",
  running: "run",
  ending: "run",
  succeeded: "good",
  failed: "bad",
  cancelled: "off",
};

function toneOf(state: RunState): string {
  return TONES[state];
}

function Part({ span, from, to, name }: { span: Span; from: number; to: number; name: string }) {
  if (!isTime(from) || !isTime(to) || to <= from && name === "wait") return null;
  const all = span.to - span.from;
  const width = Math.min(100, Math.max(LEAST, ((to - from) / all) * 100));
  const x = Math.max(0, Math.min(((from - span.from) / all) * 100, 100 - width));
  return <rect class={name} x={`${percent(x)}%`} width={`${percent(width)}%`} />;
}

function percent(value: number): number {
  return Math.round(value * 100) / 100;
}
