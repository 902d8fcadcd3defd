/**
 * Commands that start many runs by the running service: `run ROW --each sheet.csv` and `replay`. Owns how a sheet is parted
 * into requests, and what is said of the answers; both may be repeated, and then start what is left.
 */
import { readTimeout, refusal, request } from "./service_requests.ts";
import { type Call, CommandError, counted, plain, printLine } from "./context.ts";
import { tableText } from "./table_text.ts";
import type { Config } from "../config.ts";
import { RUN_REASONS } from "../reasons.ts";
import { errorMessage, safeWords } from "../util/errors.ts";
import { cut } from "../util/text.ts";

/** Bytes of one request: brokers with narrow terms take 128 KB. */
const PIECE_BYTES = 96 * 1024;
/** The service waits some seconds for starts, and reads up to 10,000 records before. */
const ANSWER_MS = 60_000;

/** Answers added up. */
interface Sum {
  batch: string;
  total: number;
  started: number;
  exists: number;
  refused: number;
  waiting: number;
  run_names: string[];
  refusals: { entry: string; message: string }[];
}

/** Asks for a run of a row for each line of a sheet. */
export async function runEach(call: Call): Promise<number> {
  const { words: [jobName = "", ...more], json, io } = call;
  if (more.length > 0) throw new CommandError(2, `"${cut(more[0]!, 63)}": with --each the payloads are in the sheet`);
  const timeoutMs = readTimeout(call.flag("timeout"), ANSWER_MS);
  const source = await sheetOf(call, String(call.flag("each")));
  const config = call.config();
  const { describeProblem, readSheet } = await import("../catalog.ts");
  const { shortHash } = await import("../run_spec.ts");
  const sheet = readSheet(source);
  const problems = sheet.problems.map((problem) => ({ ...problem, text: describeProblem(problem) }));
  let errors = problems.filter(({ severity }) => severity === "error").length;
  if (sheet.fields.length === 0) throw new CommandError(2, `The sheet cannot be read: ${problems[0]?.text}`);
  const about = { job_name: jobName, ...optional(call), sheet_id: shortHash(["sheet", source]) };
  const sum = emptySum();
  const pieces = await piecesOf(sheet.fields, sheet.lines);
  for (const [at, piece] of pieces.entries()) {
    const data = await answerTo({ call, config, timeoutMs }, "each", { ...about, ...piece }).catch((error) => {
      if (at > 0) {
        io.tell(`Lines up to ${pieces[at - 1]!.lines.at(-1)} were asked for; the same command asks for the rest`);
      }
      throw error;
    });
    add(sum, data);
    errors += numberIn(data, "errors");
    for (const one of listIn(data, "problems")) {
      // Of the header each piece says the same.
      if (problems.some(({ text }) => text === one["text"])) continue;
      problems.push(one as unknown as typeof problems[number]);
    }
  }
  if (json) await printLine(io, JSON.stringify({ ...sum, errors, problems }));
  else {
    for (const { severity, text } of problems) io.tell(plain(`${severity}: ${safeWords(String(text))}`));
    const left = errors > 0 ? `, ${counted(errors, "line")} with errors left out` : "";
    await printLine(
      io,
      sumText(sum, call.flag("dry-run") === true ? sum.total === 1 ? "line is right" : "lines are right" : undefined) +
        left,
    );
  }
  return errors + sum.refused > 0 ? 1 : 0;
}

/** Asks that runs which ended some way are run again. */
export async function replay(call: Call): Promise<number> {
  const { json, io } = call;
  const [jobName, since] = [call.flag("row"), call.flag("since")];
  if (jobName === undefined) throw new CommandError(2, "--row is missing: which row's runs?");
  if (since === undefined) throw new CommandError(2, "--since is missing: how long ago did they end (2h, 3d)?");
  const timeoutMs = readTimeout(call.flag("timeout"), ANSWER_MS);
  const config = call.config();
  const flags = ["state", "reason"].flatMap((name) => call.flag(name) === undefined ? [] : [[name, call.flag(name)]]);
  const asked = { job_name: jobName, since, ...Object.fromEntries(flags), ...optional(call) };
  const data = await answerTo({ call, config, timeoutMs }, "replay", asked);
  const sum = emptySum();
  add(sum, data);
  if (json) await printLine(io, JSON.stringify(data));
  else {
    const runs = listIn(data, "runs").map((one) =>
      ["run_name", "finished_at", "message"].map((name) => safeWords(String(one[name] ?? "")))
    );
    if (runs.length > 0) io.tell(tableText(["RUN", "ENDED", "WHY"], runs, { ...io.screen, colour: false }));
    const rest = sum.total - listIn(data, "runs").length;
    if (rest > 0) io.tell(`… and ${rest} more`);
    const superseded = numberIn(data, "superseded");
    const notes = [
      ...superseded > 0 ? [`${superseded} were run again already`] : [],
      ...data["more"] === true ? ["there are older ones: ask again when these have begun"] : [],
    ];
    const what = call.flag("dry-run") === true ? "would be run again" : undefined;
    const reason = String(call.flag("reason") ?? "");
    if (sum.total === 0 && reason !== "" && !Object.hasOwn(RUN_REASONS, reason)) {
      io.tell(
        plain(
          `No run ends with the reason "${
            cut(reason, 63)
          }" by the service's own words, such as OOMKilled or ExitCode; docs/troubleshoot.md#a-run-ended has them`,
        ),
      );
    }
    await printLine(io, [sumText(sum, what), ...notes].join("; "));
  }
  return sum.refused > 0 ? 1 : 0;
}

