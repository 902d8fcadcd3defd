/**
 * Where each node and edge of the table's graph is drawn: by dagre, one connected part after the other, the parts side by
 * side where they fit. Pure; long work is done in steps. Must not know markup nor what runs now.
 */
import dagre from "@dagrejs/dagre";
import type { ChainEdge, ChainGraph, ChainNode, Mark } from "../../catalog/chains.ts";
import { cutToWidth, textWidth } from "../../util/text_width.ts";
import { cut } from "../../util/text.ts";

export const MARK_WORDS: Readonly<Record<Mark, string>> = {
  "bad": "has errors, does not run",
  "orphan": "waits for a job that no row has",
  "cycle": "in a circle",
  "self-trigger": "starts itself",
  "never": "never runs",
  "off": "switched off",
};
/** Edges with a line of their own and a word, which is their name. */
export const WORDED: ReadonlySet<ChainEdge["kind"]> = new Set(["fails", "needs"]);

/** Width of a character of the drawing's font at 12 px, in px; a little more than DejaVu Sans Mono's 7.22. */
const CHAR_PX = 7.4;
export const LINE_PX = 16;
/** From the edges of a node to its text. */
export const PAD_PX = 10;
/** Characters of a line; a longer label goes on in the next one. */
export const LINE_CHARS = 28;
const MAX_LABEL_LINES = 3;
/** Characters of foreign text that are laid out at all. */
const MAX_LABEL = 500;
/** Nodes drawn at most: more cannot be read, are too heavy for a page, and layout time grows faster than their number. */
const MAX_NODES = 80;
const MARGIN_PX = 16;
const GAP_PX = 18;
/** Edges into the node of an end: of more, as a wildcard has them, the node says of how many rows it is. */
const MAX_INTO_END = 6;
/** Parts stand side by side up to this width, which a screen of 1,440 px holds. */
const SHELF_PX = 1340;

export interface NodeLine {
  readonly text: string;
  readonly kind: "label" | "note" | "mark" | "life";
}

