/**
 * Ends Jobs in place of a node: writes a Job's end into its status a little after it was created. At 50 Jobs/s a
 * controller manager and fake nodes cannot keep up on a small machine; a cluster whose Job controller is off leaves the
 * status to this. Goes on while the API server comes and goes.
 */
import { KubeApi, KubeApiError } from "../harness/kube_api.ts";
import { pause } from "../harness/wait.ts";

export interface JobToEnd {
  readonly runName: string;
  readonly createdAt: string;
  readonly fails: boolean;
  /** From now to its end. */
  readonly afterMs: number;
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
        await this.api.patch(`/apis/batch/v1/namespaces/default/jobs/${job.runName}/status`, { status: statusOf(job) });
      } catch (error) {
        // Gone: the service has been faster, or somebody deleted it; the count will tell.
        if (error instanceof KubeApiError && error.status === 404) continue;
        this.#due.push(job);
        await pause(RETRY_MS);
      }
    }
  }
}

/** What the Job controller writes (Kubernetes 1.31 and later demand both conditions). */
function statusOf({ fails, createdAt }: JobToEnd): unknown {
  const now = new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const conditions = (fails ? ["FailureTarget", "Failed"] : ["SuccessCriteriaMet", "Complete"]).map((type) => ({
    type,
    status: "True",
    reason: fails ? "DeadlineExceeded" : "CompletionsReached",
    message: fails ? "Job was active longer than specified deadline" : "Reached expected number of succeeded pods",
    lastProbeTime: now,
    lastTransitionTime: now,
  }));
  const times = { startTime: createdAt, ...(fails ? {} : { completionTime: now, succeeded: 1 }) };
  return { ...times, conditions };
}
