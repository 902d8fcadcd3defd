/**
 * Manifests of Kubernetes → rows of the table, pod templates for what no column says, and findings. Pure.
 * Owns names that are unique and what all rows share; one workload is import/job.ts, files are import/documents.ts.
 */
import { stringify } from "yaml";
import { rowLabel } from "../run_spec.ts";
import { objectNameFault } from "./cells/names.ts";
import { allColumns, type Row } from "./columns.ts";
import { toCsv } from "./import/cells.ts";
import { type Fields, nameOf, readWorkloads } from "./import/documents.ts";
import { describeFinding, type Finding } from "./import/finding.ts";
import { importWorkload } from "./import/job.ts";

export { describeFinding, type Finding };

/** A row as it was made of a workload. */
export interface ImportedRow {
  /** Kind and name of the workload. */
  readonly object: string;
  readonly source: string;
  /** By column name, in the order of the documentation; no cell is empty. */
  readonly cells: Readonly<Record<string, string>>;
  /** As the table reads it, without its pod template. */
  readonly row: Row;
}

/** A document of Kubernetes' kind PodTemplate. */
export interface ImportedTemplate {
  readonly apiVersion: "v1";
  readonly kind: "PodTemplate";
  readonly metadata: { readonly name: string };
  readonly template: Fields;
}

export interface Imported {
  readonly rows: readonly ImportedRow[];
  readonly templates: readonly ImportedTemplate[];
  readonly findings: readonly Finding[];
}

export interface ImportOptions {
  /** Topic of each row; `{name}` in it is the row's name. */
  readonly topic: string;
  /** Topic prefix of the service. */
  readonly topicPrefix: string;
}

/** Reads manifests; never throws for what they hold. `name` of a file is for findings. */
export function importManifests(
  files: readonly { readonly name: string; readonly text: string }[],
  { topic, topicPrefix }: ImportOptions,
): Imported {
  const { workloads, findings } = readWorkloads(files);
  const rows: ImportedRow[] = [];
  /** By what they hold: rows that need the same share one. */
  const templates = new Map<string, ImportedTemplate>();
  const names = new Set<string>();
  for (const workload of workloads) {
    const { source, label } = workload;
    const wanted = nameOf(workload.object) || workload.kind.toLowerCase();
    const jobName = unique(wanted, names);
    if (jobName !== wanted) {
      const message = `another row has the name; this one is called ${jobName}`;
      findings.push({ severity: "note", source, object: label, path: "metadata.name", message });
    }
    const options = { jobName, topic: topic.replaceAll("{name}", jobName), topicPrefix };
    const { cells, row, template, findings: own } = importWorkload(workload, options);
    findings.push(...own);
    if (cells === undefined || row === undefined) {
      names.delete(jobName);
      continue;
    }
    const podTemplate = template && shared(templates, template, jobName).metadata.name;
    rows.push({
      object: label,
      source,
      cells: podTemplate ? inOrder({ ...cells, pod_template: podTemplate }) : cells,
      row,
    });
  }
  return { rows, templates: [...templates.values()], findings };
}

/** The template of this content; a new one gets its name from the row. */
function shared(templates: Map<string, ImportedTemplate>, template: Fields, jobName: string): ImportedTemplate {
  const content = JSON.stringify(template);
  const known = templates.get(content);
  if (known) return known;
  const taken = new Set([...templates.values()].map(({ metadata }) => metadata.name));
  const wanted = objectNameFault(jobName) === undefined ? jobName : rowLabel(jobName);
  // The template "default" is every row's.
  const name = unique(wanted === "default" ? "default-job" : wanted, taken);
  const made: ImportedTemplate = { apiVersion: "v1", kind: "PodTemplate", metadata: { name }, template };
  templates.set(content, made);
  return made;
}

function unique(wanted: string, taken: Set<string>): string {
  let name = wanted;
  for (let count = 2; taken.has(name); count++) name = `${wanted.slice(0, 190)}-${count}`;
  taken.add(name);
  return name;
}

function inOrder(cells: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(allColumns.flatMap(({ name }) => cells[name] === undefined ? [] : [[name, cells[name]]]));
}

/** The rows as a table of the columns that they need; "" for no rows. */
export function importedCsv(rows: readonly ImportedRow[]): string {
  if (rows.length === 0) return "";
  const columns = allColumns.map(({ name }) => name).filter((name) => rows.some(({ cells }) => name in cells));
  return toCsv(columns, rows.map(({ cells }) => cells));
}

/** The templates as documents of YAML, which Kubernetes' reader (YAML 1.1) and every other one read alike. */
export function importedTemplates(templates: readonly ImportedTemplate[]): string {
  return templates.map((template) =>
    stringify(template, { lineWidth: 0, aliasDuplicateObjects: false, compat: "yaml-1.1" })
  ).join("---\n");
}
