/**
 * The log of a run: whole, as a stream for `/runs/{run}/log`, and its last part for the run's page.
 * Must not know where logs come from.
 */
import type { Scope } from "../util/abort.ts";
import { chunksOf, joinBytes } from "../util/streams.ts";
import type { StatusView } from "./view.ts";

/** What a page shows of a log. */
export interface LogTail {
  readonly text: string;
  /** `whole`: all of it. `end`: its last part. `part`: reading it took too long, so there may be more after it. */
  readonly extent: "whole" | "end" | "part";
}

/** Bytes of a log on a run's page. */
const MAX_TAIL_BYTES = 64 * 1024;

/** The log's last part, as far as it came until `signal` aborted; undefined: there is no log. */
export async function logTail(view: StatusView, runName: string, signal: AbortSignal): Promise<LogTail | undefined> {
  // One byte more tells whether there is more.
  const log = await view.log(runName, { follow: false, tailBytes: MAX_TAIL_BYTES + 1, signal });
  return log && await readTail(log, MAX_TAIL_BYTES, signal);
}

/** The last `maxBytes` of a stream, with flat memory. */
export async function readTail(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
  signal: AbortSignal,
): Promise<LogTail> {
  const chunks: Uint8Array[] = [];
  let kept = 0;
  let total = 0;
  try {
    for await (const chunk of chunksOf(stream, signal)) {
      chunks.push(chunk);
      kept += chunk.length;
      total += chunk.length;
      while (chunks[0] && kept - chunks[0].length >= maxBytes) kept -= chunks.shift()?.length ?? 0;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  const bytes = joinBytes(chunks);
  const text = new TextDecoder().decode(bytes.subarray(Math.max(0, bytes.length - maxBytes)));
  const isCut = total > maxBytes;
  return {
    text: isCut ? text.slice(text.indexOf("\n") + 1) : text,
    extent: signal.aborted ? "part" : isCut ? "end" : "whole",
  };
}

/**
 * `log` until it ends or `scope` does. The scope ends when the reader goes away, so that a source which waits for
 * output hears of it.
 */
export function boundToReader(log: ReadableStream<Uint8Array>, scope: Scope): ReadableStream<Uint8Array> {
  const pipe = new TransformStream<Uint8Array, Uint8Array>({
    flush: () => scope.leave(),
    cancel: (reason) => scope.end(reason),
  });
  return log.pipeThrough(pipe, { signal: scope.signal });
}
