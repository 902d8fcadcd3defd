/**
 * S3Store: the ObjectStore port over any S3-compatible server (AWS, Ceph RGW, MinIO). Owns requests, multipart uploads
 * and what went wrong in plain words. Credentials come from the AWS SDK's usual chain and are never held or shown here.
 * Must not ask for more than plain S3: no multi-delete (Ceph wants a Content-MD5), no checksums that servers may lack.
 */
import { Buffer } from "node:buffer";
import { Readable } from "node:stream";
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  type S3ClientConfig,
} from "@aws-sdk/client-s3";
import { type ObjectInfo, type ObjectStore, RefusedError, type StoredObject, UnavailableError } from "./ports.ts";
import { onAbort, Scope } from "./util/abort.ts";
import { Semaphore } from "./util/semaphore.ts";

export interface S3Options {
  /** `s3://bucket/prefix`: the root of all keys. */
  readonly url: string;
  /** Server other than AWS. Default: AWS_ENDPOINT_URL or the profile's. */
  readonly endpoint?: string;
  /** Default: AWS_REGION or the profile's, else us-east-1. */
  readonly region?: string;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. Default: true where `endpoint` is given. */
  readonly forcePathStyle?: boolean;
  /** Profile of the AWS files. Default: AWS_PROFILE. */
  readonly profile?: string;
  /** To open a connection. Default 5,000. */
  readonly connectTimeoutMs?: number;
  /** From the request to the head of the answer, and between two bytes. Default 60,000. */
  readonly requestTimeoutMs?: number;
  /** Tries of one call, network faults and 5xx being tried again. Default 3. */
  readonly attempts?: number;
}

/** A stream below this goes by one PutObject; above, it is also the size of the parts (S3 allows 10,000 of them). */
const PART_BYTES = 8 * 1024 * 1024;
const LONGEST_LINK_SECONDS = 7 * 24 * 3600;
const CONNECTIONS = 64;
/**
 * Calls at once; the rest of the connections is for uploads and for streams that are read slowly. The SDK has no such
 * bound: it counts the wait for a free connection as time in which the server did not answer.
 */
const CALLS_AT_ONCE = 48;

/** Objects below one prefix of a bucket. Nothing is asked of the server before the first call. */
export class S3Store implements ObjectStore {
  readonly url: string;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #options: S3Options;
  readonly #turns = new Semaphore(CALLS_AT_ONCE);
  #client: Promise<S3Client> | undefined;

