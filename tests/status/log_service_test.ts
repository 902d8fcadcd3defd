/** The log viewer over the whole service: of a run while it writes, and the same places when it has ended. */
import { deepEqual, equal, match } from "node:assert/strict";
import { LocalStore } from "../../local/store.ts";
import { statusView } from "../../status/view.ts";
import { startEmbeddedBed } from "../harness/local_bed.ts";
import { anApp } from "../harness/page_kit.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

/** Writes 3,002 lines, and one more when there is such a file. */
const tableWith = (goOn: string) => {
  const script = [
    "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i with some more words; done",
    String.raw`printf "\033[31mred\033[0m\nloading 10%%\rloading 99%%\n"`,
    `while [ ! -e ${goOn} ]; do sleep 0.05; done`,
    "echo last line; exit 3",
  ].join("; ");
  return csv([{ job_name: "writes", mqtt_topic: "lab/writes", image: "none", command: shell(script) }]);
};

Deno.test("a run's log has the same lines at the same places while it is written and when it is stored", {
  ignore: Deno.build.os !== "linux",
}, async () => {
  const dir = await Deno.makeTempDir({ prefix: "mjl-log-" });
  await using bed = await startEmbeddedBed({ dir, table: tableWith(`${dir}/go-on`) });
  const view = statusView(bed.service, { cluster: bed.runner, logs: new LocalStore(`${bed.folder}/logs`) });
  const { get } = anApp({ view });
  await bed.client.publishAsync("lab/writes", "go", { qos: 1 });
  const run = await eventually(() => bed.service.runs.views()[0]?.runName);
  const window = async (query: string) => await (await get(`/runs/${run}/log/view.json${query}`)).json();
  const end = await eventually(async () => {
    const now = await window("");
    return now.lines.at(-1)?.text === "loading 99%" ? now : undefined;
  });
  deepEqual([end.live, end.numbered], [true, true]);
  deepEqual(end.lines.at(-1).line, 3_002);
  const line = await window("?line=1234");
  const found = await window("?q=LINE+2345&next=0");
  match(await (await get(`/runs/${run}/log/view`)).text(), /<span class="a1">red<\/span>/);
  match(await (await get(`/runs/${run}`)).text(), /<span class="a1">red<\/span>/);

  await Deno.writeTextFile(`${dir}/go-on`, "");
  await eventually(() => bed.service.runs.get(run) === undefined);

  const stored = await window("");
  equal(stored.live, false);
  deepEqual(stored.lines.slice(-2).map(({ line, text }: { line: number; text: string }) => [line, text]), [
    [3_002, "loading 99%"],
    [3_003, "last line"],
  ]);
  match(stored.head, /^run: .*\n(.*\n)*ended: +failed/);
  const same = ({ from, to, lines }: { from: number; to: number; lines: unknown }) => ({ from, to, lines });
  deepEqual(same(await window("?line=1234")).lines, same(line).lines);
  deepEqual((await window("?q=LINE+2345&next=0")).search, found.search);
});
