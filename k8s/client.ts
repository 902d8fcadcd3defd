/**
 * The connection to a Kubernetes API server: calls by fetch over clients that keep their connections, with credentials
 * that are renewed, a client-side rate limit, and what an answer means for the one who called.
 * Knows nothing of Jobs. Must not put a token into a message.
 */
import { onAbort, Scope } from "../util/abort.ts";
import { compact } from "../util/compact.ts";
import { cut } from "../util/text.ts";
import { errorMessage } from "../util/errors.ts";
import type { KubeCredentials } from "./credentials.ts";
import { firstLine } from "./files.ts";
import { type KubeConfigOptions, type KubeTarget, openKubeConfig } from "./kubeconfig.ts";
import { RefusedError, UnavailableError } from "../ports.ts";
import { retryAfterMs } from "../util/retry_after.ts";
import { readAtMost, TooManyBytes } from "../util/streams.ts";
import { parseJson } from "../util/json.ts";

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
  /** Largest answer that is read, unpacked. Default 8 MiB: etcd takes objects of 1.5 MiB. */
  readonly maxBytes?: number;
  readonly signal?: AbortSignal | undefined;
}

/** An answer of any status, read to its end. */
export interface Answer {
  readonly status: number;
  readonly text: string;
  /** What the header Retry-After asks for, in milliseconds. */
  readonly retryAfterMs?: number;
}

/** A stream that has begun, or the answer that came instead of one. */
export type StreamAnswer = { readonly stream: ReadableStream<Uint8Array<ArrayBuffer>> } | { readonly answer: Answer };

const MAX_ANSWER_BYTES = 8 * 1024 * 1024;

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

  /**
   * Reads the kubeconfig and the files that it names; calls nobody yet and runs no command. Throws an Error that says
   * which file, context or field is wrong.
   */
  static async open(options: KubeClientOptions = {}): Promise<KubeClient> {
    const client = new KubeClient(options, await openKubeConfig(options));
    await client.#check();
    return client;
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
   * stream; `abortable` of util/streams.ts makes one that ends with a signal. Any other status than 200 is read to its end.
   */
  async stream(path: string, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<StreamAnswer> {
    await this.#limiter?.acquire(false, signal);
    const used = await this.#current();
    const begun = await this.#open(path, used, signal);
    if ("stream" in begun || begun.answer.status !== 401) return begun;
    return await this.#open(path, await this.#renew(used), signal);
  }

  async #check(): Promise<void> {
    const { files } = this.#target;
    try {
      const { ca, cert, key } = await files();
      const made = this.#httpClient({ caCerts: ca ? [ca] : [], ...(cert && key ? { cert, key } : {}) });
      made.close();
    } catch (error) {
      throw new Error(`Cannot use the kubeconfig: ${firstLine(error)}`);
    }
  }

  [Symbol.dispose](): void {
    this.#credentials?.short.close();
    this.#credentials?.long.close();
    this.#credentials = undefined;
  }

  async #attempt(method: string, path: string, options: CallOptions, used: Credentials): Promise<Answer> {
    return await this.#timed(options.signal, async (signal) => {
      const { body, contentType = "application/json", maxBytes = MAX_ANSWER_BYTES } = options;
      const response = await fetch(this.url + path, {
        method,
        client: used.short,
        signal,
        redirect: "manual",
        headers: headersFor(method, used.headers, body === undefined ? undefined : contentType),
        ...compact({ body }),
      });
      return await readAnswer(response, maxBytes, signal);
    });
  }

  async #open(path: string, used: Credentials, signal: AbortSignal | undefined): Promise<StreamAnswer> {
    return await this.#timed(signal, async (timed) => {
      const options = { client: used.long, headers: used.headers, signal: timed, redirect: "manual" } as const;
      const response = await fetch(this.url + path, options);
      if (response.status === 200) return { stream: response.body ?? new Blob([]).stream() };
      return { answer: await readAnswer(response, MAX_ANSWER_BYTES, timed) };
    });
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
      if (error instanceof UnavailableError) throw error;
      const why = scope.signal.aborted ? `no answer within ${this.#timeoutMs / 1000} s` : errorMessage(error);
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
      throw new UnavailableError(`Cannot get credentials for ${this.url}: ${firstLine(error)}`);
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
      ...compact({ proxy: proxy === undefined ? undefined : { url: proxy } }),
      ...(tls.cert === undefined || tls.key === undefined ? {} : { cert: tls.cert, key: tls.key }),
    });
  }
}

/** Nobody reads the object that a write returns, and the whole of it costs the server a tenth of a create call. */
const METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

function headersFor(method: string, headers: Record<string, string>, contentType: string | undefined) {
  if (method === "GET") return headers;
  return { ...headers, accept: METADATA_ONLY, ...compact({ "content-type": contentType }) };
}

// ---------------------------------------------------------------- answers

/** The answer is larger than the caller wanted to read. */
export class AnswerTooLargeError extends UnavailableError {}

/** Counted as it comes, for a small packed answer may be gigabytes. */
async function readAnswer(response: Response, maxBytes: number, signal: AbortSignal): Promise<Answer> {
  const text = isSurelySmall(response, maxBytes)
    ? await response.text()
    : await boundedText(response, maxBytes, signal);
  const location = response.headers.get("location");
  return {
    status: response.status,
    text: location !== null && text === "" ? `to ${location}` : text,
    ...compact({ retryAfterMs: retryAfterMs(response.headers.get("retry-after")) }),
  };
}

