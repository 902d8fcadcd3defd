/**
 * Tables as text: columns that line up, cut to the terminal's width, with colours where it has some. A pipe gets each cell
 * whole and no colour. Owns layout and colours; what the cells say is the commands'.
 */
import { type Io, plain } from "./context.ts";
import { cutToWidth, padToWidth, textWidth } from "../util/text_width.ts";
import { oneLine } from "../util/text.ts";

/** What a text is, not which colour it has; the words must say it as well. */
export type Style = "good" | "bad" | "warning" | "live" | "faint" | "strong";

/** What a result is shown on; absent where it goes to a file or pipe. */
export interface Screen {
  /** Columns of the terminal; absent: lines may have any length. */
  readonly width?: number;
  readonly colour: boolean;
}

/** A cell's text, one line; whatever it holds, it gives a terminal no order. */
export type Cell = string | { readonly text: string; readonly style?: Style };

export interface Column {
  readonly title: string;
  /** On a narrow terminal it is cut to no fewer columns than these. Default: 8, or the title's. */
  readonly least?: number;
  /** Numbers, which end below each other. */
  readonly isNumber?: true;
}

/** SGR codes that terminals with 8 colours have. */
const CODES: Readonly<Record<Style, string>> = {
  good: "32",
  bad: "31",
  warning: "33",
  live: "36",
  faint: "2",
  strong: "1",
};
const GAP = "  ";
const LEAST = 8;

/** In its colour, where there are colours. */
export function styled(text: string, style: Style | undefined, screen?: Screen): string {
  return screen?.colour && style !== undefined && text !== "" ? `\x1b[${CODES[style]}m${text}\x1b[0m` : text;
}

/** How the state of a run, a group or a check is shown. */
export function stateCell(state: string): Cell {
  const style = STATES[state];
  return style === undefined ? state : { text: state, style };
}

const STATES: Readonly<Record<string, Style>> = {
  succeeded: "good",
  ok: "good",
  failed: "bad",
  running: "live",
  pending: "faint",
  cancelled: "faint",
};

/** Prints a table with a head line; in a terminal no line is wider than it. */
export async function printTable(
  io: Io,
  columns: readonly (string | Column)[],
  rows: readonly (readonly Cell[])[],
): Promise<void> {
  await io.write(tableText(columns, rows, io.screen) + "\n", { styled: true });
}

/** The lines of a table, without the last line end. */
export function tableText(
  columns: readonly (string | Column)[],
  rows: readonly (readonly Cell[])[],
  screen: Screen = { colour: false },
): string {
  const heads = columns.map((column) => typeof column === "string" ? { title: column } : column);
  const cells = rows.map((row) => heads.map((_, at) => readCell(row[at] ?? "")));
  const natural = heads.map(({ title }, at) =>
    Math.max(textWidth(title), ...cells.map((row) => textWidth(row[at]!.text)))
  );
  const widths = fitted(natural, heads, screen.width);
  const line = (row: readonly { readonly text: string; readonly style?: Style }[]) => {
    // Blanks at the end of a line would wrap it on a narrow terminal.
    const last = row.findLastIndex(({ text }) => text !== "");
    const parts = row.slice(0, last + 1).map(({ text, style }, at) => {
      const shown = cutToWidth(text, widths[at]!);
      const blanks = padToWidth("", widths[at]! - textWidth(shown));
      if (heads[at]!.isNumber) return blanks + styled(shown, style, screen);
      return styled(shown, style, screen) + (at === last ? "" : blanks);
    });
    return parts.join(GAP);
  };
  return [line(heads.map(({ title }) => ({ text: title, style: "strong" }))), ...cells.map(line)].join("\n");
}

function readCell(cell: Cell): { text: string; style?: Style } {
  const { text, style } = typeof cell === "string" ? { text: cell, style: undefined } : cell;
  return { text: oneLine(plain(text)).trimEnd(), ...(style === undefined ? {} : { style }) };
}

/**
 * Widths that fit: the last column gives first, for it holds the longest words; then whichever is the widest. The first one,
 * a name that people copy, gives last.
 */
function fitted(natural: readonly number[], heads: readonly Column[], most: number | undefined): number[] {
  const widths = [...natural];
  if (most === undefined) return widths;
  const least = heads.map(({ title, least }) => least ?? Math.max(LEAST, textWidth(title)));
  let over = widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1)) - most;
  const give = (at: number, floor: number) => {
    const given = Math.max(0, Math.min(over, widths[at]! - floor));
    widths[at]! -= given;
    over -= given;
  };
  const last = widths.length - 1;
  // A few words of the last column are worth more than the whole of the others.
  give(last, Math.max(least[last]!, Math.min(24, Math.floor(most / 3))));
  const order = [...widths.keys()].filter((at) => at > 0 && at < last).sort((a, b) => widths[b]! - widths[a]!);
  for (const at of [...order, last, 0]) give(at, least[at]!);
  // So narrow that not even the least fits: columns go from the right.
  for (let at = last; over > 0 && at >= 0; at--) give(at, 1);
  return widths;
}
