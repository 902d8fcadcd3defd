/**
 * Tables and plots of a saved run of `deno task bench peers`. Everything follows from its lines. Measures nothing.
 */
import type { Conditions } from "../conditions.ts";
import { median } from "../measure.ts";
import { at, fillMarks, markdownTable, niceTop, number, STYLE } from "../page_parts.ts";
import { CASES, CONTESTANTS, CREATES } from "./names.ts";
import type { CreatesLine, PeerLine } from "./line.ts";

/** The saved run, beside its plots. */
export const PEERS_RUN = "peers.jsonl";

/** A run as its lines say it. */
export interface PeersRun {
  readonly conditions: Conditions | undefined;
  readonly lines: readonly PeerLine[];
  readonly creates: readonly CreatesLine[];
}

/** Reads JSON lines. */
export function readPeers(text: string): PeersRun {
  const lines = text.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
  return {
    conditions: lines.find((line) => "loadBefore" in line),
    lines: lines.filter((line) => "p99" in line),
    creates: lines.filter((line) => line.peer === CREATES.name),
  };
}

/** The page with the run's tables and plots. Throws an Error when a marker is missing. */
export function fillPeers(page: string, run: PeersRun): string {
  const names = [...plotsOfPeers(run)].map(([file, svg]) =>
    `![${/<title>(.*)<\/title>/.exec(svg)![1]}](performance/${file})`
  );
  return fillMarks(page, {
    "peers-conditions": conditionsText(run),
    "peers-bursts": burstsTable(run),
    "peers-steady": steadyTable(run),
    "peers-faults": faultsTable(run),
    "peers-plots": names.join("\n\n") || "No plots are saved yet.",
  });
}

function conditionsText({ conditions }: PeersRun): string {
  if (conditions === undefined) return "No run is saved yet.";
  const { date, commit, cores, memoryGb, versions } = conditions;
  const of = (...names: string[]) =>
    names.flatMap((name) => versions[name] === undefined ? [] : `${name} ${versions[name]}`).join(", ");
  return [
    `- ${date.slice(0, 16).replace("T", " ")} UTC, commit ${commit}, ${cores} cores, ${memoryGb} GB of memory`,
    `- ${of("deno", "kubernetes", "mosquitto", "Argo Events", "nats")}`,
    `- ${of("peer's paho-mqtt", "peer's kubernetes")}`,
  ].join("\n");
}

/** The median of a figure over the turns of one contestant with one case; undefined where there is none. */
function middle(lines: readonly PeerLine[], figure: (line: PeerLine) => number): number | undefined {
  return lines.length === 0 ? undefined : median(lines.map(figure));
}

function most(lines: readonly PeerLine[], figure: (line: PeerLine) => number): number {
  return Math.max(...lines.map(figure));
}

type Column = readonly [head: string, cell: (lines: readonly PeerLine[], name: string) => string];

const cell = (figure: (line: PeerLine) => number): Column[1] => (lines) => number(middle(lines, figure)!);
const PER_JOB = (cpu: (line: PeerLine) => number) => (line: PeerLine) => 1_000 * cpu(line) / line.jobs;

const MESSAGES: Column = ["messages", (_, name) => number(CASES[name]!.messages)];
const RATE: Column = ["Jobs/s", cell((line) => line.perSecond)];
const P50: Column = ["p50, ms", cell((line) => line.p50)];
const P99: Column = ["p99, ms", cell((line) => line.p99)];
const CPU: Column = ["own CPU a Job, ms", cell(PER_JOB((line) => line.cpu))];
const CONTROL: Column = ["API server and etcd, ms", cell(PER_JOB((line) => line.controlPlaneCpu))];
const MEMORY: Column = ["memory, MB", cell((line) => line.memoryMb)];
// Not the median: one that was lost in one of three turns was lost.
const LOST: Column = ["lost", (lines) => count(most(lines, (line) => line.lost), most(lines, (line) => line.late))];
const DOUBLED: Column = ["doubled", (lines) => number(most(lines, (line) => line.doubled))];

function count(lost: number, late: number): string {
  return late > 0 ? `${number(late)} still to come` : number(lost);
}

