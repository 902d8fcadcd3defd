/**
 * The chains of a table: which row's completion starts which row, what goes round in circles, who waits in vain.
 * Pure: rows in, findings, a neutral graph and its Mermaid and DOT texts out. Layout and colours belong to the page.
 */
import type { Row } from "../ports.ts";
import { scheduleText } from "./cells/flows.ts";
import { rowNotes } from "./row_notes.ts";
import { END_KINDS, endName, endTopics, isUnderPrefix, overlap, TopicIndex } from "../topics.ts";
import { finish } from "../util/slices.ts";
import { findCircles } from "./circles.ts";
import { type ApartNeed, findApartNeeds } from "./needs_sources.ts";

/** A row that is left out because it has errors. `jobName` and `mqttTopic` are its cells, "" where there is none. */
export interface BadRow {
  readonly line: number;
  readonly jobName: string;
  readonly mqttTopic: string;
}

/** What the graph functions need of a table. */
export interface ChainSource {
  readonly topicPrefix: string;
  readonly rows: readonly Row[];
  readonly badRows: readonly BadRow[];
  /** What findChains() gives of it, where that is known already. */
  readonly chains?: ChainFindings;
}

/** A row that needs another one which never succeeds. */
export interface UnmetNeed {
  readonly row: Row;
  /** Name of the needed one. */
  readonly needed: string;
  /** The needed one, where it is switched off. */
  readonly off?: Row;
}

/** What there is to say about the chains of a table. Rows are in table order. */
export interface ChainFindings {
  /** Rows whose own end matches their own topic. */
  readonly selfTriggers: readonly Row[];
  /** Sets of two or more rows that start each other for ever. */
  readonly cycles: readonly (readonly Row[])[];
  /** Rows that wait for the end of a job that no row has. */
  readonly orphans: readonly Row[];
  /** Rows under the prefix whose topic is no end of a job: the service's own topics start nothing. */
  readonly never: readonly Row[];
  /** Sets of two or more rows that wait for each other: by `needs`, and by the ends of jobs. */
  readonly needCycles: readonly (readonly Row[])[];
  readonly unmetNeeds: readonly UnmetNeed[];
  /** Rows that wait for ever, since nothing starts two of those that they need. */
  readonly apartNeeds: readonly ApartNeed[];
}

/** Of a table without rows. */
export const NO_CHAINS: ChainFindings = {
  selfTriggers: [],
  cycles: [],
  orphans: [],
  never: [],
  needCycles: [],
  unmetNeeds: [],
  apartNeeds: [],
};

/** Rows and distinct filters as the nodes of one graph, so that `+` over many rows costs their sum, not their product. */
interface Links {
  /** Filter node of a row that waits under the prefix. */
  readonly filterOf: Map<number, number>;
  /** Rows of a filter node. */
  readonly rowsOf: number[][];
  /** Filter nodes that a row's end sets off. */
  readonly startedBy: Map<number, number[]>;
  readonly filters: string[];
}

function* link({ topicPrefix, rows }: ChainSource): Generator<void, Links> {
  const links: Links = { filterOf: new Map(), rowsOf: [], startedBy: new Map(), filters: [] };
  const idOf = new Map<string, number>();
  const index = new TopicIndex<number>();
  for (const [at, row] of rows.entries()) {
    if (at % 4096 === 4095) yield;
    if (row.enabled === "no" || !isUnderPrefix(topicPrefix, row.mqttTopic)) continue;
    let id = idOf.get(row.mqttTopic);
    if (id === undefined) {
      idOf.set(row.mqttTopic, id = links.filters.length);
      links.filters.push(row.mqttTopic);
      links.rowsOf.push([]);
      index.add(row.mqttTopic, id);
    }
    links.rowsOf[id]?.push(at);
    links.filterOf.set(at, id);
  }
  if (links.filters.length === 0) return links;
  for (const [at, row] of rows.entries()) {
    if (at % 1024 === 1023) yield;
    const started = endTopics(topicPrefix, row.jobName, { hasGroups: row.forEach !== undefined })
      .flatMap((topic) => index.match(topic));
    if (started.length > 0) links.startedBy.set(at, [...new Set(started)]);
  }
  return links;
}

