/**
 * Cancel and rerun of runs that were picked in a list: first what will be done, then what became of each. Must not know
 * tokens, nor how an action is carried out.
 */
import { checkPicked, MAX_PICKED, type PickedAnswer } from "../control.ts";
import { Semaphore } from "../util/semaphore.ts";
import type { Page } from "./answers.ts";
import { FieldError, type Sent } from "./forms.ts";
import type { Looking } from "./look.ts";
import { type ManyAction, type Picked, pickedPage, pickedResultPage } from "./pages/action.tsx";
import type { Resent } from "./pages/forms.tsx";

export type { ManyAction } from "./pages/action.tsx";

/** What a token allows with runs that were picked; absent: nothing of the kind. */
export interface PickedActions {
  rerunMany?(
    runNames: readonly string[],
    options: { readonly batch?: string; readonly requestedBy: string },
  ): Promise<PickedAnswer>;
  cancelMany?(runNames: readonly string[], who: string): Promise<PickedAnswer>;
}

/** Records read at a time. */
const READS_AT_ONCE = 16;

type Looked = Pick<Looking, "view" | "signal">;

/** Carries it out; of a form that asks to check it first (`do=check`), says what will be done. */
export async function sendPicked(
  action: ManyAction,
  sent: Sent,
  { actions, looking, who }: { readonly actions: PickedActions; readonly looking: Looked; readonly who: string },
): Promise<Page> {
  const runNames = namesIn(sent);
  if (sent.fields["do"] === "check") return await pickedForm(action, sent, { looking, resent: {} });
  if (!actions.rerunMany || !actions.cancelMany) throw new RangeError("The page cannot do that here");
  if (action === "cancel-many") return pickedResultPage(action, await actions.cancelMany(runNames, who));
  const batch = sent.fields["batch"];
  const options = { requestedBy: who, ...(batch ? { batch } : {}) };
  return pickedResultPage(action, await actions.rerunMany(runNames, options));
}

/** What will be done with them, to be confirmed; `resent`: why it was not done. */
export async function pickedForm(
  action: ManyAction,
  sent: Sent,
  { looking, resent: { fault, withToken } }: { readonly looking: Looked; readonly resent: Resent },
): Promise<Page> {
  const batch = sent.fields["batch"] || crypto.randomUUID();
  const runNames = [...new Set(sent.runNames)];
  // Of names that are none there is nothing to see.
  const picked = fault && !isPicked(runNames) ? [] : await look(action, namesIn(sent), looking);
  return pickedPage({ action, picked, batch, fault, withToken });
}

function isPicked(runNames: readonly string[]): boolean {
  try {
    return checkPicked(runNames).length > 0;
  } catch {
    return false;
  }
}

function namesIn({ runNames }: Sent): string[] {
  try {
    return checkPicked(runNames);
  } catch (error) {
    if (error instanceof RangeError) throw new FieldError("run_name", error.message);
    throw error;
  }
}

/** How each stands. What cannot be known in time is left to the action to say. */
async function look(action: ManyAction, runNames: readonly string[], looking: Looked): Promise<Picked[]> {
  const { view } = looking;
  const signal = looking.signal();
  const turns = new Semaphore(READS_AT_ONCE);
  const groups = new Set(view.openGroups?.().map(({ group }) => group));
  const looked = await Promise.all(runNames.map(async (run_name): Promise<Picked | Picked[]> => {
    const live = view.liveRun(run_name);
    if (live) {
      const known = { run_name, job_name: live.jobName, state: live.state };
      return action === "cancel-many" ? known : { ...known, why: "It has not ended" };
    }
    if (groups.has(run_name)) {
      const why = "It is a group: pick its items, or run again what failed of the row";
      return action === "cancel-many" ? { run_name } : { run_name, why };
    }
    const record = await turns.take(() => view.record(run_name, signal), signal).catch(() => "unknown" as const);
    if (record === "unknown") return { run_name };
    if (!record) return await turns.take(() => lookAtGroup(action, run_name, view, signal), signal);
    const known = { run_name, job_name: record.job_name, state: record.status };
    if (record.retried_as !== undefined) {
      return action === "cancel-many" ? known : { ...known, why: `It was tried again as ${record.retried_as}` };
    }
    return action === "rerun-many" ? known : { ...known, why: "It has ended" };
  }));
  // An item may have been picked beside its group.
  const all = [...new Map(looked.flat().map((one) => [one.run_name, one])).values()];
  let fits = 0;
  return all.map((one) =>
    one.why !== undefined || ++fits <= MAX_PICKED
      ? one
      : { ...one, why: `At most ${MAX_PICKED} at a time: pick it again` }
  );
}

/** Of a group that has ended, its items that have not succeeded run again. */
async function lookAtGroup(
  action: ManyAction,
  group: string,
  view: Looked["view"],
  signal: AbortSignal,
): Promise<Picked | Picked[]> {
  const find = (words: { readonly status?: "failed" | "cancelled"; readonly limit: number }) =>
    view.history.find({ group, everyItem: true, final: true, ...words }, signal);
  const limit = MAX_PICKED + 1;
  const found = await Promise.all([
    find({ limit: 1 }),
    find({ status: "failed", limit }),
    find({ status: "cancelled", limit }),
  ])
    .catch(() => undefined);
  if (!found) return { run_name: group };
  const [[any], ...kinds] = found;
  const items = kinds.flat();
  if (!any) return { run_name: group, why: "There is no such run" };
  const known = { run_name: group, job_name: any.job_name };
  if (action === "cancel-many") return { ...known, why: "It has ended" };
  if (items.length === 0) return { ...known, why: "All its items have succeeded" };
  if (items.length > MAX_PICKED) {
    return { ...known, why: `More than ${MAX_PICKED} of its items have failed: run again what failed of the row` };
  }
  return items.map(({ run_name, job_name, status }) => ({ run_name, job_name, state: status }));
}
