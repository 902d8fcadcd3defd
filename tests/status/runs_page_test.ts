import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { parseTable } from "../../catalog.ts";
import type { RunSearch } from "../../history.ts";
import { UnavailableError } from "../../ports.ts";
import { readRunsQuery, wantedKinds } from "../../status/runs_query.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { anApp, fakeView, PREFIX } from "../harness/page_kit.ts";

const TABLE = parseTable(
  "job_name,mqtt_topic,image,owner\nSort,x,i,Ada\nsort-again,y,i,\nplot,z,i,Ben\n",
  { topicPrefix: PREFIX },
);
const ago = (ms: number) => new Date(Date.now() - ms).toISOString();
const HOUR_MS = 3600_000;

/** The page, and what the history was asked. */
function aList(options: Parameters<typeof fakeView>[0] = {}) {
  const asked: RunSearch[] = [];
  const view = fakeView({ table: TABLE, ...options });
  const find = view.history.find;
  const history = { ...view.history, find: (search: RunSearch) => (asked.push(search), find(search)) };
  const { get } = anApp({ view: { ...view, history } });
  const html = async (path: string) => (await (await get(path)).text()).replaceAll(/\s+/g, " ");
  const json = async (path: string) => await (await get(path)).json();
  return { get, html, json, asked };
}

interface Answer {
  readonly live: readonly { readonly run_name: string }[];
  readonly ended: readonly { readonly run_name: string }[];
}

const namesOf = ({ live, ended }: Answer) => [...live, ...ended].map(({ run_name }) => run_name);

Deno.test("readRunsQuery() takes words as they are meant, and says which it does not understand", () => {
  const read = (query: string) => readRunsQuery(new URLSearchParams(query));
  deepEqual(read("row=+Sort+&state=WAITING&reason=oomkilled&time=24h&took=10m&since=2026-03-01T10:00&sort=longest"), {
    query: {
      row: "Sort",
      state: "pending",
      reason: "OOMKilled",
      time: 24 * HOUR_MS,
      took: 600_000,
      since: new Date("2026-03-01T10:00Z"),
      sort: "longest",
      page: 1,
    },
    faults: [],
  });
  const { query, faults } = read("state=great&time=yesterday&until=tomorrow&root=x&took=-1&older=x&page=-3&sort=odd");
  deepEqual(query, { sort: "newest", page: 1 });
  deepEqual(faults.map((fault) => fault.split(" ")[0]), ["state", "root", "time", "until", "took", "older"]);
  match(faults[1]!, /^root is "x": not the 12 characters of a root\. It is left out\.$/);
});

Deno.test("a reason and a time are those of an end, a state is that of a live run or of an ended one", () => {
  const kinds = (query: string) => wantedKinds(readRunsQuery(new URLSearchParams(query)).query);
  deepEqual(kinds(""), { live: true, ended: true });
  deepEqual(kinds("took=1h"), { live: true, ended: true });
  for (const words of ["reason=OOMKilled", "time=1h", "since=2026-03-01", "state=failed", "state=ended"]) {
    deepEqual(kinds(words), { live: false, ended: true }, words);
  }
  for (const words of ["state=live", "state=running", "state=pending", "state=ending"]) {
    deepEqual(kinds(words), { live: true, ended: false }, words);
  }
});

Deno.test("/runs lists live runs and ended ones, and finds them by what they were", async () => {
  const live = [
    aRunView({ runName: "sort-live", jobName: "Sort", topic: "lab/Mouse7/uploaded", root: "aaaaaaaaaaaa" }),
    aRunView({ runName: "plot-waits", jobName: "plot", state: "pending" }),
    aRunView({ runName: "plot-ends", jobName: "plot", state: "ending" }),
  ];
  const ended = [
    aRecord({ run_name: "sort-1", job_name: "Sort", owner: "Ada", finished_at: ago(0.5 * HOUR_MS) }),
    aRecord({
      run_name: "sort-2",
      job_name: "Sort",
      owner: "Ada",
      status: "failed",
      reason: "OOMKilled",
      message: "Out of memory: the limit is 8Gi",
      finished_at: ago(2 * HOUR_MS),
      root: "aaaaaaaaaaaa",
    }),
    aRecord({ run_name: "old-3", job_name: "former row", finished_at: ago(50 * HOUR_MS) }),
  ];
  const { json } = aList({ live, ended });
  const found = async (query: string) => namesOf(await json(`/runs.json?${query}`)).sort();
  deepEqual(await found(""), ["old-3", "plot-ends", "plot-waits", "sort-1", "sort-2", "sort-live"]);
  const cases: Readonly<Record<string, string[]>> = {
    "row=SORT": ["sort-1", "sort-2", "sort-live"],
    "row=Former+Row": ["old-3"],
    "state=live": ["plot-ends", "plot-waits", "sort-live"],
    "state=running": ["plot-ends", "sort-live"],
    "state=waiting": ["plot-waits"],
    "state=ended": ["old-3", "sort-1", "sort-2"],
    "state=failed": ["sort-2"],
    "reason=oomkilled": ["sort-2"],
    "owner=Ada": ["sort-1", "sort-2", "sort-live"],
    "text=memory+OUT": ["sort-2"],
    "text=mouse7": ["sort-live"],
    "root=aaaaaaaaaaaa": ["sort-2", "sort-live"],
    "time=1h": ["sort-1"],
    "time=24h": ["sort-1", "sort-2"],
    [`since=${ago(60 * HOUR_MS)}&until=${ago(40 * HOUR_MS)}`]: ["old-3"],
    "row=sort&state=failed&time=24h": ["sort-2"],
    "row=plot&state=failed": [],
  };
  for (const [query, names] of Object.entries(cases)) deepEqual(await found(query), names, query);
});

