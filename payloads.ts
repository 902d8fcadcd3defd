/**
 * What modules that publish must know of the payloads below the service's topic prefix: their types, made from their
 * shapes, and their properties. Pure; must not know how a message is sent.
 */
import type * as z from "zod";
import type * as shapes from "./payloads/shapes.ts";

export { endProperties } from "./payloads/properties.ts";

/** End of a run on `job_complete/…`, `job_failed/…` and `ERROR`. */
export type EndPayload = z.infer<typeof shapes.jobComplete> | z.infer<typeof shapes.runFailed>;
/** End of a group on `group_complete/…` and `group_failed/…`. */
export type GroupEndPayload = z.infer<typeof shapes.groupComplete> | z.infer<typeof shapes.groupFailed>;
/** Run that never began, on `job_failed/…`. */
export type RefusedPayload = z.infer<typeof shapes.runRefused>;
/** What a person must mend, on `ERROR`. */
export type ErrorPayload = z.infer<typeof shapes.report>;
/** News of a run on `run/{job_name}/{run}`. */
export type RunPayload =
  | z.infer<typeof shapes.runBegun>
  | z.infer<typeof shapes.runEnded>
  | z.infer<typeof shapes.runRetried>;
/** The retained `table`. */
export type TablePayload = z.infer<typeof shapes.table>;
/** Answer to a request, without its transaction; `Data` is what that request gives. */
export type AnswerPayload =
  | { readonly status: "ok"; readonly data: unknown }
  | Omit<z.infer<typeof shapes.refused>, "transaction">;
