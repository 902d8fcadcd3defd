/**
 * Cells of several entries: parted by `;` or a line break, each with an error of its own. Pure.
 */
import type { Kind, Report } from "../kinds.ts";
import { cut } from "../problem.ts";

/** Entries of one cell. Each may become an object in the Job, whose size the API server bounds. */
const MAX_ENTRIES = 200;

/** The parts of a cell between `;` and line breaks, without blanks around them; empty ones do not count. */
function entriesOf(text: string): string[] {
  return text.split(/[;\n]/).map((entry) => entry.trim()).filter((entry) => entry !== "");
}

/** The same where entries hold no commas, which may part them too. */
export function shortEntriesOf(text: string): string[] {
  return text.split(/[,;\n]/).map((entry) => entry.trim()).filter((entry) => entry !== "");
}

/** What a reader of entries says of a wrong one: what would be right, as a clause to follow a colon. */
export interface Fault {
  readonly fault: string;
}

/** Whether it is a fault and no value. */
export function isFault(value: unknown): value is Fault {
  return typeof value === "object" && value !== null && "fault" in value;
}

/** A kind whose cell is a list of entries, each read alone; a wrong entry is named. */
export function listOf<T>(
  readEntry: (entry: string, report: Report) => T | Fault,
  { schema = {}, split = entriesOf, unique }: {
    schema?: Readonly<Record<string, unknown>>;
    split?: (text: string) => string[];
    /** What no two entries may have in common. */
    unique?: (value: T) => string;
  } = {},
): Kind<readonly T[]> {
  return {
    hasLines: true,
    schema: { type: "string", ...schema },
    read(text, report) {
      const entries = split(text);
      if (entries.length > MAX_ENTRIES) {
        report.error(`the cell has ${entries.length} entries, ${MAX_ENTRIES} are allowed`);
        return undefined;
      }
      const values: T[] = [];
      const seen = new Map<string, string>();
      for (const entry of entries) {
        const value = readEntry(entry, report);
        if (isFault(value)) {
          report.error(`the entry "${cut(entry)}" cannot be used: ${value.fault}`);
          continue;
        }
        const mark = unique?.(value);
        const before = mark === undefined ? undefined : seen.get(mark);
        if (before !== undefined) {
          report.error(
            before === entry
              ? `the entry "${cut(entry)}" stands there twice; take one away`
              : `the entries "${cut(before)}" and "${cut(entry)}" say two things of one; take one away`,
          );
        } else if (mark !== undefined) seen.set(mark, entry);
        values.push(value);
      }
      return values.length === 0 ? undefined : values;
    },
  };
}
