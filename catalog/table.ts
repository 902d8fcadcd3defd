/**
 * A table as read: checked rows, problems, an index of its topics and its chains.
 * Pure. Says what is wrong and what would be right; never throws for what a table holds. Loading is catalog.ts.
 */
import type { Row } from "../ports.ts";
import { END_KINDS, endOf, isEndTopic, isUnderPrefix, overlap, TopicIndex } from "../topics.ts";
import { nearest } from "../util/nearest.ts";
import { finish, finishInSlices } from "../util/slices.ts";
import { type BadRow, type ChainFindings, findChains, NO_CHAINS, type UnmetNeed } from "./chains.ts";
import { columnOf } from "./columns.ts";
import { findHeader, type Layout, type RawRecord, readRecords, toText } from "./csv.ts";
import { type Header, readHeader } from "./header.ts";
import { groupFindings } from "./limit_rules.ts";
import { cut, type Problem, Refusal } from "./problem.ts";
import { RowReader } from "./row.ts";

export interface TableOptions {
  /** Topic prefix of the service, without a trailing slash. */
  readonly topicPrefix: string;
  /** Further rules for a row that is right in itself, such as a policy's. Its errors leave the row out. */
  readonly check?: (row: Row) => readonly Problem[];
}

/** A table as read. Rows are right and in the order of the file. */
export interface Table {
  readonly topicPrefix: string;
  readonly rows: readonly Row[];
  /** In the order of lines. */
  readonly problems: readonly Problem[];
  readonly badRows: readonly BadRow[];
  /** Why nothing of the file can be used; then there are no rows. It is among `problems` too. */
  readonly refusal?: Problem;
  /** Rows by their topic filters. */
  readonly index: TopicIndex<Row>;
  readonly chains: ChainFindings;
  /** Cells are parted by this: "," or ";" or tab or "|". */
  readonly delimiter: string;
}

/** Reads a table in one go. Never throws: a file that is no table comes back with `refusal`. */
export function parseTable(source: Uint8Array | string, options: TableOptions): Table {
  return finish(readTable(source, options));
}

/**
 * Reads a table in slices of about `sliceMs`, between which timers and sockets get their turn.
 * Rejects only with the reason of `signal`.
 */
export function parseTableInSlices(
  source: Uint8Array | string,
  options: TableOptions,
  slices: { sliceMs?: number; signal?: AbortSignal } = {},
): Promise<Table> {
  return finishInSlices(readTable(source, options), slices);
}

/**
 * Rows that a message on `topic` starts, in table order. Under the service's own prefix only the ends of jobs start
 * rows, and only rows whose filter itself begins with the prefix: a row on `#` never sees the service's own messages.
 * `filters`: the subscriptions that this copy of the message is for; only rows with one of them.
 */
export function rowsFor(table: Table, topic: string, filters?: readonly string[]): Row[] {
  const own = isUnderPrefix(table.topicPrefix, topic);
  if (own && !isEndTopic(table.topicPrefix, topic)) return [];
  return table.index.match(topic)
    .filter((row) => !own || isUnderPrefix(table.topicPrefix, row.mqttTopic))
    .filter((row) => filters === undefined || filters.includes(row.mqttTopic))
    .sort((a, b) => a.line - b.line);
}

function* readTable(source: Uint8Array | string, options: TableOptions): Generator<void, Table> {
  const builder = new TableBuilder(options);
  try {
    const text = yield* toText(source);
    const layout = findHeader(text, (name) => columnOf(name) !== undefined);
    builder.delimiter = layout.delimiter;
    builder.warnOfTail(layout);
    for (const batch of readRecords(text, layout)) {
      builder.add(batch);
      yield;
    }
    builder.end(text);
    return yield* builder.finish();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return builder.refuse(error.problem);
  }
}

/** Rows of one table, and problems of it that are told. */
const MAX_ROWS = 200_000;
const MAX_PROBLEMS = 20_000;

/** Collects the rows of one file. */
class TableBuilder {
  delimiter = ",";
  readonly #options: TableOptions;
  readonly #rows: Row[] = [];
  readonly #badRows: BadRow[] = [];
  readonly #problems: Problem[] = [];
  readonly #index = new TopicIndex<Row>();
  readonly #lineOf = new Map<string, number>();
  readonly #labels = new Map<string, Row>();
  /** First levels of topics in lower case, as they were first written. */
  readonly #levels = new Map<string, { readonly level: string; readonly line: number }>();
  #header: Header | undefined;
  #count = 0;
  #hints = 20_000;
  /** Line of the first error beyond those that are told. */
  #untold: number | undefined;
  #last: { line: number; cells: number } | undefined;

