/** What a saved run of `deno task bench scale` says, as the tables of docs/scale.md. Measures nothing. */
import { median } from "./measure.ts";
import { fillMarks, markdownTable, number } from "./page_parts.ts";

/** The saved run, in docs/performance. */
export const SCALE_RUN = "scale.jsonl";

/** A line of a saved run. */
export interface ScaleLine {
  readonly services: number;
  readonly controlPlanes: number;
  readonly messages: number;
  readonly perSecond: number;
  /** Milliseconds a message: of the services, of API servers and etcds, of the whole machine. */
  readonly serviceCpu: number;
  readonly controlPlaneCpu: number;
  readonly machineCpu: number;
  /** Cores that were busy, of those that there are. */
  readonly busy: number;
  readonly cores: number;
}

/** Services and control planes. */
export const SETUPS = [[1, 1], [2, 1], [2, 2]] as const;

/** docs/scale.md with the medians of a saved run. Throws an Error when a marker is missing. */
export function fillScale(page: string, text: string): string {
  const lines = text.split("\n").filter((line) => line.includes('"controlPlanes"')).map((line): ScaleLine =>
    JSON.parse(line)
  );
  const rows = SETUPS.flatMap(([services, controlPlanes]) => {
    const own = lines.filter((line) => line.services === services && line.controlPlanes === controlPlanes);
    if (own.length === 0) return [];
    const middle = (figure: (line: ScaleLine) => number) => number(median(own.map(figure)));
    return [[
      String(services),
      String(controlPlanes),
      middle((line) => line.perSecond),
      middle((line) => line.serviceCpu),
      middle((line) => line.controlPlaneCpu),
      middle((line) => line.machineCpu),
      `${middle((line) => line.busy)} of ${own[0]!.cores}`,
    ]];
  });
  const head = [
    "services",
    "control planes",
    "Jobs/s",
    "CPU of services",
    "API servers, etcds",
    "machine",
    "cores busy",
  ];
  const one = lines.filter((line) => line.services === 1);
  return fillMarks(page, {
    "scale": rows.length === 0 ? "No run is saved yet." : markdownTable(head, rows),
    "scale-10000": one.length === 0 ? "No run is saved yet." : needed(one),
  });
}

/** Messages a second that are aimed at. */
const AIM = 10_000;
/** A process that works on one core is given work for so much of it. */
const FULL = 0.7;
/** Cores of a control plane of some size. */
const CONTROL_PLANE_CORES = 16;

function needed(one: readonly ScaleLine[]): string {
  const cores = (figure: (line: ScaleLine) => number) => median(one.map(figure)) / 1_000 * AIM;
  const services = cores((line) => line.serviceCpu);
  const control = cores((line) => line.controlPlaneCpu);
  const rest = cores((line) => line.machineCpu) - services - control;
  return markdownTable(["what", "cores", "that is"], [
    ["services", number(services), `${Math.ceil(services / FULL)} services at ${FULL * 100} % of a core each`],
    [
      "API servers and etcds",
      number(control),
      `${
        Math.ceil(control / FULL / CONTROL_PLANE_CORES)
      } control planes of ${CONTROL_PLANE_CORES} cores, if they use them evenly`,
    ],
    [
      "broker, store, publisher, the bench's own watch",
      number(rest),
      "of which the publisher and the watch are the bench's",
    ],
  ]);
}
