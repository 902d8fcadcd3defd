/**
 * Why a run waits, or goes on though its program has ended: suspension, gates, nodes, images, mounts, other containers.
 * Says until when, and ends what would hang for ever. Pure.
 */
import type { ContainerFacts, PodFacts } from "../ports.ts";
import { isGpuResource } from "../run_spec.ts";
import { lowerFirst, trimEnd } from "../util/text.ts";
import { ended, type Facts, type GracePeriods, isMain, nameOf, type Trouble, type Verdict } from "./verdict.ts";

/** A rate limit ends by itself, so it gets this many times the grace of a wrong image. */
const RATE_LIMIT_PATIENCE = 30;

interface Looked {
  readonly gracePeriods: GracePeriods;
  readonly now: Date;
  readonly trouble?: Trouble;
}

/** A Job whose pods are held back. */
export function whySuspended({ suspended, heldFor }: Facts): Verdict | undefined {
  if (suspended === undefined) return undefined;
  if (heldFor === "slot") return { kind: "pending", detail: "Waits for a free slot (max_runs)" };
  if (heldFor === "pause") return { kind: "pending", detail: "Waits until its row is not paused any more (enabled)" };
  const detail = suspended.queue === undefined
    ? "Suspended: somebody has set `suspend` on its Job; it goes on when that is taken back"
    : `Waits in queue "${suspended.queue}" for its turn (Kueue keeps its Job suspended)`;
  return { kind: "pending", detail };
}

/** A Job without a pod; `reason` is what the cluster's events say. */
export function whyNoPod(reason: string | undefined): Verdict {
  if (reason === undefined) return { kind: "pending", detail: "Waiting for its pod to be created" };
  if (/exceeded quota/i.test(reason)) {
    return { kind: "pending", detail: `Waiting, for the namespace's quota is full: ${reason}` };
  }
  const missing = missingForPod(reason);
  if (missing !== undefined) {
    return ended("failed", "PodRefused", `The cluster refuses its pod: ${missing} (the cluster says: ${reason})`);
  }
  // Of the cluster's own parts, not of the pod.
  if (
    /failed calling webhook|timeout|timed out|connection refused|too many requests|etcdserver|looking up service account/i
      .test(reason) ||
    // The call itself failed: that is no answer of the API server's.
    /\b(?:Post|Get) "https?:|stream error|internal error|unexpected EOF|connection reset/i.test(reason)
  ) {
    return { kind: "pending", detail: `Waiting, for the cluster cannot make its pod now: ${reason}` };
  }
  return ended("failed", "PodRefused", `The cluster refuses its pod: ${reason}`);
}

/** What the row names for its pod and the cluster does not have. */
function missingForPod(reason: string): string | undefined {
  const priority = /no PriorityClass with name "?([^\s"]{1,253}?)"? was found/.exec(reason)?.[1];
  if (priority !== undefined) return missingClass("priority", priority);
  const runtime = /RuntimeClass "([^"]{1,253})" not found/i.exec(reason)?.[1];
  if (runtime !== undefined) return missingClass("runtime", runtime);
  const account = /serviceaccount "([^"]{1,253})" not found/i.exec(reason)?.[1];
  // That one comes by itself a moment after its namespace.
  if (account === undefined || account === "default") return undefined;
  return `the service account "${account}" does not exist in its namespace; check the column service_account`;
}

function missingClass(kind: "priority" | "runtime", name: string): string {
  return `the ${kind} class "${name}" does not exist; check the column ${kind}_class`;
}

/** What is in the way of one of the run's pods; undefined: nothing. */
export function whyItWaits(job: Facts, pod: PodFacts, looked: Looked): Verdict | undefined {
  return gated(pod) ?? unschedulable(job, pod, looked) ?? stuckContainer(job, pod, looked) ?? unmounted(pod, looked);
}

/** How far a pod is that nothing is in the way of. */
export function preparation(pods: readonly PodFacts[]): Verdict {
  const container = pods.flatMap(({ containers }) => containers)
    .find(({ kind, state }) => kind === "init" && state === "running");
  const detail = container ? `${nameOf(container)} is running` : "Its pod is being prepared";
  return { kind: "pending", detail, unprepared: !container && pods.some(({ node }) => node !== undefined) };
}

