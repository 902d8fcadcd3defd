/**
 * The run's own container: command, arguments, variables, resources, image. Pure.
 * Each part offers a cell and says what of the manifest the cell says.
 */
import type { Template } from "../../ports.ts";
import { isGpuResource } from "../../run_spec.ts";
import { redact } from "../../util/redact.ts";
import { quantityValue } from "../../util/quantities.ts";
import { isServicesVariable } from "../cells/env.ts";
import type { Field } from "../columns.ts";
import { escapeBraces, expanded, quoteWords } from "./cells.ts";
import { type Fields, isMap, mapOf, mapsOf } from "./documents.ts";
import { type Draft, readsBack } from "./draft.ts";
import { isSecretName } from "./finding.ts";
import type { ReportFinding } from "./finding.ts";

/** A text as a template has it in which nothing is a placeholder. */
export function asTemplate(text: string): Template {
  return text === "" ? [] : [text];
}

/** Takes a field out of an object, with the object's own parent left as it is. */
export function taker(fields: Fields, ...names: readonly string[]): () => void {
  return () => {
    for (const name of names) delete fields[name];
  };
}

/** Offers the columns of the container `main`; it must be the pod's first one. */
export function readContainer(main: Fields, draft: Draft, report: ReportFinding): void {
  for (const field of ["terminationMessagePath", "terminationMessagePolicy"]) {
    if (main[field] === undefined) continue;
    const isPath = field === "terminationMessagePath";
    const message = isPath
      ? "the service reads what a run wrote into the file that RESULT_FILE names; let the program write it there"
      : "the service takes the last lines of a run that failed anyway";
    report(isPath ? "error" : "note", field, message, main[field]);
    delete main[field];
  }
  readImage(main, draft);
  readEnv(main, draft, report);
  readWords(main, draft);
  readResources(main, draft, report);
}

function readImage(main: Fields, draft: Draft): void {
  const { image, imagePullPolicy, workingDir } = main;
  draft.require("image", String(image), taker(main, "image"));
  if (typeof imagePullPolicy === "string") {
    draft.offer("imagePullPolicy", imagePullPolicy, imagePullPolicy, taker(main, "imagePullPolicy"));
  }
  if (typeof workingDir === "string") {
    draft.offer("workingDir", escapeBraces(workingDir), asTemplate(workingDir), taker(main, "workingDir"));
  }
}

// ---------------------------------------------------------------- command and arguments

function readWords(main: Fields, draft: Draft): void {
  const isVariable = variablesOf(main);
  const command = plainWords(main["command"], isVariable);
  const args = plainWords(main["args"], isVariable);
  if (args === undefined || command === undefined) return;
  // The words of `command` are taken verbatim, but none of a script may look like a placeholder.
  const at = command.findIndex((word) => escapeBraces(word) !== word);
  const first = at < 1 ? command : command.slice(0, at);
  const rest = [...command.slice(first.length), ...args];
  const commandText = quoteWords(first);
  const argsText = quoteWords(rest.map(escapeBraces));
  const isGood = (first.length === 0 || readsBack("command", commandText, first)) &&
    (rest.length === 0 || readsBack("args", argsText, rest.map(asTemplate)));
  // A program in one place and its arguments in the other would be hard to follow: both or none.
  if (!isGood) return;
  if (first.length > 0) draft.offer("command", commandText, first, taker(main, "command"));
  if (rest.length > 0) draft.offer("args", argsText, rest.map(asTemplate), taker(main, "args"));
}

/** The words as the container gets them; undefined: they refer to variables, or are no words. */
function plainWords(words: unknown, isVariable: (name: string) => boolean): string[] | undefined {
  if (words === undefined) return [];
  if (!Array.isArray(words) || words.some((word) => typeof word === "object")) return undefined;
  const all = words.map((word) => expanded(String(word), isVariable));
  return all.some(({ names }) => names.length > 0) ? undefined : all.map(({ text }) => text);
}

/** Whether a name may be a variable: one that is listed, one of a whole Secret, or a service's address. */
function variablesOf(main: Fields): (name: string) => boolean {
  const listed = new Set(mapsOf(main["env"]).map(({ name }) => name));
  const isOpen = mapsOf(main["envFrom"]).length > 0;
  return (name) =>
    listed.has(name) ||
    /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && (isOpen || /_SERVICE_(HOST|PORT)|_PORT_\d+_/.test(name));
}

