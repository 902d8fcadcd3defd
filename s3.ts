/**
 * S3Store: the ObjectStore port over any S3-compatible server (AWS, Ceph RGW, MinIO). Owns requests; a stream is put by
 * s3/multipart.ts. Credentials come from the AWS SDK's usual chain and are never held or shown here.
 * Must not ask for more than plain S3: no multi-delete (Ceph wants a Content-MD5), no checksums that servers may lack.
 */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
} from "@aws-sdk/client-s3";
import {
  MAX_GET_BYTES,
  type ObjectInfo,
  type ObjectPart,
  type ObjectStore,
  RefusedError,
  type StoredObject,
  UnavailableError,
} from "./ports.ts";
import { S3Connection, type S3ServerOptions } from "./s3/client.ts";
import { explain, isAbsent, isRefusal, statusOf } from "./s3/errors.ts";
import { putStream } from "./s3/multipart.ts";
import { byteStream, emptyStream, SourceFailed, unlessAborted } from "./s3/streams.ts";
import { Scope } from "./util/abort.ts";
import { compact } from "./util/compact.ts";
import { keyFault, prefixFault, shownKey } from "./util/object_key.ts";
import { Semaphore } from "./util/semaphore.ts";
import { bytesAt, readAtMost, TooManyBytes } from "./util/streams.ts";

export interface S3Options extends S3ServerOptions {
  /** `s3://bucket/prefix`: the root of all keys. */
  readonly url: string;
}

const CONFLICT_TRIES = 5;
const LONGEST_LINK_SECONDS = 7 * 24 * 3600;
/**
 * Calls at once; the rest of the connections is for uploads and for streams that are read slowly. The SDK has no such
 * bound: it counts the wait for a free connection as time in which the server did not answer.
 */
const CALLS_AT_ONCE = 48;
/** Begins the ETag of an object to which the server gave none. */
const OWN_ETAG = '"sha256-';

/** Objects below one prefix of a bucket. Nothing is asked of the server before the first call. */
export class S3Store implements ObjectStore {
  readonly url: string;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #connection: S3Connection;
  readonly #turns = new Semaphore(CALLS_AT_ONCE);
  readonly #callTimeoutMs: number;

