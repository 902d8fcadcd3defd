/**
 * The actions of the page that start many runs, from the fields of a form or a program to an answer of both kinds.
 * Must not know tokens, nor how an action is carried out.
 */
import type { EachAnswer, EachRequest, ReplayAnswer, ReplayRequest } from "../control.ts";
import { compact } from "../util/compact.ts";
import type { Page } from "./answers.ts";
import type { Fields } from "./forms.ts";
import { replayPage, sheetPage } from "./pages/batches.tsx";

/** What a token allows besides single runs; absent: nothing of the kind. */
export interface BatchActions {
  each?(jobName: string, request: EachRequest): Promise<EachAnswer>;
  replay?(request: ReplayRequest): Promise<ReplayAnswer>;
}

/** `do`: `check` starts nothing. */
const isDry = (fields: Fields) => fields["do"] === "check";
const NO_SUCH = "The page cannot do that here";

/** Checks a sheet, or starts its lines. */
export async function sendSheet(actions: BatchActions, fields: Fields, requestedBy: string): Promise<Page> {
  const { job_name: jobName = "", sheet = "", batch } = fields;
  if (!actions.each) throw new RangeError(NO_SUCH);
  const dryRun = isDry(fields);
  const answer = await actions.each(jobName, { sheet, dryRun, requestedBy, ...compact({ batch: batch || undefined }) });
  return { data: answer, html: () => sheetPage(answer, { fields, dryRun }) };
}

/** Shows what would run again, or runs it. */
export async function sendReplay(actions: BatchActions, fields: Fields, requestedBy: string): Promise<Page> {
  const { job_name: jobName = "", since = "", state, reason, batch } = fields;
  if (!actions.replay) throw new RangeError(NO_SUCH);
  const dryRun = isDry(fields);
  const words = compact({ state: state || undefined, reason: reason || undefined, batch: batch || undefined });
  const answer = await actions.replay({ jobName, since, dryRun, requestedBy, ...words });
  return { data: answer, html: () => replayPage(answer, { fields, dryRun }) };
}