/** A node with the upper left corner of its box, in px. */
export interface PlacedNode extends ChainNode {
  readonly lines: readonly NodeLine[];
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface PlacedEdge extends ChainEdge {
  /** From the end of one node to the other, at least two. */
  readonly points: readonly { readonly x: number; readonly y: number }[];
  /** Middle of its word. */
  readonly word?: { readonly x: number; readonly y: number };
}

export interface GraphLayout {
  readonly width: number;
  readonly height: number;
  /** In the order in which they are read: part by part, from left to right. */
  readonly nodes: readonly PlacedNode[];
  readonly edges: readonly PlacedEdge[];
  /** Topics and rows that are not drawn, for there are too many. */
  readonly omitted: number;
}

export interface LayoutOptions {
  readonly topicPrefix: string;
  /** Lines that each row keeps free for what is said of its runs. Default: none. */
  readonly lifeLines?: number;
}

/** Lays the graph out; yields after each connected part, so that a caller can let others work. */
export function* layoutSteps(
  graph: ChainGraph,
  { topicPrefix, lifeLines = 0 }: LayoutOptions,
): Generator<void, GraphLayout> {
  const whole = withoutPlainEnds(graph);
  const nodes = chooseNodes(whole);
  const ids = new Set(nodes.map(({ id }) => id));
  const edges = whole.edges.filter(({ from, to }) => ids.has(from) && ids.has(to));
  yield;
  const shelves = new Shelves();
  const placed: { nodes: PlacedNode[]; edges: PlacedEdge[] } = { nodes: [], edges: [] };
  const sized = nodes.map((node) => sizeNode(node, topicPrefix, lifeLines));
  for (const part of partsOf(sized, edges)) {
    const laid = layPart(part);
    const { x, y } = shelves.place(laid);
    placed.nodes.push(...laid.nodes.map((node) => ({ ...node, x: round(node.x + x), y: round(node.y + y) })));
    placed.edges.push(...laid.edges.map((edge) => moved(edge, x, y)));
    yield;
  }
  return { ...shelves.size, ...placed, omitted: whole.nodes.length - nodes.length + graph.omittedRows };
}

/**
 * The end of one row alone is no node of its own: an edge leads from the row to those that it starts. Chains are half as
 * wide so. Nor are there edges from each of many rows to one node.
 */
function withoutPlainEnds(graph: ChainGraph): ChainGraph {
  const into = Map.groupBy(graph.edges, ({ to }) => to);
  const plain = new Map<string, ChainEdge>();
  for (const { id, kind, marks } of graph.nodes) {
    const [cause, ...others] = into.get(id) ?? [];
    if (kind === "end" && marks.length === 0 && cause && others.length === 0) plain.set(id, cause);
  }
  const crowded = new Map(
    graph.nodes.filter(({ id, kind }) => kind === "end" && (into.get(id)?.length ?? 0) > MAX_INTO_END)
      .map(({ id }) => [id, new Set(into.get(id)!.map(({ from }) => from)).size]),
  );
  const edges = graph.edges
    .filter(({ to }) => !plain.has(to) && !crowded.has(to))
    .map((edge) => {
      const cause = plain.get(edge.from);
      return cause ? { ...edge, from: cause.from, kind: cause.kind } : edge;
    });
  const nodes = graph.nodes.filter(({ id }) => !plain.has(id)).map((node) => {
    const rows = crowded.get(node.id);
    return rows === undefined ? node : { ...node, notes: [...node.notes ?? [], `the ends of ${rows} rows`] };
  });
  return { ...graph, edges, nodes };
}

function chooseNodes({ nodes, edges }: ChainGraph): readonly ChainNode[] {
  if (nodes.length <= MAX_NODES) return nodes;
  const chained = new Set(edges.filter(({ kind }) => kind !== "starts").flatMap(({ from, to }) => [from, to]));
  const rank = ({ marks, id }: ChainNode) => marks.length > 0 ? 0 : chained.has(id) ? 1 : 2;
  const byRank = [0, 1, 2].flatMap((wanted) => nodes.filter((node) => rank(node) === wanted));
  const chosen = new Set(byRank.slice(0, MAX_NODES));
  return nodes.filter((node) => chosen.has(node));
}

type SizedNode = Omit<PlacedNode, "x" | "y">;

function sizeNode(node: ChainNode, topicPrefix: string, lifeLines: number): SizedNode {
  const lines: NodeLine[] = [
    ...wrapped(shortLabel(node, topicPrefix)).map((text) => ({ text, kind: "label" as const })),
    ...(node.notes ?? []).flatMap((note) => wrapped(note)).map((text) => ({ text, kind: "note" as const })),
    ...node.marks.map((mark) => ({ text: `! ${MARK_WORDS[mark]}`, kind: "mark" as const })),
    ...Array.from({ length: node.kind === "row" ? lifeLines : 0 }, () => ({ text: "", kind: "life" as const })),
  ];
  const least = node.kind === "row" && lifeLines > 0 ? LINE_CHARS : 0;
  const widest = Math.max(least, ...lines.map(({ text }) => textWidth(text)));
  return {
    ...node,
    lines,
    width: Math.ceil(widest * CHAR_PX) + 2 * PAD_PX,
    height: lines.length * LINE_PX + 12,
  };
}

/** Ends of jobs without the prefix, which all of them have. */
function shortLabel({ kind, label }: ChainNode, topicPrefix: string): string {
  return kind === "end" && label.startsWith(`${topicPrefix}/`) ? `…${label.slice(topicPrefix.length)}` : label;
}

/** Lines of at most so many characters, parted behind what parts words; what is left after the last line is cut. */
function wrapped(label: string): string[] {
  const lines: string[] = [];
  let rest = cut(label, MAX_LABEL);
  while (textWidth(rest) > LINE_CHARS && lines.length < MAX_LABEL_LINES - 1) {
    const whole = cutToWidth(rest, LINE_CHARS).slice(0, -1);
    const at = Math.max(...["/", "-", "_", ".", " ", ","].map((char) => whole.lastIndexOf(char) + 1));
    // A very short line would take the room of a long one.
    const end = at > whole.length / 3 ? at : whole.length;
    lines.push(rest.slice(0, end).trimEnd());
    rest = rest.slice(end);
  }
  return [...lines, cutToWidth(rest, LINE_CHARS)];
}

interface Part {
  readonly nodes: SizedNode[];
  readonly edges: ChainEdge[];
}

/** The connected parts: those with chains first, each kind in the order of their first nodes. */
function partsOf(nodes: readonly SizedNode[], edges: readonly ChainEdge[]): Part[] {
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
  const isChain = ({ edges }: Part) => edges.some(({ kind }) => kind !== "starts");
  const all = [...parts.values()];
  return [...all.filter(isChain), ...all.filter((part) => !isChain(part))];
}

/** No node of the graph has this name, a letter and a number. */
const ORIGIN = "origin";

interface LaidPart {
  readonly width: number;
  readonly height: number;
  readonly nodes: PlacedNode[];
  readonly edges: PlacedEdge[];
}

/** One connected part, its upper left corner at 0, 0. */
function layPart({ nodes, edges }: Part): LaidPart {
  const layout = new dagre.graphlib.Graph({ multigraph: true });
  layout.setGraph({ rankdir: "LR", nodesep: 14, edgesep: 8, ranksep: 44, marginx: 0, marginy: 0 });
  layout.setDefaultEdgeLabel(() => ({}));
  for (const { id, width, height } of nodes) layout.setNode(id, { width, height });
  // What nothing leads to begins at the left, however far it is from what it leads to.
  const reached = new Set(edges.filter(({ from, to }) => from !== to).map(({ to }) => to));
  layout.setNode(ORIGIN, { width: 0, height: 0 });
  for (const { id } of nodes) if (!reached.has(id)) layout.setEdge(ORIGIN, id, { weight: 100 });
  for (const { from, to, kind } of edges) {
    if (from === to) continue;
    layout.setEdge(from, to, WORDED.has(kind) ? { width: 40, height: 14, labelpos: "c" } : {}, kind);
  }
  dagre.layout(layout);
  const boxes = nodes.map((node): PlacedNode => {
    const { x = 0, y = 0 } = layout.node(node.id);
    return { ...node, x: x - node.width / 2, y: y - node.height / 2 };
  });
  // The origin and its edges have room of their own, which is not used.
  const left = Math.min(...boxes.map(({ x }) => x));
  const placed = boxes.map((node) => ({ ...node, x: node.x - left }));
  const { width = 0, height = 0 } = layout.graph();
  return {
    width: width - left,
    height,
    nodes: placed.sort((a, b) => a.x - b.x || a.y - b.y),
    edges: edges.map((edge) => {
      if (edge.from === edge.to) return { ...edge, points: loopAt(placed.find(({ id }) => id === edge.from)!) };
      const { points = [], x, y } = layout.edge(edge.from, edge.to, edge.kind);
      const word = WORDED.has(edge.kind) && x !== undefined && y !== undefined ? { word: { x, y } } : {};
      return moved({ ...edge, points, ...word }, -left, 0);
    }),
  };
}

/** From a node's upper edge back to its right one; dagre's own loops need a rank more. */
function loopAt({ x, y, width }: PlacedNode): PlacedEdge["points"] {
  const right = x + width;
  return [[-36, 0], [-36, -14], [14, -14], [14, 18], [0, 18]].map(([dx, dy]) => ({ x: right + dx!, y: y + dy! }));
}

function moved({ points, word, ...edge }: PlacedEdge, dx: number, dy: number): PlacedEdge {
  const move = ({ x, y }: { readonly x: number; readonly y: number }) => ({ x: round(x + dx), y: round(y + dy) });
  return { ...edge, points: points.map(move), ...(word ? { word: move(word) } : {}) };
}

/** Puts boxes side by side, and low ones under each other beside a high one. */
class Shelves {
  #top = MARGIN_PX;
  #bottom = MARGIN_PX;
  #right = MARGIN_PX;
  #widest = 0;
  /** The column that is filled now. */
  #column = { x: MARGIN_PX, width: 0, bottom: MARGIN_PX };

  place({ width, height }: { readonly width: number; readonly height: number }): { x: number; y: number } {
    const column = this.#column;
    const isUnder = column.width > 0 && column.bottom + height <= this.#bottom &&
      column.x + width <= SHELF_PX + MARGIN_PX;
    if (!isUnder && this.#right > MARGIN_PX && this.#right + width > SHELF_PX + MARGIN_PX) {
      this.#top = this.#bottom + GAP_PX;
      this.#right = MARGIN_PX;
    }
    const at = isUnder ? { x: column.x, y: column.bottom } : { x: this.#right, y: this.#top };
    this.#column = { x: at.x, width: Math.max(isUnder ? column.width : 0, width), bottom: at.y + height + GAP_PX };
    this.#bottom = Math.max(this.#bottom, at.y + height);
    this.#right = Math.max(this.#right, at.x + width + 2 * GAP_PX);
    this.#widest = Math.max(this.#widest, at.x + width);
    return at;
  }

  get size(): { width: number; height: number } {
    return { width: Math.ceil(this.#widest + MARGIN_PX), height: Math.ceil(this.#bottom + MARGIN_PX) };
  }
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
