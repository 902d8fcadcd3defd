/**
 * Groups of items: their line in the lists, with a strip that shows how each item stands, and the page `/groups/{group}`.
 * Pure functions of their input.
 */
import type { GroupDetails, ItemState } from "../../flows.ts";
import type { RunView } from "../../ports.ts";
import { durationWords } from "../../util/duration.ts";
import type { FamilyRun } from "../family.ts";
import { ActionForm } from "./forms.tsx";
import { Gantt } from "./gantt.tsx";
import { type Column, hrefWith, List, pageOf, PagesOf } from "./lists.tsx";
import { familyTook, whyWords } from "./message_runs.tsx";
import { frame, groupHref, rootHref, RowLink, runHref, RunLink, short, StateWord, Time } from "./parts.tsx";
import { stateShape } from "./states.ts";

/** How an item stands, as a page says it: a live run's own state where it has begun. */
export type ShownState = Exclude<ItemState, "begun"> | RunView["state"];

const STATES: readonly ShownState[] = ["succeeded", "failed", "running", "ending", "pending", "waiting"];
/** Shapes of one strip. */
const MAX_STRIP = 200;

/** A group's name, leading to its page. */
export function GroupLink({ group }: { group: string }) {
  return <a class="mono" href={groupHref(group)}>{group}</a>;
}

/** `24 items: 20 succeeded, 1 failed, 3 running` */
function countWords(states: readonly ShownState[]): string {
  const counts = STATES.flatMap((state) => {
    const count = states.filter((one) => one === state).length;
    return count === 0 ? [] : [`${count} ${state}`];
  });
  const items = `${states.length} ${states.length === 1 ? "item" : "items"}`;
  return counts.length === 0 ? items : `${items}: ${counts.join(", ")}`;
}

/** One shape an item, in their order; the words beside it say the same. */
export function Strip({ states }: { states: readonly ShownState[] }) {
  const rest = states.length - MAX_STRIP;
  return (
    <>
      {countWords(states)}
      {states.length > 0 && (
        <span class="strip" aria-hidden="true">
          {states.slice(0, MAX_STRIP).map((state) => <span class={state}>{stateShape(state)}</span>)}
          {rest > 0 && ` +${rest}`}
        </span>
      )}
    </>
  );
}

/** One item, as the page of its group shows it. */
export interface ShownItem {
  readonly index: number;
  readonly state: ShownState;
  /** JSON, as text. */
  readonly item: string;
  readonly run_name?: string;
  /** As far as it is known here. */
  readonly run: FamilyRun | undefined;
}

export interface GroupPageInput {
  readonly now: Date;
  readonly group: GroupDetails;
  readonly items: readonly ShownItem[];
  /** Of its items, attempts too, as far as they are known. */
  readonly runs: readonly FamilyRun[];
  /** Which of the items are listed. */
  readonly query: { readonly state?: string | undefined; readonly page: number };
  /** Whether a token is set, so that there is something to act with. */
  readonly actions: boolean;
}

const ITEMS_A_PAGE = 25;
/** Bars of items; more of them say nothing at a glance, and the strip has them all. */
const MAX_BARS = 40;

/** The page as HTML text. */
export function groupPage({ now, group, items, runs, query, actions }: GroupPageInput): string {
  const { isOpen, isCancelled } = group;
  const states = items.map(({ state }) => state);
  const state = isOpen ? (isCancelled ? "is being cancelled" : "open") : "ended";
  const tone = isOpen ? "" : states.every((one) => one === "succeeded") ? "good" : "bad";
  const bars = runs.toSorted((a, b) => (a.index ?? 0) - (b.index ?? 0));
  return frame({
    title: `Group ${group.group}`,
    heading: `Group ${group.group}`,
    here: "runs",
    children: (
      <>
        <section id="group" data-live aria-labelledby="group-h">
          <h2 id="group-h">
            State: <span class={tone}>{state}</span>
          </h2>
          <p class="reason">{countWords(states)}</p>
          <LinkedStrip items={items} />
          <dl>
            <dt>Row</dt>
            <dd>
              <RowLink jobName={group.jobName} />
            </dd>
            <dt>Message came</dt>
            <dd>
              <Time at={group.receivedAt} /> ({durationWords(now.getTime() - group.receivedAt.getTime())} ago) on{" "}
              <code>{short(group.topic)}</code>
            </dd>
            <dt>Started by</dt>
            <dd>{group.parentRun ? <RunLink runName={group.parentRun} /> : "a message from outside"}</dd>
            <dt>Message</dt>
            <dd>
              <a href={rootHref(group.root)}>All of this message</a>
            </dd>
          </dl>
        </section>
        {bars.length > 0 && (
          <section id="bars" data-live aria-labelledby="bars-h">
            <h2 id="bars-h">Items over time</h2>
            <Gantt
              lines={bars.slice(0, MAX_BARS).map((run) => ({ run, depth: 0, queued_at: run.received_at }))}
              left={Math.max(0, bars.length - MAX_BARS)}
              now={now}
            />
          </section>
        )}
        <ItemsSection group={group.group} items={items} query={query} now={now} />
        {actions && isOpen && !isCancelled && <CancelSection group={group.group} />}
      </>
    ),
  });
}

