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
  /** Where the list is narrow: left out, or on one line with others of the kind. Else on a line of its own, with its head. */
  readonly onPhone?: "none" | "inline" | "plain";
  /** Where the list is sorted by it. */
  readonly sortHref?: string;
  readonly sorted?: "ascending" | "descending";
}

/** A list as a table; the first column names its rows. `caption`: what it holds, in words. */
export function List<T>(
  { caption, columns, rows }: { caption: Child; columns: readonly Column<T>[]; rows: readonly T[] },
) {
  const classes = (column: Column<T>) =>
    [column.isNumber ? "num" : "", column.onPhone === "none" ? "wideonly" : column.onPhone === "inline" ? "il" : ""]
      .filter(Boolean).join(" ") || undefined;
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
              <td class={classes(column)} data-l={column.onPhone === undefined ? column.head : undefined}>
                {column.cell(row)}
              </td>
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
  { of, words, first, previous, next }: {
    /** What is paged, for who does not see it. */
    of: string;
    /** `1–15 of 300` */
    words: string;
    first?: string | undefined;
    previous?: string | undefined;
    next?: string | undefined;
  },
) {
  return (
    <nav class="pager" aria-label={`Pages of ${of}`}>
      <span class="muted">{words}</span>
      {first !== undefined && <a class="button" href={first} data-in-place>Newest</a>}
      {previous !== undefined && <a class="button" href={previous} rel="prev" data-in-place>Previous</a>}
      {next !== undefined && <a class="button" href={next} rel="next" data-in-place>Next</a>}
    </nav>
  );
}

/** A page of a list. */
export interface ListPage<T> {
  readonly rows: readonly T[];
  /** From 1. */
  readonly page: number;
  readonly pages: number;
  readonly total: number;
  /** `1–15 of 300`; the number alone where there is one page. */
  readonly words: string;
}

/** One page of a list that is wholly known; the nearest one that there is. */
export function pageOf<T>(all: readonly T[], page: number, most: number): ListPage<T> {
  const total = all.length;
  const pages = Math.max(1, Math.ceil(total / most));
  const at = Math.min(Math.max(1, Math.trunc(page)), pages);
  const from = (at - 1) * most;
  const rows = all.slice(from, from + most);
  const words = pages === 1 ? `${total}` : `${from + 1}–${from + rows.length} of ${total}`;
  return { rows, page: at, pages, total, words };
}

/** The ways to the other pages of a list that is wholly known; nothing where it has one page. `path` is of page n. */
export function PagesOf<T>({ of, list, path }: { of: string; list: ListPage<T>; path: (page: number) => string }) {
  const { page, pages, words } = list;
  if (pages === 1) return null;
  return (
    <Pager
      of={of}
      words={words}
      previous={page > 1 ? path(page - 1) : undefined}
      next={page < pages ? path(page + 1) : undefined}
    />
  );
}

/** The form by which a list is filtered and sorted in place; `resets`: words of the query that begin anew with it. */
export function ListForm(
  { of, path, filter, sort, resets, kept, wideOnly }: {
    /** What is listed. */
    of: string;
    path: string;
    filter: { readonly name: string; readonly value: string | undefined; readonly label: string };
    sort: {
      readonly name: string;
      readonly value: string | undefined;
      /** The first one is that of a query without the word. */
      readonly choices: readonly (readonly [string, string])[];
    };
    resets: string;
    /** Other words of the query. */
    kept: Readonly<Record<string, string | undefined>>;
    /** Left out where the list is narrow. */
    wideOnly?: boolean;
  },
) {
  const others = Object.entries(kept).filter(([name, value]) =>
    value && name !== filter.name && name !== sort.name && name !== resets
  );
  return (
    <form
      class={`listform${wideOnly ? " wideonly" : ""}`}
      method="get"
      action={path}
      role="search"
      aria-label={of}
      data-in-place
      data-resets={resets}
    >
      {others.map(([name, value]) => <input type="hidden" name={name} value={value} />)}
      <input
        id={`f-${filter.name}`}
        type="search"
        name={filter.name}
        value={filter.value ?? ""}
        placeholder={filter.label}
        aria-label={filter.label}
      />
      <select id={`f-${sort.name}`} name={sort.name} aria-label={`Order of ${of}`}>
        {sort.choices.map(([value, words], at) => (
          <option value={at === 0 ? "" : value} selected={value === sort.value}>{words}</option>
        ))}
      </select>
      <button type="submit">Show</button>
    </form>
  );
}
