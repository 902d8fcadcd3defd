/**
 * One list and watch of one kind of object, that mends itself: pages, bookmarks, expired versions, broken and silent
 * streams, lists from time to time. Remembers names and versions only, never an object. Knows nothing of runs.
 */
import type { V1ObjectMeta } from "@kubernetes/client-node";
import { Scope } from "../util/abort.ts";
import { errorMessage } from "../util/errors.ts";
import { cut } from "../util/text.ts";
import { joinBytes, viewsOf } from "../util/streams.ts";
import { type Answer, answerError, AnswerTooLargeError, type KubeClient } from "./client.ts";
import type { Json } from "./facts.ts";
import { UnavailableError } from "../ports.ts";
import { delay } from "../util/retry.ts";
import { parseJson } from "../util/json.ts";

export interface WatchedObject {
  readonly metadata?: Json<V1ObjectMeta>;
}

export interface ListWatchOptions<T extends WatchedObject> {
  readonly client: KubeClient;
  /** Such as `/api/v1/namespaces/x/pods`. */
  readonly path: string;
  readonly labelSelector: string;
  /** For messages: `Jobs`, `pods`. */
  readonly kind: string;
  /** A short text to be kept with each name, for `onGone`. */
  tagOf(object: T): string;
  onObject(object: T): void;
  /** `last`: as the server deleted it; undefined where a list shows that it went unseen. */
  onGone(name: string, tag: string, last: T | undefined): void;
  onListed(): void;
  /** Once for each outage, and again when its reason changes. */
  onTrouble(reason: string): void;
  /** false: of what was there at the list before nothing is known, so `onGone` hears only what the watch says. */
  readonly keepNames?: boolean;
  /** A stream without a byte for so long is dead. The API server sends a bookmark about each minute. Default 90,000. */
  readonly silenceMs?: number;
  /** From one list to the next, in case the watch has missed something. Default 600,000. */
  readonly relistMs?: number;
  /** Longest pause before the next attempt. Default 15,000. */
  readonly maxBackoffMs?: number;
}

/** The version that the watch wants to go on from is no longer known to the server. */
class ExpiredError extends Error {}

interface WatchEvent<T> {
  readonly type: string;
  readonly object: T & { readonly code?: number; readonly message?: string };
}

/** A stream that lasted so long was one, with or without events. */
const STEADY_MS = 1_000;
/** etcd takes objects of 1.5 MiB; more on a line is no event. */
const MAX_LINE_BYTES = 8 * 1024 * 1024;
/** Of a list, unpacked. */
const MAX_PAGE_BYTES = 32 * 1024 * 1024;
/** Of what the server says of a failure. */
const LONGEST_WORDS = 500;
/** Objects of this size make a page of 500 too large to be parsed at once. */
const LARGE_OBJECT_BYTES = 10_000;

export class ListWatch<T extends WatchedObject> {
  readonly #options: ListWatchOptions<T>;
  readonly #silenceMs: number;
  readonly #relistMs: number;
  readonly #known = new Map<string, { version: string; tag: string }>();
  readonly #decoder = new TextDecoder();
  #pageSize = 100;
  /** Less than 500 where pages of so many were too large. */
  #mostOnPage = 500;
  #version: string | undefined;
  #listedAt = 0;
  #failures = 0;
  #told: string | undefined;
  /** When the server last said anything. */
  heardAt: Date | undefined;

  constructor(options: ListWatchOptions<T>) {
    this.#options = options;
    this.#silenceMs = options.silenceMs ?? 90_000;
    this.#relistMs = options.relistMs ?? 600_000;
  }

