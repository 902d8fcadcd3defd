/**
 * The table as a drawing: topics, rows and the chains between them, laid out by dagre and drawn as SVG text.
 * Pure; long work is done in steps. Must not know the page that shows it.
 */
import dagre from "@dagrejs/dagre";
import { type ChainEdge, type ChainGraph, type ChainNode, type Mark } from "../catalog/chains.ts";
import type { Child } from "hono/jsx";
import { finish } from "../util/slices.ts";
import { visible } from "../util/text.ts";
import { short } from "./pages/parts.tsx";

export const MARK_WORDS: Readonly<Record<Mark, string>> = {
  "bad": "has errors, does not run",
  "orphan": "waits for a job that no row has",
  "cycle": "in a circle",
  "self-trigger": "starts itself",
  "never": "never runs",
  "off": "switched off",
};
/** Edges with a line of their own and a word, which is their name. */
const WORDED: ReadonlySet<ChainEdge["kind"]> = new Set(["fails", "needs"]);
/** Width of a character of the drawing's font at 12 px, in px; a little more than DejaVu Sans Mono's 7.22. */
const CHAR_PX = 7.4;
const LINE_PX = 16;
const MAX_LABEL = 44;
/** Nodes drawn at most: more cannot be read, and the layout's time grows faster than their number. */
const MAX_NODES = 100;
const MARGIN_PX = 8;
const PART_GAP_PX = 14;

/** A drawing made once a table: SVG text, made by `drawGraph` alone. */
export interface GraphPicture {
  readonly svg: string;
  /** Nodes that are not drawn, for there are too many. */
  readonly omitted: number;
}

/** Rows taken into a drawing at most. */
export const MAX_DRAWN_ROWS = 400;

/**
 * Lays the graph out and draws it, ends of jobs without `topicPrefix`, which all of them have. Of a large graph: the
 * marked rows and the chains first, then what else fits.
 */
export function drawGraph(graph: ChainGraph, topicPrefix: string): GraphPicture {
  return finish(drawGraphSteps(graph, topicPrefix));
}

/** `drawGraph` in steps: yields after each connected part, so that a caller can let others work. */
export function* drawGraphSteps(graph: ChainGraph, topicPrefix: string): Generator<void, GraphPicture> {
  const nodes = chooseNodes(graph).map((node) => ({ ...node, label: shortLabel(node, topicPrefix) }));
  const ids = new Set(nodes.map(({ id }) => id));
  const edges = graph.edges.filter(({ from, to }) => ids.has(from) && ids.has(to));
  yield;
  const drawn: Child[] = [];
  let [width, height] = [0, MARGIN_PX];
  for (const part of partsOf(nodes, edges)) {
    const laid = drawPart(part, height);
    drawn.push(laid.markup);
    width = Math.max(width, laid.width);
    height += laid.height + PART_GAP_PX;
    yield;
  }
  const size = { width: Math.ceil(width) + 2 * MARGIN_PX, height: Math.ceil(height) - PART_GAP_PX + MARGIN_PX };
  const svg = (
    <svg
      xmlns="http://www.w3.org/2000/svg"
      role="img"
      aria-labelledby="graph-t graph-d"
      width={size.width}
      height={size.height}
      viewBox={`0 0 ${size.width} ${size.height}`}
    >
      <title id="graph-t">The table as a graph</title>
      <desc id="graph-d">{describe(nodes)}</desc>
      <defs>
        <marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
          <path class="tip" d="M0 0L8 4L0 8z" />
        </marker>
      </defs>
      {drawn}
    </svg>
  );
  return { svg: visible(svg.toString()), omitted: graph.nodes.length - nodes.length + graph.omittedRows };
}

interface Part {
  readonly nodes: ChainNode[];
  readonly edges: ChainEdge[];
}

/** The connected parts, in the order of their first nodes. */
function partsOf(nodes: readonly ChainNode[], edges: readonly ChainEdge[]): Part[] {
  const above = new Map<string, string>();
  const root = (id: string): string => {
    let at = id;
    for (let up = above.get(at); up !== undefined; up = above.get(at)) at = up;
    return at;
  };
  for (const { from, to } of edges) {
    const [a, b] = [root(from), root(to)];
    if (a !== b) above.set(a, b);
  }
  const parts = new Map<string, Part>();
  for (const node of nodes) {
    const id = root(node.id);
    const part = parts.get(id);
    if (part) part.nodes.push(node);
    else parts.set(id, { nodes: [node], edges: [] });
  }
  for (const edge of edges) parts.get(root(edge.from))?.edges.push(edge);
  return [...parts.values()];
}

