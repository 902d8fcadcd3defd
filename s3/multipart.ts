/**
 * A stream as one object with the memory of one part: a short one by PutObject, a longer one by a multipart upload, which
 * is aborted on any failure, so that nothing of it is to be seen. The parts fill one buffer, one after the other: with one
 * for each, gigabytes of them wait for V8 to collect them. Must not hold on to a chunk of the source.
 */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  type S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { UnavailableError } from "../ports.ts";

/** A stream up to this goes by one PutObject; above, it is also the size of the first parts (S3 asks for 5 MiB). */
const PART_BYTES = 8 * 1024 * 1024;
/** After so many parts they get twice as large: S3 takes 10,000 of them, which are 117 GiB so. */
const PARTS_OF_A_SIZE = 5_000;

/** Makes one call of the SDK, until `signal` aborts. */
export type Call = <T>(
  signal: AbortSignal | undefined,
  call: (client: S3Client, options: { abortSignal: AbortSignal }) => Promise<T>,
) => Promise<T>;

/** The object, and what it is. */
export interface Target {
  readonly Bucket: string;
  readonly Key: string;
  readonly ContentType?: string;
}

/** Puts what `body` yields; each chunk of it is copied before the next one is asked for. `putWhole`: of a short one. */
export async function putStream(
  call: Call,
  target: Target,
  body: AsyncIterable<Uint8Array>,
  { putWhole, signal }: { putWhole: (bytes: Uint8Array) => Promise<void>; signal: AbortSignal | undefined },
): Promise<void> {
  let upload: Upload | undefined;
  try {
    for await (const { bytes, isLast } of partsOf(body)) {
      if (isLast && !upload) return await putWhole(bytes);
      upload ??= await Upload.begin(call, target);
      await upload.put(bytes, signal);
    }
    await upload!.complete();
  } catch (error) {
    // What went wrong first is told, also where the upload cannot be aborted either.
    await upload?.abort().catch(() => {});
    throw error;
  }
}

/** In one buffer: `bytes` are valid until the next part is asked for. The last one may be full, or empty if it is alone. */
export async function* partsOf(
  body: AsyncIterable<Uint8Array>,
  sizeOf: (number: number) => number = partBytes,
): AsyncGenerator<{ readonly bytes: Uint8Array; readonly isLast: boolean }> {
  let number = 1;
  let buffer = new Uint8Array(sizeOf(number));
  let used = 0;
  for await (const chunk of body) {
    for (let at = 0; at < chunk.length;) {
      if (used === buffer.length) {
        yield { bytes: buffer, isLast: false };
        used = 0;
        const size = sizeOf(++number);
        if (size !== buffer.length) buffer = new Uint8Array(size);
      }
      const some = chunk.subarray(at, at + buffer.length - used);
      buffer.set(some, used);
      used += some.length;
      at += some.length;
    }
  }
  yield { bytes: buffer.subarray(0, used), isLast: true };
}

/** Of a part by its number, from 1 on. */
function partBytes(number: number): number {
  return PART_BYTES * 2 ** Math.floor((number - 1) / PARTS_OF_A_SIZE);
}

interface Place {
  readonly Bucket: string;
  readonly Key: string;
  readonly UploadId: string;
}

/** One multipart upload under way. */
class Upload {
  readonly #call: Call;
  readonly #place: Place;
  readonly #parts: { PartNumber: number; ETag: string }[] = [];

  private constructor(call: Call, place: Place) {
    this.#call = call;
    this.#place = place;
  }

  /** Not ended by a signal: an upload whose id has not come could not be aborted. */
  static async begin(call: Call, target: Target): Promise<Upload> {
    const command = new CreateMultipartUploadCommand(target);
    const { UploadId } = await call(undefined, (client, options) => client.send(command, options));
    if (!UploadId) throw new UnavailableError("the server began an upload in parts, and gave no id of it");
    return new Upload(call, { Bucket: target.Bucket, Key: target.Key, UploadId });
  }

  /** `bytes` may be changed when it has returned, not when it has failed: the request may still be under way. */
  async put(bytes: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const PartNumber = this.#parts.length + 1;
    const command = new UploadPartCommand({ ...this.#place, PartNumber, Body: bytes });
    const { ETag } = await this.#call(signal, (client, options) => client.send(command, options));
    if (!ETag) throw new UnavailableError(`the server gave no ETag of part ${PartNumber}, without which none is kept`);
    this.#parts.push({ PartNumber, ETag });
  }

  /** Not ended by a signal: nobody would know whether the object is there. */
  async complete(): Promise<void> {
    const command = new CompleteMultipartUploadCommand({ ...this.#place, MultipartUpload: { Parts: this.#parts } });
    await this.#call(undefined, (client, options) => client.send(command, options));
  }

  async abort(): Promise<void> {
    const command = new AbortMultipartUploadCommand(this.#place);
    await this.#call(undefined, (client, options) => client.send(command, options));
  }
}
