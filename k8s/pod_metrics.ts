/**
 * What pods use, as the API group metrics.k8s.io says it: PodMetrics → PodUsage. Pure. The group is metrics-server's or
 * another's in its place, and who may make objects of it may say anything.
 */
import { LABEL } from "./labels.ts";
import type { PodUsage } from "../ports.ts";
import { isRunName } from "../run_spec.ts";
import { quantityValue } from "../util/quantities.ts";

/** The list that the group gives, as far as it is read (https://github.com/kubernetes/metrics, PodMetricsList). */
export interface PodMetricsList {
  readonly items?: readonly {
    readonly metadata?: { readonly name?: string; readonly labels?: Readonly<Record<string, string>> };
    readonly containers?: readonly { readonly usage?: Readonly<Record<string, string>> }[];
  }[];
}

/** Of each pod of a run; what names no run, or no quantities, is left out. */
export function podUsageIn({ items = [] }: PodMetricsList): PodUsage[] {
  return items.flatMap(({ metadata, containers = [] }) => {
    const [podName = "", runName = ""] = [metadata?.name, metadata?.labels?.[LABEL.run]];
    const sum = (resource: "cpu" | "memory") =>
      containers.reduce((sum, { usage }) => sum + valueOf(usage?.[resource]), 0);
    const [cpu, memory] = [sum("cpu"), sum("memory")];
    return podName !== "" && isRunName(runName) && Number.isFinite(cpu + memory)
      ? [{ podName, runName, cpu, memory }]
      : [];
  });
}

function valueOf(quantity: string | undefined): number {
  const value = typeof quantity === "string" ? quantityValue(quantity) : undefined;
  return value === undefined || value < 0 ? 0 : value;
}
