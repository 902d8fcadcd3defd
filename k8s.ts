/**
 * KubernetesCluster: the port Cluster on a Kubernetes API server, in one namespace.
 * Owns which calls are made, as few as there can be (a run costs create, log, delete), and the watches of Jobs, pods and
 * events. Decides nothing about runs. The rights that it needs are in deploy/role.yaml.
 */
import type { CoreV1Event, V1Job, V1Pod } from "@kubernetes/client-node";
import {
  type Answer,
  answerError,
  isAlreadyThere,
  isMissing,
  isSuccess,
  jsonOf,
  KubeClient,
  type KubeClientOptions,
  objectOf,
  statusOf,
} from "./k8s/client.ts";
import { EventBook } from "./k8s/events.ts";
import { eventFacts, jobFacts, type Json, podFacts } from "./k8s/facts.ts";
import { ListWatch, type ListWatchOptions, type WatchedObject } from "./k8s/list_watch.ts";
import { ANNOTATION, LABEL, ownLabels } from "./k8s/labels.ts";
import { KubernetesLease } from "./k8s/lease.ts";
import { buildJob, type JobOptions } from "./k8s/manifest.ts";
import { jobFault, podFault } from "./k8s/own.ts";
import { type PodMetricsList, podUsageIn } from "./k8s/pod_metrics.ts";
import { isRunName } from "./run_spec.ts";
import { abortable } from "./util/streams.ts";
import { cut } from "./util/text.ts";
import { errorMessage } from "./util/errors.ts";
import {
  type Cluster,
  type ClusterEvents,
  type EventFacts,
  type JobFacts,
  type LogOptions,
  type PodFacts,
  type PodUsage,
  RefusedError,
  type RunSpec,
  UnavailableError,
} from "./ports.ts";
import { compact } from "./util/compact.ts";

export interface KubernetesOptions extends KubeClientOptions {
  /** Label by which this service knows its Jobs. */
  readonly instance: string;
  /** Kubernetes deletes an ended Job after so many seconds, should the service not have done so. */
  readonly ttlSeconds: number;
  /** The operator's pod templates as they stand now. */
  readonly templates?: NonNullable<JobOptions["templates"]>;
  /** Default: Kubernetes' own rule, see JobOptions. */
  readonly imagePullPolicy?: NonNullable<JobOptions["imagePullPolicy"]>;
  /** See ListWatchOptions; other values than the presets are for tests. */
  readonly watch?: Pick<ListWatchOptions<WatchedObject>, "silenceMs" | "relistMs" | "maxBackoffMs">;
}

/** Reads the kubeconfig; calls nobody yet. Throws an Error that says what is wrong with it. */
export async function connectKubernetes(options: KubernetesOptions): Promise<KubernetesCluster> {
  return new KubernetesCluster(await KubeClient.open(options), options);
}

interface CallSignal {
  readonly signal?: AbortSignal;
}

/** Pods whose events are shown; the first ones say what the others would. */
const MAX_EVENT_PODS = 8;
const MAX_EVENTS = 500;
/** That are listed in one call. */
const MAX_PODS = 2_000;
/** Of these, or of what 40,000 use. */
const MAX_LIST_BYTES = 32 * 1024 * 1024;
/** Objects that are not this service's own though they have its labels: so many are named. */
const MAX_STRANGERS_TOLD = 50;
const LONGEST_NAME = 253;

/**
 * Of a watch of events: there may be a million an hour, so their names are not kept; and the API server sends no bookmarks
 * for them, so it may be silent until it ends by itself after five minutes at most.
 */
const FORGETFUL = { keepNames: false, silenceMs: 600_000 } as const;

export class KubernetesCluster implements Cluster, Disposable {
  readonly url: string;
  readonly namespace: string;
  readonly #client: KubeClient;
  readonly #jobOptions: JobOptions;
  readonly #watchOptions: NonNullable<KubernetesOptions["watch"]>;
  readonly #jobs: string;
  readonly #core: string;
  readonly #metrics: string;
  /** A selector of all that is this service's own. */
  readonly #labels: string;
  #watches: readonly { readonly heardAt: Date | undefined }[] = [];
  readonly #events = new EventBook();
  /** Of the Jobs that the watch has shown. */
  readonly #uids = new Map<string, string>();
  /** The watch of events goes on, so that nobody need be asked. */
  #eventsKnown = false;

