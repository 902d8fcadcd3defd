/**
 * The command usage: asks the service at STATUS_ADDR what runs asked for and used, and what would do.
 */
import { bytesWords } from "../history.ts";
import { type Call, hint, printLine } from "./context.ts";
import { get, notTheService, statusUrl } from "./service_page.ts";
import { type Cell, printTable } from "./table_text.ts";

/** More than the service answers: some thousand rows. */
const LONGEST_ANSWER = 16 * 1024 * 1024;
const PRESET_WEEKS = 4;

interface Line {
  readonly job_name?: string;
  readonly owner?: string;
  readonly week?: string;
  readonly runs: number;
  readonly failed: number;
  readonly core_hours: number;
  readonly gib_hours: number;
  readonly gpu_hours: number;
  readonly peak_memory?: number;
  readonly memory_allowed?: number;
  readonly advice?: readonly string[];
}

/** Prints them, most expensive first; with `--csv` by week and row. */
export async function usage({ json, io, ...call }: Call): Promise<number> {
  const weeks = String(call.flag("weeks") ?? PRESET_WEEKS);
  const by = String(call.flag("by") ?? "row");
  const config = call.config();
  if (call.flag("csv")) {
    const { text, status } = await get(`${statusUrl(config, "/usage.csv")}?weeks=${weeks}`, LONGEST_ANSWER);
    if (status !== 200 || !text.startsWith("week,job_name,")) throw notTheService(statusUrl(config, "/"), status);
    await io.write(text);
    return 0;
  }
  const url = statusUrl(config, "/usage.json");
  const { text, status } = await get(`${url}?weeks=${weeks}&by=${by}`, LONGEST_ANSWER);
  const lines = readAnswer(text);
  if (!lines) throw notTheService(url, status);
  if (json) await printLine(io, JSON.stringify(lines));
  else if (lines.length === 0) io.tell(`No run ended within ${weeks} weeks`);
  else {
    const numbers = ["RUNS", "FAILED", "CORE-H", "GIB-H", "GPU-H"].map((title) => ({ title, isNumber: true } as const));
    const heads = [by.toUpperCase(), ...numbers];
    const more = by === "row" ? ["PEAK MEMORY", "WHAT WOULD DO"] : [];
    await printTable(io, [...heads, ...more], lines.map((line) => cellsOf(line, by === "row")));
    hint(io, "As a sheet, by week: mqtt-job-listener usage --csv");
  }
  return 0;
}

function cellsOf(line: Line, hasPeaks: boolean): Cell[] {
  const cells: Cell[] = [
    line.job_name ?? line.owner ?? line.week ?? "",
    String(line.runs),
    line.failed > 0 ? { text: String(line.failed), style: "bad" } : "0",
    ...[line.core_hours, line.gib_hours, line.gpu_hours].map((hours) => hours.toFixed(1)),
  ];
  if (!hasPeaks) return cells;
  const { peak_memory: peak, memory_allowed: allowed, advice = [] } = line;
  const of = allowed === undefined ? "" : ` of ${bytesWords(allowed)}`;
  return [...cells, peak === undefined ? "not seen" : bytesWords(peak) + of, advice.join("; ")];
}

function readAnswer(text: string): readonly Line[] | undefined {
  try {
    const { lines } = JSON.parse(text) as { lines?: unknown };
    return Array.isArray(lines) && lines.every(isLine) ? lines : undefined;
  } catch {
    return undefined;
  }
}

function isLine(value: unknown): value is Line {
  if (typeof value !== "object" || value === null) return false;
  const line = value as Record<string, unknown>;
  const isNumber = (name: string) => typeof line[name] === "number";
  const areWords = (words: unknown) => Array.isArray(words) && words.every((one) => typeof one === "string");
  return ["runs", "failed", "core_hours", "gib_hours", "gpu_hours"].every(isNumber) &&
    ["job_name", "owner", "week"].every((name) => line[name] === undefined || typeof line[name] === "string") &&
    ["peak_memory", "memory_allowed"].every((name) => line[name] === undefined || isNumber(name)) &&
    (line["advice"] === undefined || areWords(line["advice"]));
}
