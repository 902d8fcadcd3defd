/**
 * What of a row depends on more than the table and the policy: the operator's channels, and the operator's pod templates,
 * which may change by themselves. Owns the shape of that question; who answers it stands behind it.
 */
import type { Row } from "../ports.ts";
import { nearest } from "../util/nearest.ts";
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

/** The channels that the row names and the operator does not have; `channels`: the names of those there are. */
export function checkChannels(channels: readonly string[], { line, jobName, notify = [] }: Row): Problem[] {
  return notify.filter((name) => !channels.includes(name)).map((name) => {
    const meant = nearest(name, channels);
    const there = channels.length === 0 ? "NOTIFY_CHANNELS names none" : `there are ${channels.join(", ")}`;
    const message = `there is no channel "${name}"; ${
      meant === undefined ? there : `${there}; do you mean "${meant}"?`
    }`;
    return { severity: "error", line, column: "notify", value: name, message, jobName };
  });
}
