/**
 * What a run is called and what its container is told: row + message → name, environment. The name is the run's
 * idempotency key. Pure. A payload becomes values of environment variables and nothing else.
 */
import { Buffer } from "node:buffer";
import type { Message, Row, RunSpec } from "./ports.ts";
import { Filler, type FillingSpec } from "./run_spec/placeholders.ts";
import { shortHash } from "./run_spec/hash.ts";
import { payloadText } from "./run_spec/payload_text.ts";
import { parseJson } from "./util/json.ts";
import { bytesQuantity, quantityValue } from "./util/quantities.ts";

export { payloadText, shortHash };
export { inputHandedDown, keptPayload, MAX_PARSED_BYTES } from "./run_spec/payload_text.ts";
export { inputFault } from "./run_spec/inputs.ts";
export { keptRow, storedRow } from "./run_spec/kept_row.ts";
export {
  filledCells,
  Filler,
  fillsFromPayload,
  placeholdersOf,
  sampleItem,
  sampleMessage,
} from "./run_spec/placeholders.ts";
import { isRetried, keyOfCause } from "./run_spec/lineage.ts";

export {
  isRetried,
  isRoot,
  keyOfCause,
  lineageOf,
  lineageOfRecord,
  lineageOfRerun,
  recordedLineage,
  rootFrom,
  rootOfRun,
} from "./run_spec/lineage.ts";
export {
  isSampled,
  originSpanIdOf,
  partSpanIdOf,
  spanIdOf,
  type TraceContext,
  traceContextIn,
  traceContextOf,
  traced,
  traceIdOf,
  traceParentIn,
} from "./run_spec/trace_context.ts";
import type { TraceContext } from "./run_spec/trace_context.ts";
import { compact } from "./util/compact.ts";

// ---------------------------------------------------------------- names

/** Name of the one container of a run's pods. */
export const CONTAINER_NAME = "main";

/** As `shortHash` makes them. */
const SUFFIX_LENGTH = 12;
/** A label of RFC 1123, as pods' host names and the label `batch.kubernetes.io/job-name` must be. */
const NAME_LENGTH = 63;
/** Pods of an Indexed Job are called `{run}-{index}`, and Kubernetes checks that the last one has 63 characters at most. */
const INDEXED_NAME_LENGTH = 52;

/** The row's name as a label of RFC 1123, at most `maxLength` characters; `row` where nothing of it can stand there. */
export function rowLabel(jobName: string, maxLength: number = NAME_LENGTH - SUFFIX_LENGTH - 1): string {
  const label = jobName.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-/, "");
  return label.slice(0, maxLength).replace(/-$/, "") || "row";
}

/** One delivery that was taken over, see listener/session.ts. The same delivery and row always have the same name. */
export interface DeliveryIdentity {
  /** Of the broker's session. */
  readonly epoch: string;
  /** Rises with each delivery; below 2 ** 40. */
  readonly number: number;
  /** Of what the message says, see `messageHashOf`. */
  readonly messageHash: string;
}

/**
 * What makes a run the same run again. `key`: a publisher's idempotency key, the parent run, or a random word where
 * nothing has to be found again; the same key and row always have the same name.
 */
export type RunIdentity = { readonly key: string } | DeliveryIdentity;

/** Whether a run may have that name: a label of RFC 1123. */
export function isRunName(text: string): boolean {
  return text.length <= NAME_LENGTH && /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/.test(text);
}

/** How a run's name ends, see runNameFor. */
const NAME_END = /-([a-z2-7]{12}|[a-z2-7]{16})$/;

/** Whether runNameFor can have made the name, of whatever row. */
export function isMadeRunName(text: string): boolean {
  return isRunName(text) && NAME_END.test(text);
}

/** Whether runNameFor can have made the name for a run of that row. */
export function isRunNameOf(runName: string, jobName: string): boolean {
  const suffix = isRunName(runName) ? NAME_END.exec(runName)?.[1] : undefined;
  if (suffix === undefined) return false;
  const label = runName.slice(0, -suffix.length - 1);
  return [1, 2].some((parallelism) => label === labelOf({ jobName, parallelism }, suffix.length));
}

/** Longest job_name, in UTF-16 units. */
export const MAX_JOB_NAME = 200;

