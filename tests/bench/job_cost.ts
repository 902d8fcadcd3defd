/**
 * Measurements of what a Job costs the API server and etcd, part by part: the same Jobs created by turns with one thing
 * changed at a time, without the service. Each figure's limit is the turn that it is held against. Judges nothing.
 */
import type { BareOrder, BareResult, JobTemplate } from "./bare_creator.ts";
import type { Measurement, Sample } from "./measure.ts";
import { benchRow, JOBS_ONLY, Scene } from "./scene.ts";

const WHOLE = "application/json";
const METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const PROTOBUF = "application/vnd.kubernetes.protobuf,application/json";
/** As the service creates. */
const OURS: Partial<BareOrder> = { accept: METADATA, watches: [] };

/** By figure: what is changed, and of which other turn. `of` is the base where nothing is said. */
const TURNS: Readonly<Record<string, { readonly order: Partial<BareOrder>; readonly of?: string }>> = {
  "ours": { order: { ...OURS, erase: true } },
  "whole-answer": { order: { ...OURS, accept: WHOLE }, of: "ours" },
  "unvalidated": { order: { ...OURS, query: "?fieldValidation=Ignore" }, of: "ours" },
  "one-watch": { order: { ...OURS, watches: [WHOLE] }, of: "ours" },
  "one-watch-metadata": { order: { ...OURS, watches: [METADATA] }, of: "ours" },
  "one-watch-protobuf": { order: { ...OURS, watches: [PROTOBUF] }, of: "ours" },
  "three-watches": { order: { ...OURS, watches: [WHOLE, WHOLE, WHOLE] }, of: "ours" },
  "calls-8": { order: { ...OURS, concurrency: 8 }, of: "ours" },
  "calls-32": { order: { ...OURS, concurrency: 32 }, of: "ours" },
  "minimal": { order: OURS, of: "ours" },
};
const NAMES = Object.keys(TURNS);

/** By name. */
export const JOB_COST: Readonly<Record<string, Measurement>> = {
  "job-cost": {
    figures: Object.fromEntries(
      [...NAMES, "delete"].flatMap((name) => [
        [`job-cost-${name}`, { unit: "ms of CPU of the API server a Job" }],
        [`job-cost-${name}-etcd`, { unit: "ms of CPU of etcd a Job" }],
        [`job-cost-${name}-rate`, { unit: "Jobs/s" }],
      ]),
    ),
    run: jobCost,
  },
};

/** A fifth of `messages` a turn. */
async function jobCost(repeats: number, messages: number): Promise<Sample[]> {
  await using scene = await Scene.start({ rows: [benchRow("cost", "lab/cost")], cluster: JOBS_ONLY });
  await scene.publish(["lab/cost"]);
  const template = await scene.template();
  await scene.service.stop();
  const pids = scene.kit.cluster.controlPlanePids;
  const count = Math.ceil(messages / 5);
  const turn = (name: string) =>
    scene.createBare(count, {
      template: name === "minimal" ? minimal(template) : template,
      warmUp: 100,
      pids,
      ...TURNS[name]!.order,
    });
  const samples: Sample[] = [];
  for (let repeat = 0; repeat < repeats; repeat++) {
    const taken: Record<string, BareResult> = {};
    for (const name of repeat % 2 === 0 ? NAMES : NAMES.toReversed()) {
      const result = taken[name] = await turn(name);
      if (result.erased) taken["delete"] = result.erased;
    }
    const figures: Record<string, { value: number; limit?: number }> = {};
    for (const [name, { ms, cpuMs }] of Object.entries(taken)) {
      const of = TURNS[name]?.of;
      const against = (value: number, limit: (held: BareResult) => number) =>
        of === undefined ? { value } : { value, limit: limit(taken[of]!) };
      figures[`job-cost-${name}`] = against(cpuMs[0]! / count, (held) => held.cpuMs[0]! / count);
      figures[`job-cost-${name}-etcd`] = against(cpuMs[1]! / count, (held) => held.cpuMs[1]! / count);
      figures[`job-cost-${name}-rate`] = against(count / ms * 1_000, (held) => count / held.ms * 1_000);
    }
    samples.push(figures);
  }
  return samples;
}

/** The least that Kubernetes takes for the same container. */
function minimal({ metadata, spec }: JobTemplate): JobTemplate {
  const { containers } = spec.template["spec"] as { containers: { name: string; image: string }[] };
  const container = { name: containers[0]!.name, image: containers[0]!.image };
  const template = { spec: { containers: [container], restartPolicy: "Never" } };
  return { metadata: { name: "", namespace: metadata.namespace, labels: {}, annotations: {} }, spec: { template } };
}
