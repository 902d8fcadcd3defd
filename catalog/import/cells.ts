/**
 * Texts of cells: words with a shell's quotes, text in which nothing is a placeholder, what Kubernetes makes of `$`, and
 * lines of CSV. Pure.
 */

const PLAIN_WORD = /^[\w@%+=:,./-]+$/;

/** Words as `parseCommand` reads them back, in as few characters as its quotes allow. */
export function quoteWords(words: readonly string[]): string {
  return words.map((word) => {
    if (PLAIN_WORD.test(word)) return word;
    const single = `'${word.replaceAll("'", `'\\''`)}'`;
    const double = `"${word.replaceAll(/["\\]/g, (char) => `\\${char}`)}"`;
    return double.length < single.length ? double : single;
  }).join(" ");
}

const ROOT = /^(payload|input|result|topic|item|index|job_name|run_name|root_run|attempt)(?![A-Za-z0-9_-])/;

/** A text in which every `{` is itself: what looks like a placeholder gets its braces doubled. */
export function escapeBraces(text: string): string {
  let escaped = "";
  let done = 0;
  for (let open = text.indexOf("{"); open !== -1; open = text.indexOf("{", open + 1)) {
    if (open < done || !ROOT.test(text.slice(open + 1, open + 12))) continue;
    const close = text.indexOf("}", open);
    // Nothing says a placeholder's beginning without its end: the cell is found not to read back.
    if (close === -1) break;
    escaped += `${text.slice(done, open)}{${text.slice(open, close + 1)}}`;
    done = close + 1;
  }
  return escaped + text.slice(done);
}

/**
 * What Kubernetes makes of a value, command or argument: `$$` is `$`, and `$(NAME)` the variable where there is one.
 * `names`: what it refers to; the text holds these as they are.
 * https://github.com/kubernetes/kubernetes/blob/master/third_party/forked/golang/expansion/expand.go
 */
export function expanded(text: string, isVariable: (name: string) => boolean): { text: string; names: string[] } {
  const names: string[] = [];
  const plain = text.replaceAll(/\$(?:\$|\(([^)]*)\))/g, (found, name?: string) => {
    if (found === "$$") return "$";
    if (isVariable(name ?? "")) names.push(name ?? "");
    return found;
  });
  return { text: plain, names };
}

/** A table of these rows, as RFC 4180 has it. `columns`: names in their order; a row has no cell for an empty one. */
export function toCsv(columns: readonly string[], rows: readonly Readonly<Record<string, string>>[]): string {
  const line = (cells: readonly string[]) => cells.map(csvCell).join(",") + "\n";
  return line(columns) + rows.map((row) => line(columns.map((name) => row[name] ?? ""))).join("");
}

function csvCell(text: string): string {
  return /[",;|\t\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
