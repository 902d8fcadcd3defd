/**
 * The operator's pod templates: reads documents of Kubernetes' kind PodTemplate and says what is wrong with each.
 * Pure: where they come from and when they are read again is not known here. What a template may hold is more than a
 * row may say, for it is the operator's; but what would hang or hide a run is refused.
 */
import { parseAllDocuments } from "yaml";
import { CONTAINER_NAME } from "../run_spec.ts";
import type { Json, JsonMap } from "./strategic_merge.ts";
import { isNestedTooDeep } from "../util/yaml_depth.ts";

/** Merged under every row, where there is one of that name. */
export const DEFAULT_TEMPLATE = "default";

/** A template, or what is wrong with it as a clause to follow its name and a colon. */
export type PodTemplate = { readonly template: JsonMap } | { readonly fault: string };

export interface PodTemplates {
  readonly byName: ReadonlyMap<string, PodTemplate>;
  /** What cannot be put to a template's name, a sentence each. */
  readonly faults: readonly string[];
}

/** Most documents, and bytes of a file: far more than an operator writes. */
export const MAX_TEMPLATES = 200;
export const MAX_TEMPLATE_BYTES = 1024 * 1024;

/** Reads files by their names; `allowPrivileged`: the policy's word on host paths and privilege. */
export function parsePodTemplates(
  files: Readonly<Record<string, string>>,
  { allowPrivileged }: { readonly allowPrivileged: boolean },
): PodTemplates {
  const byName = new Map<string, PodTemplate>();
  const faults: string[] = [];
  for (const [file, text] of Object.entries(files)) {
    if (text.length > MAX_TEMPLATE_BYTES) {
      faults.push(`Cannot use ${file}: it has more than ${MAX_TEMPLATE_BYTES} characters`);
      continue;
    }
    if (isNestedTooDeep(text)) {
      faults.push(`Cannot use ${file}: it is nested more deeply than anybody needs`);
      continue;
    }
    for (const [at, document] of parseAllDocuments(text, { prettyErrors: false }).entries()) {
      const where = `${file}, document ${at + 1}`;
      const [broken] = document.errors;
      // The parser's own words may show the text, and templates may hold what is nobody's business.
      if (broken) faults.push(`Cannot read ${where}: it is not YAML (${broken.code})`);
      else readDocument(contentOf(document), where);
    }
  }
  return { byName, faults };

  function readDocument(content: Json, where: string): void {
    if (content === null) return;
    const { kind, metadata, template, items } = asMap(content);
    if (kind === "PodTemplateList" || kind === "List") {
      for (const item of Array.isArray(items) ? items as readonly Json[] : []) readDocument(item, where);
      return;
    }
    const { name } = asMap(metadata);
    if (kind !== "PodTemplate") faults.push(`Cannot use ${where}: it must be of the kind PodTemplate`);
    else if (typeof name !== "string" || !/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(name)) {
      faults.push(`Cannot use ${where}: metadata.name must be a name of Kubernetes, such as gpu-with-cache`);
    } else if (byName.has(name)) byName.set(name, { fault: `it stands twice, the second time in ${where}` });
    else if (byName.size >= MAX_TEMPLATES) faults.push(`Cannot use ${where}: there are more than ${MAX_TEMPLATES}`);
    else {
      const fault = faultOf(asMap(template), allowPrivileged);
      byName.set(name, fault === undefined ? { template: asMap(template) } : { fault });
    }
  }
}

/** No object where aliases of aliases would make it as large as they like. */
function contentOf(document: ReturnType<typeof parseAllDocuments>[number]): Json {
  try {
    return document.toJS({ maxAliasCount: 100 }) as Json;
  } catch (error) {
    if (error instanceof ReferenceError) return "too many aliases";
    throw error;
  }
}

function faultOf(template: JsonMap, allowPrivileged: boolean): string | undefined {
  const { spec } = template;
  if (!isMap(spec)) return "it has no template.spec";
  const containers = mapsOf(spec["containers"]);
  for (const { name } of containers) {
    if (name === CONTAINER_NAME) continue;
    return `its container ${JSON.stringify(name ?? "")} would hold the Job until it ends by itself; put it under ` +
      `initContainers with restartPolicy: Always (a native sidecar), and give the container "${CONTAINER_NAME}" only ` +
      "what rows share";
  }
  for (const { name } of mapsOf(spec["volumes"])) {
    if (typeof name !== "string" || !/^(disk|mount-\d+)$/.test(name)) continue;
    return `rows have volumes called ${JSON.stringify(name)}; give the template's another name`;
  }
  for (const { name } of mapsOf(spec["initContainers"])) {
    if (name === CONTAINER_NAME) {
      return `"${CONTAINER_NAME}" is the row's own container, so no init container may be called so`;
    }
  }
  const [privilege] = allowPrivileged ? [] : privileges(spec);
  return privilege === undefined
    ? undefined
    : `it asks for ${privilege}; the policy must say so: add the line allow_privileged: true to POLICY_FILE`;
}

/** What gives a pod power over its node. */
function* privileges(spec: JsonMap): Generator<string> {
  for (const field of ["hostNetwork", "hostPID", "hostIPC"]) if (spec[field] === true) yield field;
  if (spec["hostUsers"] === true) yield "hostUsers";
  for (const volume of mapsOf(spec["volumes"])) {
    if (isMap(volume["hostPath"])) yield `the host path of the volume ${JSON.stringify(volume["name"] ?? "")}`;
  }
  for (const container of [...mapsOf(spec["containers"]), ...mapsOf(spec["initContainers"])]) {
    const { privileged, allowPrivilegeEscalation, capabilities, procMount } = asMap(container["securityContext"]);
    const where = `of the container ${JSON.stringify(container["name"] ?? "")}`;
    if (privileged === true) yield `privileged: true ${where}`;
    if (allowPrivilegeEscalation === true) yield `allowPrivilegeEscalation: true ${where}`;
    if (procMount !== undefined && procMount !== "Default") yield `another procMount ${where}`;
    const { add } = asMap(capabilities);
    if (Array.isArray(add) && add.length > 0) yield `added capabilities ${where}`;
    for (const port of mapsOf(container["ports"])) if (Number(port["hostPort"] ?? 0) > 0) yield `a hostPort ${where}`;
  }
}

function isMap(value: Json | undefined): value is JsonMap {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function asMap(value: Json | undefined): JsonMap {
  return isMap(value) ? value : {};
}

function mapsOf(value: Json | undefined): readonly JsonMap[] {
  return Array.isArray(value) ? value.filter(isMap) : [];
}
