/** What the pages and plots of saved runs share: text between markers, tables, numbers, the look of a plot. Pure. */

/**
 * The page with a text between each pair of markers `<!-- NAME:begin -->` and `<!-- NAME:end -->`. Throws an Error when
 * one is missing.
 */
export function fillMarks(page: string, parts: Readonly<Record<string, string>>): string {
  let filled = page;
  for (const [name, text] of Object.entries(parts)) {
    const [begin, end] = [`<!-- ${name}:begin -->`, `<!-- ${name}:end -->`];
    const [from, to] = [filled.indexOf(begin), filled.indexOf(end)];
    if (from < 0 || to < from) throw new Error(`Cannot fill the page: it has no ${begin} … ${end}`);
    filled = `${filled.slice(0, from + begin.length)}\n\n${text}\n\n${filled.slice(to)}`;
  }
  return filled;
}

/** Padded as `deno fmt` pads it. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((_, column) => Math.max(3, ...[head, ...rows].map((row) => [...row[column]!].length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell + " ".repeat(widths[column]! - [...cell].length)).join(" | ")} |`;
  return [line(head), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...rows.map(line)].join("\n");
}

/** Four digits, with commas. */
export function number(value: number): string {
  return value.toLocaleString("en", { maximumSignificantDigits: 4 });
}

/** Of all plots, for a light and a dark page. */
export const STYLE = `
    text { font: 13px system-ui, sans-serif; fill: #333 }
    .title { font-size: 15px; font-weight: 600 }
    .grid { stroke: #ddd } .line { fill: none; stroke: #0b62c4; stroke-width: 2 } .dot { fill: #0b62c4 }
    @media (prefers-color-scheme: dark) {
      text { fill: #ddd } .grid { stroke: #444 } .line { stroke: #6cb2ff } .dot { fill: #6cb2ff }
    }`;

/** A coordinate with one digit behind the point. */
export function at(part: number, from: number, to: number): number {
  return Math.round((from + part * (to - from)) * 10) / 10;
}

/** The next of 1, 2, 4, 5, 8 and 10 times a power of ten, so that quarters of it are short numbers. */
export function niceTop(highest: number): number {
  if (highest <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(highest));
  return power * [1, 2, 4, 5, 8, 10].find((step) => step * power >= highest)!;
}
