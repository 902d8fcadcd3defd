/**
 * What the page `/table` shows, gathered from the view. Must not know what the page looks like.
 */
import { compact } from "../util/compact.ts";
import type { Page } from "./answers.ts";
import { sortedProblems, tablePage } from "./pages/table.tsx";
import type { Looking } from "./look.ts";

/** Problems that a program is told of. */
const MOST_PROBLEMS = 1_000;

/** The page `/table` for a query. */
export function readTable({ view, actions }: Looking, params: URLSearchParams): Page {
  const table = view.table();
  const tableFailure = view.tableFailure();
  const nextDue = view.nextDue?.();
  const asked = (name: string) => params.get(name)?.trim() || undefined;
  const query = compact({
    rows: asked("rows"),
    sort: asked("sort"),
    page: asked("page"),
    problems: asked("problems"),
  });
  const data = {
    failure: tableFailure ?? null,
    rows: table?.rows.map(({ jobName, mqttTopic, image, line, owner }) => ({
      job_name: jobName,
      mqtt_topic: mqttTopic,
      image,
      line,
      ...compact({ owner }),
    })) ?? null,
    left_out: table?.badRows.length ?? null,
    problems: sortedProblems(table?.problems ?? []).slice(0, MOST_PROBLEMS).map(({ jobName, ...problem }) => ({
      ...problem,
      ...compact({ job_name: jobName }),
    })),
    next_due: nextDue ?? {},
  };
  return { data, html: () => tablePage({ table, actions, query, ...compact({ tableFailure, nextDue }) }) };
}