/** Finds what is odd about the chains; yields now and then, so that a caller can let others work. */
export function* findChains(source: ChainSource): Generator<void, ChainFindings> {
  const { rows, topicPrefix } = source;
  const links = yield* link(source);
  const reached = new Set<number>();
  const selfTriggers: Row[] = [];
  for (const [at, started] of links.startedBy) {
    if (at % 4096 === 0) yield;
    for (const id of started) reached.add(id);
    const own = links.filterOf.get(at);
    const row = rows[at];
    if (row && own !== undefined && started.includes(own)) selfTriggers.push(row);
  }
  const orphans: Row[] = [];
  const never: Row[] = [];
  for (const [at, id] of links.filterOf) {
    if (at % 4096 === 0) yield;
    const row = rows[at];
    if (!row || reached.has(id)) continue;
    (canEnd(topicPrefix, row.mqttTopic) ? orphans : never).push(row);
  }
  yield;
  const cycles = yield* findCycles(rows, links);
  return { selfTriggers, cycles, orphans, never, ...yield* findNeeds(source, links) };
}

function canEnd(topicPrefix: string, filter: string): boolean {
  return END_KINDS.some((kind) => overlap(filter, `${topicPrefix}/${kind}/+`));
}

/** One row alone is a self-trigger at most, and reported as such. */
function* findCycles(rows: readonly Row[], links: Links): Generator<void, Row[][]> {
  const successors = (node: number): readonly number[] =>
    node < rows.length
      ? (links.startedBy.get(node) ?? []).map((id) => id + rows.length)
      : links.rowsOf[node - rows.length] ?? [];
  const circles = yield* findCircles(links.filterOf.keys(), successors);
  return rowsOfCircles(rows, circles);
}

function* findNeeds(
  { rows, topicPrefix }: ChainSource,
  links: Links,
): Generator<void, Pick<ChainFindings, "needCycles" | "unmetNeeds" | "apartNeeds">> {
  const joining = [...rows.entries()].filter(([, { needs, enabled }]) => needs !== undefined && enabled !== "no");
  if (joining.length === 0) return { needCycles: [], unmetNeeds: [], apartNeeds: [] };
  const places = new Map(rows.map(({ jobName }, at) => [jobName, at]));
  yield;
  const unmetNeeds: UnmetNeed[] = [];
  const waiting = new Map<number, number[]>();
  for (const [at, row] of joining) {
    for (const needed of row.needs ?? []) {
      const place = places.get(needed);
      const other = place === undefined ? undefined : rows[place];
      if (place === undefined || !other) unmetNeeds.push({ row, needed });
      else if (other.enabled === "no") unmetNeeds.push({ row, needed, off: other });
      else {
        const known = waiting.get(place);
        if (known) known.push(at);
        else waiting.set(place, [at]);
      }
    }
  }
  yield;
  const successors = (node: number): readonly number[] =>
    node < rows.length
      ? [...(links.startedBy.get(node) ?? []).map((id) => id + rows.length), ...waiting.get(node) ?? []]
      : links.rowsOf[node - rows.length] ?? [];
  const circles = yield* findCircles(waiting.keys(), successors);
  // Those of ends alone are told as such.
  const held = circles.filter((circle) => {
    const members = new Set(circle);
    return circle.some((node) => waiting.get(node)?.some((at) => members.has(at)));
  });
  const apartNeeds = yield* findApartNeeds(topicPrefix, rows);
  return { needCycles: rowsOfCircles(rows, held), unmetNeeds, apartNeeds };
}

