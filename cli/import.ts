/**
 * The command `import`: manifests of Kubernetes → rows and pod templates. Reads and writes files; what becomes of a
 * manifest is catalog/import.ts. Needs no configuration and no peer.
 */
import { type Finding, type Imported, type ImportedRow } from "../catalog/import.ts";
import { type Call, CommandError, counted, type Io, plain, printLine } from "./context.ts";
import { errorMessage } from "../util/errors.ts";

/** Each row's own topic, where no other is given. */
const PROPOSED_TOPIC = "lab/{name}";
/** Of the rows; whether their topics lie under the service's own is the table's matter, see `check`. */
const TOPIC_PREFIX = "services/mqtt_job_listener";

/** Writes rows of the named manifests; exit code 1 if something could not be carried. */
export async function importCommand({ words, json, io, ...call }: Call): Promise<number> {
  const { describeFinding, importedCsv, importedTemplates, importManifests } = await import("../catalog/import.ts");
  const { filterFault } = await import("../topics.ts");
  const given = call.flag("topic");
  const topic = typeof given === "string" ? given : PROPOSED_TOPIC;
  const fault = filterFault(topic.replaceAll("{name}", "name"));
  if (fault !== undefined) throw new CommandError(2, `--topic "${topic}": ${fault}`);
  const files = await Promise.all(words.map((path) => readManifest(path, io)));
  const imported = importManifests(files, { topic, topicPrefix: TOPIC_PREFIX });
  const findings = [...imported.findings, ...await adviceOn(imported, given === undefined)];
  const yaml = importedTemplates(imported.templates);
  const target = call.flag("templates");
  if (typeof target === "string" && yaml !== "") await writeTemplates(target, yaml);
  if (json) {
    const rows = imported.rows.map(({ object, source, cells }) => ({ object, source, ...cells }));
    const told = findings.map((finding) => ({ ...finding, text: describeFinding(finding) }));
    const csv = importedCsv(imported.rows);
    await printLine(io, JSON.stringify({ rows, csv, templates: imported.templates, findings: told }));
  } else {
    await io.write(importedCsv(imported.rows));
    if (target === undefined && yaml !== "") await io.write(`---\n${yaml}`);
    for (const finding of findings) io.tell(plain(describeFinding(finding)));
    io.tell(summary(imported, findings, typeof target === "string" ? target : undefined));
  }
  return imported.rows.length === 0 || findings.some(({ severity }) => severity === "error") ? 1 : 0;
}

async function readManifest(path: string, io: Io): Promise<{ name: string; text: string }> {
  if (path === "-") return { name: "standard input", text: decoded(await io.read()) };
  try {
    const { size, isFile } = await Deno.stat(path);
    const { MAX_FILE } = await import("../catalog/import/documents.ts");
    // What is too large is told by its size alone.
    if (isFile && size > MAX_FILE * 4) throw new CommandError(1, `Cannot read ${path}: it has ${size} bytes; part it`);
    return { name: path, text: decoded(await Deno.readFile(path)) };
  } catch (cause) {
    if (cause instanceof CommandError || cause instanceof Deno.errors.NotCapable) throw cause;
    const why = cause instanceof Deno.errors.NotFound ? "there is no such file" : errorMessage(cause);
    throw new CommandError(2, `Cannot read ${path}: ${why}`, { cause });
  }
}

function decoded(bytes: Uint8Array): string {
  // Programs of Windows write UTF-16.
  const encoding = bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le" : "utf-8";
  return new TextDecoder(encoding).decode(bytes);
}

async function writeTemplates(path: string, yaml: string): Promise<void> {
  try {
    // A file of templates that is there already may have been worked on.
    await Deno.writeTextFile(path, yaml, { createNew: true });
  } catch (cause) {
    const why = cause instanceof Deno.errors.AlreadyExists
      ? "the file is there already; name another one, or take it away"
      : cause instanceof Deno.errors.NotCapable
      ? "the program may not write there; leave --templates out, and the templates follow the table"
      : errorMessage(cause);
    throw new CommandError(2, `Cannot write ${path}: ${why}`, { cause });
  }
}

/** What to do before the rows run. */
async function adviceOn({ rows, templates }: Imported, isProposed: boolean): Promise<Finding[]> {
  const { checkRow } = await import("../catalog/policy.ts");
  const { parsePodTemplates } = await import("../k8s/pod_templates.ts");
  const found: Finding[] = [];
  if (isProposed && rows.length > 0) {
    const message = "it is a proposal; write the topic of the messages that start the row, here or by --topic";
    found.push({ severity: "warning", source: "mqtt_topic", message });
  }
  const policed = (row: ImportedRow): Finding[] =>
    checkRow({}, row.row).map(({ column = "", message }) => {
      return { severity: "warning", source: row.source, object: row.object, path: `column ${column}`, message };
    });
  found.push(...rows.flatMap(policed));
  const texts = Object.fromEntries(templates.map((template) => [template.metadata.name, JSON.stringify(template)]));
  const { byName } = parsePodTemplates(texts, { allowPrivileged: false });
  for (const [name, template] of byName) {
    if (!("fault" in template)) continue;
    found.push({ severity: "warning", source: "pod templates", object: name, message: template.fault });
  }
  return found;
}

function summary({ rows, templates }: Imported, findings: readonly Finding[], file: string | undefined): string {
  const count = (severity: string) => findings.filter((finding) => finding.severity === severity).length;
  const parts = [
    counted(rows.length, "row"),
    counted(templates.length, "pod template") + (file && templates.length > 0 ? ` in ${file}` : ""),
    counted(count("error"), "error"),
    counted(count("warning"), "warning"),
    counted(count("note"), "note"),
  ];
  return parts.join(", ");
}
