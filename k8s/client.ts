/**
 * The connection to a Kubernetes API server: calls by fetch over clients that keep their connections, with credentials
 * that are renewed, a client-side rate limit, and what an answer means for the one who called.
 * Knows nothing of Jobs. Must not put a token into a message.
 */
import { onAbort, Scope } from "../util/abort.ts";
import {
  firstLine,
  type KubeConfigOptions,
  type KubeCredentials,
  type KubeTarget,
  openKubeConfig,
} from "./kubeconfig.ts";
import { RefusedError, UnavailableError } from "../ports.ts";
import { retryAfterMs } from "../util/retry_after.ts";

export interface KubeClientOptions extends KubeConfigOptions {
  /** Default: that of the context, else `default`. */
  readonly namespace?: string;
  /** Calls per second; 0 (default): as many as there are. Deletions go first. */
  readonly qps?: number;
  /** Calls that may go at once with `qps`. Default: `qps`. */
  readonly burst?: number;
  /** For a call with its answer. Default 15,000. */
  readonly timeoutMs?: number;
}

export interface CallOptions {
  /** JSON text. */
  readonly body?: string;
  /** Default `application/json`. */
  readonly contentType?: string;
  /** Goes before calls that are not. */
  readonly urgent?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** An answer of any status, read to its end. */
export interface Answer {
  readonly status: number;
  readonly text: string;
  /** What the header Retry-After asks for, in milliseconds. */
  readonly retryAfterMs?: number;
}

/** How long credentials are used before they are asked for again. */
const CREDENTIALS_MS = 10_000;

interface Credentials {
  readonly headers: Record<string, string>;
  /** CA, certificate and key, to see whether new connections are needed. */
  readonly identity: string;
  /** Calls that end soon. */
  readonly short: Deno.HttpClient;
  /** Watches and logs: HTTP/1.1 as well, so that each has a connection of its own and none waits for another. */
  readonly long: Deno.HttpClient;
  readonly until: number;
}

export class KubeClient implements Disposable {
  /** URL of the API server. */
  readonly url: string;
  readonly namespace: string;
  readonly #options: KubeClientOptions;
  readonly #limiter: RateLimiter | undefined;
  readonly #timeoutMs: number;
  #target: KubeTarget;
  #credentials: Credentials | undefined;
  #renewal: Promise<Credentials> | undefined;

  private constructor(options: KubeClientOptions, target: KubeTarget) {
    this.#options = options;
    this.#target = target;
    this.url = target.server;
    this.namespace = options.namespace ?? target.namespace ?? "default";
    this.#timeoutMs = options.timeoutMs ?? 15_000;
    const { qps = 0, burst = Math.max(1, qps) } = options;
    if (qps > 0) this.#limiter = new RateLimiter(qps, burst);
  }

  /** Reads the kubeconfig; calls nobody yet. Throws an Error that names the file or context that is wrong. */
  static async open(options: KubeClientOptions = {}): Promise<KubeClient> {
    return new KubeClient(options, await openKubeConfig(options));
  }

  /**
   * Sends a request and reads the answer, whatever its status. After 401 the credentials are read again (the file, the
   * command) and the request is sent once more. Throws UnavailableError when there is no answer.
   */
  async call(method: string, path: string, options: CallOptions = {}): Promise<Answer> {
    await this.#limiter?.acquire(options.urgent ?? false, options.signal);
    const used = await this.#current();
    const answer = await this.#attempt(method, path, options, used);
    if (answer.status !== 401) return answer;
    return await this.#attempt(method, path, options, await this.#renew(used));
  }

