/**
 * Fills the placeholders of a row with what the message says, each within the word or value that it stands in: a value
 * with blanks, quotes or line breaks stays one argument. Pure. Must not know Kubernetes, which expands `$( )` once more.
 */
import { Buffer } from "node:buffer";
import { type Pair, type Placeholder, RefusedError, type RunSpec, type Template } from "../ports.ts";
import { inputPreset } from "./inputs.ts";
import { payloadText } from "./payload_text.ts";
import { isJoinTopic, isUnderPrefix, joinTopic, scheduleTopic } from "../topics.ts";
import { parseExactly } from "../util/json.ts";

/** Bytes of one word or value: Linux allows 131,072 with the NUL behind it (MAX_ARG_STRLEN, execve(2)). */
const MAX_WORD_BYTES = 131_071;

/** The values of one run. */
export type FillingSpec =
  & Pick<
    RunSpec,
    "message" | "runName" | "rootRun" | "payloadLink" | "parentRun" | "attempt" | "index" | "item"
  >
  & { readonly row: Pick<RunSpec["row"], "jobName" | "line" | "inputs" | "needs"> };

export class Filler {
  readonly #spec: FillingSpec;
  /** The payload as JSON, once it was asked for; undefined: it is none. */
  #json: { readonly value: unknown } | undefined;
  /** Likewise what began the chain. */
  #input: { readonly value: unknown } | undefined;

  constructor(spec: FillingSpec) {
    this.#spec = spec;
  }

  /**
   * The text of a template. Throws RefusedError, for the same message can never do better: a value is missing, holds a
   * NUL or is too long. `column`: for the sentence.
   */
  fill(template: Template, column: string): string {
    const text = template.map((piece) => typeof piece === "string" ? piece : this.#valueOf(piece, column)).join("");
    const bytes = text.length * 3 > MAX_WORD_BYTES ? Buffer.byteLength(text) : 0;
    if (bytes > MAX_WORD_BYTES) {
      throw this.#refusal(column, `a word of it would have ${bytes} bytes, ${MAX_WORD_BYTES} are allowed`);
    }
    return text;
  }

  #valueOf(placeholder: Placeholder, column: string): string {
    const found = this.#find(placeholder);
    if (typeof found !== "string") {
      const { root, path: [field, ...steps] } = placeholder;
      const ofInputs = root === "payload" && steps.length === 0;
      const preset = placeholder.preset ?? (ofInputs ? inputPreset(this.#spec.row.inputs, field) : undefined);
      if (preset !== undefined) return preset;
      throw this.#refusal(column, `${placeholder.source} has no value: ${found.missing}`);
    }
    if (!found.includes("\0")) return found.toWellFormed();
    throw this.#refusal(column, `the value of ${placeholder.source} holds a NUL character, which no argument can`);
  }

  #refusal(column: string, why: string): RefusedError {
    const { jobName, line } = this.#spec.row;
    return new RefusedError(`Cannot fill the column ${column} of job "${jobName}" (line ${line}): ${why}`);
  }

  /** The value, or why there is none. */
  #find({ root, path }: Placeholder): string | { readonly missing: string } {
    const { message, row, runName, rootRun } = this.#spec;
    switch (root) {
      case "job_name":
        return row.jobName;
      case "run_name":
        return runName;
      case "root_run":
        return rootRun;
      case "topic":
        return levelOf(message.topic, path[0]);
      case "payload":
        return this.#ofPayload(path);
      case "input":
        return this.#ofInput(path);
      case "result":
        return this.#ofResult(path);
      case "attempt":
        return String(this.#spec.attempt ?? 1);
      case "index":
        return this.#spec.index === undefined ? { missing: "the row has no for_each" } : String(this.#spec.index);
      case "item":
        return this.#ofItem(path);
    }
  }

  #ofPayload(path: Placeholder["path"]): string | { readonly missing: string } {
    const { message, payloadLink } = this.#spec;
    const text = payloadText(message.payload);
    if (text === undefined) return { missing: "the payload is no text" };
    if (path.length === 0) {
      return payloadLink
        ? { missing: "the payload is too large, and was put into the store (MQTT_PAYLOAD_URL); name a field of it" }
        : text;
    }
    const { value } = this.#json ??= { value: read(text) };
    if (value === undefined) return { missing: "the payload is no JSON" };
    return textAt(value, path);
  }

  /** Of the run whose end the payload is; of a row that needs others, by the name of one: `{result.sort.units}`. */
  #ofResult(path: Placeholder["path"]): string | { readonly missing: string } {
    const { row: { needs }, parentRun } = this.#spec;
    if (parentRun === undefined) return { missing: "no run started this one" };
    const [needed, ...steps] = path;
    if (needs === undefined || typeof this.#ofPayload(["needs"]) !== "string") {
      return this.#ofPayload(["result", ...path]);
    }
    if (needed !== undefined && needs.includes(String(needed))) {
      return this.#ofPayload(["needs", needed, "result", ...steps]);
    }
    return { missing: `it has to name a row of needs first, such as {result.${needs[0]}…}` };
  }

  #ofItem(path: Placeholder["path"]): string | { readonly missing: string } {
    const { item } = this.#spec;
    if (item === undefined) return { missing: "the row has no for_each" };
    const value = read(item);
    // Of an object's URL or a path, people want the file's name.
    if (typeof value === "string" && path.length === 1 && path[0] === "name") {
      return value.slice(value.lastIndexOf("/") + 1);
    }
    return textAt(value, path, "item");
  }

  /** The payload that began the chain: the end of a run hands it down as text. */
  #ofInput(path: Placeholder["path"]): string | { readonly missing: string } {
    if (this.#spec.parentRun === undefined) return this.#ofPayload(path);
    const text = this.#ofPayload(["input"]);
    if (typeof text !== "string" || path.length === 0) return text;
    const { value } = this.#input ??= { value: read(text) };
    if (value === undefined) return { missing: "the payload that began the chain is no JSON" };
    return textAt(value, path, "payload that began the chain");
  }
}

