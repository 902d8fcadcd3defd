/**
 * The page `/graph`: the table as a drawing in which each row says how it stands, and the same as a list. A pure function of
 * its input.
 */
import { raw } from "hono/html";
import type { ChainEdge } from "../../catalog/chains.ts";
import type { Row } from "../../ports.ts";
import { drawLayout, type GraphLayout, MARK_WORDS, type RowLife } from "../graph.tsx";
import { frame, Names, rootHref, rowHref, short } from "./parts.tsx";
import { stateShape, type StripState } from "./states.ts";

/** What a reader asked to see. */
export interface GraphQuery {
  /** The message that is followed. */
  readonly root?: string;
  /** Part of the name or topic of rows. */
  readonly find?: string;
  /** In percent; absent: as it fits. */
  readonly zoom?: number;
  /** The list alone. */
  readonly as?: "list";
}

export interface GraphPageInput {
  readonly query: GraphQuery;
  /** Absent: there is no table. */
  readonly layout?: GraphLayout;
  /** Of each row that is drawn. */
  readonly life?: ReadonlyMap<string, RowLife>;
  /** Topics and rows that are not drawn, for there are too many. */
  readonly omitted?: number;
  /** Rows of the message that are not drawn. */
  readonly elsewhere?: readonly string[];
  /** What cannot be shown, and why. */
  readonly failure?: string;
  /** For the names that the filter offers. */
  readonly tableRows: readonly Row[];
}

/** Width that a page of 1,440 px has for the drawing. */
const ROOM_PX = 1350;
/** A wider drawing is not made smaller than this: it scrolls. */
const LEAST_SCALE = 0.75;
const ZOOM_STEPS = [25, 50, 75, 100, 125, 150, 200, 300, 400];
const MAX_ELSEWHERE = 50;
/** Names that the filter offers. */
const MAX_NAMES = 50;
/** Rows of the list beside the drawing: of more, each has a page of its own, for both would be heavy. */
const MAX_BESIDE = 40;

/** The page as HTML text. */
export function graphPage(input: GraphPageInput): string {
  const { query, layout, failure } = input;
  const title = query.root === undefined ? "Graph" : `Graph of message ${query.root}`;
  return frame({
    title,
    heading: title,
    here: "graph",
    children: (
      <>
        <section class="bare" aria-label="What is drawn">
          <FindForm query={query} />
          {query.root !== undefined && (
            <p>
              Only runs of this message. <a href={rootHref(query.root)}>All of this message</a>{" "}
              <a href="/graph">The whole table</a>
            </p>
          )}
        </section>
        {failure !== undefined && <p class="bad">{short(failure, 2_000)}</p>}
        {layout && query.as === undefined && <Drawing {...input} layout={layout} />}
        {layout && <Listed {...input} layout={layout} />}
        <Names id="row-names" names={input.tableRows.slice(0, MAX_NAMES).map(({ jobName }) => jobName)} />
      </>
    ),
  });
}

function FindForm({ query: { find, root } }: { query: GraphQuery }) {
  if (root !== undefined) return null;
  return (
    <form method="get" action="/graph" role="search" aria-label="Part of the table">
      <div>
        <label for="find">Row or topic</label>
        <input id="find" name="find" list="row-names" value={short(find)} />
      </div>
      <div>
        <button type="submit">Show with neighbours</button> {find !== undefined && <a href="/graph">Whole table</a>}
      </div>
    </form>
  );
}

type Drawn = GraphPageInput & { readonly layout: GraphLayout };

function Drawing({ query, layout, life = new Map(), omitted = 0, elsewhere = [] }: Drawn) {
  const scale = query.zoom === undefined ? fitting(layout) : query.zoom / 100;
  return (
    <section aria-labelledby="graph-h">
      <div class="line">
        <h2 id="graph-h">Topics, rows and chains</h2>
        <ZoomLinks query={query} percent={Math.round(scale * 100)} />
      </div>
      <Legend ofRoot={query.root !== undefined} />
      <div id="graph-notes" data-live>
        {omitted > 0 && (
          <p class="muted">
            {omitted} topics and rows are not drawn, for there are too many: name a row or topic to see its part.
          </p>
        )}
        {layout.nodes.length === 0 && <p class="muted">{emptyWords(query)}</p>}
        {elsewhere.length > 0 && (
          <p>
            Not drawn, but with runs of this message: {elsewhere.slice(0, MAX_ELSEWHERE).map((name, at) => (
              <>
                {at > 0 && ", "}
                <a href={rowHref(name)}>{short(name)}</a>
              </>
            ))}
            {elsewhere.length > MAX_ELSEWHERE && ` and ${elsewhere.length - MAX_ELSEWHERE} more`}
          </p>
        )}
      </div>
      {layout.nodes.length > 0 && (
        <div
          id="canvas"
          class="canvas"
          tabindex={0}
          role="group"
          aria-label="Drawing; the keys + and - zoom, 0 fits it"
        >
          <div id="drawing" data-live>{raw(drawLayout(layout, { life, scale, hrefOf: hrefOfNode }))}</div>
        </div>
      )}
    </section>
  );
}

function emptyWords({ root, find }: GraphQuery): string {
  if (root !== undefined) return "No row of the table has a run of this message, as far as is known.";
  return find === undefined ? "The table has no rows." : `No row has "${short(find)}" in its name or topic.`;
}

/** As large as it is where there is room, smaller where there is not, and never too small to be read. */
function fitting({ width }: GraphLayout): number {
  return Math.max(LEAST_SCALE, Math.min(1, ROOM_PX / width));
}

function graphHref(query: GraphQuery): string {
  const words = Object.entries(query).flatMap(([name, value]) => value === undefined ? [] : [[name, `${value}`]]);
  return words.length === 0 ? "/graph" : `/graph?${new URLSearchParams(words)}`;
}

