/**
 * The items of a message for a row with `for_each`, as JSON texts: entries of a list or an object, numbers, or URLs of
 * objects that match. Bounded in number and bytes. Must not know groups nor start anything.
 *
 * The item of an object's entry is `{"key": its name, …}` with the fields of its value, or the value as `value` where it is
 * no object; so `{item.key}` is its name and `{item.rate}` a field.
 */
import { type Condition, type ConditionValues, conditionValues, forEachText } from "../catalog.ts";
import { CellError, type ForEach, type ObjectList, RefusedError, type RunSpec, UnavailableError } from "../ports.ts";
import { Filler, MAX_PARSED_BYTES, payloadText } from "../run_spec.ts";
import { errorMessage } from "../util/errors.ts";
import { isJsonObject, parseExactly, parseJson } from "../util/json.ts";
import { isJoinTopic } from "../topics.ts";
import { keyFault } from "../util/object_key.ts";
import { retryForever } from "../util/retry.ts";
import type { Semaphore } from "../util/semaphore.ts";
import { cut } from "../util/text.ts";

export interface ItemsOptions {
  /** Absent: nobody can. */
  readonly list?: ObjectList | undefined;
  /** More are refused. */
  readonly maxItems: number;
  /** Which of them are items at all; absent: all. */
  readonly condition?: Condition | undefined;
  readonly topicPrefix: string;
  readonly signal?: AbortSignal;
}

/** An item stands in a variable and in an annotation of its Job, whose annotations may have 256 KiB together. In bytes. */
const MAX_ITEM_BYTES = 32 * 1024;
/** All of a group, which its manifest holds. In bytes. */
const MAX_ITEMS_BYTES = 2 * 1024 * 1024;
/** What is looked at for a condition or a pattern. */
const MAX_LOOKED_AT = 100_000;
/** Then others have their turn. */
const SLICE = 1_000;
const MAX_SHOWN = 120;
/** Stands for `*` in a pattern, since no key holds it. */
const STAR = "\0";

/**
 * The items of the message, in their order. Throws CellError where there is no list or there are too many, and RefusedError
 * and UnavailableError of `list` as they are.
 */
export async function itemsOf(spec: RunSpec, options: ItemsOptions): Promise<string[]> {
  const { forEach } = spec.row;
  if (forEach === undefined) throw new TypeError(`Job "${spec.row.jobName}" has no for_each`);
  const { condition, maxItems, topicPrefix, signal } = options;
  const values = condition?.looksAtItem ? conditionValues(spec.message, topicPrefix) : undefined;
  const items: string[] = [];
  let [looked, bytes] = [0, 0];
  for await (const item of candidates(spec, forEach, options)) {
    if (++looked > MAX_LOOKED_AT) {
      throw refusal(spec, `more than ${MAX_LOOKED_AT} of them would have to be looked at; name fewer`);
    }
    if (looked % SLICE === 0) await new Promise((resolve) => setTimeout(resolve));
    signal?.throwIfAborted();
    if (values && !isWanted(condition!, values, item)) continue;
    if (items.push(item) > maxItems) {
      throw refusal(spec, `the message has more than ${maxItems} items (MAX_ITEMS); send fewer, or part them`);
    }
    const size = new TextEncoder().encode(item).length;
    if (size > MAX_ITEM_BYTES) {
      throw refusal(spec, `item ${items.length - 1} has ${size} bytes, ${MAX_ITEM_BYTES} are allowed`, item);
    }
    bytes += size;
    if (bytes > MAX_ITEMS_BYTES) {
      throw refusal(spec, `its items have more than ${MAX_ITEMS_BYTES} bytes together; send fewer, or shorter ones`);
    }
  }
  return items;
}

/** `itemsOf`, as often as it takes where the objects cannot be listed now. Rejects only where the signal aborts. */
export async function itemsOrRefusal(
  spec: RunSpec,
  options: ItemsOptions & { readonly signal: AbortSignal },
  { turns, onRetry }: { readonly turns: Semaphore; readonly onRetry: (error: unknown) => void },
): Promise<string[] | RefusedError> {
  const { signal } = options;
  try {
    return await retryForever(() => turns.take(() => itemsOf(spec, options), signal), {
      signal,
      onRetry,
      isFinal: (error) => !(error instanceof UnavailableError),
    });
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof RefusedError) return error;
    return new RefusedError(`Cannot make items of job "${spec.row.jobName}": ${errorMessage(error)}`, { cause: error });
  }
}

function isWanted(condition: Condition, values: ConditionValues, item: string): boolean {
  return condition.evaluate({ ...values, item: parseJson(item) }).passed;
}

async function* candidates(spec: RunSpec, forEach: ForEach, options: ItemsOptions): AsyncGenerator<string> {
  switch (forEach.from) {
    case "numbers":
      for (let number = forEach.first; number <= forEach.last; number++) yield String(number);
      return;
    case "objects":
      return yield* objectsOf(spec, forEach.url, options);
    default:
      return yield* entriesOf(spec, forEach, options.topicPrefix);
  }
}

// ---------------------------------------------------------------- of a message

type FromMessage = Extract<ForEach, { readonly path: unknown }>;
type FromObjects = Extract<ForEach, { readonly url: unknown }>;