  constructor(options: S3Options) {
    const match = /^s3:\/\/([^/]+)(?:\/(.*?))?\/*$/.exec(options.url);
    if (!match) throw new TypeError(`Invalid store URL "${options.url}": expected s3://bucket/prefix`);
    this.#bucket = match[1]!;
    this.#prefix = match[2] ? `${match[2]}/` : "";
    this.url = `s3://${this.#bucket}${match[2] ? `/${match[2]}` : ""}`;
    this.#options = options;
  }

  async get(
    key: string,
    { ifNoneMatch, signal }: { ifNoneMatch?: string; signal?: AbortSignal } = {},
  ): Promise<StoredObject | "unchanged" | undefined> {
    try {
      const command = new GetObjectCommand({ ...this.#at(key), IfNoneMatch: ifNoneMatch });
      const answer = await this.#call(signal, (client, options) => client.send(command, options));
      const body = await answer.Body?.transformToByteArray() ?? new Uint8Array();
      const { ETag: etag = "", LastModified: modifiedAt } = answer;
      return { body, etag, ...(modifiedAt ? { modifiedAt } : {}) };
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
    try {
      const range = tail === undefined ? {} : { Range: `bytes=-${tail}` };
      const command = new GetObjectCommand({ ...this.#at(key), ...range });
      const answer = await this.#call(signal, (client, options) => client.send(command, options));
      return answer.Body?.transformToWebStream() as ReadableStream<Uint8Array> | undefined ?? emptyStream();
    } catch (error) {
      // An empty object has no last bytes.
      if (statusOf(error) === 416) return emptyStream();
      if (isAbsent(error)) return undefined;
      throw this.#explain(error, "read", key, signal);
    }
  }

  async exists(key: string, { signal }: { signal?: AbortSignal } = {}): Promise<boolean> {
    try {
      const command = new HeadObjectCommand(this.#at(key));
      await this.#call(signal, (client, options) => client.send(command, options));
      return true;
    } catch (error) {
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
    const params = { ...this.#at(key), ...(contentType ? { ContentType: contentType } : {}) };
    try {
      if (typeof body === "string") return await this.#putWhole(params, Buffer.from(body), signal);
      if (body instanceof Uint8Array) return await this.#putWhole(params, body, signal);
      const { start, rest } = await firstPart(unlessAborted(body, signal));
      if (!rest) return await this.#putWhole(params, start, signal);
      await this.#putParts(params, chain(start, rest));
    } catch (error) {
      throw this.#explain(error, "write", key, signal);
    }
  }

  async delete(key: string, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    try {
      const command = new DeleteObjectCommand(this.#at(key));
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
    let from = after === undefined ? undefined : this.#prefix + after;
    while (true) {
      const page = await this.#page(prefix, from, signal);
      for (const { Key, Size = 0, LastModified = new Date(0) } of page.Contents ?? []) {
        if (Key === undefined) continue;
        yield { key: Key.slice(this.#prefix.length), size: Size, modifiedAt: LastModified };
        from = Key;
      }
      if (!page.IsTruncated || (page.Contents ?? []).length === 0) return;
    }
  }

  async link(key: string, { expiresSeconds }: { expiresSeconds: number }): Promise<string> {
    try {
      const { getSignedUrl } = await import("@aws-sdk/s3-request-presigner");
      const expiresIn = Math.min(expiresSeconds, LONGEST_LINK_SECONDS);
      return await getSignedUrl(await this.#connect(), new GetObjectCommand(this.#at(key)), { expiresIn });
    } catch (error) {
      throw this.#explain(error, "make a link to", key);
    }
  }

  #at(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#bucket, Key: this.#prefix + key };
  }

  async #page(prefix: string, from: string | undefined, signal: AbortSignal | undefined) {
    try {
      const after = from === undefined ? {} : { StartAfter: from };
      const command = new ListObjectsV2Command({ Bucket: this.#bucket, Prefix: this.#prefix + prefix, ...after });
      return await this.#call(signal, (client, options) => client.send(command, options));
    } catch (error) {
      throw this.#explain(error, "list", prefix, signal);
    }
  }

  async #putWhole(
    params: { Bucket: string; Key: string },
    body: Uint8Array,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const command = new PutObjectCommand({ ...params, Body: body });
    await this.#call(signal, (client, options) => client.send(command, options));
  }

  /** Multipart upload, a part at a time, so that memory stays flat; aborted on failure, so that nothing is to be seen. */
  async #putParts(params: { Bucket: string; Key: string }, body: AsyncIterable<Uint8Array>): Promise<void> {
    const client = await this.#connect();
    const { Upload } = await import("@aws-sdk/lib-storage");
    await new Upload({
      client,
      params: { ...params, Body: Readable.from(body, { objectMode: false }) },
      partSize: PART_BYTES,
      queueSize: 1,
      leavePartsOnError: false,
    }).done();
  }

  /** Makes one call when it is its turn. */
  async #call<T>(
    signal: AbortSignal | undefined,
    call: (client: S3Client, options: { abortSignal: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    const client = await this.#connect();
    return await this.#turns.take(async () => {
      // A signal of the call's own, for the SDK listens to it itself. It ends with the head of the answer.
      const scope = new Scope(signal);
      return await call(client, { abortSignal: scope.signal }).finally(() => scope.leave());
    }, signal);
  }

  /** One client for all calls, with kept-alive connections. */
  #connect(): Promise<S3Client> {
    return this.#client ??= this.#makeClient();
  }

  async #makeClient(): Promise<S3Client> {
    const { endpoint, region, profile, forcePathStyle = endpoint !== undefined, attempts = 3 } = this.#options;
    const { connectTimeoutMs = 5_000, requestTimeoutMs = 60_000 } = this.#options;
    const config: S3ClientConfig = {
      ...(endpoint ? { endpoint } : {}),
      ...(region ? { region } : {}),
      ...(profile ? { profile } : {}),
      forcePathStyle,
      maxAttempts: attempts,
      // Ceph and older servers know nothing of the trailing checksums that the SDK sends by default.
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
      requestHandler: {
        connectionTimeout: connectTimeoutMs,
        requestTimeout: requestTimeoutMs,
        throwOnRequestTimeout: true,
        socketTimeout: requestTimeoutMs,
        httpAgent: { keepAlive: true, maxSockets: CONNECTIONS },
        httpsAgent: { keepAlive: true, maxSockets: CONNECTIONS },
      },
    };
    const client = new S3Client(config);
    // Servers other than AWS take any region, but a request cannot be signed without one.
    const known = await client.config.region().catch(() => undefined);
    return known === undefined ? new S3Client({ ...config, region: "us-east-1" }) : client;
  }

  #explain(error: unknown, verb: string, key: string, signal?: AbortSignal): unknown {
    if (signal?.aborted) return signal.reason;
    if (error instanceof SourceFailed) return error.cause;
    if (error instanceof RefusedError || error instanceof UnavailableError) return error;
    const what = `Cannot ${verb} ${this.url}/${key}`;
    return explain(error, what, this.#bucket, this.#options.endpoint);
  }
}

// ---------------------------------------------------------------- streams