  /**
   * A GET whose answer is a long stream; timeout and signal are for its beginning only. The caller reads or cancels the
   * body; `abortable` makes one that ends with a signal.
   */
  async stream(path: string, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<Response> {
    await this.#limiter?.acquire(false, signal);
    const used = await this.#current();
    const response = await this.#open(path, used, signal);
    if (response.status !== 401) return response;
    await response.body?.cancel();
    return await this.#open(path, await this.#renew(used), signal);
  }

  [Symbol.dispose](): void {
    this.#credentials?.short.close();
    this.#credentials?.long.close();
    this.#credentials = undefined;
  }

  async #attempt(method: string, path: string, options: CallOptions, used: Credentials): Promise<Answer> {
    return await this.#timed(options.signal, async (signal) => {
      const { body, contentType = "application/json" } = options;
      const response = await fetch(this.url + path, {
        method,
        client: used.short,
        signal,
        headers: headersFor(method, used.headers, body === undefined ? undefined : contentType),
        ...(body === undefined ? {} : { body }),
      });
      const text = await response.text();
      const wait = retryAfterMs(response.headers.get("retry-after"));
      return { status: response.status, text, ...(wait === undefined ? {} : { retryAfterMs: wait }) };
    });
  }

  async #open(path: string, used: Credentials, signal: AbortSignal | undefined): Promise<Response> {
    const response = await this.#timed(signal, (timed) => {
      return fetch(this.url + path, { client: used.long, headers: used.headers, signal: timed });
    });
    // Of an error, all is read here and now; of a stream, its reader sees to the signal.
    if (!response.body || !signal || response.ok) return response;
    return new Response(abortable(response.body, signal), { status: response.status, headers: response.headers });
  }

  /** Runs `work` with a signal that also aborts after the timeout; its failures become UnavailableError. */
  async #timed<T>(outer: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    outer?.throwIfAborted();
    const scope = new Scope(outer);
    const timer = setTimeout(() => scope.end(new DOMException("No answer in time", "TimeoutError")), this.#timeoutMs);
    try {
      return await work(scope.signal);
    } catch (error) {
      outer?.throwIfAborted();
      const why = scope.signal.aborted ? `no answer within ${this.#timeoutMs / 1000} s` : (error as Error).message;
      throw new UnavailableError(`Cannot reach the API server ${this.url}: ${why}`, { cause: error });
    } finally {
      clearTimeout(timer);
      scope.leave();
    }
  }

  #current(): Credentials | Promise<Credentials> {
    if (this.#credentials && this.#credentials.until > performance.now()) return this.#credentials;
    return this.#renew(this.#credentials);
  }

  /** Credentials newer than `old`; one renewal serves all who wait. */
  #renew(old: Credentials | undefined): Credentials | Promise<Credentials> {
    const current = this.#credentials;
    if (current && current !== old) return current;
    // Still valid, but refused: what was read or cached is wrong, so the kubeconfig is read anew.
    const refused = old !== undefined && old.until > performance.now();
    return this.#renewal ??= this.#obtain(refused).finally(() => this.#renewal = undefined);
  }

  async #obtain(refused: boolean): Promise<Credentials> {
    const { ca, cert, key, headers } = await this.#ask(refused);
    const identity = `${ca}\n${cert}\n${key}`;
    const old = this.#credentials;
    const same = old?.identity === identity;
    const made = same ? undefined : { caCerts: ca ? [ca] : [], ...(cert && key ? { cert, key } : {}) };
    const credentials: Credentials = {
      headers: { "user-agent": "mqtt-job-listener", accept: "application/json", ...headers },
      identity,
      short: made ? this.#httpClient(made) : old!.short,
      long: made ? this.#httpClient(made) : old!.long,
      until: performance.now() + CREDENTIALS_MS,
    };
    this.#credentials = credentials;
    if (made && old) {
      old.short.close();
      old.long.close();
    }
    return credentials;
  }

  async #ask(refused: boolean): Promise<KubeCredentials> {
    try {
      if (refused) this.#target = await openKubeConfig(this.#options);
      return await this.#target.credentials();
    } catch (error) {
      // Not for good: a command may fail without a network, and a file may be written at this moment.
      throw new UnavailableError(`Cannot get credentials for ${this.url}: ${firstLine(error)}`, { cause: error });
    }
  }

  /**
   * HTTP/1.1 only: a call that times out takes its connection with it, while a dead HTTP/2 connection would be used for
   * all others too (https://github.com/kubernetes/kubernetes/issues/87615). It is no slower here.
   */
  #httpClient(tls: { caCerts: string[]; cert?: string; key?: string }): Deno.HttpClient {
    const proxy = this.#target.proxyUrl;
    return Deno.createHttpClient({
      http2: false,
      poolMaxIdlePerHost: 64,
      caCerts: tls.caCerts,
      ...(proxy === undefined ? {} : { proxy: { url: proxy } }),
      ...(tls.cert === undefined || tls.key === undefined ? {} : { cert: tls.cert, key: tls.key }),
    });
  }
}

/**
 * The stream, which ends at once with the signal's reason when that aborts. Not left to a signal of AbortSignal.any: it
 * was seen not to reach a stream that had been open for a while, as if it had been collected as garbage.
 */
export function abortable(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
  signal: AbortSignal,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  const reader = body.getReader();
  // The signal may live as long as the service, and streams are many.
  let release = () => {};
  return new ReadableStream({
    start(controller) {
      release = onAbort(signal, () => {
        controller.error(signal.reason);
        reader.cancel(signal.reason).catch(() => {});
      });
    },
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (signal.aborted) return;
        if (!done) return controller.enqueue(value);
        release();
        controller.close();
      } catch (error) {
        release();
        if (!signal.aborted) controller.error(error);
      }
    },
    cancel(reason) {
      release();
      return reader.cancel(reason);
    },
  }, { highWaterMark: 0 });
}

/** Nobody reads the object that a write returns, and the whole of it costs the server a tenth of a create call. */
const METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

