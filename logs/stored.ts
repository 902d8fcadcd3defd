/**
 * Logs in the store at random access: their head, their parts and where their lines are. Owns the shape of
 * `.lines/{run name}.json`, what the service writes beside a log that is large or of several containers. A log without
 * it, of a former version, can be read as well; if it is large, its lines have no numbers.
 */
import type { ObjectStore } from "../ports.ts";
import { compact } from "../util/compact.ts";
import { parseJson } from "../util/json.ts";
import { breaksIn, LineCounter, type LineCounts, LineMap } from "./line_map.ts";
import type { LogPart, LogText } from "./text.ts";

/** A log up to this size is read whole where it has no index. */
const SMALL_BYTES = 1024 * 1024;
/** A head is looked for so far. */
const HEAD_BYTES = 64 * 1024;
const MOST_INDEX_BYTES = 2 * 1024 * 1024;
/** Containers of a run that are told apart. */
const MOST_PARTS = 500;

/** A container's output in a log. */
interface StoredPart {
  readonly pod: string;
  readonly container: string;
  /** How it failed, in a few words; absent where it did not, or that is not known. */
  readonly failure?: string;
  /** Bytes of the log before it and before its end, and line breaks before it. */
  readonly from: number;
  readonly to: number;
  readonly breaks: number;
}

interface Index extends LineCounts {
  readonly version: 1;
  /** Of the log: an index of another one is none. */
  readonly size: number;
  readonly head_bytes: number;
  readonly head_breaks: number;
  readonly parts: readonly StoredPart[];
}

/** Key of the index of a run's log. */
export function indexKeyOf(runName: string): string {
  return `.lines/${runName}.json`;
}

/** Makes the index of a log while it goes by. */
export class LogIndexer {
  readonly #counter = new LineCounter();
  readonly #parts: StoredPart[] = [];
  #head = { bytes: 0, breaks: 0 };
  #open: Omit<StoredPart, "to"> | undefined;

  /** Counts it. Returns `text`. */
  pass(text: Uint8Array): Uint8Array {
    this.#counter.push(text);
    return text;
  }

  /** What went by so far is the head. */
  endHead(): void {
    this.#head = { bytes: this.#counter.bytes, breaks: this.#counter.total };
  }

  beginPart(part: Pick<StoredPart, "pod" | "container" | "failure">): void {
    this.#open = { ...part, from: this.#counter.bytes, breaks: this.#counter.total };
  }

  endPart(): void {
    if (this.#open && this.#parts.length < MOST_PARTS) this.#parts.push({ ...this.#open, to: this.#counter.bytes });
    this.#open = undefined;
  }

  /** As JSON; undefined: the log is small and of one container, and can be read without. */
  index(): string | undefined {
    const { bytes, step, breaks } = this.#counter;
    if (bytes <= SMALL_BYTES && this.#parts.length < 2) return undefined;
    const index: Index = {
      version: 1,
      size: bytes,
      head_bytes: this.#head.bytes,
      head_breaks: this.#head.breaks,
      step,
      parts: this.#parts,
      breaks,
    };
    return JSON.stringify(index);
  }
}

/** The log of a run that ended, or that part of it; undefined: there is none in the store. Errors as of ObjectStore. */
export async function openStored(
  store: ObjectStore,
  runName: string,
  { part: partName, signal }: { part?: string | undefined; signal: AbortSignal },
): Promise<LogText | undefined> {
  const key = `${runName}.txt`;
  const [first, index] = await Promise.all([
    store.readPart(key, { from: 0, length: HEAD_BYTES, signal }),
    readIndex(store, runName, signal),
  ]);
  if (!first) return undefined;
  const { size } = first;
  const own = index?.size === size ? index : undefined;
  const known = own || size <= first.bytes.length || size > SMALL_BYTES
    ? first.bytes
    : (await store.readPart(key, { from: 0, length: size, signal }))?.bytes ?? first.bytes;
  const headBytes = own?.head_bytes ?? headEnd(first.bytes);
  const all = { from: headBytes, to: size, breaks: own?.head_breaks ?? breaksIn(first.bytes, 0, headBytes) };
  const chosen = own?.parts.find((part) => nameOf(part) === partName);
  const extent = chosen ?? all;
  return {
    head: new TextDecoder().decode(first.bytes.subarray(0, headBytes)).trimEnd(),
    parts: (own?.parts ?? []).map((part): LogPart => ({ name: nameOf(part), state: "ended", ...pick(part) })),
    ...compact({ part: chosen && partName }),
    size: extent.to - extent.from,
    isLive: false,
    ...compact({ lines: mapOf(own ?? counted(known, size), { at: extent.from, breaks: extent.breaks }) }),
    async read(from, length) {
      const [start, end] = [extent.from + from, Math.min(extent.to, extent.from + from + length)];
      if (end <= start) return new Uint8Array();
      if (end <= known.length) return known.subarray(start, end);
      return (await store.readPart(key, { from: start, length: end - start, signal }))?.bytes ?? new Uint8Array();
    },
  };
}

function mapOf(counts: LineCounts | undefined, start: { at: number; breaks: number }): LineMap | undefined {
  return counts && new LineMap(counts, start);
}

/** Of a text that is all here; undefined: it is not. */
function counted(known: Uint8Array, size: number): LineCounts | undefined {
  if (known.length < size) return undefined;
  const counter = new LineCounter();
  counter.push(known);
  return counter;
}

/** Where the empty line behind a head ends; 0: it has none. */
function headEnd(bytes: Uint8Array): number {
  const text = new TextDecoder("latin1").decode(bytes);
  return text.startsWith("run: ") ? text.indexOf("\n\n") + (text.includes("\n\n") ? 2 : 1) : 0;
}

function nameOf({ pod, container }: { pod: string; container: string }): string {
  return `${pod}/${container}`;
}

function pick({ pod, container, failure }: StoredPart): Pick<LogPart, "pod" | "container" | "failure"> {
  return { pod, container, ...compact({ failure }) };
}

/** undefined: there is none, or what is there is none. */
async function readIndex(store: ObjectStore, runName: string, signal: AbortSignal): Promise<Index | undefined> {
  const found = await store.get(indexKeyOf(runName), { maxBytes: MOST_INDEX_BYTES, signal }).catch(() => undefined);
  signal.throwIfAborted();
  if (found === undefined || found === "unchanged") return undefined;
  try {
    return asIndex(parseJson(new TextDecoder().decode(found.body)));
  } catch {
    return undefined;
  }
}

function asIndex(value: unknown): Index | undefined {
  const { version, size, head_bytes, head_breaks, step, breaks, parts } = (value ?? {}) as Partial<Index>;
  if (version !== 1 || !isCount(size) || !isCount(head_bytes) || !isCount(head_breaks)) return undefined;
  if (!isCount(step) || step < 1024 || head_bytes > size) return undefined;
  if (!Array.isArray(breaks) || !Array.isArray(parts) || breaks.length > Math.ceil(size / step)) return undefined;
  if (!breaks.every(isCount) || parts.length > MOST_PARTS || !parts.every((part) => isPart(part, size))) {
    return undefined;
  }
  return { version, size, head_bytes, head_breaks, step, breaks, parts };
}

function isPart(value: unknown, size: number): value is StoredPart {
  const { pod, container, failure, from, to, breaks } = (value ?? {}) as Partial<StoredPart>;
  return typeof pod === "string" && typeof container === "string" && isCount(from) && isCount(to) && isCount(breaks) &&
    from <= to && to <= size && (failure === undefined || typeof failure === "string");
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
