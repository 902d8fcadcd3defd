/**
 * The table on the page `/`: what is wrong with it, its drawing, its rows.
 */
import { raw } from "hono/html";
import { markRows } from "../../catalog/chains.ts";
import { type Problem, scheduleText, type Table } from "../../catalog.ts";
import type { Row } from "../../ports.ts";
import { compact } from "../../util/compact.ts";
import { type GraphPicture, MARK_WORDS } from "../graph.tsx";
import { Heads, MAX_SHOWN, resourceWords, Scroller, ScrollTable, short, Time } from "./parts.tsx";

/** How many rows are in use, what is wrong, the drawing, the rows. */
export function TableSection(
  { table, graph, nextDue }: {
    table: Table | undefined;
    graph: GraphPicture | undefined;
    nextDue: ReadonlyMap<string, Date> | undefined;
  },
) {
  return (
    <section id="table" data-live aria-labelledby="table-h">
      <h2 id="table-h">Table</h2>
      {table
        ? (
          <>
            <p>
              {table.rows.length} {table.rows.length === 1 ? "row" : "rows"} in use, {table.badRows.length} left out.
            </p>
            <ProblemList problems={table.problems} />
            {graph && <Graph picture={graph} />}
            <RowList table={table} nextDue={nextDue} />
          </>
        )
        : <p class="warn">There is no usable table yet.</p>}
    </section>
  );
}

function ProblemList({ problems }: { problems: readonly Problem[] }) {
  if (problems.length === 0) return <p class="good">No errors and no warnings.</p>;
  const isError = ({ severity }: Problem) => severity === "error";
  const sorted = [...problems.filter(isError), ...problems.filter((problem) => !isError(problem))];
  const rest = problems.length - MAX_SHOWN;
  return (
    <>
      <h3>Problems</h3>
      <ScrollTable label="Problems of the table">
        <table>
          <caption>Errors leave their row out{rest > 0 && `; ${rest} more are not shown`}</caption>
          <Heads names={["Kind", "Line", "Row", "Column", "Value", "What is wrong"]} />
          <tbody>
            {sorted.slice(0, MAX_SHOWN).map(({ severity, line, jobName, column, value, message }) => (
              <tr>
                <td class={severity === "error" ? "bad" : "warn"}>{severity}</td>
                <td>{line}</td>
                <td>{jobName === undefined ? "–" : short(jobName)}</td>
                <td>{column === undefined ? "–" : short(column)}</td>
                <td>
                  <code>{short(value)}</code>
                </td>
                <td>{short(message)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollTable>
    </>
  );
}

function Graph({ picture }: { picture: GraphPicture }) {
  return (
    <>
      <h3>Topics, rows and chains</h3>
      <p class="muted">
        Round: topics and ends of jobs. Square: rows. Thick lines: needs. Dashed and marked with !: look here.
      </p>
      {picture.omitted > 0 && <p class="muted">{picture.omitted} topics and rows are not drawn.</p>}
      <Scroller label="Drawing of the table">{raw(picture.svg)}</Scroller>
    </>
  );
}

function RowList(
  { table: { rows, chains }, nextDue }: { table: Table; nextDue: ReadonlyMap<string, Date> | undefined },
) {
  const listed = rows.slice(0, MAX_SHOWN);
  const marks = markRows(chains, new Set(listed));
  const rest = rows.length - listed.length;
  return (
    <>
      <h3>Rows</h3>
      <ScrollTable label="Rows of the table">
        <table>
          {rest > 0 && <caption>{rest} more rows are not shown</caption>}
          <Heads names={["Row", "Line", "Topic", "Image", "Command", "Requests and limits"]} />
          <tbody>
            {listed.map((row) => (
              <tr>
                <th scope="row">
                  <a href={`/?row=${encodeURIComponent(row.jobName)}#history`}>{short(row.jobName)}</a>
                  {row.owner !== undefined && <div class="muted">{short(row.owner)}</div>}
                  {marks.get(row)?.map((mark) => (
                    <>
                      <br />
                      <span class="bad">{MARK_WORDS[mark]}</span>
                    </>
                  ))}
                </th>
                <td>{row.line}</td>
                <td>
                  {row.mqttTopic !== "" && <code>{short(row.mqttTopic)}</code>}
                  {row.needs && (
                    <div>
                      needs <code>{short(row.needs.join(", "))}</code>
                    </div>
                  )}
                  {row.schedule && <DueTimes row={row} next={nextDue?.get(row.jobName)} />}
                </td>
                <td>
                  <code>{short(row.image)}</code>
                </td>
                <td>
                  <code>{short(row.command?.join(" ") ?? "the image's own")}</code>
                </td>
                <td>
                  {resourceWords(rowResources(row))}
                  {row.parallelism > 1 && `, ${row.parallelism} pods`}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollTable>
    </>
  );
}

/** `0 3 * * 1-5 Europe/Berlin`, and when that is next. */
function DueTimes({ row, next }: { row: Row; next: Date | undefined }) {
  return (
    <div>
      <code>{short(scheduleText(row))}</code> {short(row.timeZone ?? "UTC")}
      {next && (
        <>
          , next <Time at={next} />
        </>
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

/** What the fields for a row's name offer. */
export function RowNames({ rows }: { rows: readonly Row[] }) {
  return <datalist id="row-names">{rows.slice(0, MAX_SHOWN).map(({ jobName }) => <option value={jobName} />)}
  </datalist>;
}