  /** Goes on until the signal aborts; never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#version === undefined || performance.now() - this.#listedAt >= this.#relistMs) {
          this.#version = undefined;
          this.#version = await this.#list(signal);
          this.#listedAt = performance.now();
        }
        await this.#watch(this.#version, signal);
      } catch (error) {
        if (signal.aborted) return;
        await this.#mend(error, signal).catch(() => {});
      }
    }
  }

  /** Decides what to do after a failure, and waits if it is not the first in a row. */
  async #mend(error: unknown, signal: AbortSignal): Promise<void> {
    this.#failures++;
    // Also when the same place fails again and again: whatever is wrong there, a list steps over it.
    if (error instanceof ExpiredError || this.#failures % 4 === 0) this.#version = undefined;
    // A stream that breaks and is there again at once has no gap, for it goes on from its version.
    if (this.#failures === 1) return;
    const reason = errorMessage(error);
    if (reason !== this.#told) this.#options.onTrouble(this.#told = reason);
    const maxMs = this.#options.maxBackoffMs ?? 15_000;
    const askedMs = error instanceof UnavailableError ? error.retryAfterMs ?? 0 : 0;
    const backoffMs = Math.min(maxMs, 250 * 2 ** Math.min(this.#failures - 2, 10)) * (0.5 + Math.random() / 2);
    await delay(Math.min(Math.max(askedMs, backoffMs), maxMs), signal);
  }

  #heard(): void {
    this.heardAt = new Date();
  }

  #wellAgain(): void {
    this.#failures = 0;
    this.#told = undefined;
  }

  // ---------------------------------------------------------------- list

  async #list(signal: AbortSignal): Promise<string> {
    const unseen = new Set(this.#known.keys());
    let [token, version]: [string | undefined, string] = [undefined, ""];
    do {
      const page = await this.#page(token, signal);
      for (const object of page.items) this.#listed(object, unseen);
      version = page.version;
      token = page.next;
    } while (token);
    for (const name of unseen) this.#gone(name, undefined);
    this.#options.onListed();
    return version;
  }

  async #page(token: string | undefined, signal: AbortSignal) {
    const { path, labelSelector, kind } = this.#options;
    const query = new URLSearchParams({ labelSelector, limit: String(this.#pageSize) });
    if (token !== undefined) query.set("continue", token);
    const answer = await this.#call(`${path}?${query}`, signal);
    if (answer.status === 410) throw new ExpiredError(`The list of ${kind} took too long and begins anew`);
    if (answer.status !== 200) throw answerError(`list the ${kind}`, answer);
    const { items, metadata } = this.#parseList(answer.text);
    this.#heard();
    const large = answer.text.length / Math.max(1, items.length) > LARGE_OBJECT_BYTES;
    this.#pageSize = Math.min(this.#mostOnPage, large ? 50 : 500);
    return { items, version: metadata?.resourceVersion ?? "", next: metadata?.continue };
  }

  async #call(path: string, signal: AbortSignal): Promise<Answer> {
    try {
      return await this.#options.client.call("GET", path, { signal, maxBytes: MAX_PAGE_BYTES });
    } catch (error) {
      // The next list has smaller pages.
      if (error instanceof AnswerTooLargeError) {
        this.#pageSize = this.#mostOnPage = Math.max(1, Math.floor(this.#pageSize / 4));
      }
      throw error;
    }
  }

  #parseList(text: string): { items: T[]; metadata?: { resourceVersion?: string; continue?: string } } {
    const { kind } = this.#options;
    try {
      const list = parseJson(text);
      const items = list.items ?? [];
      if (!Array.isArray(items) || items.some((item) => typeof item !== "object" || item === null)) {
        throw new TypeError("it is no list");
      }
      return { ...list, items };
    } catch (error) {
      throw new UnavailableError(`Cannot list the ${kind}: the answer is not whole JSON`, { cause: error });
    }
  }

  #listed(object: T, unseen: Set<string>): void {
    const { name = "", resourceVersion = "" } = object.metadata ?? {};
    unseen.delete(name);
    if (this.#known.get(name)?.version !== resourceVersion) this.#changed(object);
  }

  #changed(object: T): void {
    const { name = "", resourceVersion = "" } = object.metadata ?? {};
    if (this.#options.keepNames !== false) {
      this.#known.set(name, { version: resourceVersion, tag: this.#options.tagOf(object) });
    }
    this.#options.onObject(object);
  }

  #gone(name: string, last: T | undefined): void {
    const known = this.#known.get(name);
    this.#known.delete(name);
    const tag = known?.tag ?? (last ? this.#options.tagOf(last) : "");
    this.#options.onGone(name, tag, last);
  }

  // ---------------------------------------------------------------- watch

  /** Returns when the server ends the watch, as it does after the time that it is given. */
  async #watch(version: string, signal: AbortSignal): Promise<void> {
    const startedAt = performance.now();
    using silence = new SilenceGuard(this.#silenceMs, signal);
    let events = 0;
    let openedAt = Infinity;
    try {
      const stream = await this.#open(version, silence.signal);
      openedAt = performance.now();
      for await (const line of lines(stream, silence.signal, () => silence.heard())) {
        this.#heard();
        this.#apply(line);
        events++;
        this.#wellAgain();
      }
    } catch (error) {
      if (signal.aborted || error instanceof ExpiredError || error instanceof UnavailableError) throw error;
      // It was well, though nothing happened meanwhile: the next one need not wait.
      if (!silence.silent && performance.now() - openedAt > STEADY_MS) this.#wellAgain();
      const why = silence.silent ? `silent for ${this.#silenceMs / 1000} s` : errorMessage(error);
      throw new UnavailableError(`The watch of ${this.#options.kind} broke off: ${why}`, { cause: error });
    }
    // Something in between may close each stream at once.
    if (events === 0 && performance.now() - startedAt < 500) {
      throw new UnavailableError(`The watch of ${this.#options.kind} ended at once`);
    }
    this.#wellAgain();
  }

  async #open(version: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const { client, path, labelSelector, kind } = this.#options;
    const leftMs = this.#relistMs - (performance.now() - this.#listedAt);
    // Not the same for all, so that they do not all come back in one moment.
    const timeoutSeconds = Math.max(1, Math.ceil(Math.min(240 + Math.random() * 60, leftMs / 1000)));
    const query = new URLSearchParams({
      labelSelector,
      watch: "true",
      allowWatchBookmarks: "true",
      resourceVersion: version,
      timeoutSeconds: String(timeoutSeconds),
    });
    const begun = await client.stream(`${path}?${query}`, { signal });
    if ("stream" in begun) {
      this.#heard();
      return begun.stream;
    }
    const { answer } = begun;
    if (answer.status === 410) throw new ExpiredError(`The watch of ${kind} begins anew`);
    throw answerError(`watch the ${kind}`, answer);
  }