/** What comes up to PART_BYTES, and the rest if there is more. */
async function firstPart(
  body: AsyncIterator<Uint8Array>,
): Promise<{ start: Uint8Array; rest: AsyncIterator<Uint8Array> | undefined }> {
  const chunks: Uint8Array[] = [];
  for (let size = 0; size < PART_BYTES;) {
    const { done, value } = await body.next();
    if (done) return { start: Buffer.concat(chunks), rest: undefined };
    chunks.push(value);
    size += value.length;
  }
  return { start: Buffer.concat(chunks), rest: body };
}

async function* chain(start: Uint8Array, rest: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield start;
    for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

/** The caller's own stream failed: not the server's fault. */
class SourceFailed extends Error {}

/** Throws `signal.reason` even while the source keeps one waiting, so that an upload is aborted at once. */
async function* unlessAborted(
  body: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  // A promise for each chunk, no race with one that lives as long as the stream: that would hold on to every chunk.
  let giveUp: (reason: unknown) => void = () => {};
  const leave = onAbort(signal, () => giveUp(signal?.reason));
  const source = body[Symbol.asyncIterator]();
  let open = true;
  try {
    while (true) {
      signal?.throwIfAborted();
      const next = await new Promise<IteratorResult<Uint8Array>>((resolve, reject) => {
        giveUp = reject;
        source.next().then(resolve, (cause) => {
          open = false;
          reject(new SourceFailed("The stream to be stored failed", { cause }));
        });
      });
      if (next.done) open = false;
      if (next.done) return;
      yield next.value;
    }
  } finally {
    leave();
    // Not awaited: a source that waits for its next chunk ends only when that has come.
    if (open) source.return?.().catch(() => {});
  }
}

function emptyStream(): ReadableStream<Uint8Array> {
  return new ReadableStream({ start: (controller) => controller.close() });
}

// ---------------------------------------------------------------- errors

interface SdkError extends Error {
  readonly code?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
}

function statusOf(error: unknown): number | undefined {
  return (error as SdkError | undefined)?.$metadata?.httpStatusCode;
}

/** The object is not there. Not by the status 404, which also stands for a missing bucket or an unknown access key. */
function isAbsent(error: unknown): boolean {
  const { name } = error as SdkError;
  return name === "NoSuchKey" || name === "NotFound";
}

/** What an error of the SDK means and which variable to look at; its own words are kept. */
function explain(error: unknown, what: string, bucket: string, endpoint: string | undefined): Error {
  const { name = "Error", message = "", code = "" } = (error ?? {}) as SdkError;
  const status = statusOf(error);
  const where = endpoint ?? "the S3 server";
  const refused = (why: string) => new RefusedError(`${what}: ${why}`, { cause: error });
  const unavailable = (why: string) => new UnavailableError(`${what}: ${why}`, { cause: error });
  switch (name) {
    case "NoSuchBucket":
      return refused(`there is no bucket "${bucket}" at ${where}. Check the URL's bucket and AWS_ENDPOINT_URL`);
    case "InvalidAccessKeyId":
    case "XAdminUserNotFound": // versitygw's word for it
    case "SignatureDoesNotMatch":
      return refused(
        `${where} does not accept the credentials (${name}). ` +
          `Check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY`,
      );
    case "ExpiredToken":
    case "ExpiredTokenException":
    case "TokenRefreshRequired":
      return unavailable("the credentials have expired. Renew them, or check AWS_SESSION_TOKEN");
    case "RequestTimeTooSkewed":
      return unavailable(`the clocks of this machine and of ${where} differ too much. Set this machine's clock`);
    case "CredentialsProviderError":
      return refused(`no credentials found. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY`);
    case "NotCapable": // Deno's permissions, in its own words
      return refused(message);
    case "TimeoutError":
      return unavailable(`${where} did not answer in time. Check AWS_ENDPOINT_URL and the network`);
  }
  if (code === "ECONNREFUSED") {
    return unavailable(`connection to ${where} refused. Check that the store runs, and AWS_ENDPOINT_URL`);
  }
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") {
    return unavailable(`the host name of ${where} is not known. Check AWS_ENDPOINT_URL`);
  }
  if (status === 301 || status === 307 || name === "AuthorizationHeaderMalformed") {
    return refused(`bucket "${bucket}" belongs to another region. Check AWS_REGION and AWS_ENDPOINT_URL`);
  }
  if (status === 403 || status === 401) {
    return refused(
      `access denied by ${where} (${message || name}). ` +
        `Check that the credentials of AWS_PROFILE or AWS_ACCESS_KEY_ID may do this in bucket "${bucket}"`,
    );
  }
  if (status === undefined || status >= 500 || status === 408 || status === 429) {
    return unavailable(`${where} cannot do it now (${status ? `${status} ` : ""}${message || name})`);
  }
  return refused(`${where} refused (${status} ${message || name})`);
}