/** A pod that goes on though its program has ended; "" for one that just runs. */
export function whyItGoesOn(pods: readonly PodFacts[]): string {
  for (const { phase, containers } of pods) {
    const main = containers.find(isMain);
    const other = containers.find((one) => !isMain(one) && one.kind !== "init" && one.state === "running");
    if (phase !== "Running" || main?.state !== "terminated" || !other) continue;
    return `Its program has ended (exit code ${main.exitCode ?? 0}), but ${
      lowerFirst(nameOf(other))
    } goes on and holds the pod`;
  }
  return "";
}

// ---------------------------------------------------------------- before it has a node

function gated({ phase, gates = [] }: PodFacts): Verdict | undefined {
  const [gate] = gates;
  if (phase !== "Pending" || gate === undefined) return undefined;
  const detail = gate.startsWith("kueue.x-k8s.io/")
    ? "Waiting for its turn in a queue (Kueue)"
    : `Waiting for somebody to take the scheduling gate "${gate}" off its pod`;
  return { kind: "pending", detail };
}

function unschedulable(job: Facts, pod: PodFacts, { gracePeriods, now }: Looked): Verdict | undefined {
  if (pod.phase !== "Pending" || !pod.unschedulable) return undefined;
  const recheckAt = new Date(pod.unschedulable.since.getTime() + gracePeriods.unschedulableMs);
  const words = noNodeWords(job, pod.unschedulable.message);
  if (now >= recheckAt) return ended("failed", "Unschedulable", words);
  return { kind: "pending", detail: `Waiting for a node: ${words}`, recheckAt };
}

/** "No node can take it: …" with what is short or missing, as the scheduler lists it. */
function noNodeWords(job: Facts, message: string): string {
  const claim = /persistentvolumeclaim "([^"]{1,253})" not found/.exec(message)?.[1];
  const why = claim !== undefined
    ? `the claim "${claim}" does not exist in its namespace`
    : /unbound immediate PersistentVolumeClaims/.test(message)
    ? "its claim is bound to no volume yet"
    : /didn't find available persistent volumes to bind/.test(message)
    ? "there is no volume for its claim, which waits for its first pod"
    : wrongNode(message) ?? shortWords(job, message);
  return `No node can take it: ${why}${why ? " " : ""}(the scheduler says: ${message})`;
}

/** Where all nodes are wrong, and none just has too little free. */
function wrongNode(message: string): string | undefined {
  if (/Insufficient/.test(message)) return undefined;
  const labels = /didn't match Pod's node affinity\/selector/.test(message);
  const taints = /untolerated taint/.test(message);
  if (labels && !taints) return "no node has the labels that the row asks for";
  if (taints && !labels) return "all nodes have taints that the row does not tolerate; see the column tolerations";
  return undefined;
}

function shortWords(job: Facts, message: string): string {
  const short = new Set([...message.matchAll(/Insufficient ([\w./-]{1,300})/g)].map(([, name]) => trimEnd(name!, ".")));
  const wants: string[] = [];
  if ([...short].some(isGpuResource)) wants.push(`${job.gpu} free GPU${job.gpu === 1 ? "" : "s"}`);
  for (const resource of ["cpu", "memory", "ephemeral-storage"]) {
    if (!short.has(resource)) continue;
    const asked = job.requests[resource] ?? "what it asks for";
    wants.push(`${asked} of free ${resource === "ephemeral-storage" ? "disk" : resource}`);
  }
  return wants.length > 0 ? `none has ${wants.join(" and ")}` : "";
}

// ---------------------------------------------------------------- on its node

const IMAGE_REASONS = new Set([
  "ImagePullBackOff",
  "ErrImagePull",
  "ErrImageNeverPull",
  "ImageInspectError",
  "RegistryUnavailable",
  "SignatureValidationFailed",
]);
const CREATE_REASONS = new Set([
  "CreateContainerConfigError",
  "CreateContainerError",
  "RunContainerError",
  "CrashLoopBackOff",
]);

/** Whether the container cannot start, by its own fault or its image's. */
function isFailing({ state, reason }: ContainerFacts): boolean {
  return state === "waiting" && reason !== undefined && (IMAGE_REASONS.has(reason) || CREATE_REASONS.has(reason));
}

/** The pod with what is known of since when its containers cannot start: from `before`, else from now on. */
export function withFailingSince(pod: PodFacts, before: PodFacts | undefined, now: Date): PodFacts {
  if (!pod.containers.some(isFailing)) return pod;
  const containers = pod.containers.map((container) => {
    if (!isFailing(container)) return container;
    const known = before?.containers.find(({ name }) => name === container.name)?.failingSince;
    return { ...container, failingSince: known ?? now };
  });
  return { ...pod, containers };
}