function burstsTable(run: PeersRun): string {
  return table(run, ["burst-500", "burst-2000", "burst-10000"], [RATE, CPU, CONTROL, MEMORY, LOST, DOUBLED]);
}

function steadyTable(run: PeersRun): string {
  return table(run, ["steady-10", "steady-50", "steady-200"], [P50, P99, CPU, MEMORY, LOST, DOUBLED]);
}

function faultsTable(run: PeersRun): string {
  return table(run, ["kill-9", "broker-restart"], [MESSAGES, LOST, DOUBLED, P99]);
}

function table({ lines, creates }: PeersRun, cases: readonly string[], columns: readonly Column[]): string {
  const rows = cases.flatMap((name) => [
    ...Object.entries(CONTESTANTS).flatMap(([peer, { title }]) => {
      const own = lines.filter((line) => line.case === name && line.peer === peer);
      if (own.length === 0) return [];
      return [[
        CASES[name]!.title,
        title,
        ...columns.map(([, text]) => text(own, name)),
      ]];
    }),
    ...creates.some((line) => line.case === name)
      ? [[
        CASES[name]!.title,
        CREATES.title,
        ...columns.map((column) =>
          column === RATE
            ? number(median(creates.filter((line) => line.case === name).map((line) => line.perSecond)))
            : ""
        ),
      ]]
      : [],
  ]);
  if (rows.length === 0) return "No figures are saved yet.";
  return markdownTable(["case", "who", ...columns.map(([head]) => head)], rows);
}

interface Bars {
  readonly title: string;
  readonly unit: string;
  readonly bars: readonly { readonly label: string; readonly value: number }[];
}

/** All plots of a run: file name → SVG. */
export function plotsOfPeers(run: PeersRun): Map<string, string> {
  const ofCase = (name: string, figure: (line: PeerLine) => number) =>
    Object.entries(CONTESTANTS).flatMap(([peer, { title }]) => {
      const own = run.lines.filter((line) => line.case === name && line.peer === peer);
      return own.length === 0 ? [] : [{ label: title, value: middle(own, figure)! }];
    });
  const creates = run.creates.filter((line) => line.case === "burst-2000").map((line) => line.perSecond);
  const plots: Readonly<Record<string, Bars>> = {
    "peers-rate": {
      title: "Jobs a second, 2,000 messages at once",
      unit: "Jobs/s",
      bars: [
        ...ofCase("burst-2000", (line) => line.perSecond),
        ...creates.length === 0 ? [] : [{ label: CREATES.title, value: median(creates) }],
      ],
    },
    "peers-cpu": {
      title: "Own processor time a Job, 2,000 messages at once",
      unit: "ms",
      bars: ofCase("burst-2000", PER_JOB((line) => line.cpu)),
    },
    "peers-memory": {
      title: "Highest memory, 2,000 messages at once",
      unit: "MB",
      bars: ofCase("burst-2000", (line) => line.memoryMb),
    },
    "peers-lost": {
      title: "Messages lost of 1,000, kill -9 at 200 a second",
      unit: "messages",
      bars: ofCase("kill-9", (line) => line.lost),
    },
  };
  return new Map(
    Object.entries(plots).filter(([, { bars }]) => bars.length > 0).map(([name, bars]) => [`${name}.svg`, plot(bars)]),
  );
}

const [WIDTH, LEFT, RIGHT, TOP, STEP] = [640, 270, 570, 44, 30] as const;

function plot({ title, unit, bars }: Bars): string {
  const top = niceTop(Math.max(...bars.map(({ value }) => value)));
  const drawn = bars.map(({ label, value }, index) => {
    const y = TOP + index * STEP;
    const width = at(value / top, 0, RIGHT - LEFT);
    return `  <text x="${LEFT - 8}" y="${y + 15}" text-anchor="end">${label}</text>
  <rect class="dot" x="${LEFT}" y="${y}" width="${width}" height="20"/>
  <text x="${at(1, 0, LEFT + width + 6)}" y="${y + 15}">${number(value)}</text>`;
  });
  const height = TOP + bars.length * STEP + 30;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">
  <title>${title}</title>
  <style>${STYLE}
  </style>
  <text class="title" x="16" y="24">${title}</text>
${drawn.join("\n")}
  <text x="${LEFT}" y="${height - 10}">${unit}</text>
</svg>
`;
}