function rowsOfCircles(rows: readonly Row[], circles: readonly (readonly number[])[]): Row[][] {
  return circles
    .map((circle) => circle.filter((node) => node < rows.length).sort((a, b) => a - b).flatMap((at) => rows[at] ?? []))
    .filter((circle) => circle.length > 1)
    .sort((a, b) => (a[0]?.line ?? 0) - (b[0]?.line ?? 0));
}

/** What a picture should make visible about a node. */
export type Mark = "bad" | "orphan" | "cycle" | "self-trigger" | "never" | "off";

export interface ChainNode {
  /** Unique in the graph, and made of letters and digits only. */
  readonly id: string;
  /**
   * `topic`: a filter that the outside publishes on. `end`: the end of a job, as a row waits for it. `schedule`: times at
   * which rows run by themselves.
   */
  readonly kind: "topic" | "row" | "end" | "schedule";
  /** Job name, topic filter, or a schedule with its zone. */
  readonly label: string;
  /** Line of a row. */
  readonly line?: number;
  readonly marks: readonly Mark[];
  /** What a row does beyond one run a message, in a few words each; absent: nothing. */
  readonly notes?: readonly string[];
}

export interface ChainEdge {
  readonly from: string;
  readonly to: string;
  /**
   * `starts`: topic or schedule → row. `succeeds`, `fails`: row → topic that its end is announced on. `needs`: row → row
   * that waits for it, beside others.
   */
  readonly kind: "starts" | "succeeds" | "fails" | "needs";
}

/** Topics → rows → ends of jobs, for drawing. Ends that no row waits for are left out. */
export interface ChainGraph {
  readonly nodes: readonly ChainNode[];
  readonly edges: readonly ChainEdge[];
  /** Rows that are left out, for there are too many. */
  readonly omittedRows: number;
}

/**
 * The graph of a table. Bad rows are in it, marked, with the topic that they name. Of more than `maxRows` rows the odd
 * ones are taken first, then those of chains.
 */
export function chainGraph(source: ChainSource, { maxRows = Infinity }: { maxRows?: number } = {}): ChainGraph {
  const { topicPrefix } = source;
  const findings = source.chains ?? finish(findChains(source));
  const badRows = source.badRows.slice(0, maxRows);
  const rows = chooseRows(source, findings, maxRows - badRows.length);
  const marks = markRows(findings, new Set(rows));
  const nodes: ChainNode[] = [];
  const edges: ChainEdge[] = [];
  const topicIds = new Map<string, string>();
  const orphans = new Set(rows.flatMap((row) => marks.get(row)?.includes("orphan") ? row.mqttTopic : []));
  const topicNode = (filter: string): string => {
    let id = topicIds.get(filter);
    if (id === undefined) {
      topicIds.set(filter, id = `t${topicIds.size}`);
      const kind = isUnderPrefix(topicPrefix, filter) ? "end" : "topic";
      nodes.push({ id, kind, label: filter, marks: orphans.has(filter) ? ["orphan"] : [] });
    }
    return id;
  };
  const scheduleIds = new Map<string, string>();
  const scheduleNodes = (row: Row): string[] => {
    if (row.schedule === undefined) return [];
    const label = `${scheduleText(row)} ${row.timeZone ?? "UTC"}`;
    const known = scheduleIds.get(label);
    if (known !== undefined) return [known];
    const id = `s${scheduleIds.size}`;
    scheduleIds.set(label, id);
    nodes.push({ id, kind: "schedule", label, marks: [] });
    return [id];
  };
  for (const [at, row] of rows.entries()) {
    const causes = [...row.mqttTopic === "" ? [] : [topicNode(row.mqttTopic)], ...scheduleNodes(row)];
    const notes = rowNotes(row);
    nodes.push({
      id: `r${at}`,
      kind: "row",
      label: row.jobName,
      line: row.line,
      marks: marks.get(row) ?? [],
      ...(notes.length === 0 ? {} : { notes }),
    });
    edges.push(...causes.map((from): ChainEdge => ({ from, to: `r${at}`, kind: "starts" })));
  }
  for (const [at, bad] of badRows.entries()) {
    const id = `b${at}`;
    nodes.push({ id, kind: "row", label: bad.jobName || `line ${bad.line}`, line: bad.line, marks: ["bad"] });
    if (bad.mqttTopic !== "") edges.push({ from: topicNode(bad.mqttTopic), to: id, kind: "starts" });
  }
  edges.push(...endEdges({ topicPrefix, rows }, topicIds), ...needEdges({ rows, badRows }, findings, nodes));
  const omittedRows = source.rows.length + source.badRows.length - rows.length - badRows.length;
  return { nodes, edges, omittedRows };
}