function stuckContainer(job: Facts, pod: PodFacts, looked: Looked): Verdict | undefined {
  for (const container of pod.containers) {
    if (container.state !== "waiting" || container.reason === undefined) continue;
    // Beside a program that runs, others may fail.
    if (pod.phase !== "Pending" && !isMain(container)) continue;
    const said = container.message ?? container.reason;
    const image = isMain(container) ? `The image "${job.image}"` : `The image of ${lowerFirst(nameOf(container))}`;
    if (container.reason === "InvalidImageName") {
      const named = isMain(container)
        ? `The image name "${job.image}"`
        : `The image name of ${lowerFirst(nameOf(container))}`;
      return ended("failed", "ImagePull", `${named} is not valid: ${said}`);
    }
    const failing = container.failingSince ?? pod.createdAt;
    const graceMs = looked.gracePeriods.imagePullMs;
    if (CREATE_REASONS.has(container.reason)) {
      const words = `${nameOf(container)} cannot be started: ${missingWords(said)}`;
      return afterGrace(failing, graceMs, looked.now, "CannotStart", words);
    }
    if (!IMAGE_REASONS.has(container.reason)) continue;
    const limit = rateLimitWords(image, said);
    if (limit !== undefined) {
      return afterGrace(failing, graceMs * RATE_LIMIT_PATIENCE, looked.now, "ImageRateLimit", limit);
    }
    return afterGrace(failing, graceMs, looked.now, "ImagePull", imageWords(image, said));
  }
  return undefined;
}

function afterGrace(
  since: Date,
  graceMs: number,
  now: Date,
  reason: "CannotStart" | "ImagePull" | "ImageRateLimit",
  words: string,
): Verdict {
  const recheckAt = new Date(since.getTime() + graceMs);
  return now >= recheckAt ? ended("failed", reason, words) : { kind: "pending", detail: words, recheckAt };
}

function rateLimitWords(image: string, said: string): string | undefined {
  if (/pull QPS exceeded/i.test(said)) return `${image} waits, for its node pulls as many as it may at a time: ${said}`;
  if (!/toomanyrequests|too many requests|rate limit|\b429\b/i.test(said)) return undefined;
  return `The registry limits how often ${lowerFirst(image)} may be pulled: ${said}`;
}

function imageWords(image: string, said: string): string {
  const hint = /not found|manifest unknown|does not exist/i.test(said)
    ? "there is no such image or tag; check the image column"
    : /unauthorized|denied|authentication/i.test(said)
    ? "the registry does not let the cluster have it; make it public or check its name"
    : /no such host|timeout|connection refused|dial tcp/i.test(said)
    ? "the cluster cannot reach the registry; check the name before the first slash"
    : "check the image column";
  return `${image} cannot be pulled: ${hint} (the cluster says: ${said})`;
}

/** A pod that is on a node and whose volumes cannot be had, as only events say. */
function unmounted(pod: PodFacts, { gracePeriods, now, trouble }: Looked): Verdict | undefined {
  const isPrepared = pod.containers.some(({ state }) => state !== "waiting");
  if (pod.phase !== "Pending" || isPrepared || trouble === undefined) return undefined;
  const words = `Its pod cannot be prepared: ${missingWords(trouble.message)}`;
  const verdict = afterGrace(trouble.since, gracePeriods.imagePullMs, now, "CannotStart", words);
  return verdict.kind === "ended" ? verdict : { ...verdict, unprepared: true };
}

/** What is missing, before the cluster's own words. */
function missingWords(said: string): string {
  const object = /\b(secret|configmap|persistentvolumeclaim) "([^"]{1,253})" not found/i.exec(said);
  const key = /couldn't find key (\S{1,253}) in (Secret|ConfigMap) (\S{1,300})/.exec(said) ??
    /references non-existent (secret|config) key: (\S{1,253})/.exec(said);
  const root = /runAsNonRoot and image will run as root/.test(said);
  const words = object
    ? `the ${KINDS[object[1]!.toLowerCase()]} "${object[2]}" does not exist in its namespace`
    : key?.length === 4
    ? `the ${KINDS[key[2]!.toLowerCase()]} ${key[3]} has no key "${key[1]}"`
    : key
    ? `the ${key[1] === "secret" ? "secret" : "config map"} has no key "${key[2]}"`
    : root
    ? "its image runs as root, which is not allowed"
    : undefined;
  return words === undefined ? said : `${words} (the cluster says: ${said})`;
}

const KINDS: Readonly<Record<string, string>> = {
  secret: "secret",
  configmap: "config map",
  persistentvolumeclaim: "claim",
};
