/**
 * The table as a drawing: topics, rows and the chains between them as SVG text, each row with how its runs stand where
 * that is asked for. Pure; long work is done in steps. Must not know the page that shows it, nor where things are drawn.
 */
import { type ChainEdge, type ChainGraph } from "../catalog/chains.ts";
import { finish } from "../util/slices.ts";
import { visible } from "../util/text.ts";
import { cutToWidth } from "../util/text_width.ts";
import {
  type GraphLayout,
  layoutSteps,
  LINE_CHARS,
  LINE_PX,
  MARK_WORDS,
  PAD_PX,
  type PlacedEdge,
  type PlacedNode,
  WORDED,
} from "./graph/layout.ts";
import { stateShape, type StripState } from "./pages/states.ts";
import { short } from "./pages/parts.tsx";

export { type GraphLayout, layoutSteps, MARK_WORDS } from "./graph/layout.ts";

/** Rows taken into a drawing at most. */
export const MAX_DRAWN_ROWS = 400;
/** Lines that a row's node has for its runs. */
export const LIFE_LINES = 2;

/** A drawing made once a table: SVG text, made by `drawGraph` alone. */
export interface GraphPicture {
  readonly svg: string;
  /** Nodes that are not drawn, for there are too many. */
  readonly omitted: number;
}

/** How a row stands, as its node shows it. */
export interface RowLife {
  /** A shape each, oldest first. */
  readonly strip: readonly StripState[];
  /** `2 running, 1 waiting` */
  readonly words: string;
  /** What is seen at a glance: it runs, its last run failed, or nothing is known of it. */
  readonly tone: "running" | "failed" | "quiet" | "unknown";
  readonly href: string;
}

export interface DrawOptions {
  /** Of rows, by their names; those that have none are drawn without. Absent: a drawing without links. */
  readonly life?: ReadonlyMap<string, RowLife>;
  /** Where a topic, an end or a schedule leads to. */
  readonly hrefOf?: (node: PlacedNode) => string | undefined;
  /** Of the width and height; default 1. */
  readonly scale?: number;
}

/**
 * Lays the graph out and draws it, ends of jobs without `topicPrefix`, which all of them have. Of a large graph: the
 * marked rows and the chains first, then what else fits.
 */
export function drawGraph(graph: ChainGraph, topicPrefix: string): GraphPicture {
  return finish(drawGraphSteps(graph, topicPrefix));
}

/** `drawGraph` in steps: yields after each connected part, so that a caller can let others work. */
export function* drawGraphSteps(graph: ChainGraph, topicPrefix: string): Generator<void, GraphPicture> {
  const layout = yield* layoutSteps(graph, { topicPrefix });
  return { svg: drawLayout(layout), omitted: layout.omitted };
}

/** The drawing as SVG text. */
export function drawLayout(layout: GraphLayout, { life, hrefOf, scale = 1 }: DrawOptions = {}): string {
  const { width, height, nodes, edges } = layout;
  const svg = (
    <svg
      xmlns="http://www.w3.org/2000/svg"
      role={life ? "group" : "img"}
      aria-labelledby="graph-t graph-d"
      width={Math.round(width * scale)}
      height={Math.round(height * scale)}
      viewBox={`0 0 ${width} ${height}`}
    >
      <title id="graph-t">The table as a graph</title>
      <desc id="graph-d">{describe(nodes)}</desc>
      <defs>
        <marker
          id="tip"
          viewBox="0 0 8 8"
          refX="7"
          refY="4"
          markerWidth="8"
          markerHeight="8"
          markerUnits="userSpaceOnUse"
          orient="auto"
        >
          <path class="tip" d="M0 0L8 4L0 8z" />
        </marker>
      </defs>
      {edges.map((edge) => <Edge edge={edge} />)}
      {nodes.map((node) => {
        const own = node.kind === "row" ? life?.get(node.label) : undefined;
        const box = <Node node={node} life={own} />;
        const href = own?.href ?? (life ? hrefOf?.(node) : undefined);
        const place = `translate(${node.x} ${node.y})`;
        return href === undefined ? <g transform={place}>{box}</g> : <a href={href} transform={place}>{box}</a>;
      })}
    </svg>
  );
  return visible(svg.toString());
}

