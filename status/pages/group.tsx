/**
 * Groups of items: their line in the lists, with a strip that shows how each item stands, and the page `/groups/{group}`.
 * Pure functions of their input.
 */
import type { GroupDetails, ItemDetails, ItemState } from "../../flows.ts";
import type { RunView } from "../../ports.ts";
import {
  ageWords,
  frame,
  Heads,
  MAX_SHOWN,
  rootHref,
  RunLink,
  ScrollTable,
  short,
  StateWord,
  Time,
  TokenField,
} from "./parts.tsx";

/** How an item stands, as a page says it: a live run's own state where it has begun. */
export type ShownState = Exclude<ItemState, "begun"> | RunView["state"];

const STATES: readonly ShownState[] = ["succeeded", "failed", "running", "ending", "pending", "waiting"];
/** A shape for each state, so that colour is not all that tells them apart. */
const SHAPES: Readonly<Record<ShownState, string>> = {
  succeeded: "●",
  failed: "✕",
  running: "▶",
  ending: "▷",
  pending: "◌",
  waiting: "·",
};
/** Shapes of one strip. */
const MAX_STRIP = 200;

/** Path of a group's page. */
export function groupHref(group: string): string {
  return `/groups/${encodeURIComponent(group)}`;
}

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
          {states.slice(0, MAX_STRIP).map((state) => <span class={state}>{SHAPES[state]}</span>)}
          {rest > 0 && ` +${rest}`}
        </span>
      )}
    </>
  );
}

export interface GroupPageInput {
  readonly now: Date;
  readonly group: GroupDetails;
  readonly states: readonly ShownState[];
  /** Whether a token is set, so that there is something to act with. */
  readonly actions: boolean;
}

/** The page as HTML text. */
export function groupPage({ now, group, states, actions }: GroupPageInput): string {
  const { isOpen, isCancelled } = group;
  const state = isOpen ? (isCancelled ? "is being cancelled" : "open") : "ended";
  const tone = isOpen ? "" : states.every((one) => one === "succeeded") ? "good" : "bad";
  return frame({
    title: `Group ${group.group}`,
    heading: `Group ${group.group}`,
    children: (
      <>
        <section id="group" data-live aria-labelledby="group-h">
          <h2 id="group-h">
            State: <span class={tone}>{state}</span>
          </h2>
          <p class="reason">
            <Strip states={states} />
          </p>
          <dl>
            <dt>Row</dt>
            <dd>{short(group.jobName)}</dd>
            <dt>Message came</dt>
            <dd>
              <Time at={group.receivedAt} /> ({ageWords(now.getTime() - group.receivedAt.getTime())} ago) on{" "}
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
        <ItemsSection items={group.items} states={states} />
        {actions && isOpen && !isCancelled && <CancelSection group={group.group} />}
      </>
    ),
  });
}

function ItemsSection({ items, states }: { items: readonly ItemDetails[]; states: readonly ShownState[] }) {
  // What has failed is what people look for.
  const order = [...items.keys()].sort((a, b) => rank(states[a]) - rank(states[b]) || a - b);
  const rest = order.length - MAX_SHOWN;
  return (
    <section id="items" data-live aria-labelledby="items-h">
      <h2 id="items-h">Items</h2>
      {order.length === 0 ? <p class="muted">It has none.</p> : (
        <ScrollTable label="Items of the group">
          <table>
            {rest > 0 && <caption>{rest} of {order.length} are not shown</caption>}
            <Heads names={["Item", "State", "Run", "What it is"]} />
            <tbody>
              {order.slice(0, MAX_SHOWN).map((index) => (
                <ItemRow index={index} item={items[index]!} state={states[index] ?? "waiting"} />
              ))}
            </tbody>
          </table>
        </ScrollTable>
      )}
    </section>
  );
}

function rank(state: ShownState | undefined): number {
  return state === "failed" ? 0 : state === "succeeded" ? 2 : 1;
}

function ItemRow({ index, item, state }: { index: number; item: ItemDetails; state: ShownState }) {
  return (
    <tr>
      <th scope="row">{index}</th>
      <td>
        <span class="strip" aria-hidden="true">
          <span class={state}>{SHAPES[state]}</span>
        </span>{" "}
        {state === "waiting" ? "waiting" : <StateWord state={state} />}
      </td>
      <td>{item.runName === undefined ? "–" : <RunLink runName={item.runName} />}</td>
      <td>
        <code>{short(item.item)}</code>
      </td>
    </tr>
  );
}

function CancelSection({ group }: { group: string }) {
  return (
    <section aria-labelledby="act-h">
      <h2 id="act-h">Act</h2>
      <form method="post" action="/actions/cancel">
        <input type="hidden" name="run_name" value={group} />
        <TokenField id="act-token" />
        <div>
          <button type="submit">Cancel all items</button>
        </div>
      </form>
      <p class="muted">Items that run are stopped, and no further ones begin. The group ends as failed.</p>
    </section>
  );
}