  #apply(line: Uint8Array): void {
    const { kind } = this.#options;
    let event: WatchEvent<T>;
    try {
      event = parseJson(this.#decoder.decode(line));
      if (typeof event?.object !== "object" || event.object === null) throw new TypeError("it is no event");
    } catch (error) {
      throw new UnavailableError(`The watch of ${kind} sent something that is not JSON`, { cause: error });
    }
    const { type, object } = event;
    if (type === "ERROR") {
      const words = cut(String(object.message ?? JSON.stringify(object)), LONGEST_WORDS);
      if (object.code === 410) throw new ExpiredError(`The watch of ${kind} begins anew: ${words}`);
      throw new UnavailableError(`The watch of ${kind} failed: ${words}`);
    }
    if (type === "ADDED" || type === "MODIFIED") this.#changed(object);
    else if (type === "DELETED") this.#gone(object.metadata?.name ?? "", object);
    // After it was handed on, so that what fails is sent again.
    this.#version = object.metadata?.resourceVersion ?? this.#version;
  }
}

/** A signal that aborts with the outer one, or when `heard` has not been called for so long. */
class SilenceGuard implements Disposable {
  readonly #scope: Scope;
  readonly #timer: ReturnType<typeof setInterval>;
  #heardAt = performance.now();
  silent = false;

  constructor(silenceMs: number, outer: AbortSignal) {
    this.#scope = new Scope(outer);
    // One timer for all, for setting one at each chunk costs more than the chunk.
    this.#timer = setInterval(() => {
      if (performance.now() - this.#heardAt < silenceMs) return;
      this.silent = true;
      this.#scope.end(new Error("silent"));
    }, Math.max(10, silenceMs / 10));
  }

  get signal(): AbortSignal {
    return this.#scope.signal;
  }

  heard(): void {
    this.#heardAt = performance.now();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    // Ends the stream that the watch is done with.
    this.#scope.end(new Error("done"));
  }
}

/**
 * The whole lines of a stream, each valid until the next one is asked for; what comes after the last newline is cut off
 * and not a line. Throws the signal's reason when that aborts.
 */
async function* lines(
  stream: ReadableStream<Uint8Array>,
  signal: AbortSignal,
  onChunk: () => void,
): AsyncGenerator<Uint8Array> {
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;
  for await (const chunk of viewsOf(stream, signal)) {
    onChunk();
    let start = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      pending.push(chunk.subarray(start, end));
      const line = joinBytes(pending);
      pending = [];
      pendingBytes = 0;
      start = end + 1;
      if (line.length > 0) yield line;
    }
    if (start === chunk.length) continue;
    pending.push(chunk.slice(start));
    pendingBytes += chunk.length - start;
    if (pendingBytes > MAX_LINE_BYTES) throw new Error(`a line of it is longer than ${MAX_LINE_BYTES} bytes`);
  }
}