/** Why a row cannot have that job_name, which becomes one level of an MQTT topic; undefined: it can. */
export function jobNameFault(name: string): string | undefined {
  if (name === "") return "is empty";
  if (name.length > MAX_JOB_NAME) return `has ${name.length} characters, ${MAX_JOB_NAME} are allowed`;
  // deno-lint-ignore no-control-regex
  const odd = /[/+#\0-\x1f\x7f]/.exec(name)?.[0];
  if (odd === undefined) return name.isWellFormed() ? undefined : "holds half of a surrogate pair";
  return `holds ${/[/+#]/.test(odd) ? `"${odd}"` : odd === "\n" ? "a line break" : "a control character"}`;
}

/** How the names of all runs of a row begin, whatever made them; those of other rows may begin so, too. */
export function runNameBegin(jobName: string): string {
  return rowLabel(jobName, INDEXED_NAME_LENGTH - NUMBER_LENGTH - HASH_LENGTH - 1);
}

type NamedRow = Pick<Row, "jobName" | "parallelism" | "completions">;

/** The same for equal messages: 12 characters. */
export function messageHashOf({ topic, payload }: Message): string {
  return shortHash(["message", topic, payload]);
}

/**
 * `{row label}-{suffix}`: at most 63 characters, 52 where the row has several pods at once. The suffix has 12 characters
 * for a key; for a delivery 16: its number in 8, in the order of numbers, and a hash.
 */
export function runNameFor(row: NamedRow, identity: RunIdentity): string {
  if ("key" in identity) {
    return `${labelOf(row, SUFFIX_LENGTH)}-${shortHash(["key", identity.key, row.jobName])}`;
  }
  return runNameStart(row, identity.number) + deliveryHash(row, identity);
}

/**
 * Names of the attempts before this one, first one first. The number is anybody's word, so no more than `most` of them,
 * the last ones.
 */
export function earlierAttempts(
  run: { readonly runName: string; readonly jobName: string; readonly attempt?: number; readonly firstRun?: string },
  most: number,
): string[] {
  const { runName, jobName, attempt = 1, firstRun } = run;
  if (firstRun === undefined) return [];
  // All but the first have the label that this one has.
  const label = runName.slice(0, -SUFFIX_LENGTH);
  const names: string[] = [];
  for (let n = attempt - 1; n >= 1 && names.length < most; n--) {
    names.push(n === 1 ? firstRun : label + shortHash(["key", keyOfCause.attempt(firstRun, n), jobName]));
  }
  return names.reverse();
}

/** How the names of a row's runs begin that were made of the delivery of this number. */
export function runNameStart(row: NamedRow, number: number): string {
  return `${labelOf(row, NUMBER_LENGTH + HASH_LENGTH)}-${numberDigits(number)}`;
}

/** Number and hash in the name of a run that a delivery made; undefined: something else made it. */
export function deliveryPartsOf(runName: string): { readonly number: number; readonly hash: string } | undefined {
  const suffix = runName.slice(runName.lastIndexOf("-") + 1);
  if (suffix.length !== NUMBER_LENGTH + HASH_LENGTH) return undefined;
  let number = 0;
  for (const digit of suffix.slice(0, NUMBER_LENGTH)) number = number * 32 + SORTED_DIGITS.indexOf(digit);
  return { number, hash: suffix.slice(NUMBER_LENGTH) };
}

const NUMBER_LENGTH = 8;
const HASH_LENGTH = 8;
/** Base32's digits in the order of their bytes, so that names sort as their numbers do. */
const SORTED_DIGITS = "234567abcdefghijklmnopqrstuvwxyz";

function numberDigits(number: number): string {
  let digits = "";
  for (let rest = number; digits.length < NUMBER_LENGTH; rest = Math.floor(rest / 32)) {
    digits = SORTED_DIGITS[rest % 32] + digits;
  }
  return digits;
}

/** The last 8 characters: they tell apart what has the same number and label, be it session, service, message or row. */
export function deliveryHash(
  { jobName }: Pick<Row, "jobName">,
  { epoch, messageHash }: Omit<DeliveryIdentity, "number">,
): string {
  return shortHash(["delivery", epoch, messageHash, jobName], HASH_LENGTH);
}

function labelOf({ jobName, parallelism, completions = 1 }: NamedRow, suffixLength: number): string {
  return rowLabel(jobName, (parallelism > 1 || completions > 1 ? INDEXED_NAME_LENGTH : NAME_LENGTH) - suffixLength - 1);
}

// ---------------------------------------------------------------- resources

/** What the row asks for and may use at most, by Kubernetes' resource names; without GPUs. `rung`: of its ladder. */
export function resourcesOf(row: Row, rung = 0): Record<"requests" | "limits", Record<string, string>> {
  const { request, limit } = memoryAt(row, rung);
  return {
    requests: quantities(row.cpuRequest, request, row.diskRequest),
    limits: quantities(row.cpuLimit, limit, row.diskLimit),
  };
}

type MemoryOfRow = Pick<Row, "memoryRequest" | "memoryLimit" | "memoryRequests" | "memoryLimits">;

/** Memory on a rung of the row's ladder, from 0; beyond the last one that of the last. A request of one size rises in proportion. */
export function memoryAt(row: MemoryOfRow, rung: number): { readonly request?: string; readonly limit?: string } {
  const { memoryRequest: request, memoryLimits: limits = [], memoryRequests: requests = [] } = row;
  const at = Math.min(rung, limits.length - 1);
  if (at < 1) return compact({ request, limit: row.memoryLimit });
  const limit = limits[at]!;
  if (request === undefined) return { limit };
  const factor = (quantityValue(limit) ?? 0) / (quantityValue(limits[0]!) ?? 1);
  return { limit, request: requests[at] ?? bytesQuantity(Math.round((quantityValue(request) ?? 0) * factor)) };
}

/** How many rungs the row's ladder has; 1: it has none. */
export function rungsOf({ memoryLimits }: Pick<Row, "memoryLimits">): number {
  return memoryLimits?.length ?? 1;
}

function quantities(cpu?: string, memory?: string, disk?: string): Record<string, string> {
  return {
    ...compact({ cpu, memory, "ephemeral-storage": disk }),
  };
}

/** Whether a resource is what people call GPUs: whole ones, models of them, parts of them (MIG). */
export function isGpuResource(name: string): boolean {
  return /^(nvidia\.com\/.|gpu\.intel\.com\/.|[^/]+\/gpu$)/.test(name);
}

/** Where the run's result will be; undefined: the row does not say. Throws RefusedError as `Filler.fill` does. */
export function outputOf(spec: FillingSpec & { readonly row: Pick<Row, "output"> }): string | undefined {
  return spec.row.output && new Filler(spec).fill(spec.row.output, "output");
}

/** Longest name of a concurrency group, in characters; longer ones are cut and have a hash of all. */
const MAX_GROUP_NAME = 200;

/**
 * What the run shares the slots of `max_runs` with: what its row says (`concurrency_group`), or the row. Throws
 * RefusedError as `Filler.fill` does.
 */
export function concurrencyOf(
  spec: FillingSpec & { readonly row: Pick<Row, "concurrencyGroup" | "jobName"> },
): string {
  const { concurrencyGroup, jobName } = spec.row;
  const name = concurrencyGroup ? new Filler(spec).fill(concurrencyGroup, "concurrency_group").trim() : "";
  if (name === "") return jobName;
  return name.length <= MAX_GROUP_NAME
    ? name
    : `${name.slice(0, MAX_GROUP_NAME - 20).toWellFormed()}…${shortHash([name])}`;
}

// ---------------------------------------------------------------- environment

/**
 * Largest payload, in bytes, that goes through the environment. Linux allows 131,072 bytes for one variable, its name,
 * `=` and NUL included (MAX_ARG_STRLEN, execve(2)); the rest is room for Kubernetes' own limits on a Job's size.
 */
export const MAX_ENV_PAYLOAD_BYTES = 96 * 1024;
/** Base64 makes 4 of 3. */
const MAX_BINARY_BYTES = MAX_ENV_PAYLOAD_BYTES / 4 * 3;
/** `PAYLOAD_<FIELD>` variables of one message: at most so many, so long a name, and so many bytes together. */
const MAX_FIELDS = 200;
const MAX_FIELD_NAME = 128;
const MAX_FIELDS_BYTES = 128 * 1024;

/** Whether the payload can go through the environment; if not, it has to go through the store, by URL. */
export function payloadFits(payload: Uint8Array): boolean {
  if (payload.length <= MAX_BINARY_BYTES) return true;
  return payload.length <= MAX_ENV_PAYLOAD_BYTES && payloadText(payload) !== undefined;
}

/**
 * What the container of a run is told. The values are exact; whoever hands them to Kubernetes has to escape them.
 * JOB_NAME, RUN_NAME, MQTT_TOPIC, MQTT_PAYLOAD; for bytes that are no text MQTT_PAYLOAD_BASE64 and an empty
 * MQTT_PAYLOAD; for a payload in the store MQTT_PAYLOAD_URL and MQTT_PAYLOAD_OBJECT; and PAYLOAD_<FIELD> for each
 * top-level scalar of a JSON object; TRACEPARENT and TRACESTATE where it has a trace context. Throws RangeError for a
 * payload that does not fit (see payloadFits).
 */
export function messageEnv(
  spec: Pick<RunSpec, "message" | "runName" | "payloadLink" | "attempt" | "group" | "index" | "item"> & TraceContext & {
    readonly row: Pick<Row, "jobName" | "inputs" | "retries" | "memoryLimits">;
  },
): Record<string, string> {
  const { message, row, runName, payloadLink } = spec;
  const payload = payloadLink === undefined ? message.payload : new Uint8Array();
  if (!payloadFits(payload)) {
    throw new RangeError(`Cannot put the payload into the environment: it has ${payload.length} bytes`);
  }
  const text = payloadText(payload);
  const env: Record<string, string> = {
    JOB_NAME: row.jobName,
    RUN_NAME: runName,
    MQTT_TOPIC: message.topic,
    MQTT_PAYLOAD: text ?? "",
    ...flowEnv(spec),
    ...compact({ TRACEPARENT: spec.traceparent, TRACESTATE: spec.tracestate }),
  };
  if (text === undefined) env["MQTT_PAYLOAD_BASE64"] = payload.toBase64();
  if (payloadLink !== undefined) {
    env["MQTT_PAYLOAD_URL"] = payloadLink.url;
    env["MQTT_PAYLOAD_OBJECT"] = payloadLink.object;
  }
  const object = text === undefined ? undefined : parseObject(text);
  if (object !== undefined) addFields(env, object);
  // Whether a payload in the store has the field is not known here.
  if (payloadLink === undefined) addPresets(env, row.inputs ?? [], object ?? {});
  return env;
}

/** What a run is told of its place among others: ATTEMPT, and of an item ITEM, ITEM_INDEX and GROUP. */
function flowEnv(
  { row, attempt = 1, group, index, item }: Parameters<typeof messageEnv>[0],
): Record<string, string> {
  return {
    ...(attempt > 1 || isRetried(row) ? { ATTEMPT: String(attempt) } : {}),
    ...(group === undefined || index === undefined || item === undefined
      ? {}
      : { ITEM: itemText(item), ITEM_INDEX: String(index), GROUP: group }),
  };
}

/** A text as it is, all else as JSON. */
function itemText(item: string): string {
  const value: unknown = parseJson(item);
  return typeof value === "string" ? value.toWellFormed().replaceAll("\0", "") : item;
}

function addPresets(
  env: Record<string, string>,
  inputs: NonNullable<Row["inputs"]>,
  object: Readonly<Record<string, unknown>>,
): void {
  for (const { name, preset } of inputs) {
    const isGiven = Object.hasOwn(object, name) && object[name] !== null;
    if (preset !== undefined && !isGiven) env[fieldVariable(name)] = preset;
  }
}

function fieldVariable(field: string): string {
  return `PAYLOAD_${field.toUpperCase().replace(/[^A-Z0-9_]/g, "_")}`;
}

function addFields(env: Record<string, string>, object: Readonly<Record<string, unknown>>): void {
  let [count, bytes] = [0, 0];
  for (const [field, raw] of Object.entries(object)) {
    const value = scalarText(raw);
    const name = fieldVariable(field);
    if (value === undefined || name.length > MAX_FIELD_NAME || name in env) continue;
    bytes += name.length + Buffer.byteLength(value);
    if (++count > MAX_FIELDS || bytes > MAX_FIELDS_BYTES) return;
    env[name] = value;
  }
}

/** A number as it was written: 12345678901234567890 and 1.0 are not what a double makes of them. */
class SourceNumber {
  constructor(readonly source: string) {}
}

function parseObject(text: string): Record<string, unknown> | undefined {
  if (!/^\s*\{/.test(text)) return undefined;
  try {
    const value: unknown = parseJson(text, keepSource);
    return value as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

function keepSource(_key: string, value: unknown, context?: { source?: string }): unknown {
  return typeof value === "number" && context?.source !== undefined ? new SourceNumber(context.source) : value;
}

/** undefined: no scalar. JSON can say what no variable can hold: a NUL is left out, a lone surrogate becomes U+FFFD. */
function scalarText(value: unknown): string | undefined {
  if (value === null) return "";
  if (value instanceof SourceNumber) return value.source;
  if (typeof value === "string") return value.toWellFormed().replaceAll("\0", "");
  return typeof value === "number" || typeof value === "boolean" ? String(value) : undefined;
}

/** Longest value of a variable that a run's record keeps, in characters; the payload has fields of its own there. */
const MAX_KEPT_VALUE = 1024;

/** A variable's value as a run's record may keep it: a link that is signed gives access and is left out. */
export function keptValue(name: string, value: string): string {
  if (name === "MQTT_PAYLOAD_URL") return "(a link that ends after 7 days, or with temporary credentials)";
  const rest = value.length - MAX_KEPT_VALUE;
  return rest > 0 ? `${value.slice(0, MAX_KEPT_VALUE)}… (${rest} more characters)` : value;
}