  /** Use connectKubernetes. */
  constructor(client: KubeClient, { instance, ttlSeconds, imagePullPolicy, templates, watch = {} }: KubernetesOptions) {
    this.#client = client;
    this.#watchOptions = watch;
    this.#jobOptions = {
      namespace: client.namespace,
      instance,
      ttlSecondsAfterFinished: ttlSeconds,
      ...compact({ imagePullPolicy, templates }),
    };
    this.namespace = client.namespace;
    const namespace = encodeURIComponent(client.namespace);
    this.url = `${client.url} (namespace ${client.namespace})`;
    this.#jobs = `/apis/batch/v1/namespaces/${namespace}/jobs`;
    this.#core = `/api/v1/namespaces/${namespace}`;
    this.#metrics = `/apis/metrics.k8s.io/v1beta1/namespaces/${namespace}/pods`;
    this.#labels = Object.entries(ownLabels(instance)).map((pair) => pair.join("=")).join(",");
  }

  /** A Lease object in the same namespace, over the same connections. */
  lease(name: string): KubernetesLease {
    return new KubernetesLease({ client: this.#client, name, instance: this.#jobOptions.instance });
  }

  /** Closes the connections. */
  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }

  async create(
    spec: RunSpec,
    { dryRun = false, signal }: { dryRun?: boolean; signal?: AbortSignal } = {},
  ): Promise<"created" | "exists"> {
    const job = buildJob(spec, this.#jobOptions);
    const what = `create the Job ${spec.runName}`;
    // What would not be known again as its own would never be ended.
    const fault = jobFault(job, this.#jobOptions.instance);
    if (fault !== undefined) throw new RefusedError(`Cannot ${what}: ${fault}`);
    const path = dryRun ? `${this.#jobs}?dryRun=All` : this.#jobs;
    const answer = await this.#client.call("POST", path, { body: JSON.stringify(job), signal });
    if (isSuccess(answer)) {
      objectOf(answer, spec.runName);
      return "created";
    }
    if (!isAlreadyThere(answer)) throw answerError(what, answer);
    const there = await this.#read(spec.runName, signal);
    const foreign = there && jobFault(there, this.#jobOptions.instance);
    if (foreign === undefined) return "exists";
    throw new RefusedError(`Cannot ${what}: one of that name is there which is not this service's: ${foreign}`);
  }

  async delete(runName: string, { signal }: CallSignal = {}): Promise<void> {
    const uid = this.#uids.get(runName) ?? (await this.#readOwn(runName, signal))?.metadata?.uid;
    if (uid === undefined) return;
    // Another one of that name, made meanwhile, is not meant.
    const body = JSON.stringify({ propagationPolicy: "Background", preconditions: { uid } });
    const answer = await this.#client.call("DELETE", this.#pathOf(runName), { body, urgent: true, signal });
    if (!isSuccess(answer) && !isMissing(answer) && !isAnother(answer)) {
      throw answerError(`delete the Job ${runName}`, answer);
    }
    if (isSuccess(answer)) objectOf(answer, runName);
  }

  /**
   * A deadline in the past: the controller ends the pods as it would at any deadline (SIGTERM, then SIGKILL), so their
   * logs are there until they have ended, and the Job stays with its start time, as failed. One right. A suspended Job
   * would lose its start time, and would never be cleaned up without this service.
   */
  async cancel(runName: string, who: string, { signal }: CallSignal = {}): Promise<boolean> {
    const uid = (await this.#readOwn(runName, signal))?.metadata?.uid;
    if (uid === undefined) return false;
    const body = JSON.stringify({
      metadata: { uid, annotations: { [ANNOTATION.cancelledBy]: cut(who, LONGEST_NAME) } },
      spec: { activeDeadlineSeconds: 0 },
    });
    const options = { body, contentType: "application/merge-patch+json", urgent: true, signal };
    const answer = await this.#client.call("PATCH", this.#pathOf(runName), options);
    if (isMissing(answer) || isAnother(answer)) return false;
    if (!isSuccess(answer)) throw answerError(`cancel the Job ${runName}`, answer);
    objectOf(answer, runName);
    return true;
  }

  async resume(runName: string, { signal }: CallSignal = {}): Promise<boolean> {
    const uid = this.#uids.get(runName) ?? (await this.#readOwn(runName, signal))?.metadata?.uid;
    if (uid === undefined) return false;
    // Without the mark, so that one whom a person suspends later is not let go on.
    const body = JSON.stringify({
      metadata: { uid, annotations: { [ANNOTATION.heldFor]: null } },
      spec: { suspend: false },
    });
    const options = { body, contentType: "application/merge-patch+json", urgent: true, signal };
    const answer = await this.#client.call("PATCH", this.#pathOf(runName), options);
    if (isMissing(answer) || isAnother(answer)) return false;
    if (!isSuccess(answer)) throw answerError(`resume the Job ${runName}`, answer);
    objectOf(answer, runName);
    return true;
  }

  async get(runName: string, { signal }: CallSignal = {}): Promise<JobFacts | undefined> {
    const job = await this.#readOwn(runName, signal);
    return job && jobFacts(job);
  }

  async pods(runNames: readonly string[], { signal }: CallSignal = {}): Promise<PodFacts[]> {
    const names = runNames.filter(isRunName);
    if (names.length === 0) return [];
    const query = new URLSearchParams({
      labelSelector: `${this.#labels},${LABEL.run} in (${names.join(",")})`,
      limit: String(MAX_PODS),
    });
    const answer = await this.#client.call("GET", `${this.#core}/pods?${query}`, { maxBytes: MAX_LIST_BYTES, signal });
    if (!isSuccess(answer)) throw answerError(`list the pods of ${names.length} runs`, answer);
    const { items = [] } = jsonOf<{ items?: Json<V1Pod>[] }>(answer);
    return items.filter((pod) => faultOf(() => this.#podFault(pod)) === undefined).map(podFacts);
  }

  #podFault(pod: Json<V1Pod>): string | undefined {
    return podFault(pod, (runName) => this.#uids.get(runName));
  }

  #pathOf(runName: string): string {
    return `${this.#jobs}/${encodeURIComponent(runName)}`;
  }

  async #readOwn(runName: string, signal: AbortSignal | undefined): Promise<Json<V1Job> | undefined> {
    const job = await this.#read(runName, signal);
    return job && jobFault(job, this.#jobOptions.instance) === undefined ? job : undefined;
  }

  async #read(runName: string, signal: AbortSignal | undefined): Promise<Json<V1Job> | undefined> {
    // No other name can be that of a run; and `..` would lead elsewhere.
    if (!isRunName(runName)) {
      signal?.throwIfAborted();
      return undefined;
    }
    const answer = await this.#client.call("GET", this.#pathOf(runName), { signal });
    if (isMissing(answer)) return undefined;
    if (!isSuccess(answer)) throw answerError(`read the Job ${runName}`, answer);
    return objectOf<Json<V1Job>>(answer, runName);
  }

  async watch(events: ClusterEvents, signal: AbortSignal): Promise<void> {
    const toList = new Set(["Jobs", "pods"]);
    const onListed = (kind: string) => {
      toList.delete(kind);
      if (toList.size === 0) events.onSynced();
    };
    const labels = this.#labels;
    const strangers = new Strangers(this.namespace, (what) => events.onForeign?.(what));
    const jobs = this.#listWatch<Json<V1Job>>("Jobs", this.#jobs, labels, {
      tagOf: () => "",
      onObject: (job) => {
        const { name = "", uid = "" } = job.metadata ?? {};
        const known = this.#uids.get(name) === uid;
        if (strangers.has("Job", name, faultOf(() => jobFault(job, this.#jobOptions.instance)))) {
          // Somebody wrote into a Job of this service.
          if (known && this.#uids.delete(name)) events.onJobGone(name, undefined);
          return;
        }
        this.#uids.set(name, uid);
        this.#events.jobSeen(name);
        events.onJob(jobFacts(job));
      },
      onGone: (name, _, last) => {
        if (strangers.gone("Job", name)) return;
        this.#uids.delete(name);
        events.onJobGone(name, last && jobFacts(last));
        this.#events.jobGone(name);
      },
      onListed: () => onListed("Jobs"),
      onTrouble: (reason) => events.onTrouble(reason),
    });
    const pods = this.#listWatch<Json<V1Pod>>("pods", `${this.#core}/pods`, labels, {
      tagOf: (pod) => pod.metadata?.labels?.[LABEL.run] ?? "",
      onObject: (pod) => {
        const fault = faultOf(() => this.#podFault(pod));
        if (strangers.has("pod", pod.metadata?.name ?? "", fault)) return;
        const facts = podFacts(pod);
        this.#events.podSeen(facts.podName, facts.runName);
        events.onPod(facts);
      },
      onGone: (name, runName) => {
        if (strangers.gone("pod", name)) return;
        events.onPodGone(name, runName);
        this.#events.podGone(runName);
      },
      onListed: () => onListed("pods"),
      onTrouble: (reason) => events.onTrouble(reason),
    });
    // Events have no labels.
    const said = this.#listWatch<Json<CoreV1Event>>("events", `${this.#core}/events`, "", {
      ...FORGETFUL,
      tagOf: () => "",
      onObject: (event) => this.#events.take(event),
      onGone: () => {},
      onListed: () => this.#eventsKnown = true,
      onTrouble: (reason) => {
        this.#eventsKnown = false;
        events.onTrouble(reason);
      },
    });
    this.#watches = [jobs, pods];
    await Promise.all([jobs, pods, said].map((watch) => watch.run(signal)));
  }

  #listWatch<T extends WatchedObject>(
    kind: string,
    path: string,
    labelSelector: string,
    handlers: Omit<ListWatchOptions<T>, "client" | "kind" | "path" | "labelSelector">,
  ): ListWatch<T> {
    return new ListWatch({ client: this.#client, kind, path, labelSelector, ...this.#watchOptions, ...handlers });
  }

  /** The older of the two watches' times: one that is alive says nothing of the other. */
  get heardAt(): Date | undefined {
    const times = this.#watches.map((watch) => watch.heardAt?.getTime());
    return times.length === 0 || times.includes(undefined) ? undefined : new Date(Math.min(...times as number[]));
  }

  /** The kubelet begins a new file at 10 MiB by preset, and reads out the newest one only. */
  readonly rotatesLogs = true;

  /** Kubernetes knows whole seconds only for `since`, so up to a second before it comes again. */
  async logs(
    podName: string,
    container: string,
    { follow, timestamps, since, tailLines, signal }: LogOptions,
  ): Promise<ReadableStream<Uint8Array> | undefined> {
    if (!POD_NAME.test(podName)) return undefined;
    const query = new URLSearchParams({ container, follow: String(follow), timestamps: String(timestamps) });
    if (since) query.set("sinceTime", since.toISOString());
    if (tailLines !== undefined) query.set("tailLines", String(tailLines));
    const begun = await this.#client.stream(`${this.#core}/pods/${podName}/log?${query}`, { signal });
    if ("stream" in begun) {
      const body = signal ? abortable(begun.stream, signal) : begun.stream;
      return timestamps && !follow ? await unlessLost(body) : body;
    }
    const { answer } = begun;
    if (isMissing(answer)) return undefined;
    const what = `read the log of ${podName}`;
    // The API server has no node to ask yet.
    if (answer.status === 204) throw new UnavailableError(`Cannot ${what}: it is on no node yet`);
    const { message = "" } = statusOf(answer);
    if (answer.status === 400 && NOT_STARTED.test(message)) throw new UnavailableError(`Cannot ${what}: ${message}`);
    throw answerError(what, answer);
  }

  async events(runName: string, podNames: readonly string[], { signal }: CallSignal = {}): Promise<EventFacts[]> {
    // What happens to a Job that has pods is seen by them; only a Job without one says why it has none.
    const names = podNames.length === 0 ? [runName] : podNames.slice(0, MAX_EVENT_PODS);
    const found = this.#eventsKnown
      ? this.#events.of(runName).filter(({ object }) => names.includes(object.slice(object.indexOf("/") + 1)))
      : (await Promise.all(names.map((name) => this.#eventsOf(name, signal)))).flat();
    return found.sort((a, b) => a.at.getTime() - b.at.getTime());
  }

  /** Measured every 15 s by metrics-server's preset; a pod that has just begun has no figures yet. */
  async podUsage({ signal }: CallSignal = {}): Promise<PodUsage[]> {
    const query = new URLSearchParams({ labelSelector: this.#labels });
    const answer = await this.#client.call("GET", `${this.#metrics}?${query}`, { maxBytes: MAX_LIST_BYTES, signal });
    if (isSuccess(answer)) return podUsageIn(jsonOf<PodMetricsList>(answer));
    const what = "ask what pods use (metrics.k8s.io)";
    if (isMissing(answer)) throw new RefusedError(`Cannot ${what}: the cluster has no metrics-server`);
    if (answer.status === 403) {
      throw new RefusedError(`Cannot ${what}: its account may not; the last rule of deploy/role.yaml allows it`);
    }
    throw answerError(what, answer);
  }

  async #eventsOf(name: string, signal: AbortSignal | undefined): Promise<EventFacts[]> {
    const query = new URLSearchParams({ fieldSelector: `involvedObject.name=${name}`, limit: String(MAX_EVENTS) });
    try {
      const answer = await this.#client.call("GET", `${this.#core}/events?${query}`, { signal });
      if (!isSuccess(answer)) return [];
      const { items = [] } = jsonOf<{ items?: Json<CoreV1Event>[] }>(answer);
      return items.map(eventFacts);
    } catch {
      // An ornament of the log, never worth a failure; but not when the caller wants no more.
      signal?.throwIfAborted();
      return [];
    }
  }
}

/** Why an object cannot be this service's own; what no check has thought of is a fault too, not the watch's. */
function faultOf(check: () => string | undefined): string | undefined {
  try {
    return check();
  } catch (error) {
    return `it cannot be read: ${errorMessage(error)}`;
  }
}

/** Names each object that is left alone once, and not more of them than somebody reads. */
class Strangers {
  readonly #names = new Set<string>();
  #told = 0;

  constructor(readonly namespace: string, readonly onForeign: (what: string) => void) {}

  /** Whether it is one: `fault` says why. */
  has(kind: "Job" | "pod", name: string, fault: string | undefined): boolean {
    const key = `${kind} ${name}`;
    if (fault === undefined) {
      this.#names.delete(key);
      return false;
    }
    if (this.#names.has(key)) return true;
    this.#names.add(key);
    if (++this.#told > MAX_STRANGERS_TOLD) return true;
    const more = this.#told === MAX_STRANGERS_TOLD ? "; further ones are left alone without a word" : "";
    this.onForeign(
      `The ${kind} ${
        cut(name, LONGEST_NAME)
      } in the namespace ${this.namespace} has this service's labels but is not ` +
        `one that it made, and is left alone: ${fault}${more}`,
    );
    return true;
  }

  /** Whether it was one. */
  gone(kind: "Job" | "pod", name: string): boolean {
    return this.#names.delete(`${kind} ${name}`);
  }
}

/** The API server says so where a precondition names another uid. */
function isAnother(answer: Answer): boolean {
  return answer.status === 409 && /\bUID in (the )?precondition\b/.test(statusOf(answer).message ?? "");
}

/** Kubernetes' names are subdomains of DNS. */
const POD_NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

/** What the API server and the kubelet say (400) of a container that has no log yet. */
const NOT_STARTED = /waiting to start|does not have a host assigned|ContainerCreating|PodInitializing|is not available/;
/** What the kubelet says, with status 200 and without a timestamp, when the log's file is gone. */
const LOST_LOG = /^(unable to retrieve container logs for|failed to try resolving symlinks in path)/;

/** The stream again, or undefined where it only says that the log is lost. */
async function unlessLost(stream: ReadableStream<Uint8Array>): Promise<ReadableStream<Uint8Array> | undefined> {
  const reader = stream.getReader();
  let first: ReadableStreamReadResult<Uint8Array> | undefined = await reader.read();
  if (!first.done && LOST_LOG.test(new TextDecoder().decode(first.value.subarray(0, 100)))) {
    await reader.cancel();
    return undefined;
  }
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = first ?? await reader.read();
      first = undefined;
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  }, { highWaterMark: 0 });
}
