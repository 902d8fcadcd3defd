/**
 * Commands about the table: check and graph; explain is beside it. They need no running service. What is true of a table is said by the
 * modules asked, each imported when it is wanted: `check` needs no Kubernetes.
 */
import type { Problem } from "../catalog.ts";
import type { TemplateFiles } from "../k8s/template_files.ts";
import type { CompiledTable } from "../catalog/compile.ts";
import type { Config } from "../config.ts";
import { type Row, UnavailableError } from "../ports.ts";
import { runSpec, sampleOf } from "./items.ts";
import {
  type Call,
  CommandError,
  counted,
  hint,
  type Io,
  openCluster,
  plain,
  printLine,
  shellWord,
} from "./context.ts";
import { styled } from "./table_text.ts";
import { errorMessage } from "../util/errors.ts";
import { atOnce } from "../util/semaphore.ts";
import { oneLine } from "../util/text.ts";

/** The table that was named, or the configured one, as the service would read it. */
export async function openTable(
  config: Config,
  io: Io,
  where?: string,
): Promise<{ table: CompiledTable; url: string; templates: TemplateFiles | undefined }> {
  const { readTable } = await import("../catalog/compile.ts");
  const { source, url } = await tableText(config, io, where);
  const { checkRow } = await import("../catalog/policy.ts");
  const policy = await readPolicy(config);
  const { topicPrefix } = config;
  const { openTemplates } = await import("../adapters.ts");
  const { checkChannels, checkTemplate } = await import("../catalog/rules.ts");
  const templates = await openTemplates(config);
  const channels = [...config.channels.keys()];
  const check = (row: Row) => [
    ...checkRow(policy ?? {}, row),
    ...checkTemplate(templates, row),
    ...checkChannels(channels, row),
  ];
  const table = await readTable(source, { topicPrefix, check });
  return { table, url, templates };
}

async function readPolicy({ policy }: Config) {
  if (!policy) return undefined;
  const { parsePolicy } = await import("../catalog/policy.ts");
  try {
    return parsePolicy(policy.text, policy.file);
  } catch (cause) {
    throw new CommandError(2, `POLICY_FILE ${policy.file}: ${errorMessage(cause)}`, { cause });
  }
}

async function tableText(config: Config, io: Io, where?: string): Promise<{ source: Uint8Array; url: string }> {
  if (where === "-") return { source: await io.read(), url: "standard input" };
  if (where !== undefined && /^https?:/.test(where)) {
    io.progress?.(`Reading ${where}`);
    return { source: await download(where).finally(() => io.progress?.("")), url: where };
  }
  const { splitObjectUrl } = await import("../config.ts");
  const { openStore } = await import("../adapters.ts");
  const { MAX_TABLE_BYTES } = await import("../catalog.ts");
  const { storeUrl, key } = where === undefined ? config.catalog : splitObjectUrl(where);
  const store = await openStore(storeUrl, config.s3);
  const url = where ?? `${store.url}/${key}`;
  if (!store.url.startsWith("file:")) io.progress?.(`Reading ${url}`);
  const found = await store.get(key, { maxBytes: MAX_TABLE_BYTES }).finally(() => io.progress?.(""));
  if (found === undefined || found === "unchanged") {
    throw new CommandError(
      2,
      `There is no table at ${url}: ${where === undefined ? "see CATALOG_URL" : "see the path"}`,
    );
  }
  return { source: found.body, url };
}

async function download(url: string): Promise<Uint8Array> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(30_000) }).catch((cause) => {
    throw new UnavailableError(`Cannot read ${url}: ${errorMessage(cause)}`, { cause });
  });
  const body = await answer.bytes();
  if (answer.status >= 500) throw new UnavailableError(`Cannot read ${url}: it answered ${answer.status}`);
  if (!answer.ok) throw new CommandError(2, `Cannot read ${url}: it answered ${answer.status}; see the address`);
  return body;
}

