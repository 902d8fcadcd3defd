/** What the pages and their JSON have in them, gathered through the routes from a view of records and live runs. */
import { deepEqual, doesNotMatch, equal, match, ok } from "node:assert/strict";
import { keyOfCause, runNameFor } from "../../run_spec.ts";
import { selectRuns } from "../harness/model_history.ts";
import { aRecord, aRunView } from "../harness/fakes.ts";
import { lastLines } from "../../status/pages/run.tsx";
import { anApp, fakeView } from "../harness/page_kit.ts";

Deno.test("statusApp() shows a run with its reason, message, children and the end of a long log", async () => {
  const root = "rootrootroot";
  const record = aRecord({ run_name: "sort-1", root, status: "failed", message: "Out of memory: the limit is 8Gi" });
  const child = aRecord({ run_name: "plot-2", root, parent_run: "sort-1" });
  const log = "first line\n" + "x".repeat(99) + "\n" + "filler line\n".repeat(9_000) + "last line\n";
  const view = fakeView({
    ended: [record, child],
    find: (filter) => Promise.resolve(selectRuns([record, child], filter)),
    log: () => new Blob([log]).stream(),
  });
  const text = await (await anApp({ view }).get("/runs/sort-1")).text();
  match(text, /Out of memory: the limit is 8Gi/);
  match(text, /href="\/runs\/plot-2"/);
  match(text, /last line/);
  doesNotMatch(text, /first line/);
});

Deno.test("the page of an ended run shows its GPUs, and what its log lacks", async () => {
  const record = aRecord({ gpu: 2, log_missing: "Lines before 12:00 may be missing" });
  const text = await (await anApp({ view: fakeView({ ended: [record] }) }).get(`/runs/${record.run_name}`)).text();
  match(text, /2 GPUs/);
  match(text, /not whole: Lines before 12:00 may be missing/);
});

Deno.test("the page of an ended run has its Job from the record, without a call of the cluster", async () => {
  const job = { kind: "Job", spec: { backoffLimit: 7 } };
  const record = aRecord({ job });
  const view = { ...fakeView({ ended: [record] }), job: () => Promise.reject(new Error("asked")) };
  const { get } = anApp({ view });
  match(await (await get(`/runs/${record.run_name}`)).text(), /backoffLimit: 7/);
});

Deno.test("the page of a run shows all its attempts, with what each had and how it ended", async () => {
  const first = "sort-spikes-aaaaaaaaaaaaaaaa";
  const nameOf = (attempt: number) =>
    runNameFor({ jobName: "sort-spikes", parallelism: 1 }, { key: keyOfCause.attempt(first, attempt) });
  const limits = (memory: string) => ({ limits: { memory } });
  const failed = { status: "failed", reason: "OOMKilled" } as const;
  const ended = [
    aRecord({ ...failed, run_name: first, retried_as: nameOf(2), ...limits("8Gi") }),
    aRecord({ ...failed, run_name: nameOf(2), attempt: 2, first_run: first, retried_as: nameOf(3), ...limits("16Gi") }),
  ];
  const live = [aRunView({ runName: nameOf(3), attempt: 3, firstRun: first, ...limits("32Gi") })];
  const { get } = anApp({ view: fakeView({ ended, live }) });
  for (const runName of [first, nameOf(2), nameOf(3)]) {
    const text = await (await get(`/runs/${runName}`)).text();
    const [section = ""] = /<section id="attempts"[^]*?<\/section>/.exec(text) ?? [];
    const rows = [...section.matchAll(/<th scope="row">(\d)<\/th>([^]*?)<\/tr>/g)].map(([, number, cells]) =>
      `${number} ${/8Gi|16Gi|32Gi/.exec(cells!)} ${/OOMKilled/.test(cells!) ? "failed" : "lives"}` +
      (cells!.includes("this one") ? " this" : "")
    );
    const expected = ["1 8Gi failed", "2 16Gi failed", "3 32Gi lives"];
    const own = [first, nameOf(2), nameOf(3)].indexOf(runName);
    deepEqual(rows, expected.map((row, at) => at === own ? `${row} this` : row));
    for (const other of [first, nameOf(2), nameOf(3)]) {
      if (other !== runName) ok(section.includes(`href="/runs/${other}"`), `${runName} leads to ${other}`);
    }
  }
});

Deno.test("records that lead in a circle are no endless list of attempts", async () => {
  const record = aRecord({ status: "failed", retried_as: aRecord().run_name });
  const text = await (await anApp({ view: fakeView({ ended: [record] }) }).get(`/runs/${record.run_name}`)).text();
  equal([...text.matchAll(/<th scope="row">\d+<\/th>/g)].length, 11);
});

Deno.test("each page is JSON too, where its path ends so", async () => {
  const record = aRecord({ run_name: "sort-abcdefgh2345", job_name: "sort" });
  const { get } = anApp({ view: fakeView({ ended: [record] }) });
  const ask = async (path: string) => {
    const answer = await get(path);
    return { status: answer.status, type: answer.headers.get("content-type"), body: await answer.json() };
  };
  const overview = await ask("/index.json");
  deepEqual([overview.status, overview.type], [200, "application/json"]);
  equal(overview.body.history.runs, 1);
  equal((await ask("/runs.json")).body.ended[0].run_name, record.run_name);
  equal((await ask(`/runs/${record.run_name}.json`)).body.record.run_name, record.run_name);
  deepEqual(await ask("/runs/sort-aaaaaaaa2345.json"), {
    status: 404,
    type: "application/json",
    body: { error: 'There is no run "sort-aaaaaaaa2345", neither alive nor in the history.' },
  });
});