function describe(nodes: readonly PlacedNode[]): string {
  const count = (kind: PlacedNode["kind"]) => nodes.filter((node) => node.kind === kind).length;
  const odd = nodes.filter(({ marks }) => marks.length > 0)
    .map(({ label, marks }) => `${short(label)}: ${marks.map((mark) => MARK_WORDS[mark]).join(", ")}`);
  const schedules = count("schedule") > 0 ? `${count("schedule")} schedules, ` : "";
  const ends = count("end") > 0 ? `, ${count("end")} ends of jobs that rows wait for` : "";
  return `${count("topic")} topics, ${schedules}${count("row")} rows${ends}. ` +
    (odd.length > 0 ? `Marked: ${odd.join("; ")}.` : "Nothing is marked.");
}

function Node({ node, life }: { node: PlacedNode; life: RowLife | undefined }) {
  const { lines } = node;
  const lifeAt = lines.findIndex(({ kind }) => kind === "life");
  return (
    <>
      {isShortened(node) && <title>{short(node.label)}{node.line !== undefined && ` (line ${node.line})`}</title>}
      <rect class={classOf(node, life)} width={node.width} height={node.height} rx={node.kind === "row" ? 3 : 12} />
      {/* A blank behind each part, for the name of the link is made of them. */}
      {lines.map(({ text, kind }, at) =>
        kind === "life" ? null : (
          <text
            x={PAD_PX}
            y={baseline(at)}
            class={kind === "label" ? (node.kind === "row" ? "name" : undefined) : kind}
          >
            {kind === lines[at + 1]?.kind ? text : `${text} `}
          </text>
        )
      )}
      {life && lifeAt >= 0 && life.strip.length > 0 && (
        <text x={PAD_PX} y={baseline(lifeAt)} aria-hidden="true">
          {runsOf(life.strip).map(([state, count]) => (
            <tspan class={STRIP_CLASSES[state]}>{stateShape(state).repeat(count)}</tspan>
          ))}
        </text>
      )}
      {life && lifeAt >= 0 && (
        <text x={PAD_PX} y={baseline(life.strip.length > 0 ? lifeAt + 1 : lifeAt)} class={`life ${life.tone}`}>
          {`${cutToWidth(life.words, LINE_CHARS)} `}
        </text>
      )}
    </>
  );
}

/** Short ones: a drawing has thousands of shapes. */
const STRIP_CLASSES: Readonly<Partial<Record<StripState, string>>> = {
  succeeded: "s",
  failed: "f",
  running: "r",
  ending: "r",
};

function classOf({ kind, marks }: PlacedNode, life: RowLife | undefined): string {
  const tone = life && life.tone !== "quiet" ? ` is-${life.tone}` : "";
  return `node ${kind}${marks.length > 0 ? " odd" : ""}${tone}`;
}

/** Whether a label is not there as it is, so that it is said when it is pointed at. */
function isShortened({ label, lines }: PlacedNode): boolean {
  return lines.filter(({ kind }) => kind === "label").map(({ text }) => text).join("") !== label;
}

/** Equal states beside each other are one piece of markup. */
function runsOf(states: readonly StripState[]): [StripState, number][] {
  const found: [StripState, number][] = [];
  for (const state of states) {
    const last = found.at(-1);
    if (last?.[0] === state) last[1]++;
    else found.push([state, 1]);
  }
  return found;
}

function baseline(line: number): number {
  return 18 + line * LINE_PX;
}

function Edge({ edge: { points, kind, word } }: { edge: PlacedEdge }) {
  return (
    <>
      <path class={WORDED.has(kind) ? `edge ${kind}` : "edge"} d={curve(points)} marker-end="url(#tip)" />
      {word && (
        <text class="word" text-anchor="middle" x={word.x} y={word.y - 3}>{kind satisfies ChainEdge["kind"]}</text>
      )}
    </>
  );
}

/** Through the middles of the straight pieces, round at their corners. */
function curve(points: PlacedEdge["points"]): string {
  const [first, ...rest] = points;
  if (!first) return "";
  let path = `M${first.x} ${first.y}`;
  for (const [at, { x, y }] of rest.entries()) {
    const next = rest[at + 1];
    path += next ? `Q${x} ${y} ${half(x, next.x)} ${half(y, next.y)}` : `L${x} ${y}`;
  }
  return path;
}

function half(a: number, b: number): number {
  return Math.round((a + b) * 5) / 10;
}
