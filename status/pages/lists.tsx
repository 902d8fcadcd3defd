/**
 * Lists of the pages: a table that becomes cards on a phone, its sorting, its pages, and the form that filters it. They
 * change in place where a script runs, and by a new page where none does. Pure functions of their input.
 */
import type { Child } from "hono/jsx";

/** A column of a list. */
export interface Column<T> {
  /** What it is; on a phone, the label of each value. "" for one that needs none. */
  readonly head: string;
  readonly cell: (row: T) => Child;
  /** Figures, aligned to the right. */
  readonly isNumber?: boolean;
  /** Left out on a phone. */
  readonly wideOnly?: boolean;
  /** Where the list is sorted by it. */
  readonly sortHref?: string;
  readonly sorted?: "ascending" | "descending";
}

/** A list as a table; the first column names its rows. `caption`: what it holds, in words. */
export function List<T>(
  { caption, columns, rows }: { caption: Child; columns: readonly Column<T>[]; rows: readonly T[] },
) {
  const classes = (column: Column<T>) =>
    [column.isNumber ? "num" : "", column.wideOnly ? "wideonly" : ""].filter(Boolean).join(" ") || undefined;
  const [first, ...others] = columns;
  return (
    <table class="stack">
      <caption class="vh">{caption}</caption>
      <thead>
        <tr>
          {columns.map((column) => (
            <th scope="col" class={classes(column)} aria-sort={column.sorted}>
              {column.sortHref === undefined
                ? column.head || <span class="vh">Choose</span>
                : <a href={column.sortHref} data-in-place>{column.head}</a>}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr>
            {first && <th scope="row">{first.cell(row)}</th>}
            {others.map((column) => (
              <td class={classes(column)} data-l={column.head || undefined}>{column.cell(row)}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** Link of a list with some of its query changed; undefined or "" takes a word out. */
export function hrefWith(
  path: string,
  query: Readonly<Record<string, string | undefined>>,
  changes: Readonly<Record<string, string | undefined>>,
): string {
  const words = Object.entries({ ...query, ...changes }).filter((entry): entry is [string, string] => !!entry[1]);
  return words.length === 0 ? path : `${path}?${new URLSearchParams(words)}`;
}

/** The pages of a list: which part is shown of how many, and ways to the others. */
export function Pager(
  { of, words, previous, next }: {
    /** What is paged, for who does not see it. */
    of: string;
    /** `1–15 of 300` */
    words: string;
    previous?: string | undefined;
    next?: string | undefined;
  },
) {
  return (
    <nav class="pager" aria-label={`Pages of ${of}`}>
      <span class="muted">{words}</span>
      {previous !== undefined && <a class="button" href={previous} rel="prev" data-in-place>Previous</a>}
      {next !== undefined && <a class="button" href={next} rel="next" data-in-place>Next</a>}
    </nav>
  );
}

/** One page of a list that is wholly known. */
export function pageOf<T>(all: readonly T[], page: number, most: number) {
  const pages = Math.max(1, Math.ceil(all.length / most));
  const at = Math.min(Math.max(1, page), pages);
  const rows = all.slice((at - 1) * most, at * most);
  const words = all.length <= most
    ? `${all.length}`
    : `${(at - 1) * most + 1}–${(at - 1) * most + rows.length} of ${all.length}`;
  return { rows, page: at, pages, words };
}