  constructor(options: TableOptions) {
    this.#options = options;
  }

  add(records: readonly RawRecord[]): void {
    for (const record of records) {
      const { line, cells } = record;
      if (cells.every((cell) => cell.trim() === "")) continue;
      this.#last = { line, cells: cells.length };
      if (this.#header) this.#readRow(record, this.#header);
      else {
        this.#header = readHeader(record, this.delimiter);
        this.#problems.push(...this.#header.problems);
      }
    }
  }

  #readRow({ line, cells, fault }: RawRecord, { places, width }: Header): void {
    if (++this.#count > MAX_ROWS) throw new Refusal(line, `the table has more than ${MAX_ROWS} rows; part it`);
    const reader = new RowReader(line, cells, places);
    if (fault) {
      // What the other cells hold cannot be known.
      const column = places.find(({ at }) => at === fault.at)?.column.name;
      reader.refuse(column, cells[fault.at], fault.message);
      this.#leaveOut(line, reader);
      return;
    }
    if (cells.length < width) {
      reader.refuse(
        undefined,
        undefined,
        `the row has ${cells.length} cells, the header has ${width}; write the empty cells too`,
      );
    } else if (cells.slice(width).some((cell) => cell.trim() !== "")) {
      const hint = `put a cell that holds "${this.delimiter === "\t" ? "a tab" : this.delimiter}" in double quotes`;
      reader.refuse(undefined, undefined, `the row has ${cells.length} cells, the header has ${width}; ${hint}`);
    }
    const row = reader.read();
    const name = reader.jobName;
    if (name !== undefined) {
      const before = this.#lineOf.get(name);
      if (before === undefined) this.#lineOf.set(name, line);
      else reader.refuse("job_name", name, `line ${before} has this job_name already; give this row another one`);
    }
    if (!reader.isBad && this.#options.check) {
      for (const problem of this.#options.check(row)) reader.add({ ...problem, line, jobName: row.jobName });
    }
    if (reader.isBad) {
      this.#leaveOut(line, reader);
      return;
    }
    this.#tell(reader.problems);
    this.#rows.push(row);
    // A row that is switched off has no subscription; a person may still run it.
    if (row.enabled !== "no" && row.mqttTopic !== "") this.#index.add(row.mqttTopic, row);
    this.#warnOfTwin(row);
    this.#warnOfCase(row);
  }

  warnOfTail({ tail, line }: Layout): void {
    if (tail === "") return;
    const message = `the line ends in "${tail}", which a spreadsheet left that parts cells otherwise; ` +
      "it is left out here and at the end of each line";
    this.#problems.push({ severity: "warning", line, message });
  }

  #leaveOut(line: number, reader: RowReader): void {
    this.#tell(reader.problems);
    this.#badRows.push({ line, jobName: cut(reader.cell("job_name")), mqttTopic: cut(reader.cell("mqtt_topic")) });
  }

  #tell(problems: readonly Problem[]): void {
    for (const problem of problems) {
      if (this.#problems.length < MAX_PROBLEMS) this.#problems.push(problem);
      else if (problem.severity === "error") this.#untold ??= problem.line;
    }
  }

  /** Names that differ only in what a Kubernetes name cannot hold are right, but hard to tell apart in `kubectl`. */
  #warnOfTwin(row: Row): void {
    const label = row.jobName.toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 50);
    const twin = this.#labels.get(label);
    if (!twin) {
      this.#labels.set(label, row);
      return;
    }
    this.#problems.push({
      severity: "warning",
      line: row.line,
      column: "job_name",
      value: row.jobName,
      jobName: row.jobName,
      message:
        `runs of this row and of "${twin.jobName}" (line ${twin.line}) have names that begin alike in Kubernetes; ` +
        "let the names differ in letters or digits within the first 50",
    });
  }

  /** Levels that differ in nothing but capital letters are two levels to a broker. */
  #warnOfCase({ jobName, mqttTopic, line }: Row): void {
    const slash = mqttTopic.indexOf("/");
    const level = slash === -1 ? mqttTopic : mqttTopic.slice(0, slash);
    const key = level.toLowerCase();
    const first = this.#levels.get(key);
    if (first === undefined) this.#levels.set(key, { level, line });
    else if (first.level !== level) {
      const message = `line ${first.line} writes "${cut(first.level)}", and topics tell capital letters apart; ` +
        "write both the same if that is not meant";
      this.#tell([{ severity: "warning", line, column: "mqtt_topic", value: cut(mqttTopic), jobName, message }]);
    }
  }

  /** What can be said of the file once its last line is read. */
  end(text: string): void {
    const header = this.#header;
    if (!header) {
      throw new Refusal(1, "the file has no header; the first line must be job_name,mqtt_topic,image,…");
    }
    // Spreadsheets end the last line. One that stops short of its last cell is a file still being written.
    const isCut = !text.endsWith("\n") && this.#last !== undefined;
    if (isCut && this.#last && this.#last.cells < header.width) {
      const { line, cells } = this.#last;
      throw new Refusal(
        line,
        `the last line has ${cells} cells of ${header.width} and no end of line; the file looks half-written`,
      );
    }
    if (this.#last?.line !== header.line) return;
    if (isCut) throw new Refusal(header.line, "the file ends within its header; it looks half-written");
    this.#problems.push({
      severity: "warning",
      line: header.line,
      message: "the table has no rows; nothing will run",
    });
  }

  *finish(): Generator<void, Table> {
    const source = { topicPrefix: this.#options.topicPrefix, rows: this.#rows, badRows: this.#badRows };
    const chains = yield* findChains(source);
    this.#tellChains(chains);
    this.#tell(groupFindings(this.#rows));
    if (this.#untold !== undefined) {
      const message = `from this line on there are more than ${MAX_PROBLEMS} problems; mend those above first`;
      this.#problems.push({ severity: "error", line: this.#untold, message });
    }
    yield;
    this.#problems.sort((a, b) => a.line - b.line);
    return { ...source, problems: this.#problems, index: this.#index, chains, delimiter: this.delimiter };
  }

  refuse(refusal: Problem): Table {
    return {
      topicPrefix: this.#options.topicPrefix,
      rows: [],
      badRows: [],
      problems: [...this.#problems.filter(({ line }) => line <= refusal.line), refusal],
      refusal,
      index: new TopicIndex(),
      chains: NO_CHAINS,
      delimiter: this.delimiter,
    };
  }

  #tellChains(chains: ChainFindings): void {
    const warn = (row: Row, message: string) =>
      this.#problems.push({
        severity: "warning",
        line: row.line,
        column: "mqtt_topic",
        value: cut(row.mqttTopic),
        jobName: row.jobName,
        message,
      });
    // A condition may well be what ends it.
    for (const row of chains.selfTriggers.filter(({ when }) => when === undefined)) {
      warn(row, "the row waits for its own end, so it starts itself for ever once started; name another job");
    }
    for (const cycle of chains.cycles.filter((cycle) => cycle.every(({ when }) => when === undefined))) {
      const [first] = cycle;
      if (first) {
        warn(first, `the rows ${namesOf(cycle)} start each other in a circle for ever; break the chain in one of them`);
      }
    }
    const { topicPrefix } = this.#options;
    for (const row of chains.never) {
      const kind = row.mqttTopic.slice(topicPrefix.length + 1).split("/")[0] ?? "";
      const near = nearest(kind.toLowerCase(), END_KINDS);
      const hint = near === undefined ? "" : `; did you mean "${near}" instead of "${cut(kind)}"?`;
      const only = "of the service's own topics only job_complete/{job_name}, job_failed/{job_name}, " +
        "group_complete/{job_name} and group_failed/{job_name} start rows";
      warn(row, `the row never runs: ${only}${hint}`);
    }
    for (const row of this.#rows) {
      const right = nearMiss(topicPrefix, row.mqttTopic);
      if (right !== undefined) warn(row, `the row does not see the end of jobs: its topic must begin with ${right}`);
    }
    this.#tellOrphans(chains.orphans, warn);
    this.#tellNeeds(chains);
  }

  #tellNeeds({ needCycles, unmetNeeds, apartNeeds }: ChainFindings): void {
    const warn = (row: Row, message: string) =>
      this.#tell([{
        severity: "warning",
        line: row.line,
        column: "needs",
        value: cut(row.needs?.join(", ") ?? ""),
        jobName: row.jobName,
        message,
      }]);
    for (const cycle of needCycles) {
      const first = cycle.find(({ needs }) => needs !== undefined);
      if (!first) continue;
      const message =
        `the rows ${namesOf(cycle)} wait for each other in a circle, so none of them runs unless a person ` +
        "starts one; take one of them out of needs";
      warn(first, message);
    }
    for (const { row, one, other } of apartNeeds) {
      const message =
        `the row needs "${cut(one)}" and "${cut(other)}", which no one message leads to, so it never runs; ` +
        "give both rows one topic, or let one follow the other";
      warn(row, message);
    }
    const broken = new Map(this.#badRows.map((bad) => [bad.jobName, bad.line]));
    for (const unmet of unmetNeeds) warn(unmet.row, this.#whyUnmet(unmet, broken));
  }

  #whyUnmet({ row, needed, off }: UnmetNeed, broken: ReadonlyMap<string, number>): string {
    const never = "so this row never runs";
    if (off) return `the row needs "${cut(needed)}" (line ${off.line}), which is switched off, ${never}`;
    const line = broken.get(needed);
    if (line !== undefined) return `the row needs "${cut(needed)}", whose row (line ${line}) has errors, ${never}`;
    const near = this.#nearestName(needed, row);
    const hint = near === undefined ? "" : `; did you mean "${near}"?`;
    return `the row needs "${cut(needed)}", which no row has as its job_name, ${never}${hint}`;
  }

  /** Names to compare with in all are bounded: a spelling hint is not worth more than a few milliseconds. */
  #nearestName(name: string, row: Row): string | undefined {
    const others = this.#hints > 0 ? this.#rows.slice(0, this.#hints).map(({ jobName }) => jobName) : [];
    this.#hints -= others.length;
    return nearest(name, others.filter((other) => other !== row.jobName));
  }

  #tellOrphans(orphans: readonly Row[], warn: (row: Row, message: string) => void): void {
    const broken = new Map(this.#badRows.map((bad) => [bad.jobName, bad.line]));
    for (const row of orphans) {
      const end = endOf(this.#options.topicPrefix, row.mqttTopic);
      const name = end?.jobName;
      if (name === undefined) {
        warn(row, "the row waits for the end of a job, but no row's name fits this topic");
        continue;
      }
      const line = broken.get(name);
      if (line !== undefined) {
        warn(row, `the row waits for the job "${cut(name)}", whose row (line ${line}) has errors and does not run`);
        continue;
      }
      if (end?.of === "group" && this.#lineOf.has(name)) {
        const kind = row.mqttTopic.includes("/group_failed/") ? "job_failed" : "job_complete";
        warn(
          row,
          `the row waits for a group of "${cut(name)}", which has no for_each and makes none; ` +
            `write ${kind}/${cut(name)}, or fill for_each there`,
        );
        continue;
      }
      const near = this.#nearestName(name, row);
      const hint = near === undefined ? "" : `; did you mean "${near}"?`;
      warn(row, `the row waits for the job "${cut(name)}", which no row has${hint}`);
    }
  }
}

function namesOf(rows: readonly Row[]): string {
  const more = rows.length > 8 ? ` and ${rows.length - 8} more` : "";
  return rows.slice(0, 8).map(({ jobName }) => `"${cut(jobName)}"`).join(", ") + more;
}

/**
 * How a filter must begin that means the ends of jobs and does not say so: one behind a wildcard, with a slash before it
 * or in other letters' case. `#` alone or at the end means all kinds of things.
 */
function nearMiss(topicPrefix: string, filter: string): string | undefined {
  if (isUnderPrefix(topicPrefix, filter)) return undefined;
  const inside = filter.startsWith("/") ? filter.slice(1) : filter;
  if (isUnderPrefix(topicPrefix.toLowerCase(), inside.toLowerCase())) {
    return `"${topicPrefix}${cut(inside.slice(topicPrefix.length))}"`;
  }
  if (!/(^|\/)(job|group)_(complete|failed)(\/|$)/.test(filter)) return undefined;
  const meansEnds = END_KINDS.some((kind) => overlap(filter, `${topicPrefix}/${kind}/+`));
  return meansEnds ? `"${topicPrefix}/" for that` : undefined;
}
