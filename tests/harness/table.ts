/**
 * Tables for tests that need rows of their own: objects in, CSV out. Writes only the columns that a row uses.
 */

/** Cells by column name. */
export type Cells = Readonly<Record<string, string | number>>;

/** A CSV with a header; every cell is quoted (RFC 4180). */
export function csv(rows: readonly Cells[]): string {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const line = (cells: readonly (string | number)[]) =>
    `${cells.map((cell) => `"${String(cell).replaceAll('"', '""')}"`).join(",")}\n`;
  return line(columns) + rows.map((row) => line(columns.map((column) => row[column] ?? ""))).join("");
}

/** A command cell that runs a shell script; the script must not hold single quotes. */
export function shell(script: string): string {
  if (script.includes("'")) throw new Error(`Cannot quote ${script}: it holds a single quote`);
  return `sh -c '${script}'`;
}

/**
 * A script that ends two seconds later, with the same code. For one of which a child runs out of memory: where its shell
 * ends at once, a busy containerd may hear of that before it hears why.
 */
export function endingLater(script: string): string {
  return `${script}; code=$?; sleep 2; exit $code`;
}