Deno.test("the page of a run tells its whole chain, what it repeats and what repeats it", async () => {
  const root = "rootrootroot";
  const names = ["upload-aaaaaaaa2345", "sort-aaaaaaaa2345", "plot-aaaaaaaa2345", "plot-bbbbbbbb2345"] as const;
  const [upload, sort, plot, again] = names;
  const ended = [
    aRecord({ run_name: upload, root }),
    aRecord({ run_name: sort, root, parent_run: upload }),
    aRecord({ run_name: plot, root, parent_run: sort, status: "failed" }),
    aRecord({
      run_name: again,
      root,
      parent_run: sort,
      rerun_of: plot,
      requested_by: "Ada",
      received_at: "2026-03-01T11:00:00Z",
      created_at: "2026-03-01T11:00:00Z",
      started_at: "2026-03-01T11:00:10Z",
      finished_at: "2026-03-01T11:12:00Z",
    }),
  ];
  const { get } = anApp({ view: fakeView({ ended }) });
  const page = async (name: string) => (await (await get(`/runs/${name}`)).text()).replaceAll(/\s+/g, " ");
  const json = async (name: string) => await (await get(`/runs/${name}.json`)).json();
  match(await page(plot), new RegExp(`It was run again: <a class="mono" href="/runs/${again}">`));
  const repeated = await page(again);
  match(repeated, new RegExp(`It repeats <a class="mono" href="/runs/${plot}">`));
  match(repeated, new RegExp(`>${upload}</a> → <a [^>]+>${sort}</a> → this run; asked for by Ada`));
  doesNotMatch(repeated, /a message from outside/);
  const bars = [...repeated.matchAll(/<li( class="own" aria-current="true")?><span class="who d(\d)/g)];
  deepEqual(bars.map(([, own, depth]) => [own !== undefined, depth]), [
    [false, "0"],
    [false, "1"],
    [false, "2"],
    [true, "2"],
  ]);
  const { ancestors, descendants, reruns, state } = await json(upload);
  deepEqual([ancestors, descendants.sort(), reruns, state], [[], [plot, again, sort], [], "succeeded"]);
  deepEqual((await json(plot)).reruns, [again]);
});

Deno.test("message and Job of a run are to be had as they are", async () => {
  const payload = '{"uuid":"<b>e1</b>","n":1.0}';
  const record = aRecord({ payload, job: { kind: "Job" } });
  const { get } = anApp({ view: fakeView({ ended: [record] }) });
  const ask = async (what: string) => {
    const answer = await get(`/runs/${record.run_name}/${what}`);
    return [answer.status, answer.headers.get("content-type"), await answer.text()];
  };
  deepEqual(await ask("message"), [200, "text/plain; charset=utf-8", payload]);
  deepEqual(await ask("job"), [200, "text/plain; charset=utf-8", "kind: Job\n"]);
  equal((await get("/runs/sort-aaaaaaaa2345/message")).status, 404);
  equal((await get("/runs/..%2f..%2fx/message")).status, 404);
});

Deno.test("the last lines of a log are shown without its head, as a terminal shows them", () => {
  const head = "run:       a\nended:     failed\n\n";
  const text = `${head}one\n10 %\r\u001b[32m100 %\u001b[0m\n\ntwo\r\n`;
  equal(lastLines({ text, extent: "whole" }, { isStored: true }), "one\n100 %\ntwo");
  equal(lastLines({ text: "x\n".repeat(99) + "y", extent: "end" }, { isStored: true }).split("\n").length, 15);
  match(lastLines({ text: head, extent: "whole" }, { isStored: false }), /^run: /);
});

Deno.test("the list of a message's runs is sorted and filtered as its address says", async () => {
  const root = "rootrootroot";
  const ended = (["a", "b", "c"] as const).map((name, at) =>
    aRecord({
      run_name: `${name}-aaaaaaaa2345`,
      root,
      status: at === 1 ? "failed" : "succeeded",
      started_at: `2026-03-01T10:0${at}:00Z`,
      finished_at: `2026-03-01T1${3 - at}:00:00Z`,
    })
  );
  const { get } = anApp({ view: fakeView({ ended }) });
  const listed = async (query: string) => {
    const { runs } = await (await get(`/index.json?root=${root}${query}`)).json();
    return runs.map(({ run_name }: { run_name: string }) => run_name[0]).join("");
  };
  deepEqual(await Promise.all(["", "&sort=took", "&sort=run+down", "&state=failed", "&sort=odd"].map(listed)), [
    ...["abc", "cba", "cba", "b", "abc"],
  ]);
  const text = await (await get(`/?root=${root}&sort=took`)).text();
  match(text, /<th scope="col" class="num" aria-sort="ascending">\s*<a href="[^"]*sort=took\+down/);
});

Deno.test("each page says the same of how long a run took", async () => {
  const root = "rootrootroot";
  const [run_name, job_name, started_at] = ["sort-aaaaaaaa2345", "sort", "2026-03-01T10:00:00.000Z"];
  for (const [ms, words] of [[59_700, "1 min 0 s"], [3_700, "3.7 s"], [400, "400 ms"]] as const) {
    const finished_at = new Date(Date.parse(started_at) + ms).toISOString();
    const { get } = anApp({
      view: fakeView({ ended: [aRecord({ run_name, job_name, root, started_at, finished_at })] }),
    });
    for (const path of ["/runs", `/runs/${run_name}`, `/rows/${job_name}`, `/?root=${root}`]) {
      match(await (await get(path)).text(), new RegExp(`>(ran )?${words}</(td|li)>`), path);
    }
  }
});
