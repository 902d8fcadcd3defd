/**
 * Ends Jobs in place of a node: writes a Job's end into its status a little after it was created. At 50 Jobs/s a
 * controller manager and fake nodes cannot keep up on a small machine; a cluster whose Job controller is off leaves the
 * status to this. Goes on while the API server comes and goes.
 */
import type { V1Job } from "@kubernetes/client-node";
import { KubeApi, KubeApiError } from "../harness/kube_api.ts";
import { pause } from "../harness/wait.ts";

export interface JobToEnd {
  readonly runName: string;
  readonly createdAt: string;
  readonly fails: boolean;
  /** From now to its end. */
  readonly afterMs: number;
  /** The whole Job where its container is to have run out of memory: that is what a pod says, so there is one then. */
  readonly outOfMemory?: V1Job;
}

const AT_ONCE = 12;
const RETRY_MS = 500;

/** Ends what it is told to. Disposing it leaves the rest. */
export class JobEnder implements AsyncDisposable {
  readonly #due: JobToEnd[] = [];
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  readonly #workers = new Set<Promise<void>>();
  #over = false;

  constructor(private readonly api: KubeApi) {}

  end(job: JobToEnd): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#due.push(job);
      if (this.#workers.size >= AT_ONCE) return;
      const worker = this.#work().finally(() => this.#workers.delete(worker));
      this.#workers.add(worker);
    }, job.afterMs);
    this.#timers.add(timer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over = true;
    for (const timer of this.#timers) clearTimeout(timer);
    await Promise.all(this.#workers);
  }

  /** Until nothing is due. */
  async #work(): Promise<void> {
    for (let job = this.#due.shift(); job && !this.#over; job = this.#due.shift()) {
      try {
        if (job.outOfMemory) await this.#killPod(job, job.outOfMemory);
        await this.api.patch(`/apis/batch/v1/namespaces/default/jobs/${job.runName}/status`, { status: statusOf(job) });
      } catch (error) {
        // Gone: the service has been faster, or somebody deleted it; the count will tell.
        if (error instanceof KubeApiError && error.status === 404) continue;
        this.#due.push(job);
        await pause(RETRY_MS);
      }
    }
  }

  /** Makes a pod of the Job, on a node that does not exist, whose container was killed. */
  async #killPod({ runName, createdAt }: JobToEnd, { metadata, spec }: V1Job): Promise<void> {
    const name = `${runName}-0`;
    const pods = "/api/v1/namespaces/default/pods";
    const owner = { apiVersion: "batch/v1", kind: "Job", name: runName, uid: metadata!.uid!, controller: true };
    const template = spec!.template;
    try {
      await this.api.create(pods, {
        metadata: { name, labels: template.metadata?.labels, ownerReferences: [owner] },
        spec: { ...template.spec, nodeName: "nowhere" },
      });
    } catch (error) {
      if (!(error instanceof KubeApiError && error.status === 409)) throw error;
    }
    const terminated = { exitCode: 137, reason: "OOMKilled", startedAt: createdAt, finishedAt: nowSeconds() };
    const container = { name: "main", image: "busybox:lab", imageID: "", ready: false, restartCount: 0 };
    const status = { phase: "Failed", containerStatuses: [{ ...container, state: { terminated } }] };
    await this.api.patch(`${pods}/${name}/status`, { status });
  }

  /** The pod of a Job that is gone, which no controller removes here. */
  async removePod(runName: string): Promise<void> {
    await this.api.delete(`/api/v1/namespaces/default/pods/${runName}-0?gracePeriodSeconds=0`).catch(() => {});
  }
}

function nowSeconds(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, "Z");
}

/** What the Job controller writes (Kubernetes 1.31 and later demand both conditions). */
function statusOf({ fails, createdAt, outOfMemory }: JobToEnd): unknown {
  const now = nowSeconds();
  const conditions = (fails ? ["FailureTarget", "Failed"] : ["SuccessCriteriaMet", "Complete"]).map((type) => ({
    type,
    status: "True",
    reason: outOfMemory ? "BackoffLimitExceeded" : fails ? "DeadlineExceeded" : "CompletionsReached",
    message: outOfMemory
      ? "Job has reached the specified backoff limit"
      : fails
      ? "Job was active longer than specified deadline"
      : "Reached expected number of succeeded pods",
    lastProbeTime: now,
    lastTransitionTime: now,
  }));
  const times = { startTime: createdAt, ...(fails ? {} : { completionTime: now, succeeded: 1 }) };
  return { ...times, conditions };
}
