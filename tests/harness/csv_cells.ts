/** Reads a table of tests/data without the service's own reader: cells by column name (RFC 4180; the whole text is right). */

/** Rows of a CSV with a header. */
export function parseCsv(text: string): Record<string, string>[] {
  const rows: string[][] = [[]];
  for (const [, end, quoted, bare] of text.matchAll(/(^|,|\n)(?:"((?:[^"]|"")*)"|([^",\n]*))/g)) {
    if (end === "\n") rows.push([]);
    rows.at(-1)!.push(quoted?.replaceAll('""', '"') ?? bare ?? "");
  }
  const [header = [], ...others] = rows.filter((cells) => cells.some((cell) => cell !== ""));
  return others.map((cells) => Object.fromEntries(header.map((name, at) => [name, cells[at] ?? ""])));
}
