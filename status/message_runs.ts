/**
 * What the pages `/?root=` and `/groups/{group}` show, gathered from the view: all runs of one message, and the items of a
 * group. Must not know HTTP beyond a query, nor what pages look like.
 */
import type { GroupDetails } from "../flows.ts";
import { isRunName } from "../run_spec.ts";
import type { Page } from "./answers.ts";
import { familyLines, familyOf, pickLines } from "./family.ts";
import { waitData, waitsOf } from "./joins.ts";
import { statesOf } from "./live_lines.ts";
import { groupPage, type ShownItem } from "./pages/group.tsx";
import { messageRunsPage, readRunOrder, sortRuns } from "./pages/message_runs.tsx";
import { type Looking, MAX_OF_ROOT } from "./look.ts";

/** Bars on the page of one message. */
const MAX_BARS = 100;
/** Ended items of a group that are looked at. */
const MAX_ITEMS = 2_000;

/** The page of all runs that one message has set off. */
export async function readMessageRuns(root: string, params: URLSearchParams, looking: Looking): Promise<Page> {
  const { view, signal } = looking;
  const live = view.liveRuns().filter((run) => run.root === root);
  const ended = await view.history.find({ root, everyItem: true, limit: MAX_OF_ROOT }, signal()).catch(() => []);
  const runs = familyOf(live, ended);
  const waits = await waitsOf({ root, live, ended }, view, signal());
  const query = readRunOrder(params);
  const shown = {
    now: new Date(),
    root,
    runs: sortRuns(runs, query),
    family: pickLines(familyLines(runs), { most: MAX_BARS }),
    isCut: ended.length >= MAX_OF_ROOT,
    waits,
    reach: view.history.reach(),
    query,
  };
  const data = { root, runs: shown.runs, waits: waits.map(waitData), reach: shown.reach };
  return { data, html: () => messageRunsPage(shown) };
}

/** The page of a group; undefined: there is none of that name. */
export async function readGroup(name: string, params: URLSearchParams, looking: Looking): Promise<Page | undefined> {
  const { view, actions, signal } = looking;
  if (!isRunName(name)) return undefined;
  const group = await view.group?.(name, signal());
  if (!group) return undefined;
  const live = view.liveRuns().filter((run) => run.group === name);
  const states = statesOf(group.items.map(({ state }) => state), new Map(live.map((run) => [run.index, run])));
  const ended = await view.history.find({ group: name, everyItem: true, limit: MAX_ITEMS }, signal()).catch(() => []);
  const runs = new Map(familyOf(live, ended).map((run) => [run.run_name, run]));
  const items = group.items.map(({ item, runName }, index) => ({
    index,
    state: states[index]!,
    item,
    ...(runName === undefined ? {} : { run_name: runName }),
    run: runName === undefined ? undefined : runs.get(runName),
  }));
  const query = { state: params.get("state") ?? undefined, page: Number(params.get("page")) || 1 };
  return {
    data: groupData(group, items),
    html: () => groupPage({ now: new Date(), group, items, runs: [...runs.values()], query, actions }),
  };
}

function groupData(group: GroupDetails, items: readonly ShownItem[]): unknown {
  const { jobName, topic, root, rootRun, parentRun, receivedAt, isOpen, isCancelled } = group;
  return {
    group: group.group,
    job_name: jobName,
    topic,
    root,
    root_run: rootRun,
    parent_run: parentRun ?? null,
    received_at: receivedAt,
    is_open: isOpen,
    is_cancelled: isCancelled,
    items,
  };
}
