/**
 * Labels and annotations of a Job and of its pods. A row's own are on both; what stood on one only is told. Pure.
 */
import { escapeBraces } from "./cells.ts";
import { asTemplate } from "./container.ts";
import { type Fields, isMap, mapOf } from "./documents.ts";
import type { Draft } from "./draft.ts";
import type { ReportFinding } from "./finding.ts";

const QUEUE = "kueue.x-k8s.io/queue-name";

/** `job`, `pod`: metadata of both; what a column says is taken out of them when the draft is settled. */
export function readMetadata(job: Fields, pod: Fields, draft: Draft, report: ReportFinding): void {
  const holders = [job, pod].flatMap((metadata) => [metadata["labels"], metadata["annotations"]]).filter(isMap);
  const queue = holders.map((pairs) => pairs[QUEUE]).find((value) => value !== undefined);
  if (typeof queue === "string") {
    draft.offer("queue", queue, queue, () => holders.forEach((pairs) => delete pairs[QUEUE]));
  }
  readPairs("labels", job, pod, draft, report);
  readPairs("annotations", job, pod, draft, report);
}

function readPairs(
  field: "labels" | "annotations",
  job: Fields,
  pod: Fields,
  draft: Draft,
  report: ReportFinding,
): void {
  const [ofJob, ofPod] = [mapOf(job[field]), mapOf(pod[field])];
  const alone: string[] = [];
  for (const key of new Set([...Object.keys(ofJob), ...Object.keys(ofPod)])) {
    if (key === QUEUE) continue;
    const value = String(ofPod[key] ?? ofJob[key] ?? "");
    // Another value on the Job than on its pods cannot be said: the pods' is, and the Job's is found to be left over.
    const isOne = ofJob[key] === undefined || ofPod[key] === undefined || String(ofJob[key]) === value;
    draft.offer(field, `${key}=${escapeBraces(value)}`, [{ key, value: asTemplate(value) }], () => {
      if (isOne) delete ofJob[key];
      delete ofPod[key];
    }) && isOne && (ofJob[key] === undefined || ofPod[key] === undefined) && alone.push(key);
  }
  if (alone.length > 0) {
    report(
      "note",
      field,
      `${alone.join(", ")}: what the row says is on the Job and on its pods; here it was on one of them`,
    );
  }
}