function levelOf(topic: string, level: string | number | undefined): string | { readonly missing: string } {
  if (level === undefined) return topic;
  const levels = topic.split("/");
  return levels[Number(level)] ?? { missing: `the topic "${topic.slice(0, 120)}" has ${levels.length} levels` };
}

function read(text: string): unknown {
  try {
    return parseExactly(text);
  } catch {
    return undefined;
  }
}

function textAt(
  whole: unknown,
  path: Placeholder["path"],
  what = "payload",
): string | { readonly missing: string } {
  let value = whole;
  for (const [at, step] of path.entries()) {
    const has = typeof value === "object" && value !== null && Object.hasOwn(value, step) &&
      Array.isArray(value) === (typeof step === "number");
    if (!has) return { missing: `the ${what} has no ${fieldName(path.slice(0, at + 1))}` };
    value = (value as Record<PropertyKey, unknown>)[step];
  }
  if (value === null) return { missing: `the ${what}'s ${fieldName(path)} is null` };
  return typeof value === "string" ? value : JSON.stringify(value);
}

function fieldName(path: Placeholder["path"]): string {
  return `"${path.map((step, at) => typeof step === "number" ? `[${step}]` : at === 0 ? step : `.${step}`).join("")}"`;
}

/** All placeholders of a row, in no particular order. */
export function placeholdersOf(row: RunSpec["row"]): Placeholder[] {
  return filledCells(row).flatMap(({ templates }) => templates.flat()).filter((piece) => typeof piece !== "string");
}

/** Whether a value of the row comes from the payload. */
export function fillsFromPayload(row: RunSpec["row"]): boolean {
  return placeholdersOf(row).some(({ root }) => OF_PAYLOAD.has(root));
}

const OF_PAYLOAD: ReadonlySet<Placeholder["root"]> = new Set(["payload", "input", "result"]);

/** What starts a row that waits for no message of its own: what it needs, or its schedule. */
function startTopic({ mqttTopic, jobName, needs }: RunSpec["row"], topicPrefix: string): string {
  if (mqttTopic !== "") return mqttTopic;
  return (needs === undefined ? scheduleTopic : joinTopic)(topicPrefix, jobName);
}

/**
 * A message that has a value for each placeholder of the row, on a topic that starts it: for trying out what it makes.
 */
export function sampleMessage(
  row: RunSpec["row"],
  topicPrefix: string,
): { readonly topic: string; readonly payload: Uint8Array } {
  const filter = startTopic(row, topicPrefix);
  const isJoin = isJoinTopic(topicPrefix, filter);
  const isChained = isJoin || isUnderPrefix(topicPrefix, row.mqttTopic);
  const sample: Record<string, unknown> = isJoin ? { needs: {} } : {};
  const input: Record<string, unknown> = {};
  let levels = 1;
  for (const { root, path } of placeholdersOf(row)) {
    if (root === "payload" || root === "input" && !isChained) addSample(sample, path);
    else if (root === "input") addSample(input, path);
    else if (root === "result" && isJoin) addSample(sample, ["needs", path[0] ?? "", "result", ...path.slice(1)]);
    else if (root === "result") addSample(sample, ["result", ...path]);
    else if (root === "topic" && typeof path[0] === "number") levels = Math.max(levels, path[0] + 1);
  }
  if (isChained) Object.assign(sample, { run_name: "sample-aaaaaaaaaaaa", input: JSON.stringify(input) });
  const given = filter.split("/");
  const topic = given.flatMap((level, at) =>
    level === "#" ? Array.from({ length: Math.max(1, levels - at) }, () => "any") : level === "+" ? "any" : level
  );
  return { topic: topic.join("/"), payload: new TextEncoder().encode(JSON.stringify(sample)) };
}

/** An item, as JSON, that has a value for each placeholder of the row. */
export function sampleItem(row: RunSpec["row"]): string {
  const fields = placeholdersOf(row).filter(({ root, path }) => root === "item" && path.length > 0);
  const sample = {};
  for (const { path } of fields) addSample(sample, path);
  return JSON.stringify(fields.length === 0 ? "any" : sample);
}

/** The cells that are filled for a run, by their columns; the key that names it is made before. */
export function filledCells(
  row: RunSpec["row"],
): readonly { readonly column: string; readonly templates: readonly Template[] }[] {
  const pairs = (some: readonly Pair[] = []) => some.map(({ value }) => value);
  const one = (template: Template | undefined) => template === undefined ? [] : [template];
  return [
    { column: "args", templates: row.args ?? [] },
    { column: "env", templates: (row.env ?? []).flatMap((entry) => entry.from === "value" ? [entry.value] : []) },
    { column: "working_dir", templates: one(row.workingDir) },
    { column: "labels", templates: pairs(row.labels) },
    { column: "annotations", templates: pairs(row.annotations) },
    { column: "output", templates: one(row.output) },
    { column: "concurrency_group", templates: one(row.concurrencyGroup) },
  ];
}

/** Makes the field that the path names, with a text in it; what is there already stays. */
function addSample(whole: Record<string, unknown>, path: Placeholder["path"]): void {
  let at: Record<PropertyKey, unknown> = whole;
  for (const [depth, step] of path.entries()) {
    const next = path[depth + 1];
    if (typeof at[step] !== "object" || at[step] === null) {
      at[step] = next === undefined ? at[step] ?? "any" : typeof next === "number" ? [] : {};
    }
    at = at[step] as Record<PropertyKey, unknown>;
  }
}
