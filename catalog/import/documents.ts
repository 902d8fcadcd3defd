/**
 * The objects of files with manifests: YAML of several documents, JSON, lists. Pure.
 * Says what is no workload and what to do with it instead; must not show the text of a file that cannot be read.
 */
import { LineCounter, parseAllDocuments, type ScalarTag } from "yaml";
import type { Finding } from "./finding.ts";
import { isNestedTooDeep } from "../../util/yaml_depth.ts";

/** An object of Kubernetes', as JSON has it. */
export type Fields = Record<string, unknown>;

/** A workload that may become a row. */
export interface Workload {
  /** For findings: `jobs.yaml, document 2`. */
  readonly source: string;
  /** Kind and name. */
  readonly label: string;
  readonly kind: "Job" | "CronJob" | "Pod" | "PodTemplate";
  readonly object: Fields;
}

/** Bytes of a file, and objects of all files: far more than people keep in one. */
export const MAX_FILE = 4 * 1024 * 1024;
export const MAX_OBJECTS = 2_000;

/** Whether a value is an object of JSON's, no list and not null. */
export function isMap(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The value if it is an object, else an empty one. */
export function mapOf(value: unknown): Fields {
  return isMap(value) ? value : {};
}

/** The objects of a list; empty where it is none. */
export function mapsOf(value: unknown): Fields[] {
  return Array.isArray(value) ? value.filter(isMap) : [];
}

/** Reads the files; what is no workload, or cannot be read, is a finding. */
export function readWorkloads(
  files: readonly { readonly name: string; readonly text: string }[],
): { readonly workloads: Workload[]; readonly findings: Finding[] } {
  const workloads: Workload[] = [];
  const findings: Finding[] = [];
  let count = 0;
  for (const { name, text } of files) {
    const report = (severity: Finding["severity"], source: string, message: string, object?: string): void => {
      findings.push({ severity, source, ...(object === undefined ? {} : { object }), message });
    };
    if (text.length > MAX_FILE) {
      report("error", name, `the file has more than ${MAX_FILE} characters; part it`);
      continue;
    }
    const before = count;
    const add = (content: unknown, source: string): void => {
      if (content === null || content === undefined) return;
      if (++count > MAX_OBJECTS) {
        if (count === MAX_OBJECTS + 1) report("error", source, `there are more than ${MAX_OBJECTS} objects; part them`);
        return;
      }
      if (!isMap(content)) {
        return report("error", source, "it is no object of Kubernetes, which has a kind and metadata");
      }
      const { kind, items } = content;
      if (typeof kind === "string" && kind.endsWith("List") && Array.isArray(items)) {
        // Items of a typed list leave their kind out.
        const own = kind === "List" ? {} : { kind: kind.slice(0, -4) };
        for (const [at, item] of items.entries()) {
          if (isMap(item) && String(item["kind"] ?? "").endsWith("List")) {
            report("error", source, "a list within a list");
          } else add(isMap(item) ? { ...own, ...item } : item, `${source}, item ${at + 1}`);
        }
        return;
      }
      const label = `${word(kind) ?? "object without kind"} ${JSON.stringify(nameOf(content) ?? "")}`;
      const known = WORKLOADS.find((one) => one === kind);
      if (known !== undefined && !isForeign(known, content)) {
        workloads.push({ source, label, kind: known, object: content });
      } else report(isBeside(kind) ? "note" : "error", source, adviceOn(content), label);
    };
    readText(name, text, add, report);
    if (count === before && !findings.some(({ source }) => source.startsWith(name))) {
      report("error", name, "the file holds no object");
    }
  }
  return { workloads, findings };
}

const WORKLOADS = ["Job", "CronJob", "Pod", "PodTemplate"] as const;

/** Other systems have kinds of these names too. */
function isForeign(kind: Workload["kind"], { apiVersion }: Fields): boolean {
  if (apiVersion === undefined) return false;
  const group = String(apiVersion).split("/")[0];
  return kind === "Job" || kind === "CronJob" ? group !== "batch" && group !== "extensions" : apiVersion !== "v1";
}

function word(value: unknown): string | undefined {
  return typeof value === "string" && /^[A-Za-z][A-Za-z0-9.-]{0,62}$/.test(value) ? value : undefined;
}

/** The object's name, cut; without the dash at the end of a `generateName`. */
export function nameOf({ metadata }: Fields): string | undefined {
  const { name, generateName } = mapOf(metadata);
  const found = typeof name === "string" ? name : typeof generateName === "string" ? generateName : undefined;
  return found?.slice(0, 253).replace(/-{1,9}$/, "");
}

type ReportFinding = (severity: Finding["severity"], source: string, message: string) => void;

function readText(
  name: string,
  text: string,
  add: (content: unknown, source: string) => void,
  report: ReportFinding,
): void {
  if (isNestedTooDeep(text)) return report("error", name, "it is nested too deeply to be read");
  const lineCounter = new LineCounter();
  const documents = parseAllDocuments(text, {
    merge: true,
    prettyErrors: false,
    lineCounter,
    logLevel: "silent",
    customTags: (tags) => [...OLD_SCALARS, ...tags],
  });
  for (const [at, document] of [...documents].entries()) {
    const source = documents.length > 1 ? `${name}, document ${at + 1}` : name;
    const [broken] = document.errors;
    if (broken) {
      // The parser's own words may show the text, and manifests may hold secrets.
      const line = `line ${lineCounter.linePos(broken.pos[0]).line}`;
      const isChart = /\{\{[^{}]{0,400}\}\}/.test(text);
      const advice = isChart
        ? "it looks like a chart's template; render it first: helm template … | mqtt-job-listener import -"
        : "mend it; `kubectl create --dry-run=client -f` tells more";
      report("error", source, `it is not YAML (${broken.code} at ${line}); ${advice}`);
      continue;
    }
    const content = contentOf(document);
    if ("fault" in content) report("error", source, content.fault);
    else add(content.content, source);
  }
}

/** Deepest nesting: Kubernetes' own objects have less than 20 levels. */
const MAX_DEPTH = 100;

/** The document as JSON has it: two aliases of one part are two parts, for each is changed for itself. */
function contentOf(document: { toJS(options: { maxAliasCount: number }): unknown }): { content: unknown } | {
  fault: string;
} {
  try {
    const content: unknown = document.toJS({ maxAliasCount: 100 });
    let level: unknown[] = [content];
    for (let depth = 0; level.length > 0; depth++) {
      if (depth > MAX_DEPTH) return { fault: "it is nested too deeply to be an object of Kubernetes" };
      level = level.flatMap((value) => typeof value === "object" && value !== null ? Object.values(value) : []);
    }
    return { content: content === undefined ? undefined : JSON.parse(JSON.stringify(content)) };
  } catch (error) {
    if (!(error instanceof ReferenceError || error instanceof RangeError)) throw error;
    return { fault: "it has aliases that cannot be followed, or too many of them" };
  }
}

/**
 * What Kubernetes' reader takes from YAML 1.1: 0400 is octal, yes is true. (The whole schema 1.1 of the library would make
 * numbers of `-e0` and `12:30`, which Kubernetes' does not.)
 */
const OLD_SCALARS: readonly ScalarTag[] = [
  {
    tag: "tag:yaml.org,2002:int",
    default: true,
    test: /^[-+]?0[0-7]+$/,
    resolve: (text: string) => Number.parseInt(text, 8),
  },
  {
    tag: "tag:yaml.org,2002:bool",
    default: true,
    test: /^(?:yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF)$/,
    resolve: (text: string) => /^(yes|on)$/i.test(text),
  },
];

/** What a row can name, but the service does not make. */
const BESIDE =
  /^(Secret|ConfigMap|PersistentVolumeClaim|PersistentVolume|StorageClass|ServiceAccount|Role|RoleBinding|ClusterRole|ClusterRoleBinding|Namespace|Service|PriorityClass|RuntimeClass|LocalQueue|ClusterQueue|ResourceFlavor|ResourceQuota|LimitRange|NetworkPolicy|ExternalSecret|SealedSecret)$/;

function isBeside(kind: unknown): boolean {
  return typeof kind === "string" && BESIDE.test(kind);
}

function adviceOn({ kind, apiVersion }: Fields): string {
  if (kind === "Secret") return "nothing of it is read or shown; rows only name it: make it with kubectl apply -f";
  if (isBeside(kind)) return "rows only name it; make it with kubectl apply -f";
  if (kind === "Kustomization") return "build it first: kubectl kustomize . | mqtt-job-listener import -";
  if (word(kind) === undefined) return "it has no kind, so it is no object of Kubernetes";
  if (kind === "Job" || kind === "CronJob") {
    return `a ${kind} of ${word(apiVersion?.toString().split("/")[0]) ?? "another group"} is no Job of batch/v1; ` +
      "write its pod template as a PodTemplate and import that";
  }
  return "a row runs a Job, a Pod, a CronJob's Job or a PodTemplate; write its pod template as a PodTemplate and import " +
    "that";
}