/** Tells everything that is wrong with a table; exit code 1 if a row would not run, with `--strict` for warnings too. */
export async function check({ words: [where], json, io, ...call }: Call): Promise<number> {
  const config = call.config();
  const { describeProblem } = await import("../catalog.ts");
  const { table, url } = await openTable(config, io, where);
  const problems = [...table.problems, ...call.flag("server") ? await askServer(config, table.rows, io) : []]
    .sort((a, b) => a.line - b.line);
  const errors = problems.filter(({ severity }) => severity === "error").length;
  const warnings = problems.length - errors;
  const rows = table.rows.length;
  if (json) {
    const told = problems.map((problem) => ({ ...problem, text: describeProblem(problem) }));
    await printLine(io, JSON.stringify({ table: url, rows, errors, warnings, problems: told }));
  } else {
    const lines = problems.map((problem) => problemLine(problem.severity, describeProblem(problem), io.screen));
    const sum = [counted(rows, "good row"), counted(errors, "error"), counted(warnings, "warning")].join(", ");
    const style = errors > 0 ? "bad" : warnings > 0 ? "warning" : "good";
    const last = styled(oneLine(plain(`${url}: ${sum}`)), style, io.screen);
    await io.write([...lines, last, ""].join("\n"), { styled: true });
    const topic = table.rows.find(({ mqttTopic }) => mqttTopic !== "" && !/[+#]/.test(mqttTopic))?.mqttTopic;
    if (errors === 0 && topic !== undefined) {
      hint(io, plain(`See what a message would start: mqtt-job-listener explain ${shellWord(topic)}`));
    }
  }
  return errors > 0 || warnings > 0 && call.flag("strict") ? 1 : 0;
}

function problemLine(severity: Problem["severity"], words: string, screen: Io["screen"]): string {
  const head = styled(`${severity}:`, severity === "error" ? "bad" : "warning", screen);
  return `${head} ${oneLine(plain(words))}`;
}

const ASKED_AT_ONCE = 8;

/** What the API server has against the rows' Jobs, by a dry run: admission, quotas and the role included. */
async function askServer(config: Config, rows: readonly Row[], io: Io): Promise<Problem[]> {
  // The local runner takes runs that it finds for those of a dead service and ends them.
  if (config.cluster.kind === "local") throw new CommandError(2, "--server: needs CLUSTER=kubernetes");
  const { sampleMessage } = await import("../run_spec.ts");
  const cluster = await openCluster(config);
  const problems: Problem[] = [];
  const ask = async ([at, row]: [number, Row]) => {
    io.progress?.(`Asking ${cluster.url}: row ${at + 1} of ${rows.length}`);
    const spec = await sampleOf(await runSpec(row, sampleMessage(row, config.topicPrefix), config));
    await cluster.create(spec, { dryRun: true }).catch((error) => {
      if (error instanceof UnavailableError) throw error;
      const message = `the API server refuses its Job: ${errorMessage(error)}`;
      problems.push({ severity: "error", line: row.line, jobName: row.jobName, message });
    });
  };
  try {
    await atOnce(ASKED_AT_ONCE, [...rows.entries()], ask);
  } finally {
    io.progress?.("");
    cluster[Symbol.dispose]?.();
  }
  return problems;
}

/** Draws the table. */
export async function graph({ words: [where], json, io, ...call }: Call): Promise<number> {
  const config = call.config();
  const { chainGraph, toDot, toMermaid } = await import("../catalog/chains.ts");
  const { table } = await openTable(config, io, where);
  if (table.refusal) throw new CommandError(1, `Cannot draw the table: ${table.refusal.message}`);
  const drawing = chainGraph(table);
  const format = call.flag("format");
  if (json) await printLine(io, JSON.stringify(drawing));
  else if (format === "svg") {
    const { drawGraph } = await import("../status/graph.tsx");
    const { svg, omitted } = drawGraph(drawing, config.topicPrefix);
    await io.write(withStyle(svg));
    if (omitted > 0) io.tell(`${omitted} topics and rows are not drawn, for there are too many`);
  } else await io.write(format === "dot" ? toDot(drawing) : toMermaid(drawing));
  return 0;
}

/** The page styles the drawing by its own sheet; a file needs some of that within. */
function withStyle(svg: string): string {
  const style = "<style>svg{background:#fff;font:13px sans-serif}rect{fill:#fff;stroke:#555}text{fill:#111}" +
    ".edge{fill:none;stroke:#555}.fails{stroke-dasharray:4 3}.needs{stroke-width:2.5px}.odd{stroke:#b00020;stroke-dasharray:4 3}</style>";
  return svg.trim().replace(/<svg[^<>]*>/, (tag) => tag + style) + "\n";
}