function chooseRows(
  { topicPrefix, rows }: ChainSource,
  findings: ChainFindings,
  maxRows: number,
): readonly Row[] {
  if (rows.length <= maxRows) return rows;
  const chosen = new Set<Row>();
  const take = (some: readonly Row[]) => {
    for (const row of some) {
      if (chosen.size >= maxRows) return;
      chosen.add(row);
    }
  };
  const { selfTriggers, cycles, orphans, never, needCycles, unmetNeeds } = findings;
  const unmet = unmetNeeds.map(({ row }) => row);
  for (const some of [selfTriggers, ...cycles, ...needCycles, orphans, unmet, never]) take(some);
  const named = new Map(chosen.size < maxRows ? rows.map((row) => [row.jobName, row]) : []);
  for (const row of rows) {
    if (chosen.size + 1 >= maxRows) break;
    const isChained = isUnderPrefix(topicPrefix, row.mqttTopic);
    if (!isChained && row.needs === undefined) continue;
    chosen.add(row);
    for (const name of [...isChained ? [endName(topicPrefix, row.mqttTopic) ?? ""] : [], ...row.needs ?? []]) {
      const before = named.get(name);
      if (before && chosen.size < maxRows) chosen.add(before);
    }
  }
  take(rows);
  return rows.filter((row) => chosen.has(row));
}

function endEdges(
  { topicPrefix, rows }: Pick<ChainSource, "topicPrefix" | "rows">,
  topicIds: ReadonlyMap<string, string>,
): ChainEdge[] {
  const index = new TopicIndex<string>();
  for (const [filter, id] of topicIds) {
    if (isUnderPrefix(topicPrefix, filter)) index.add(filter, id);
  }
  return rows.flatMap((row, at) => {
    const from = `r${at}`;
    return endTopics(topicPrefix, row.jobName, { hasGroups: row.forEach !== undefined }).flatMap((topic) => {
      const kind = topic.startsWith(`${topicPrefix}/job_failed/`) || topic.startsWith(`${topicPrefix}/group_failed/`)
        ? "fails" as const
        : "succeeds" as const;
      return index.match(topic).map((to): ChainEdge => ({ from, to, kind }));
    });
  });
}

/** Rows that are needed and are not in the table, or not drawn, become nodes too. */
function needEdges(
  { rows, badRows }: Pick<ChainSource, "rows" | "badRows">,
  { unmetNeeds }: ChainFindings,
  nodes: ChainNode[],
): ChainEdge[] {
  if (rows.every(({ needs }) => needs === undefined)) return [];
  const unknown = new Set(unmetNeeds.filter(({ off }) => off === undefined).map(({ needed }) => needed));
  const ids = new Map<string, string>([
    ...badRows.map(({ jobName }, at) => [jobName, `b${at}`] as const),
    ...rows.map(({ jobName }, at) => [jobName, `r${at}`] as const),
  ]);
  return rows.flatMap(({ needs = [] }, at) =>
    needs.map((needed): ChainEdge => {
      let from = ids.get(needed);
      if (from === undefined) {
        ids.set(needed, from = `n${ids.size}`);
        nodes.push({ id: from, kind: "end", label: needed, marks: unknown.has(needed) ? ["orphan"] : [] });
      }
      return { from, to: `r${at}`, kind: "needs" };
    })
  );
}