Deno.test("/runs leads from page to page, and has each run on one of them", async () => {
  const live = Array.from({ length: 70 }, (_, at) => aRunView({ runName: `live-${String(at).padStart(3, "0")}` }));
  const ended = Array.from({ length: 120 }, (_, at) => aRecord({ run_name: `sort-${String(at).padStart(3, "0")}` }));
  for (const sort of ["", "sort=longest", "sort=row"]) {
    const { html } = aList({ live, ended });
    const seen: string[] = [];
    const pages: number[] = [];
    for (let path: string | undefined = `/runs?${sort}`; path;) {
      const text: string = await html(path);
      const names = [...text.matchAll(/<th scope="row">(?:(?!<\/th>).)*?href="\/runs\/([^"]+)"/g)];
      seen.push(...names.map(([, name]) => name!));
      ok(pages.push(names.length) <= 6, "an end");
      path = /href="([^"]+)" rel="next"/.exec(text)?.[1]?.replaceAll("&amp;", "&");
    }
    equal(seen.length, 190, sort);
    equal(new Set(seen).size, 190, sort);
    deepEqual(pages, [50, 50, 50, 40]);
  }
  // The next page as JSON is told as well.
  const { json } = aList({ live, ended });
  const first = await json("/runs.json?state=ended");
  const second = await json(first.next);
  equal(new Set([...namesOf(first), ...namesOf(second)]).size, 100);
});

Deno.test("/runs sorts by duration over what fits, and says where that is only the newest of it", async () => {
  const ended = Array.from({ length: 2_100 }, (_, at) =>
    aRecord({
      run_name: `sort-${at}`,
      started_at: new Date(Date.parse("2026-03-01T10:00:00Z") - at * 1000).toISOString(),
      finished_at: "2026-03-01T10:10:00Z",
    }));
  const { html, json, asked } = aList({ ended });
  const took = (await json("/runs.json?sort=longest")).ended.map(({ started_at }: { started_at: string }) =>
    started_at
  );
  deepEqual(took, [...took].sort());
  ok(asked.every(({ limit }) => limit <= 2_001));
  match(await html("/runs?sort=longest"), /in the order of the newest 2000 that fit/);
});

Deno.test("/runs suggests rows for a name that none has, whatever the case", async () => {
  const { html, json, asked } = aList({ ended: [aRecord({ run_name: "a-1", job_name: "gone" })] });
  const text = await html("/runs?row=sor&state=failed");
  match(text, /have a row <q>sor<\/q>/);
  deepEqual((await json("/runs.json?row=sor")).suggestions, ["Sort", "sort-again"]);
  match(text, /<a href="\/runs\?row=sort-again&amp;state=failed">sort-again<\/a>/);
  deepEqual((await json("/runs.json?row=PLOTT")).suggestions, ["plot"]);
  deepEqual((await json("/runs.json?row=zzzzzzz")).suggestions, []);
  // The list of no row is not the list of all.
  equal(asked.length, 0);
});

Deno.test("/runs never says that there is no run where not all are looked at", async () => {
  const ended = [aRecord()];
  const empty = async (reach: NonNullable<Parameters<typeof fakeView>[0]>["reach"]) =>
    await aList({ ended, ...(reach ? { reach } : {}) }).html("/runs?state=failed");
  match(await empty({ runs: 1, kind: "all" }), /No run fits\. Looks at all 1 run that ended/);
  const newest = await empty({ runs: 2_000, kind: "newest", oldest: "2026-02-01T10:00:00Z" });
  doesNotMatch(newest, /No run/);
  match(newest, /there may be others\. Looks at the newest 2000 runs that ended, back to <time [^>]+>2026-02-01 10:00/);
  const partly = await empty({ runs: 3, kind: "partly" });
  doesNotMatch(partly, /No run/);
  match(partly, /Looks at 3 runs that ended; the store is not read to its end yet/);
});

Deno.test("/runs shows what lives although the history cannot be read, and says why", async () => {
  const find = () => Promise.reject(new UnavailableError("Cannot list: no connection"));
  const { get, html, json } = aList({ live: [aRunView({ runName: "sort-live" })], find });
  equal((await get("/runs")).status, 200);
  const text = await html("/runs");
  match(text, /The history cannot be read now: Cannot list: no connection/);
  match(text, /href="\/runs\/sort-live"/);
  match((await json("/runs.json")).history_failure, /no connection/);
});

Deno.test("/runs marks what was tried again and what repeats another run", async () => {
  const ended = [
    aRecord({ run_name: "sort-1", status: "failed", retried_as: "sort-2" }),
    aRecord({ run_name: "sort-2", rerun_of: "sort-0" }),
  ];
  const { html } = aList({ ended });
  const text = await html("/runs");
  match(text, /class="tag again">tried again</);
  match(text, /a rerun/);
  doesNotMatch(await html("/runs?state=failed"), /sort-1/);
});

Deno.test("addresses of former versions' list lead to the new one", async () => {
  const { get } = aList();
  const answer = await get("/?row=sort&state=failed&since=2026-03-01T10:00");
  deepEqual([answer.status, answer.headers.get("location")], [
    303,
    "/runs?row=sort&state=failed&since=2026-03-01T10:00",
  ]);
});