/** Links, so that no script is needed; with one they zoom in place. */
function ZoomLinks({ query, percent }: { query: GraphQuery; percent: number }) {
  const { zoom: _, ...rest } = query;
  const smaller = ZOOM_STEPS.findLast((step) => step < percent) ?? ZOOM_STEPS[0]!;
  const larger = ZOOM_STEPS.find((step) => step > percent) ?? ZOOM_STEPS.at(-1)!;
  return (
    <span class="zoom end">
      <a class="button" href={graphHref({ ...rest, zoom: smaller })} data-zoom="out" aria-label="Smaller">−</a>{" "}
      <a class="button" href={graphHref({ ...rest, zoom: larger })} data-zoom="in" aria-label="Larger">+</a>{" "}
      <a class="button" href={graphHref(rest)} data-zoom="fit">Fit</a>
    </span>
  );
}

/** Where nodes that are no rows lead to: a plain topic to its messages, all else to its part of the table. */
function hrefOfNode({ kind, label }: { readonly kind: string; readonly label: string }): string | undefined {
  if (kind === "topic" && !/[+#]/.test(label)) return `/messages?topic=${encodeURIComponent(label)}`;
  return kind === "row" ? undefined : `/graph?find=${encodeURIComponent(label)}`;
}

function Legend({ ofRoot }: { ofRoot: boolean }) {
  const box = (className: string, rx: number) => (
    <svg width={26} height={16} aria-hidden="true">
      <rect class={`node ${className}`} x={2} y={2} width={22} height={12} rx={rx} />
    </svg>
  );
  const line = (className: string) => (
    <svg width={26} height={12} aria-hidden="true">
      <path class={`edge ${className}`} d="M0 6h26" />
    </svg>
  );
  return (
    <p class="legend">
      <span>{box("row", 2)}row</span>
      <span>{box("topic", 6)}topic</span>
      <span>{line("")}starts</span>
      <span>{line("fails")}after a failure</span>
      <span>{line("needs")}needs</span>
      <span>{box("row is-running", 2)}runs now</span>
      <span>{box("row is-failed", 2)}last one failed</span>
      {ofRoot && <span>{box("row is-unknown", 2)}no run of this message</span>}
      <span>{box("row odd", 2)}look here</span>
      <span class="strip">
        <span class="succeeded">{stateShape("succeeded")}</span> succeeded{" "}
        <span class="failed">{stateShape("failed")}</span> failed <span>{stateShape("cancelled")}</span> cancelled
        {ofRoot && (
          <>
            {" "}
            <span class="running">{stateShape("running")}</span> running <span>{stateShape("pending")}</span> waiting
          </>
        )}
      </span>
    </p>
  );
}

const EDGE_WORDS: Readonly<Record<ChainEdge["kind"], string>> = {
  starts: "",
  succeeds: "the success of ",
  fails: "the failure of ",
  needs: "",
};

/** What the drawing says, for who cannot or does not want to look at it. */
function Listed({ query, layout, life }: Drawn) {
  const rows = layout.nodes.filter(({ kind }) => kind === "row");
  if (rows.length === 0) return null;
  if (query.as === undefined && rows.length > MAX_BESIDE) {
    return (
      <p>
        <a href={graphHref({ ...query, as: "list" })}>The same as a list</a>
      </p>
    );
  }
  const list = <RowsOfList layout={layout} life={life} />;
  if (query.as === undefined) {
    return (
      <section aria-label="Rows as a list">
        <details id="graph-list">
          <summary>The same as a list</summary>
          {list}
        </details>
      </section>
    );
  }
  const { as: _, ...rest } = query;
  return (
    <section aria-labelledby="list-h">
      <h2 id="list-h">Rows of the graph</h2>
      {list}
      <p>
        <a href={graphHref(rest)}>The same as a drawing</a>
      </p>
    </section>
  );
}

function RowsOfList(
  { layout: { nodes, edges }, life = new Map() }: { layout: GraphLayout; life: Drawn["life"] | undefined },
) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const into = Map.groupBy(edges, ({ to }) => to);
  const causes = (id: string, wanted: (kind: ChainEdge["kind"]) => boolean) =>
    (into.get(id) ?? []).filter(({ kind }) => wanted(kind)).flatMap(({ from, kind }) => {
      const cause = byId.get(from);
      return cause ? [`${EDGE_WORDS[kind]}${short(cause.label, 120)}`] : [];
    }).join(", ");
  return (
    <ul id="graph-rows" data-live>
      {nodes.filter(({ kind }) => kind === "row").map(({ id, label, line, marks, notes = [] }) => {
        const own = life.get(label);
        const [starts, needs] = [causes(id, (kind) => kind !== "needs"), causes(id, (kind) => kind === "needs")];
        const words = [
          ...own && own.strip.length > 1 ? [stripWords(own.strip)] : [],
          ...marks.map((mark) => MARK_WORDS[mark]),
          ...notes,
          ...starts === "" ? [] : [`started by ${starts}`],
          ...needs === "" ? [] : [`needs ${needs}`],
        ];
        return (
          <li>
            {own ? <a href={own.href}>{short(label)}</a> : short(label)} (line {line}){own && `: ${own.words}`}
            {words.length > 0 && <span class="muted">; {words.join("; ")}</span>}
          </li>
        );
      })}
    </ul>
  );
}

/** `of the last 12 11 succeeded, 1 failed` */
function stripWords(strip: readonly StripState[]): string {
  const counts = Map.groupBy(strip, (state) => state);
  return `of the last ${strip.length} ${[...counts].map(([state, { length }]) => `${length} ${state}`).join(", ")}`;
}