function optional(call: Call): Record<string, unknown> {
  const batch = call.flag("batch");
  return { ...batch === undefined ? {} : { batch }, ...call.flag("dry-run") === true ? { dry_run: true } : {} };
}

async function sheetOf({ io }: Call, path: string): Promise<Uint8Array> {
  if (path === "-") return await io.read();
  const { MAX_TABLE_BYTES } = await import("../catalog.ts");
  try {
    const { size, isFile } = await Deno.stat(path);
    if (isFile && size > MAX_TABLE_BYTES) {
      throw new CommandError(2, `--each ${path}: it has ${size} bytes, ${MAX_TABLE_BYTES} are allowed; part it`);
    }
    return await Deno.readFile(path);
  } catch (cause) {
    if (cause instanceof CommandError) throw cause;
    if (cause instanceof Deno.errors.NotFound) throw new CommandError(2, `--each ${path}: there is no such file`);
    throw new CommandError(2, `--each ${path}: ${errorMessage(cause)}`, { cause });
  }
}

interface Piece {
  readonly sheet: string;
  readonly lines: readonly number[];
  readonly copies: readonly number[];
}

/** Parts of a sheet that fit into a request each, with what a part cannot know: its lines and equal ones before them. */
async function piecesOf(
  fields: readonly string[],
  lines: readonly { readonly line: number; readonly payload: string; readonly content: string }[],
): Promise<Piece[]> {
  const { toCsv } = await import("../catalog/import/cells.ts");
  const header = toCsv(fields, []);
  const pieces: Piece[] = [];
  const counts = new Map<string, number>();
  let piece = { sheet: header, lines: [] as number[], copies: [] as number[] };
  let bytes = jsonBytes(header);
  const end = () => {
    pieces.push(piece);
    piece = { sheet: header, lines: [], copies: [] };
    bytes = jsonBytes(header);
  };
  for (const { line, payload, content } of lines) {
    const text = toCsv(fields, [JSON.parse(payload)]).slice(header.length);
    // Two numbers for each line besides.
    const size = jsonBytes(text) + 16;
    if (piece.lines.length > 0 && bytes + size > PIECE_BYTES) end();
    const copy = (counts.get(content) ?? 0) + 1;
    counts.set(content, copy);
    piece.sheet += text;
    piece.lines.push(line);
    piece.copies.push(copy);
    bytes += size;
  }
  if (piece.lines.length > 0 || pieces.length === 0) end();
  return pieces;
}

function jsonBytes(text: string): number {
  return new TextEncoder().encode(JSON.stringify(text)).length;
}

type Data = Readonly<Record<string, unknown>>;

async function answerTo(
  { call, config, timeoutMs }: { call: Call; config: Config; timeoutMs: number },
  what: "each" | "replay",
  asked: object,
): Promise<Data> {
  const answer = await request({ config, io: call.io }, what, asked, timeoutMs);
  if (answer.status === "ok" && typeof answer.data === "object" && answer.data !== null) return answer.data as Data;
  throw refusal(answer);
}

function emptySum(): Sum {
  return { batch: "", total: 0, started: 0, exists: 0, refused: 0, waiting: 0, run_names: [], refusals: [] };
}

/** Whoever answers, nothing but numbers and words of bounded length is taken over. */
function add(sum: Sum, data: Data): void {
  sum.batch = cut(String(data["batch"] ?? ""), 63);
  for (const name of ["total", "started", "exists", "refused", "waiting"] as const) sum[name] += numberIn(data, name);
  sum.run_names.push(...(Array.isArray(data["run_names"]) ? data["run_names"] : []).slice(0, 20).map(String));
  for (const { entry, message } of listIn(data, "refusals")) {
    sum.refusals.push({ entry: String(entry), message: safeWords(String(message)) });
  }
}

function numberIn(data: Data, name: string): number {
  const value = data[name];
  return Number.isSafeInteger(value) ? value as number : 0;
}

function listIn(data: Data, name: string): Data[] {
  const value = data[name];
  return Array.isArray(value) ? value.filter((one) => typeof one === "object" && one !== null).slice(0, 100) : [];
}

/** `3 started, 2 there already (batch abc)`; `dry`: what a dry run says of them. */
function sumText({ batch, total, started, exists, refused, waiting, refusals }: Sum, dry: string | undefined): string {
  if (dry !== undefined) return `${total} ${dry} (batch ${batch}); nothing was started`;
  const parts = [
    `${started} started`,
    ...exists > 0 ? [`${exists} there already`] : [],
    ...waiting > 0
      ? [`${waiting} wait for their turn; should the service end before, give the same command again`]
      : [],
    ...refused > 0
      ? [`${refused} refused: ${refusals.map(({ entry, message }) => `${entry}: ${message}`).join("; ")}`]
      : [],
  ];
  return plain(`${parts.join(", ")} (batch ${batch})`);
}