/** What is odd about each of these rows, in the order in which it is shown; rows that are as they should be have no entry. */
export function markRows(findings: ChainFindings, of: ReadonlySet<Row>): Map<Row, Mark[]> {
  const marks = new Map<Row, Mark[]>();
  const mark = (rows: Iterable<Row>, name: Mark) => {
    for (const row of rows) {
      if (!of.has(row)) continue;
      const known = marks.get(row);
      if (known) known.push(name);
      else marks.set(row, [name]);
    }
  };
  mark(findings.selfTriggers, "self-trigger");
  mark(new Set([...findings.cycles, ...findings.needCycles].flat()), "cycle");
  mark(new Set([...findings.orphans, ...findings.unmetNeeds.map(({ row }) => row)]), "orphan");
  mark(new Set([...findings.never, ...findings.apartNeeds.map(({ row }) => row)]), "never");
  mark([...of].filter(({ enabled }) => enabled === "no"), "off");
  return marks;
}

const MARK_WORDS: Readonly<Record<Mark, string>> = {
  "bad": "has errors, does not run",
  "orphan": "no row has this job",
  "cycle": "in a circle",
  "self-trigger": "starts itself",
  "never": "never runs",
  "off": "switched off",
};

function caption(node: ChainNode): string[] {
  return [node.label, ...node.notes ?? [], ...node.marks.map((mark) => `(${MARK_WORDS[mark]})`)];
}

/** Of edges that are drawn with a word, in Mermaid's language. */
const ARROWS: Readonly<Partial<Record<ChainEdge["kind"], string>>> = {
  fails: "-. fails .->",
  needs: "== needs ==>",
};
/** Likewise in Graphviz's. */
const STYLES: Readonly<Partial<Record<ChainEdge["kind"], string>>> = {
  fails: ' [style=dashed, label="fails"]',
  needs: ' [style=bold, label="needs"]',
};

/** The graph as a Mermaid flowchart. Labels are escaped: a job name cannot add nodes or markup. */
export function toMermaid(graph: ChainGraph): string {
  const lines = ["flowchart LR"];
  for (const node of graph.nodes) {
    const text = caption(node).map(mermaidText).join("<br/>");
    lines.push(`  ${node.id}${node.kind === "row" ? `["${text}"]` : `(["${text}"])`}`);
  }
  for (const edge of graph.edges) {
    const arrow = ARROWS[edge.kind] ?? "-->";
    lines.push(`  ${edge.from} ${arrow} ${edge.to}`);
  }
  const odd = graph.nodes.filter((node) => node.marks.length > 0).map((node) => node.id);
  if (odd.length > 0) {
    lines.push("  classDef odd stroke:#b00020,stroke-width:2px,stroke-dasharray:4 3", `  class ${odd.join(",")} odd`);
  }
  return lines.join("\n") + "\n";
}

/** Mermaid reads `#34;` as a character; everything that it or HTML gives a meaning is written so. */
function mermaidText(text: string): string {
  return text.replace(/[^\p{L}\p{N} /_.()-]/gu, (char) => `#${char.codePointAt(0)};`);
}

/** The graph in Graphviz's language. */
export function toDot(graph: ChainGraph): string {
  const lines = ["digraph table {", "  rankdir=LR;", '  node [fontname="sans-serif"];'];
  for (const node of graph.nodes) {
    const label = caption(node).map(dotText).join("\\n");
    const shape = node.kind === "row" ? "shape=box" : "shape=ellipse";
    const odd = node.marks.length > 0 ? ', color="#b00020", style=dashed' : "";
    lines.push(`  ${node.id} [label="${label}", ${shape}${odd}];`);
  }
  for (const edge of graph.edges) {
    lines.push(`  ${edge.from} -> ${edge.to}${STYLES[edge.kind] ?? ""};`);
  }
  return [...lines, "}"].join("\n") + "\n";
}

function dotText(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", " ");
}