/** One connected part, its upper edge at `top`. */
function drawPart({ nodes, edges }: Part, top: number): { markup: Child; width: number; height: number } {
  const layout = new dagre.graphlib.Graph({ multigraph: true });
  layout.setGraph({ rankdir: "LR", nodesep: 14, ranksep: 56, marginx: 0, marginy: 0 });
  layout.setDefaultEdgeLabel(() => ({}));
  for (const node of nodes) layout.setNode(node.id, sizeOf(node));
  for (const { from, to, kind } of edges) {
    layout.setEdge(from, to, WORDED.has(kind) ? { width: 40, height: 14, labelpos: "c" } : {}, kind);
  }
  dagre.layout(layout);
  const { width = 0, height = 0 } = layout.graph();
  const markup = (
    <g transform={`translate(${MARGIN_PX} ${round(top)})`}>
      {edges.map(({ from, to, kind }) => <Edge placed={layout.edge(from, to, kind)} kind={kind} />)}
      {nodes.map((node) => <Node node={node} placed={layout.node(node.id)} />)}
    </g>
  );
  return { markup, width, height };
}

function shortLabel({ kind, label }: ChainNode, topicPrefix: string): string {
  return kind === "end" && label.startsWith(`${topicPrefix}/`) ? `…${label.slice(topicPrefix.length)}` : label;
}

function chooseNodes({ nodes, edges }: ChainGraph): ChainNode[] {
  if (nodes.length <= MAX_NODES) return [...nodes];
  const chained = new Set(edges.filter(({ kind }) => kind !== "starts").flatMap(({ from, to }) => [from, to]));
  const rank = ({ marks, id }: ChainNode) => marks.length > 0 ? 0 : chained.has(id) ? 1 : 2;
  const byRank = [0, 1, 2].flatMap((wanted) => nodes.filter((node) => rank(node) === wanted));
  const chosen = new Set(byRank.slice(0, MAX_NODES));
  return nodes.filter((node) => chosen.has(node));
}

function linesOf(node: ChainNode): string[] {
  const lines = [node.label, ...node.notes ?? []].map((line) =>
    line.length > MAX_LABEL ? `${line.slice(0, MAX_LABEL - 1)}…` : line
  );
  return [...lines, ...node.marks.map((mark) => `! ${MARK_WORDS[mark]}`)];
}

function sizeOf(node: ChainNode): { width: number; height: number } {
  const lines = linesOf(node);
  const widest = Math.max(...lines.map((line) => line.length));
  return { width: Math.ceil(widest * CHAR_PX) + 20, height: lines.length * LINE_PX + 12 };
}

function describe(nodes: readonly ChainNode[]): string {
  const count = (kind: ChainNode["kind"]) => nodes.filter((node) => node.kind === kind).length;
  const odd = nodes.filter(({ marks }) => marks.length > 0)
    .map(({ label, marks }) => `${short(label)}: ${marks.map((mark) => MARK_WORDS[mark]).join(", ")}`);
  const schedules = count("schedule") > 0 ? `${count("schedule")} schedules, ` : "";
  return `${count("topic")} topics, ${schedules}${count("row")} rows, ${
    count("end")
  } ends of jobs that rows wait for. ` +
    (odd.length > 0 ? `Marked: ${odd.join("; ")}.` : "Nothing is marked.") + " The list of rows below says the same.";
}

interface Placed {
  readonly x?: number;
  readonly y?: number;
  readonly width?: number;
  readonly height?: number;
}

function Node({ node, placed }: { node: ChainNode; placed: Placed }) {
  const { x = 0, y = 0, width = 0, height = 0 } = placed;
  const [left, top] = [round(x - width / 2), round(y - height / 2)];
  return (
    <g>
      <title>{short(node.label)}{node.line !== undefined && ` (line ${node.line})`}</title>
      <rect
        class={`node ${node.kind}${node.marks.length > 0 ? " odd" : ""}`}
        x={left}
        y={top}
        width={width}
        height={height}
        rx={node.kind === "row" ? 3 : 12}
      />
      {linesOf(node).map((line, at) => (
        <text
          x={left + 10}
          y={round(top + 18 + at * LINE_PX)}
          class={at > (node.notes?.length ?? 0) ? "mark" : undefined}
        >
          {line}
        </text>
      ))}
    </g>
  );
}

interface Drawn extends Placed {
  readonly points?: readonly { readonly x: number; readonly y: number }[];
}

function Edge({ placed, kind }: { placed: Drawn; kind: ChainEdge["kind"] }) {
  const { points = [], x, y } = placed;
  const path = points.map(({ x, y }, at) => `${at === 0 ? "M" : "L"}${round(x)} ${round(y)}`).join("");
  return (
    <>
      <path class={WORDED.has(kind) ? `edge ${kind}` : "edge"} d={path} marker-end="url(#tip)" />
      {WORDED.has(kind) && x !== undefined && y !== undefined && (
        <text text-anchor="middle" x={round(x)} y={round(y - 3)}>{kind}</text>
      )}
    </>
  );
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