/** A shape for each item, in their order, that leads to its run. */
function LinkedStrip({ items }: { items: readonly ShownItem[] }) {
  const rest = items.length - MAX_STRIP;
  return (
    <p class="strip links" role="group" aria-label="Items, in their order">
      {items.slice(0, MAX_STRIP).map(({ index, state, run_name }) =>
        run_name === undefined ? <span class={state} title={`item ${index}: ${state}`}>{stateShape(state)}</span> : (
          <a
            class={state}
            href={runHref(run_name)}
            title={`item ${index}: ${state}`}
            aria-label={`item ${index}: ${state}`}
          >
            {stateShape(state)}
          </a>
        )
      )}
      {rest > 0 && ` +${rest}`}
    </p>
  );
}

function ItemsSection(
  { group, items, query, now }: {
    group: string;
    items: readonly ShownItem[];
    query: GroupPageInput["query"];
    now: Date;
  },
) {
  const state = STATES.find((one) => one === query.state);
  const href = (changes: Readonly<Record<string, string | undefined>>) =>
    `${hrefWith(groupHref(group), { state }, changes)}#items`;
  // What has failed is what people look for.
  const all = items.filter((item) => state === undefined || item.state === state)
    .toSorted((a, b) => rank(a.state) - rank(b.state) || a.index - b.index);
  const list = pageOf(all, query.page, ITEMS_A_PAGE);
  const columns: Column<ShownItem>[] = [
    { head: "Item", cell: ({ index }) => index },
    { head: "State", cell: ({ state }) => state === "waiting" ? "waiting" : <StateWord state={state} /> },
    { head: "Run", cell: ({ run_name }) => run_name === undefined ? "–" : <RunLink runName={run_name} /> },
    { head: "What it is", cell: ({ item }) => <code>{short(item, 200)}</code> },
    { head: "Why", cell: ({ run }) => run ? whyWords(run) : "–" },
    { head: "Took", cell: ({ run }) => run ? familyTook(run, now) : "–", isNumber: true },
  ];
  return (
    <section id="items" data-live aria-labelledby="items-h">
      <h2 id="items-h">Items</h2>
      {items.length === 0 ? <p class="muted">It has none.</p> : (
        <>
          <nav class="states" aria-label="Items by state">
            <a href={href({ state: undefined })} aria-current={state === undefined ? "true" : undefined} data-in-place>
              all {items.length}
            </a>
            {STATES.map((one) => {
              const count = items.filter((item) => item.state === one).length;
              return count > 0 && (
                <a href={href({ state: one })} aria-current={state === one ? "true" : undefined} data-in-place>
                  {one} {count}
                </a>
              );
            })}
          </nav>
          <List caption="Items of the group" columns={columns} rows={list.rows} />
          <PagesOf of="items" list={list} path={(page) => href({ page: `${page}` })} />
        </>
      )}
    </section>
  );
}

function rank(state: ShownState): number {
  return state === "failed" ? 0 : state === "succeeded" ? 2 : 1;
}

function CancelSection({ group }: { group: string }) {
  return (
    <section aria-labelledby="act-h">
      <h2 id="act-h">Act</h2>
      <ActionForm
        action="/actions/cancel"
        what="cancel all items"
        label="Cancel all items"
        buttons={<button type="submit">Cancel all items</button>}
      >
        <input type="hidden" name="run_name" value={group} />
      </ActionForm>
      <p class="muted">Items that run are stopped, and no further ones begin. The group ends as failed.</p>
    </section>
  );
}
