/**
 * Stands in for Kueue's controller, whose build takes longer than all tests: does to Jobs of a queue what that does, as
 * read in its source (v0.17, pkg/controller/jobframework and pkg/podset). A Job is suspended as it is made; while there is
 * quota, the oldest is admitted by one update that puts the flavour's node labels and the pod set's label into the pod
 * template and takes the suspension back; its end gives the quota back. Makes no Workload objects, and never preempts.
 */
import type { V1Job } from "@kubernetes/client-node";
import { followJobs } from "./job_watch.ts";
import type { KubeApi } from "./kube_api.ts";
import { eventually } from "./wait.ts";

/** https://kueue.sigs.k8s.io/docs/reference/labels-and-annotations/ */
const QUEUE = "kueue.x-k8s.io/queue-name";
const ADMISSION = "/apis/admissionregistration.k8s.io/v1";
const NAMESPACE = "/api/v1/namespaces/default";
const JOBS = "/apis/batch/v1/namespaces/default/jobs";

export interface KueueOptions {
  /** Pods at a time, by local queue; Jobs of other queues stay suspended, as with a queue that is not there. */
  readonly quota: Readonly<Record<string, number>>;
  /** Labels of the flavour's nodes. */
  readonly nodeLabels?: Readonly<Record<string, string>>;
}

/** Begins to suspend and admit. Disposing it ends that; Jobs stay as they are. */
export async function startKueue(api: KubeApi, { quota, nodeLabels = {} }: KueueOptions): Promise<AsyncDisposable> {
  await suspendNewJobs(api);
  const jobs = new Map<string, V1Job>();
  let working = Promise.resolve();
  const look = () => {
    working = working.then(() => admit(api, [...jobs.values()], { quota, nodeLabels })).catch(() => {});
  };
  const watch = await followJobs(api, {
    onJob(job) {
      if (job.metadata?.labels?.[QUEUE] === undefined) return;
      jobs.set(job.metadata.uid!, job);
      look();
    },
    onGone: (uid) => void (jobs.delete(uid), look()),
    onList(uids) {
      for (const uid of jobs.keys()) if (!uids.has(uid)) jobs.delete(uid);
      look();
    },
  });
  return {
    async [Symbol.asyncDispose]() {
      await watch[Symbol.asyncDispose]();
      await working;
    },
  };
}

/** As Kueue's webhook for Jobs does. Resolves when it is in force. */
async function suspendNewJobs(api: KubeApi): Promise<void> {
  const metadata = { name: "kueue" };
  await api.create(`${ADMISSION}/mutatingadmissionpolicies`, {
    metadata,
    spec: {
      matchConstraints: {
        resourceRules: [{ apiGroups: ["batch"], apiVersions: ["v1"], operations: ["CREATE"], resources: ["jobs"] }],
        objectSelector: { matchExpressions: [{ key: QUEUE, operator: "Exists" }] },
      },
      reinvocationPolicy: "Never",
      mutations: [{
        patchType: "ApplyConfiguration",
        applyConfiguration: { expression: "Object{spec: Object.spec{suspend: true}}" },
      }],
    },
  });
  await api.create(`${ADMISSION}/mutatingadmissionpolicybindings`, { metadata, spec: { policyName: "kueue" } });
  const probe = {
    metadata: { generateName: "probe-", labels: { [QUEUE]: "probe" } },
    spec: { template: { spec: { restartPolicy: "Never", containers: [{ name: "main", image: "x" }] } } },
  };
  await eventually(async () => (await api.create<V1Job>(`${JOBS}?dryRun=All`, probe)).spec?.suspend === true, {
    what: "the rule that suspends new Jobs to be in force",
  });
}

async function admit(
  api: KubeApi,
  jobs: readonly V1Job[],
  { quota, nodeLabels }: Required<KueueOptions>,
): Promise<void> {
  const left = new Map(Object.entries(quota));
  const take = (job: V1Job) => {
    const queue = job.metadata!.labels![QUEUE]!;
    const free = (left.get(queue) ?? 0) - (job.spec?.parallelism ?? 1);
    if (free >= 0) left.set(queue, free);
    return free >= 0;
  };
  const live = jobs.filter((job) => !hasEnded(job) && job.metadata?.deletionTimestamp === undefined);
  for (const job of live) if (job.spec?.suspend !== true) take(job);
  const waiting = live.filter((job) => job.spec?.suspend === true)
    .sort((a, b) => String(a.metadata?.creationTimestamp).localeCompare(String(b.metadata?.creationTimestamp)));
  for (const job of waiting) {
    if (!take(job)) continue;
    const { name, uid } = job.metadata!;
    const template = {
      metadata: { labels: { "kueue.x-k8s.io/podset": "main" } },
      spec: { nodeSelector: nodeLabels },
    };
    await api.patch(`${JOBS}/${name}`, { metadata: { uid }, spec: { suspend: false, template } });
    // Known at once: the watch may tell of it only after the next look.
    job.spec!.suspend = false;
    await api.create(`${NAMESPACE}/events`, {
      metadata: { generateName: `${name}.` },
      involvedObject: { apiVersion: "batch/v1", kind: "Job", namespace: "default", name, uid },
      type: "Normal",
      reason: "Started",
      message: "Admitted by clusterQueue lab",
      source: { component: "batch/job-kueue-controller" },
    });
  }
}

function hasEnded({ status }: V1Job): boolean {
  return status?.conditions?.some(({ type, status }) =>
    status === "True" && (type === "Complete" || type === "Failed")
  ) ?? false;
}