// ---------------------------------------------------------------- variables

function readEnv(main: Fields, draft: Draft, report: ReportFinding): void {
  const all = mapsOf(main["env"]);
  const kept = all.filter((entry, at) => {
    const name = String(entry["name"]);
    const isLast = !all.slice(at + 1).some((other) => other["name"] === name);
    if (!isLast) {
      report("note", `env ${name}`, "the variable stands twice; Kubernetes takes the last one, and so does the row");
    }
    return isLast && !isServices(entry, name, report);
  });
  if (kept.length === 0) delete main["env"];
  else main["env"] = kept;
  const bound = boundEntries(kept, variablesOf(main));
  const removeEntry = (entry: Fields) => () => {
    const left = mapsOf(main["env"]).filter((other) => other !== entry);
    if (left.length === 0) delete main["env"];
    else main["env"] = left;
  };
  for (const entry of kept) {
    warnOfSecret(entry, report);
    if (bound.has(entry)) continue;
    const cell = envCell(entry);
    if (cell) draft.offer("env", cell.text, [cell.expected], removeEntry(entry));
  }
  const sources = mapsOf(main["envFrom"]);
  draft.offerAll("env", sources.map(sourceCell), taker(main, "envFrom"));
}

/** Whether the service or Kubernetes sets the variable, so that nobody else can. */
function isServices(entry: Fields, name: string, report: ReportFinding): boolean {
  if (name === "JOB_COMPLETION_INDEX") {
    const { fieldRef } = mapOf(entry["valueFrom"]);
    const isIndex = String(mapOf(fieldRef)["fieldPath"]).includes("job-completion-index");
    report(isIndex ? "note" : "error", `env ${name}`, "Kubernetes sets it in each part of an Indexed Job");
    return true;
  }
  if (!isServicesVariable(name)) return false;
  report("error", `env ${name}`, "the service sets this variable; give it another name here and in the program");
  return true;
}

/** Entries that refer to others by `$(NAME)`, and those that they refer to: only their order makes them work. */
function boundEntries(entries: readonly Fields[], isVariable: (name: string) => boolean): Set<Fields> {
  const bound = new Set<Fields>();
  const add = (entry: Fields): void => {
    if (bound.has(entry)) return;
    bound.add(entry);
    const { names } = expanded(String(entry["value"] ?? ""), isVariable);
    for (const other of entries) if (names.includes(String(other["name"]))) add(other);
  };
  for (const entry of entries) if (expanded(String(entry["value"] ?? ""), isVariable).names.length > 0) add(entry);
  return bound;
}

interface Cell {
  readonly text: string;
  readonly expected: unknown;
}

function envCell({ name, value, valueFrom, ...more }: Fields): Cell | undefined {
  if (typeof name !== "string" || Object.keys(more).length > 0) return undefined;
  if (valueFrom === undefined || valueFrom === null) {
    if (typeof value === "object" && value !== null) return undefined;
    const { text } = expanded(String(value ?? ""), () => false);
    return { text: `${name}=${escapeBraces(text)}`, expected: { from: "value", name, value: asTemplate(text) } };
  }
  const [[kind, ref] = ["", {}], ...others] = Object.entries(mapOf(valueFrom));
  if (others.length > 0) return undefined;
  const { name: object, key, fieldPath, resource, ...rest } = mapOf(ref);
  // The container whose limit it is: the run's own, which is the one that is read here.
  const isPlain = Object.keys(rest).length === 0;
  if (!isPlain) return undefined;
  if (kind === "secretKeyRef" || kind === "configMapKeyRef") {
    const from = kind === "secretKeyRef" ? "secret" : "config";
    return { text: `${name}=${from}:${object}/${key}`, expected: { from, name, object, key } };
  }
  const path = kind === "fieldRef" ? fieldPath : kind === "resourceFieldRef" ? resource : undefined;
  return path === undefined ? undefined : { text: `${name}=field:${path}`, expected: { from: "field", name, path } };
}

