/**
 * The cells `labels` and `annotations`: `key=value; key=value`, values with placeholders. Pure.
 */
import type { Pair } from "../../ports.ts";
import { type Fault, listOf } from "./entries.ts";
import { labelKeyFault, labelValueFault } from "./names.ts";
import { parseTemplate, plainText } from "./template.ts";
import type { Kind, Report } from "../kinds.ts";

/** Written by the service and by the Job controller; a row must not say otherwise. */
const NOT_A_ROWS =
  /^(mqtt-job-listener\/|app\.kubernetes\.io\/(managed-by|instance)$|batch\.kubernetes\.io\/|job-name$|controller-uid$)/;
/** Annotations that take guards off a container. */
const GUARDS = /^container\.(apparmor|seccomp)\.security\.|^seccomp\.security\./;

/** Kubernetes' own bound on all annotations of an object is 256 KiB. */
const MAX_ANNOTATION = 16_384;

export const labels: Kind<readonly Pair[]> = pairs("label");
export const annotations: Kind<readonly Pair[]> = pairs("annotation");

function pairs(what: "label" | "annotation"): Kind<readonly Pair[]> {
  return listOf<Pair>((entry, report) => readPair(entry, what, report), { unique: ({ key }) => key });
}

function readPair(entry: string, what: "label" | "annotation", report: Report): Pair | Fault {
  const equals = entry.indexOf("=");
  if (equals === -1) return { fault: "write key=value" };
  const key = entry.slice(0, equals).trim();
  const text = entry.slice(equals + 1).trim();
  if (key === "kueue.x-k8s.io/queue-name") return { fault: "use the column queue" };
  if (NOT_A_ROWS.test(key)) {
    const own = `example.org/${key.split("/").at(-1)}`;
    return { fault: `"${key}" is set by the service or by Kubernetes; take a key of yours, such as ${own}` };
  }
  if (GUARDS.test(key)) return { fault: "it takes a guard off the container; only an operator's pod_template may" };
  const parsed = parseTemplate(text);
  const fault = labelKeyFault(key) ?? ("fault" in parsed ? parsed.fault : undefined);
  if (fault !== undefined || "fault" in parsed) return { fault: fault ?? "" };
  for (const doubt of parsed.doubts) report.warn(doubt);
  const plain = plainText(parsed.template);
  const wrong = what === "label" ? plain === undefined ? undefined : labelValueFault(plain) : lengthFault(text);
  return wrong === undefined ? { key, value: parsed.template } : { fault: wrong };
}

function lengthFault(text: string): string | undefined {
  return text.length > MAX_ANNOTATION
    ? `the value has ${text.length} characters, ${MAX_ANNOTATION} are allowed`
    : undefined;
}