function entriesOf(spec: RunSpec, { from, path }: FromMessage, topicPrefix: string): string[] {
  const { message: { payload, topic }, parentRun } = spec;
  if (payload.length > MAX_PARSED_BYTES) {
    throw refusal(spec, `the message has ${payload.length} bytes, and is read up to ${MAX_PARSED_BYTES}`);
  }
  // The end of a run hands the payload that began the chain down as text.
  const isHandedDown = from === "input" && parentRun !== undefined;
  const steps = from === "result" ? resultPath(path, isJoinTopic(topicPrefix, topic)) : isHandedDown ? ["input"] : path;
  let found = valueAt(read(payloadText(payload)), steps);
  if (isHandedDown) found = valueAt(typeof found === "string" ? read(found) : undefined, path);
  if (Array.isArray(found)) return found.map((item) => JSON.stringify(item));
  if (isJsonObject(found)) return Object.entries(found).map(([key, value]) => JSON.stringify(entryOf(key, value)));
  const what = from === "result" ? "the end of a run that wrote a result" : "the message";
  if (found === undefined || found === null) throw refusal(spec, `${what} has no list there`);
  throw refusal(spec, `that is neither a list nor an object`, JSON.stringify(found));
}

/** A row with `needs` has a result of each row that it needed: `result.sort.files`. */
function resultPath(path: FromMessage["path"], isJoin: boolean): FromMessage["path"] {
  const [needed = "", ...rest] = path;
  return isJoin ? ["needs", needed, "result", ...rest] : ["result", ...path];
}

function entryOf(key: string, value: unknown): Record<string, unknown> {
  return isJsonObject(value) ? { ...value, key } : { key, value };
}

function read(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : parseExactly(text);
  } catch {
    return undefined;
  }
}

function valueAt(whole: unknown, path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>((value, step) => {
    const has = typeof step === "number" ? Array.isArray(value) : isJsonObject(value);
    return has && Object.hasOwn(value as object, step) ? (value as Record<string | number, unknown>)[step] : undefined;
  }, whole);
}

// ---------------------------------------------------------------- objects

/** A `*` of the cell stands for any characters but `/`; what a placeholder stands for is taken as it is. */
async function* objectsOf(
  spec: RunSpec,
  template: FromObjects["url"],
  { list, signal }: ItemsOptions,
): AsyncGenerator<string> {
  if (!list) throw refusal(spec, "this service can list no objects");
  const pattern = patternOf(spec, template);
  const [, root = "", key = ""] = /^(s3:\/\/[^/]*\/|file:\/\/\/)(.*)$/s.exec(pattern) ?? [];
  const fault = keyFault(key.replaceAll(STAR, "x"));
  if (fault !== undefined) throw refusal(spec, `it names no objects, for ${fault}`, pattern.replaceAll(STAR, "*"));
  const parts = key.split("/").map((part) => part.split(STAR));
  let looked = 0;
  for await (const url of list(pattern.slice(0, pattern.indexOf(STAR)), signal ? { signal } : {})) {
    if (++looked > MAX_LOOKED_AT) {
      const begin = cut(pattern.slice(0, pattern.indexOf(STAR)), MAX_SHOWN);
      throw refusal(spec, `more than ${MAX_LOOKED_AT} objects begin with ${begin}; write more before the first "*"`);
    }
    if (looked % SLICE === 0) await new Promise((resolve) => setTimeout(resolve));
    if (url.startsWith(root) && matches(parts, url.slice(root.length).split("/"))) yield JSON.stringify(url);
  }
}

function patternOf(spec: RunSpec, template: FromObjects["url"]): string {
  const filler = new Filler(spec);
  try {
    return template.map((piece) =>
      typeof piece === "string" ? piece.replaceAll("*", STAR) : filler.fill([piece], "for_each")
    ).join("");
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    const value = cut(forEachText({ from: "objects", url: template }), MAX_SHOWN);
    throw new CellError(error.message, { column: "for_each", value, cause: error });
  }
}

function matches(patterns: readonly (readonly string[])[], parts: readonly string[]): boolean {
  return patterns.length === parts.length && patterns.every((pattern, at) => matchesPart(pattern, parts[at]!));
}

/** Whether the texts stand in it in this order, the first at its begin and the last at its end. In linear time. */
function matchesPart(texts: readonly string[], part: string): boolean {
  const [first, last] = [texts[0]!, texts.at(-1)!];
  if (texts.length === 1) return part === first;
  if (part.length < first.length + last.length || !part.startsWith(first) || !part.endsWith(last)) return false;
  let at = first.length;
  for (const text of texts.slice(1, -1)) {
    const found = part.indexOf(text, at);
    if (found === -1) return false;
    at = found + text.length;
  }
  return at <= part.length - last.length;
}

// ---------------------------------------------------------------- what is said

/** `value`: absent: the cell. */
function refusal({ row }: RunSpec, why: string, value: string = forEachText(row.forEach!)): CellError {
  const cell = forEachText(row.forEach!);
  return new CellError(
    `Cannot make items of job "${row.jobName}" (line ${row.line}, for_each "${cut(cell, MAX_SHOWN)}"): ${why}`,
    { column: "for_each", value: cut(value, MAX_SHOWN) },
  );
}