/**
 * No more bytes can come than were announced, unless they are packed. Reading piece by piece takes four times as long, and
 * nearly all answers are a few hundred bytes.
 */
function isSurelySmall({ headers }: Response, maxBytes: number): boolean {
  const announced = headers.get("content-length");
  return announced !== null && Number(announced) <= Math.min(SMALL_BYTES, maxBytes) &&
    headers.get("content-encoding") === null;
}

const SMALL_BYTES = 64 * 1024;

async function boundedText({ body }: Response, maxBytes: number, signal: AbortSignal): Promise<string> {
  if (!body) return "";
  try {
    return new TextDecoder().decode(await readAtMost(body, maxBytes, signal));
  } catch (error) {
    if (!(error instanceof TooManyBytes)) throw error;
    throw new AnswerTooLargeError(`Cannot take the API server's answer: ${error.message}`);
  }
}

/** Of the API server's words, so much is read and shown; a rule that denies a Job may be long. */
const MAX_WORDS = 2_000;

/** The fields that matter of a Status (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/). */
export interface KubeStatus {
  readonly code?: number;
  readonly reason?: string;
  readonly message?: string;
}

/** What the API server says of a failure; of an answer that is no Status, the beginning of its text. */
export function statusOf(answer: Pick<Answer, "text">): KubeStatus {
  try {
    const { code, reason, message } = parseJson(answer.text) ?? {};
    return compact({
      code: typeof code === "number" ? code : undefined,
      reason: typeof reason === "string" ? cut(reason, 100) : undefined,
      message: typeof message === "string" ? cut(message, MAX_WORDS) : undefined,
    });
  } catch {
    // A proxy or load balancer before the API server answers in HTML.
    return { message: answer.text.slice(0, 200).trim() };
  }
}

/** What an answer holds; UnavailableError where that is not whole JSON, as of a proxy in between. */
export function jsonOf<T>(answer: Pick<Answer, "status" | "text">): T {
  try {
    return parseJson(answer.text);
  } catch (error) {
    throw new UnavailableError(`The API server's answer (${answer.status}) is not whole JSON`, { cause: error });
  }
}

/**
 * The object of that name in an answer of 2xx, also one that tells that it is deleted. UnavailableError where it is another
 * thing: a login page between here and the API server answers 200 too, and has done nothing.
 */
export function objectOf<T extends { metadata?: { name?: string } }>(
  answer: Pick<Answer, "status" | "text">,
  name: string,
): T {
  const object = jsonOf<T & { details?: { name?: string } } | null>(answer);
  if (object?.metadata?.name === name || object?.details?.name === name) return object;
  throw new UnavailableError(
    `The API server's answer (${answer.status}) does not hold ${name}: does a proxy or a login page answer in its place?`,
  );
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

/**
 * What an answer that is not 2xx means for one who wanted to `what` ("create the Job x"). RefusedError: the object itself
 * is to blame. All else is a UnavailableError: it ends by itself, or somebody will mend a setting, which is said.
 */
export function answerError(what: string, answer: Answer): RefusedError | UnavailableError {
  const { status, retryAfterMs } = answer;
  const { reason, message = "" } = statusOf(answer);
  const words = `Cannot ${what}: ${message || "no reason given"} (${status}${reason ? ` ${reason}` : ""})`;
  if (isRefusal(status, message)) return new RefusedError(words);
  const advice = adviceFor(status, message);
  // A server that fails may have done it before.
  const isUndone = status >= 400 && status < 500 ? true as const : undefined;
  const more = compact({ retryAfterMs, advice, isUndone });
  return new UnavailableError(advice === undefined ? words : `${words}; ${advice}`, more);
}

/** Not valid, too large, or denied by a rule of the cluster. */
function isRefusal(status: number, message: string): boolean {
  if (status === 400 || status === 413 || status === 422) return true;
  if (status !== 403 || lacksRight(message)) return false;
  // https://kubernetes.io/docs/concepts/policy/resource-quotas/: full, or so new that it has not been counted yet.
  if (/exceeded quota|status unknown for quota|being terminated/i.test(message)) return false;
  // Admission names the object, and no user.
  return /" is forbidden: |admission webhook|denied (the )?request/i.test(message);
}

/** `jobs.batch is forbidden: User "x" cannot create resource …`; where one object is meant, it is named: `jobs.batch "a"`. */
function lacksRight(message: string): boolean {
  return /\bcannot \w{1,40} resource\b/.test(message);
}

/** What a person has to do about it; undefined: nothing, it ends by itself. */
function adviceFor(status: number, message: string): string | undefined {
  if (status >= 300 && status < 400) {
    return "redirects are not followed; give the API server's own address as server of the kubeconfig";
  }
  if (status === 401) return "the kubeconfig's credentials are not accepted, renew them";
  if (status === 403 && lacksRight(message)) return "give its account the rights in deploy/role.yaml";
  if (status === 404 && /^namespaces? /.test(message)) return "create it or set NAMESPACE";
  if (status === 404) return "is that a Kubernetes API server? See server of the kubeconfig";
  return undefined;
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
