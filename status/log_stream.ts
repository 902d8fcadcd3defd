/**
 * The log of a run: whole, as a stream for `/runs/{run}/log`, and its last part for the run's page.
 * Must not know where logs come from.
 */
import type { LogText } from "../logs.ts";
import type { Scope } from "../util/abort.ts";
import { chunksOf, joinBytes } from "../util/streams.ts";
import { type LogWindow, windowBefore } from "./log_window.ts";
import type { StatusView } from "./view.ts";

/** What a page shows of a log. */
export interface LogTail {
  readonly text: string;
  /** `whole`: all of it. `end`: its last part. `part`: reading it took too long, so there may be more after it. */
  readonly extent: "whole" | "end" | "part";
  /** The same as a window of the output, without the head of a stored log; absent where it came as a stream. */
  readonly output?: LogText;
  readonly window?: LogWindow;
}

/** Bytes of a log on a run's page. */
const MAX_TAIL_BYTES = 64 * 1024;

/** The log's last part, as far as it came until `signal` aborted; undefined: there is no log. */
export async function logTail(view: StatusView, runName: string, signal: AbortSignal): Promise<LogTail | undefined> {
  const output = await endingOutput(view, runName, signal);
  // Of a container that is not followed, for there are too many, the cluster itself has to be asked.
  if (output && (output.size > 0 || !output.isLive)) {
    const window = await windowBefore(output, output.size);
    const text = window.lines.map(({ text }) => `${text}\n`).join("");
    return { text, extent: window.from === 0 ? "whole" : "end", output, window };
  }
  // One byte more tells whether there is more.
  const log = await view.log(runName, { follow: false, tailBytes: MAX_TAIL_BYTES + 1, signal });
  return log && await readTail(log, MAX_TAIL_BYTES, signal);
}

/** The output whose end says how the run ended: of several containers that which failed. */
async function endingOutput(view: StatusView, runName: string, signal: AbortSignal): Promise<LogText | undefined> {
  const output = await view.output?.(runName, { signal });
  const failed = output?.part === undefined ? output?.parts.find(({ failure }) => failure !== undefined) : undefined;
  if (!failed || output!.parts.length < 2) return output;
  return await view.output?.(runName, { part: failed.name, signal });
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
