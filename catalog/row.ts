/**
 * One row: its cells by the table of columns, and what they must be together.
 * Must not know the file nor other rows.
 */
import type { Row, Template } from "../ports.ts";
import { filledCells } from "../run_spec.ts";
import { isMore } from "../util/quantities.ts";
import { type NamedColumn, PRESETS } from "./columns.ts";
import { findInvisible, mayHoldInvisible } from "./invisible.ts";
import { scriptFault } from "./cells/words.ts";
import { doubtsOfNeeds } from "./needs_doubts.ts";
import { cachedValue, type Report } from "./kinds.ts";
import { limitFindings } from "./limit_rules.ts";
import { cut, cutMessage, type Problem } from "./problem.ts";

/** A column of the header: where its cells are. */
export interface Place {
  readonly column: NamedColumn;
  /** Index of its cell in a record. */
  readonly at: number;
}

/** Columns that start a row without a message of its own topic, which may then be empty. */
const SELF_STARTING = ["needs", "schedule"];

/** Fields of a due time's message, see flows/schedules.ts. */
const DUE_FIELDS = ["schedule", "time_zone", "due"];

/** Characters of a cell. */
const MAX_CELL = 32_768;

/** What programs write for an empty or broken cell. */
const NO_VALUE =
  /^(None|NaN|nan|NULL|null|NA|N\/A|<NA>|undefined|#N\/A|#NAME\?|#REF!|#VALUE!|#DIV\/0!|#NUM!|#NULL!|#ERROR!)$/;

/** Reads the cells of one row; collects what is wrong. */
export class RowReader implements Report {
  readonly problems: Problem[] = [];
  isBad = false;
  /** Set once the cell is known to be right. */
  jobName: string | undefined;
  readonly #line: number;
  readonly #cells: readonly string[];
  readonly #places: readonly Place[];
  /** Columns whose cell needs no further look, for it was refused. */
  readonly #refused = new Set<string>();
  /** The cell that is read, for what its kind reports. */
  #column = "";
  #text = "";

  /** `places`: in the order of the table of columns, the row's name first. */
  constructor(line: number, cells: readonly string[], places: readonly Place[]) {
    this.#line = line;
    this.#cells = cells.map((cell) => cell.trim());
    this.#places = places;
  }

  /** The cell of a column; "" where the header has none. */
  cell(name: string): string {
    const at = this.#places.find(({ column }) => column.name === name)?.at;
    return at === undefined ? "" : this.#cells[at] ?? "";
  }

  /** The row; of use only if not `isBad`. */
  read(): Row {
    this.#checkText();
    const row: Record<string, unknown> = { line: this.#line, ...PRESETS };
    const startsItself = SELF_STARTING.some((name) => this.cell(name) !== "");
    for (const { column, at } of this.#places) {
      const text = this.#cells[at] ?? "";
      if (text === "" && (!column.required || column.field === "mqttTopic" && startsItself)) {
        if (column.required) row[column.field] = "";
        continue;
      }
      if (this.#refused.has(column.name)) continue;
      this.#column = column.name;
      this.#text = text;
      if (text === "") this.error(`the cell is empty; ${column.required}`);
      else {
        const value = NO_VALUE.test(text)
          ? this.error(
            "that is what programs write for an empty or broken cell; empty the cell, or write what is meant",
          )
          : column.kind.read(text, this, row);
        if (value !== undefined) row[column.field] = value;
        if (column.field === "jobName") this.jobName = value as string | undefined;
      }
    }
    const whole = row as unknown as Row;
    this.#checkTogether(whole);
    return whole;
  }

  error(message: string): void {
    this.refuse(this.#column, this.#text, message);
  }

  warn(message: string): void {
    this.#report("warning", this.#column, this.#text, message);
  }

  /** Leaves the row out for what is wrong with it as a whole, or beside other rows. */
  refuse(column: string | undefined, value: string | undefined, message: string): void {
    this.isBad = true;
    if (column !== undefined) this.#refused.add(column);
    this.#report("error", column, value, message);
  }

  /** Takes over what somebody else found in the row. */
  add(problem: Problem): void {
    if (problem.severity === "error") this.isBad = true;
    this.problems.push(problem);
  }

  #report(severity: Problem["severity"], column: string | undefined, value: string | undefined, message: string): void {
    this.problems.push({
      severity,
      line: this.#line,
      ...(column === undefined ? {} : { column }),
      ...(value === undefined ? {} : { value: cut(value) }),
      message: cutMessage(message),
      ...(this.jobName === undefined ? {} : { jobName: this.jobName }),
    });
  }

  /** What no cell can hold, whatever its kind. */
  #checkText(): void {
    const all = this.#cells.join("");
    if (all.length <= MAX_CELL && !mayHoldInvisible(all)) return;
    for (const { column: { name, kind }, at } of this.#places) {
      const cell = this.#cells[at] ?? "";
      if (cell.length > MAX_CELL) {
        this.refuse(name, cell, `the cell has ${cell.length} characters, ${MAX_CELL} are allowed`);
        continue;
      }
      // A command may span lines: sh -c '…'.
      const odd = findInvisible(kind.hasLines ? cell.replaceAll(/[\n\t]/g, " ") : cell);
      if (!odd) continue;
      if (odd.isBlank && kind.hasLines) {
        const message = `the cell holds ${odd.what} at character ${odd.at + 1}; write a plain blank if that is meant`;
        this.#report("warning", name, cell, message);
      } else this.refuse(name, cell, `the cell holds ${odd.what} at character ${odd.at + 1}; take it out`);
    }
  }

  /** What cells must be together. */
  #checkTogether(row: Row): void {
    // Kubernetes refuses a request above its limit.
    for (const { request, limit, columns } of PAIRS) {
      const [asked, most] = [row[request], row[limit]];
      if (asked === undefined || most === undefined || asked === most) continue;
      if (!isMore(cachedValue(asked) ?? 0, cachedValue(most) ?? 0)) continue;
      const message = `more than ${columns.limit} (${most}), which Kubernetes refuses; ` +
        "raise the limit or lower the request";
      this.refuse(columns.request, asked, message);
    }
    if (row.timeZone !== undefined && row.schedule === undefined) {
      const message = "the row has a time zone and no schedule; fill schedule, or empty this cell";
      this.#report("warning", "time_zone", row.timeZone, message);
    }
    const wanted = row.schedule && row.inputs?.find(({ name, required }) => required && !DUE_FIELDS.includes(name));
    if (wanted) {
      const message = `a due time of its schedule has no field "${wanted.name}", so each such run is refused; ` +
        `give it a preset: ${wanted.name}=…`;
      this.#report("warning", "inputs", wanted.name, message);
    }
    this.#checkLadder(row);
    this.#checkRetries(row);
    if (row.needs?.includes(row.jobName)) {
      this.refuse("needs", row.jobName, "the row needs itself, so it would never run; take its own name out");
    }
    for (const { value, message } of doubtsOfNeeds(row)) this.#report("warning", "needs", value, message);
    for (const { severity, column, value, message } of limitFindings(row)) {
      if (severity === "error") this.refuse(column, value || this.cell(column), message);
      else this.#report(severity, column, value, message);
    }
    const script = scriptFault(row);
    if (script) this.refuse(script.column, script.value, script.message);
    if (row.mounts?.some(({ path }) => path === row.diskMount)) {
      this.refuse("mounts", row.diskMount, "disk_mount has this path already; give one of them another");
    }
    if (row.completions !== undefined && row.completions < row.parallelism) {
      const message = `fewer than the pods at a time (parallelism is ${row.parallelism}); write at least as many`;
      this.refuse("completions", String(row.completions), message);
    }
    this.#checkItems(row);
    const pages = row.resources?.find(({ name }) => name.startsWith("hugepages-"));
    if (pages && [row.cpuRequest, row.cpuLimit, row.memoryRequest, row.memoryLimit].every((one) => one === undefined)) {
      this.refuse(
        "resources",
        pages.name,
        "Kubernetes gives huge pages only beside CPU or memory; fill memory_request",
      );
    }
    if (row.gpuProduct !== undefined && row.gpu === 0) {
      const message = "the row asks for this GPU model but for no GPU; set gpu to 1 or empty this cell";
      this.#report("warning", "gpu_product", row.gpuProduct.join(", "), message);
    }
  }

  #checkLadder(row: Row): void {
    const { memoryLimits: limits = [], memoryRequests: requests } = row;
    if (requests && requests.length !== limits.length) {
      const sizes = limits.length || (row.memoryLimit === undefined ? "none" : 1);
      const message = `it has ${requests.length} sizes and memory_limit has ${sizes}; write as many there, ` +
        "or one here, which rises with them";
      this.refuse("memory_request", requests.join(", "), message);
      return;
    }
    const wrong =
      requests?.findIndex((asked, at) => at > 0 && isMore(cachedValue(asked) ?? 0, cachedValue(limits[at]!) ?? 0)) ??
        -1;
    if (wrong < 0 || !requests) return;
    const message = `${requests[wrong]} is more than memory_limit has in its place (${limits[wrong]}), which ` +
      "Kubernetes refuses; raise the limit or lower the request";
    this.refuse("memory_request", requests.join(", "), message);
  }

  #checkRetries(row: Row): void {
    const { retries = 0, retryOn, memoryLimits, backoffLimit } = row;
    if (retryOn && retries === 0) {
      this.#report("warning", "retry_on", this.cell("retry_on"), "it does nothing without retries; fill that cell too");
    }
    if (memoryLimits && backoffLimit > 0) {
      const message =
        "Kubernetes tries a pod that ran out of memory again with the same memory, before the next size " +
        "of memory_limit has its turn; empty this cell, and use retries";
      this.#report("warning", "backoff_limit", String(backoffLimit), message);
    }
  }

  /** `{item}` and `{index}` have a value where there is one item a run. */
  #checkItems(row: Row): void {
    const key = { column: "idempotency_key", templates: row.idempotencyKey ? [row.idempotencyKey] : [] };
    for (const { column, templates } of [...filledCells(row), key]) {
      if (row.forEach !== undefined && column !== "idempotency_key") {
        this.#checkItemFields(row, column, templates);
        continue;
      }
      const piece = templates.flat().find((piece) =>
        typeof piece !== "string" && (piece.root === "item" || piece.root === "index")
      );
      if (piece === undefined || typeof piece === "string") continue;
      const message = row.forEach === undefined
        ? `${piece.source} has a value in a row with for_each only; fill for_each, or write {payload.…}`
        : `${piece.source} differs from item to item, and the key is that of the message; write {payload.…}`;
      this.refuse(column, this.cell(column), message);
    }
  }

  /** A number has no fields, an object in a store its name only. */
  #checkItemFields({ forEach }: Row, column: string, templates: readonly Template[]): void {
    if (forEach?.from !== "numbers" && forEach?.from !== "objects") return;
    const isObject = forEach.from === "objects";
    for (const piece of templates.flat()) {
      if (typeof piece === "string" || piece.root !== "item" || piece.path.length === 0) continue;
      if (piece.preset !== undefined || isObject && piece.path.length === 1 && piece.path[0] === "name") continue;
      const right = isObject ? "{item} for the URL, or {item.name} for its last part" : "{item}";
      const message = `${cut(piece.source)} has no value, for the items are ${isObject ? "objects" : "numbers"}`;
      this.refuse(column, this.cell(column), `${message}; write ${right}`);
    }
  }
}

const PAIRS = [
  { request: "cpuRequest", limit: "cpuLimit", columns: { request: "cpu_request", limit: "cpu_limit" } },
  { request: "memoryRequest", limit: "memoryLimit", columns: { request: "memory_request", limit: "memory_limit" } },
  { request: "diskRequest", limit: "diskLimit", columns: { request: "disk_request", limit: "disk_limit" } },
] as const;
