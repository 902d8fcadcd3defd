/**
 * The page `/table`: what is wrong with the table, its rows in words, what is due next, and the forms that start runs of
 * them. A pure function of its input.
 */
import { markRows } from "../../catalog/chains.ts";
import { type Problem, scheduleText, type Table } from "../../catalog.ts";
import type { Row } from "../../ports.ts";
import { compact } from "../../util/compact.ts";
import { MARK_WORDS } from "../graph.tsx";
import { BatchSection } from "./batches.tsx";
import { type Column, hrefWith, List, ListForm, type ListPage, pageOf, PagesOf } from "./lists.tsx";
import { frame, Names, resourceWords, RowLink, short, Time } from "./parts.tsx";
import { RunSection } from "./run_forms.tsx";

const ROWS_A_PAGE = 50;
const PROBLEMS_A_PAGE = 50;
/** Rows of the list of what is due next. */
const MAX_NEXT = 10;

const SORTS = [["line", "as in the table"], ["name", "by name"], ["due", "due next first"]] as const;

export interface TablePageInput {
  readonly table: Table | undefined;
  /** Why the table in force is not what the store has. */
  readonly tableFailure?: string;
  /** When rows with a schedule are due next, by their names. */
  readonly nextDue?: ReadonlyMap<string, Date>;
  /** Whether a token is set, so that there is something to act with. */
  readonly actions: boolean;
  /** As the links and forms of the page have it: a text that rows have in them, an order, pages. */
  readonly query?: Readonly<Partial<Record<"rows" | "sort" | "page" | "problems", string>>>;
}

/** The page as HTML text. */
export function tablePage(input: TablePageInput): string {
  const { table, tableFailure, nextDue, actions } = input;
  return frame({
    title: "Table – MQTT Job Listener",
    heading: "Table",
    here: "table",
    beside: <a class="small" href="/graph">as a graph</a>,
    children: (
      <>
        <div id="table-failure" data-live>
          {tableFailure !== undefined && (
            <section class="alarm" aria-label="Trouble">
              <p>{short(tableFailure, 2_000)}</p>
            </section>
          )}
        </div>
        {table ? <ProblemSection {...input} table={table} /> : <NoTable />}
        {nextDue && nextDue.size > 0 && <NextSection nextDue={nextDue} />}
        {table && <RowSection {...input} table={table} />}
        {actions && table && <RunSection table={table} />}
        {actions && table && <BatchSection table={table} />}
        {table && <Names id="row-names" names={table.rows.map(({ jobName }) => jobName)} />}
      </>
    ),
  });
}

function NoTable() {
  return (
    <section id="problems" data-live aria-label="Table">
      <p class="warn">There is no usable table yet.</p>
    </section>
  );
}

/** Errors first: they leave their row out. */
export function sortedProblems(problems: readonly Problem[]): Problem[] {
  const isError = ({ severity }: Problem) => severity === "error";
  return [...problems.filter(isError), ...problems.filter((problem) => !isError(problem))];
}

type WithTable = TablePageInput & { readonly table: Table };

const PROBLEM_COLUMNS: readonly Column<Problem>[] = [
  {
    head: "Kind",
    cell: ({ severity }) => <span class={`tag ${severity === "error" ? "bad" : "warn"}`}>{severity}</span>,
  },
  { head: "Line", cell: ({ line }) => line },
  { head: "Row", cell: ({ jobName }) => jobName !== undefined && <span class="name">{short(jobName)}</span> },
  { head: "Column", cell: ({ column }) => column !== undefined && short(column) },
  { head: "Value", cell: ({ value }) => value !== "" && <code>{short(value)}</code> },
  { head: "What is wrong", cell: ({ message }) => short(message) },
];

function ProblemSection({ table, query = {} }: WithTable) {
  const problems = pageOf(sortedProblems(table.problems), Number(query.problems) || 1, PROBLEMS_A_PAGE);
  const count = (number: number, word: string) => `${number} ${word}${number === 1 ? "" : "s"}`;
  return (
    <section id="problems" data-live aria-labelledby="problems-h">
      <h2 id="problems-h">Problems</h2>
      <p>
        {count(table.rows.length, "row")} in use, {table.badRows.length} left out for errors.{" "}
        {problems.total === 0 && <span class="good">No errors and no warnings.</span>}
      </p>
      {problems.total > 0 && <List caption="Problems of the table" columns={PROBLEM_COLUMNS} rows={problems.rows} />}
      <PagesOf of="problems" list={problems} path={(page) => hrefWith("/table", query, { problems: `${page}` })} />
    </section>
  );
}