function sourceCell({ secretRef, configMapRef, ...more }: Fields): readonly [string, unknown] {
  const kind = isMap(secretRef) ? "secret" : "config";
  const { name: object, ...rest } = mapOf(secretRef ?? configMapRef);
  // A prefix, or a Secret that may be missing, has no notation: the text reads back to nothing.
  if (Object.keys(rest).length > 0 || Object.keys(more).length > 0) return ["", undefined];
  return [`${kind}:${object}`, { from: "all", kind, object }];
}

/** Values that only say where a secret is, or that are none. */
const HARMLESS = /^(\/|\.|true$|false$|yes$|no$|none$|\d{1,5}$)/i;

function warnOfSecret({ name, value }: Fields, report: ReportFinding): void {
  // What refers to another variable keeps the secret there.
  if (typeof value !== "string" || typeof name !== "string" || value === "" || value.includes("$(")) return;
  const isNamed = isSecretName(name) && !HARMLESS.test(value) && !/_(FILE|PATH|URL|URI|DIR|NAME|ID)$/i.test(name);
  if (!isNamed && redact(value) === value && !/^(AKIA|ghp_|hf_|sk-)\w{10,}/.test(value)) return;
  const key = name.toLowerCase().replaceAll("_", "-");
  report(
    "warning",
    `env ${name}`,
    `its value looks like a secret, and who reads the table reads it; put it into a Secret and write ` +
      `${name}=secret:name/${key}`,
  );
}

// ---------------------------------------------------------------- resources

const QUANTITIES: readonly (readonly [resource: string, request: Field, limit: Field])[] = [
  ["cpu", "cpuRequest", "cpuLimit"],
  ["memory", "memoryRequest", "memoryLimit"],
  ["ephemeral-storage", "diskRequest", "diskLimit"],
];

function readResources(main: Fields, draft: Draft, report: ReportFinding): void {
  const resources = main["resources"];
  if (!isMap(resources)) return;
  const sides = { requests: mapOf(resources["requests"]), limits: mapOf(resources["limits"]) };
  const remove = (side: "requests" | "limits", name: string) => () => {
    delete sides[side][name];
    if (Object.keys(sides[side]).length === 0) delete resources[side];
    if (Object.keys(resources).length === 0) delete main["resources"];
  };
  const put = (field: Field, side: "requests" | "limits", name: string, text: string) =>
    draft.offer(field, text, text, remove(side, name));
  for (const [name, request, limit] of QUANTITIES) {
    const [asked, most] = [textOf(sides.requests[name]), textOf(sides.limits[name])];
    // 0 is none; but beside a limit it is less than what Kubernetes takes for a request that is not there: the limit.
    if (asked !== undefined && (asked === most || most === undefined && isZero(asked))) remove("requests", name)();
    else if (asked !== undefined) put(request, "requests", name, asked);
    if (most !== undefined && asked === undefined && isZero(most)) remove("limits", name)();
    else if (most !== undefined) put(limit, "limits", name, most);
  }
  readDevices(sides, draft, remove, report);
}

function isZero(quantity: string): boolean {
  return quantityValue(quantity) === 0;
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" || typeof value === "number" ? String(value) : undefined;
}

function readDevices(
  sides: Readonly<Record<"requests" | "limits", Fields>>,
  draft: Draft,
  remove: (side: "requests" | "limits", name: string) => () => void,
  report: ReportFinding,
): void {
  const names = [...new Set([...Object.keys(sides.limits), ...Object.keys(sides.requests)])]
    .filter((name) => !QUANTITIES.some(([known]) => known === name));
  const gpu = names.includes("nvidia.com/gpu") ? "nvidia.com/gpu" : names.find(isGpuResource);
  for (const name of names) {
    const [asked, most] = [textOf(sides.requests[name]), textOf(sides.limits[name])];
    if (asked !== undefined && most !== undefined && asked !== most) continue;
    const quantity = most ?? asked ?? "";
    const take = () => {
      remove("requests", name)();
      remove("limits", name)();
    };
    if (quantityValue(quantity) === 0) {
      report("note", `resources ${name}`, "none of it is asked for");
      take();
    } else if (name === "nvidia.com/gpu") draft.offer("gpu", quantity, Number(quantity), take);
    else if (name === gpu) draft.offer("gpu", `${name}=${quantity}`, Number(quantity), take);
    else draft.offer("resources", `${name}=${quantity}`, [{ name, quantity }], take);
  }
}
