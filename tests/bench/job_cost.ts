/**
 * Measurements of what a Job costs the API server and etcd, part by part: the same Jobs created by turns with one thing
 * changed at a time, without the service. Judges nothing.
 */
import type { BareOrder, BareResult, JobTemplate } from "./bare_creator.ts";
import type { Measurement, Sample } from "./measure.ts";
import { benchRow, JOBS_ONLY, Scene } from "./scene.ts";

const WHOLE = "application/json";
const METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const PROTOBUF = "application/vnd.kubernetes.protobuf,application/json";
/** As the service creates. */
const OURS: Partial<BareOrder> = { accept: METADATA, watches: [] };

/** By figure. What is changed of the first, against which the others are held. */
const TURNS: Readonly<Record<string, Partial<BareOrder>>> = {
  "ours": { ...OURS, erase: true },
  "whole-answer": { ...OURS, accept: WHOLE },
  "unvalidated": { ...OURS, query: "?fieldValidation=Ignore" },
  "one-watch": { ...OURS, watches: [WHOLE] },
  "one-watch-metadata": { ...OURS, watches: [METADATA] },
  "one-watch-protobuf": { ...OURS, watches: [PROTOBUF] },
  "three-watches": { ...OURS, watches: [WHOLE, WHOLE, WHOLE] },
  "calls-8": { ...OURS, concurrency: 8 },
  "calls-32": { ...OURS, concurrency: 32 },
  "minimal": OURS,
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
      ...TURNS[name],
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
      const isHeld = name in TURNS && name !== "ours";
      const against = (value: number, limit: (ours: BareResult) => number) =>
        isHeld ? { value, limit: limit(taken["ours"]!) } : { value };
      figures[`job-cost-${name}`] = against(cpuMs[0]! / count, (ours) => ours.cpuMs[0]! / count);
      figures[`job-cost-${name}-etcd`] = against(cpuMs[1]! / count, (ours) => ours.cpuMs[1]! / count);
      figures[`job-cost-${name}-rate`] = against(count / ms * 1_000, (ours) => count / ours.ms * 1_000);
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