function headersFor(method: string, headers: Record<string, string>, contentType: string | undefined) {
  if (method === "GET") return headers;
  return { ...headers, accept: METADATA_ONLY, ...(contentType === undefined ? {} : { "content-type": contentType }) };
}

// ---------------------------------------------------------------- answers

/** The fields that matter of a Status (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/). */
export interface KubeStatus {
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
}

/** What the API server says of a failure; of an answer that is no Status, the beginning of its text. */
export function statusOf(answer: Pick<Answer, "text">): KubeStatus {
  try {
    const value: unknown = JSON.parse(answer.text);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    // A proxy or load balancer before the API server answers in HTML.
    return { message: answer.text.slice(0, 200).trim() };
  }
}

/** What an answer holds; UnavailableError where that is not whole JSON, as of a proxy in between. */
export function jsonOf<T>(answer: Pick<Answer, "status" | "text">): T {
  try {
    return JSON.parse(answer.text);
  } catch (error) {
    throw new UnavailableError(`The API server's answer (${answer.status}) is not whole JSON`, { cause: error });
  }
}

/** Whether the call did what it was to do. */
export function isSuccess({ status }: Pick<Answer, "status">): boolean {
  return status >= 200 && status < 300;
}

/** That very object is not there; a 404 for something else, such as the namespace, is an error. */
export function isMissing(answer: Answer): boolean {
  return answer.status === 404 && !/^namespaces? /.test(statusOf(answer).message ?? "");
}

/** An object of that name is there. */
export function isAlreadyThere(answer: Answer): boolean {
  return answer.status === 409 && statusOf(answer).reason === "AlreadyExists";
}

/** What an answer that is not 2xx means for one who wanted to `what` ("create the Job x"): RefusedError or UnavailableError. */
export function answerError(what: string, answer: Answer): RefusedError | UnavailableError {
  const { reason, message = "" } = statusOf(answer);
  const words = `Cannot ${what}: ${message || "no reason given"} (${answer.status}${reason ? ` ${reason}` : ""})`;
  if (isForNow(answer.status, message)) {
    const { retryAfterMs } = answer;
    const advice = answer.status === 401 ? "; the kubeconfig's credentials are not accepted, renew them" : "";
    return new UnavailableError(words + advice, retryAfterMs === undefined ? {} : { retryAfterMs });
  }
  const advice = answer.status === 403 && /\bcannot \w+ resource\b/.test(message)
    ? "; give its account the rights in deploy/role.yaml"
    : answer.status === 404 && /^namespaces? /.test(message)
    ? "; create it or set NAMESPACE"
    : "";
  return new RefusedError(words + advice);
}

function isForNow(status: number, message: string): boolean {
  // 401: credentials get renewed. 409 here is a conflict within the server, such as of two writers of one quota.
  if (status === 401 || status === 408 || status === 409 || status === 429 || status >= 500) return true;
  // https://kubernetes.io/docs/concepts/policy/resource-quotas/: full, or so new that it has not been counted yet.
  return status === 403 && /exceeded quota|status unknown for quota/i.test(message);
}

// ---------------------------------------------------------------- rate limit

/** A token bucket in which urgent callers go first. */
export class RateLimiter {
  readonly #perMs: number;
  readonly #burst: number;
  readonly #urgent = new Set<() => void>();
  readonly #others = new Set<() => void>();
  #tokens: number;
  #filledAt = performance.now();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(qps: number, burst: number) {
    this.#perMs = qps / 1000;
    this.#burst = Math.max(1, burst);
    this.#tokens = this.#burst;
  }

  /** Resolves when a call may go; rejects with the signal's reason. */
  acquire(urgent: boolean, signal?: AbortSignal): Promise<void> | undefined {
    signal?.throwIfAborted();
    this.#fill();
    if (this.#urgent.size + this.#others.size === 0 && this.#tokens >= 1) {
      this.#tokens--;
      return undefined;
    }
    return new Promise((resolve, reject) => {
      const queue = urgent ? this.#urgent : this.#others;
      const go = () => {
        leave();
        resolve();
      };
      queue.add(go);
      const leave = onAbort(signal, () => {
        queue.delete(go);
        reject(signal?.reason);
      });
      this.#schedule();
    });
  }

  #fill(): void {
    const now = performance.now();
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#filledAt) * this.#perMs);
    this.#filledAt = now;
  }

  #schedule(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#fill();
      for (const queue of [this.#urgent, this.#others]) {
        for (const go of queue) {
          if (this.#tokens < 1) break;
          this.#tokens--;
          queue.delete(go);
          go();
        }
      }
      if (this.#urgent.size + this.#others.size > 0) this.#schedule();
    }, Math.max(1, Math.ceil((1 - this.#tokens) / this.#perMs)));
  }
}