function NextSection({ nextDue }: { nextDue: ReadonlyMap<string, Date> }) {
  const soonest = [...nextDue].sort(([, a], [, b]) => a.getTime() - b.getTime()).slice(0, MAX_NEXT);
  return (
    <section id="next" data-live aria-labelledby="next-h">
      <h2 id="next-h">Next by schedule</h2>
      <ul class="lines">
        {soonest.map(([jobName, due]) => (
          <li class="line">
            <RowLink jobName={jobName} />
            <span class="end">
              <Time at={due} />
            </span>
          </li>
        ))}
      </ul>
      {nextDue.size > MAX_NEXT && <p class="muted">{nextDue.size - MAX_NEXT} more rows are due later.</p>}
    </section>
  );
}

function RowSection({ table, nextDue, query = {} }: WithTable) {
  const rows = rowsFor(table, query, nextDue);
  return (
    <section aria-labelledby="rows-h">
      <div class="line">
        <h2 id="rows-h">Rows</h2>
        <ListForm
          of="rows"
          path="/table"
          filter={{ name: "rows", value: query.rows, label: "Filter rows" }}
          sort={{ name: "sort", value: query.sort, choices: SORTS }}
          resets="page"
          kept={query}
        />
      </div>
      <div id="rows" data-live>
        {rows.total === 0
          ? <p class="muted">{query.rows === undefined ? "There are no rows." : "No row has this in it."}</p>
          : <List caption="Rows of the table" columns={rowColumns(table, rows, nextDue)} rows={rows.rows} />}
        <PagesOf of="rows" list={rows} path={(page) => hrefWith("/table", query, { page: `${page}` })} />
      </div>
    </section>
  );
}

function rowsFor(
  { rows }: Table,
  { rows: wanted, sort, page }: NonNullable<TablePageInput["query"]>,
  nextDue: TablePageInput["nextDue"],
): ListPage<Row> {
  const text = wanted?.toLowerCase();
  const fits = rows.filter(({ jobName, mqttTopic, image, owner }) =>
    text === undefined || [jobName, mqttTopic, image, owner].some((one) => one?.toLowerCase().includes(text))
  );
  if (sort === "name") fits.sort((a, b) => a.jobName < b.jobName ? -1 : 1);
  const due = (row: Row) => nextDue?.get(row.jobName)?.getTime() ?? Number.MAX_SAFE_INTEGER;
  if (sort === "due") fits.sort((a, b) => due(a) - due(b));
  return pageOf(fits, Number(page) || 1, ROWS_A_PAGE);
}

function rowColumns(table: Table, { rows }: ListPage<Row>, nextDue: TablePageInput["nextDue"]): Column<Row>[] {
  const marks = markRows(table.chains, new Set(rows));
  return [
    {
      head: "Row",
      cell: (row) => (
        <>
          <RowLink jobName={row.jobName} />
          {marks.get(row)?.map((mark) => <div class="bad">{MARK_WORDS[mark]}</div>)}
        </>
      ),
    },
    { head: "Line", cell: ({ line }) => line },
    { head: "Owner", cell: ({ owner }) => owner && short(owner) },
    { head: "Starts by", cell: (row) => <StartWords row={row} next={nextDue?.get(row.jobName)} /> },
    {
      head: "Image",
      cell: ({ image, command }) => (
        <>
          <code>{short(image)}</code>
          {command && (
            <div class="muted">
              <code>{short(command.join(" "))}</code>
            </div>
          )}
        </>
      ),
    },
    {
      head: "Resources",
      cell: (row) => `${resourceWords(rowResources(row))}${row.parallelism > 1 ? `, ${row.parallelism} pods` : ""}`,
    },
  ];
}

/** Its topic, the rows that it needs, its times: `0 3 * * 1-5 Europe/Berlin`, and when that is next. */
function StartWords({ row, next }: { row: Row; next: Date | undefined }) {
  return (
    <div>
      {row.mqttTopic !== "" && <code>{short(row.mqttTopic)}</code>}
      {row.needs && (
        <div>
          needs <code>{short(row.needs.join(", "))}</code>
        </div>
      )}
      {row.schedule && (
        <div>
          <code>{short(scheduleText(row))}</code> {short(row.timeZone ?? "UTC")}
          {next && (
            <>
              , next <Time at={next} />
            </>
          )}
        </div>
      )}
    </div>
  );
}

function rowResources(row: Row) {
  return {
    gpu: row.gpu,
    requests: compact({ cpu: row.cpuRequest, memory: row.memoryRequest, disk: row.diskRequest }),
    limits: compact({ cpu: row.cpuLimit, memory: row.memoryLimit, disk: row.diskLimit }),
  };
}