  constructor(options: S3Options) {
    const match = /^s3:\/\/([\w.:-]+)(?:\/(.*?))?\/*$/.exec(options.url);
    const fault = !match ? "expected s3://bucket/prefix" : match[2] ? keyFault(match[2]) : undefined;
    if (!match || fault !== undefined) {
      throw new TypeError(`Invalid store URL "${shownKey(options.url)}": ${fault}`);
    }
    this.#bucket = match[1]!;
    this.#prefix = match[2] ? `${match[2]}/` : "";
    this.url = `s3://${this.#bucket}${match[2] ? `/${match[2]}` : ""}`;
    this.#connection = new S3Connection(options);
    this.#callTimeoutMs = options.callTimeoutMs ?? 5 * 60_000;
  }

  async get(
    key: string,
    { ifNoneMatch, maxBytes = MAX_GET_BYTES, signal }: {
      ifNoneMatch?: string;
      maxBytes?: number;
      signal?: AbortSignal;
    } = {},
  ): Promise<StoredObject | "unchanged" | undefined> {
    const at = this.#at("read", key);
    const theirs = ifNoneMatch?.startsWith(OWN_ETAG) ? undefined : ifNoneMatch;
    try {
      const command = new GetObjectCommand({ ...at, ...(theirs ? { IfNoneMatch: theirs } : {}) });
      return await this.#call(signal, async (client, options) => {
        const answer = await client.send(command, options);
        const body = await wholeOf(answer, maxBytes, options.abortSignal);
        const { LastModified: modifiedAt, ETag: etag = etagOf(body) } = answer;
        // Also of servers that know no If-None-Match, or no ETag: versitygw has none for a file that was copied in.
        if (etag === ifNoneMatch) return "unchanged";
        return { body, etag, ...(modifiedAt ? { modifiedAt } : {}) };
      });
    } catch (error) {
      // The SDK takes 304 for an error, with the name "304" or none.
      if (statusOf(error) === 304) return "unchanged";
      if (isAbsent(error)) return undefined;
      throw this.#explain(error, "read", key, signal);
    }
  }

  async read(
    key: string,
    { tail, signal }: { tail?: number; signal?: AbortSignal } = {},
  ): Promise<ReadableStream<Uint8Array> | undefined> {
    const at = this.#at("read", key);
    try {
      if (tail !== undefined) return await this.#readTail(at, tail, signal);
      const answer = await this.#get(at, signal);
      return answer.Body ? streamOf(answer) : emptyStream();
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw this.#explain(error, "read", key, signal);
    }
  }

  async readPart(
    key: string,
    { from, length, signal }: { from: number; length: number; signal?: AbortSignal },
  ): Promise<ObjectPart | undefined> {
    const at = this.#at("read", key);
    try {
      const command = new GetObjectCommand({ ...at, Range: `bytes=${from}-${from + length - 1}` });
      try {
        return await this.#call(signal, async (client, options) => {
          const answer = await client.send(command, options);
          return await partOf(answer, { from, length }, options.abortSignal);
        });
      } catch (error) {
        // It ends before that.
        if (statusOf(error) !== 416) throw error;
        return { bytes: new Uint8Array(), size: await this.#sizeOf(at, signal) };
      }
    } catch (error) {
      if (isAbsent(error)) return undefined;
      throw this.#explain(error, "read", key, signal);
    }
  }

  /** By a GET of one byte: the answer to a HEAD has no words, and 404 also stands for a bucket that is missing. */
  async exists(key: string, { signal }: { signal?: AbortSignal } = {}): Promise<boolean> {
    const command = new GetObjectCommand({ ...this.#at("look up", key), Range: "bytes=0-0" });
    try {
      const answer = await this.#call(signal, (client, options) => client.send(command, options));
      // A server without ranges sends the whole, which nobody wants.
      if (answer.Body) await wholeOf(answer, 1, signal).catch(() => {});
      return true;
    } catch (error) {
      // It is empty, or lies in an archive.
      if (statusOf(error) === 416 || (error as Error).name === "InvalidObjectState") return true;
      if (isAbsent(error)) return false;
      throw this.#explain(error, "look up", key, signal);
    }
  }

  async put(
    key: string,
    body: string | Uint8Array | AsyncIterable<Uint8Array>,
    { contentType, signal }: { contentType?: string; signal?: AbortSignal } = {},
  ): Promise<void> {
    signal?.throwIfAborted();
    const params = { ...this.#at("write", key), ...(contentType ? { ContentType: contentType } : {}) };
    try {
      if (typeof body === "string") return await this.#putWhole(params, Buffer.from(body), signal);
      if (body instanceof Uint8Array) return await this.#putWhole(params, body, signal);
      await putStream((until, call) => this.#call(until, call), params, unlessAborted(body, signal), {
        putWhole: (bytes) => this.#putWhole(params, bytes, signal),
        signal,
      });
    } catch (error) {
      throw this.#explain(error, "write", key, signal);
    }
  }

  async putIfAbsent(
    key: string,
    body: string | Uint8Array,
    { contentType, signal }: { contentType?: string; signal?: AbortSignal } = {},
  ): Promise<boolean> {
    signal?.throwIfAborted();
    const params = { ...this.#at("write", key), ...(contentType ? { ContentType: contentType } : {}) };
    const bytes = typeof body === "string" ? Buffer.from(body) : body;
    // A server that does not know the condition leaves it out, and would replace what is there.
    if (await this.exists(key, compact({ signal }))) return false;
    try {
      for (let tries = 1;; tries++) {
        try {
          await this.#putWhole({ ...params, IfNoneMatch: "*" }, bytes, signal);
          return true;
        } catch (error) {
          const status = statusOf(error);
          if (status === 412) return false;
          if (status === 501) break;
          // Another write of the key is under way (ConditionalRequestConflict): S3 asks to try again.
          if (status !== 409 || tries === CONFLICT_TRIES) throw error;
        }
      }
      await this.#putWhole(params, bytes, signal);
      return true;
    } catch (error) {
      throw this.#explain(error, "write", key, signal);
    }
  }

  async delete(key: string, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    const command = new DeleteObjectCommand(this.#at("delete", key));
    try {
      await this.#call(signal, (client, options) => client.send(command, options));
    } catch (error) {
      if (isAbsent(error)) return;
      throw this.#explain(error, "delete", key, signal);
    }
  }

  async *list(
    prefix: string,
    { after, signal }: { after?: string; signal?: AbortSignal } = {},
  ): AsyncIterable<ObjectInfo> {
    const fault = prefixFault(this.#prefix + prefix);
    if (fault !== undefined) throw this.#refuse("list", prefix, fault);
    let from = after === undefined ? undefined : this.#prefix + after;
    let first: string | undefined;
    while (true) {
      const { Contents: objects = [], IsTruncated: goesOn } = await this.#page(prefix, from, signal);
      // What begins as the page before it did comes from a server that does not know how to go on: it would for ever.
      if (first !== undefined && objects[0]?.Key === first) {
        throw new UnavailableError(`Cannot list ${this.url}/${shownKey(prefix)}: the server repeats its first page`);
      }
      first = objects[0]?.Key;
      for (const { Key, Size = 0, LastModified = new Date(0) } of objects) {
        if (Key === undefined) continue;
        from = Key;
        // Folders of S3 browsers, and what nobody could read by its key.
        if (!Key.startsWith(this.#prefix + prefix) || keyFault(Key) !== undefined) continue;
        yield { key: Key.slice(this.#prefix.length), size: Size, modifiedAt: LastModified };
      }
      if (!goesOn || objects.length === 0) return;
    }
  }

  async link(key: string, { expiresSeconds }: { expiresSeconds: number }): Promise<string> {
    const command = new GetObjectCommand(this.#at("make a link to", key));
    try {
      const { getSignedUrl } = await import("@aws-sdk/s3-request-presigner");
      const expiresIn = Math.min(expiresSeconds, LONGEST_LINK_SECONDS);
      return await getSignedUrl(await this.#connection.client(), command, { expiresIn });
    } catch (error) {
      throw this.#explain(error, "make a link to", key);
    }
  }

  /** Throws RefusedError for a key that no store may have. */
  #at(verb: string, key: string): { Bucket: string; Key: string } {
    const fault = key === "" ? "it is empty" : keyFault(this.#prefix + key);
    if (fault !== undefined) throw this.#refuse(verb, key, fault);
    return { Bucket: this.#bucket, Key: this.#prefix + key };
  }

  #refuse(verb: string, key: string, fault: string): RefusedError {
    return new RefusedError(`Cannot ${verb} "${shownKey(key)}" in ${this.url}: the key cannot be used, for ${fault}`);
  }

  #get(params: { Bucket: string; Key: string; Range?: string }, signal: AbortSignal | undefined) {
    const command = new GetObjectCommand(params);
    return this.#call(signal, (client, options) => client.send(command, options));
  }

  /**
   * By a suffix range; where the answer is not that suffix, by one that counts from the start. rclone 1.75 sends nothing
   * of an object with fewer bytes, s3rver 3.7 takes `-3` for `0-3`.
   */
  async #readTail(
    at: { Bucket: string; Key: string },
    tail: number,
    signal: AbortSignal | undefined,
  ): Promise<ReadableStream<Uint8Array>> {
    try {
      const answer = await this.#get({ ...at, Range: `bytes=-${tail}` }, signal);
      if (answer.Body && isTail(answer, tail)) return streamOf(answer);
      (answer.Body as Readable | undefined)?.destroy();
    } catch (error) {
      // An empty object has no last bytes.
      if (statusOf(error) !== 416) throw error;
    }
    const size = await this.#sizeOf(at, signal);
    if (size === 0) return emptyStream();
    return streamOf(await this.#get(size > tail ? { ...at, Range: `bytes=${size - tail}-` } : at, signal));
  }

  async #sizeOf(at: { Bucket: string; Key: string }, signal: AbortSignal | undefined): Promise<number> {
    const head = new HeadObjectCommand(at);
    const { ContentLength: size = 0 } = await this.#call(signal, (client, options) => client.send(head, options));
    return size;
  }

  async #page(prefix: string, from: string | undefined, signal: AbortSignal | undefined) {
    try {
      const after = from === undefined ? {} : { StartAfter: from };
      const command = new ListObjectsV2Command({ Bucket: this.#bucket, Prefix: this.#prefix + prefix, ...after });
      const page = await this.#call(signal, (client, options) => client.send(command, options));
      // An XML of something else, such as a web page, would be an empty list.
      if (page.Name === undefined && page.KeyCount === undefined) throw new Error("Deserialization error: no list");
      return page;
    } catch (error) {
      throw this.#explain(error, "list", prefix, signal);
    }
  }

  async #putWhole(
    params: { Bucket: string; Key: string; IfNoneMatch?: string },
    body: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const command = new PutObjectCommand({ ...params, Body: body });
    await this.#call(signal, (client, options) => client.send(command, options));
  }

  /** Makes one call when it is its turn; once more if it was refused and there are other credentials by now. */
  async #call<T>(
    signal: AbortSignal | undefined,
    call: (client: S3Client, options: { abortSignal: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    const client = await this.#connection.client();
    return await this.#turns.take(async () => {
      try {
        return await this.#timed(signal, (abortSignal) => call(client, { abortSignal }));
      } catch (error) {
        if (!isRefusal(error) || !await this.#connection.renew(client)) throw error;
        const other = await this.#connection.client();
        return await this.#timed(signal, (abortSignal) => call(other, { abortSignal }));
      }
    }, signal);
  }

  /**
   * Runs `work` with a signal of its own, for the SDK listens to it itself, which also aborts when the call has lasted too
   * long: a server that sends a byte now and then never is silent for long.
   */
  async #timed<T>(outer: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const scope = new Scope(outer);
    // Made only then: the stack that it takes costs more than the rest of this.
    let late: DOMException | undefined;
    const timer = setTimeout(() => {
      scope.end(late = new DOMException("The call took too long", "TimeoutError"));
    }, this.#callTimeoutMs);
    try {
      return await work(scope.signal);
    } catch (error) {
      throw late !== undefined && scope.signal.reason === late ? late : error;
    } finally {
      clearTimeout(timer);
      scope.leave();
    }
  }

  #explain(error: unknown, verb: string, key: string, signal?: AbortSignal): unknown {
    if (signal?.aborted) return signal.reason;
    if (error instanceof SourceFailed) return error.cause;
    if (error instanceof RefusedError || error instanceof UnavailableError) return error;
    const { endpoint, proxy } = this.#connection;
    const what = `Cannot ${verb} ${this.url}/${shownKey(key)}`;
    return explain(error, what, { bucket: this.#bucket, endpoint, proxy });
  }
}

function streamOf(answer: GetObjectCommandOutput): ReadableStream<Uint8Array> {
  return byteStream(answer.Body as Readable);
}

/**
 * What was asked for out of an answer. A server without ranges sends the whole: of that no more is read than up to the end
 * of the part. Throws UnavailableError for another part.
 */
async function partOf(
  answer: GetObjectCommandOutput,
  { from, length }: { from: number; length: number },
  signal: AbortSignal,
): Promise<ObjectPart> {
  const { ContentRange: range, ContentLength = 0 } = answer;
  const [first, size] = /^bytes (\d+)-\d+\/(\d+)$/.exec(range ?? "")?.slice(1).map(Number) ?? [];
  if (range !== undefined && first !== from) {
    (answer.Body as Readable | undefined)?.destroy();
    throw new UnavailableError(`the server answers with other bytes than it was asked for: ${shownKey(range)}`);
  }
  const skip = range === undefined ? from : 0;
  const bytes = answer.Body ? await bytesAt(streamOf(answer), { skip, length }, signal) : new Uint8Array();
  return { bytes, size: size ?? ContentLength };
}

/** Whether these are the last bytes of the object, as many as were asked for or all that there are. */
function isTail({ ContentRange, ContentLength }: GetObjectCommandOutput, tail: number): boolean {
  const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(ContentRange ?? "")?.slice(1).map(Number);
  if (!range) return ContentLength !== undefined && ContentLength > 0 && ContentLength <= tail;
  const [first, last, size] = range as [number, number, number];
  return last === size - 1 && first === Math.max(0, size - tail) && ContentLength === last - first + 1;
}

/** The body; throws TooManyBytes, before it is read where the head tells. */
async function wholeOf(answer: GetObjectCommandOutput, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
  if (!answer.Body) return new Uint8Array();
  if ((answer.ContentLength ?? 0) <= maxBytes) return await readAtMost(streamOf(answer), maxBytes, signal);
  // Not read on: that ends the connection, too.
  (answer.Body as unknown as Readable).destroy();
  throw new TooManyBytes(maxBytes);
}

function etagOf(body: Uint8Array): string {
  return `${OWN_ETAG}${createHash("sha256").update(body).digest("hex").slice(0, 32)}"`;
}
