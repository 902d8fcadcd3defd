/**
 * What of a row depends on more than the table and the policy: the operator's pod templates, which may change by
 * themselves. Owns the shape of that question; who answers it stands behind it.
 */
import type { Row } from "../ports.ts";
import type { Problem } from "./problem.ts";

export interface RowRules {
  /** Why a row cannot run, a sentence; undefined: it can. */
  faultOf(row: Row): string | undefined;
  /** Reads anew what that goes by; whether it has changed. Never rejects. */
  refresh(): Promise<boolean>;
}

/** What the templates have against a row. */
export function checkTemplate(rules: Pick<RowRules, "faultOf"> | undefined, row: Row): Problem[] {
  const message = rules?.faultOf(row);
  if (message === undefined) return [];
  const { line, jobName, podTemplate: value = "" } = row;
  return [{ severity: "error", line, column: "pod_template", value, message, jobName }];
}
