/** `run --each` and `replay` against a running service on local parts. */
import { deepEqual, equal, match } from "node:assert/strict";
import { startLocalBroker } from "../../local/broker.ts";
import { call } from "../harness/command.ts";
import { PREFIX, startEmbeddedBed } from "../harness/local_bed.ts";
import { eventually } from "../harness/wait.ts";

const TABLE = `job_name,mqtt_topic,image,command,inputs
sort,lab/sort,none,true,"uuid, mode=fast|slow"
fail,lab/fail,none,sh -c 'exit 3',
`;

const ask = (words: readonly string[], url: string, stdin?: string) =>
  call(words, { MQTT_URL: url, MQTT_VERSION: "3.1.1" }, stdin);

const options = { sanitizeOps: false, sanitizeResources: false };

Deno.test(
  "a sheet is run line by line, in pieces, and again not; failed runs are replayed once",
  options,
  async (t) => {
    const server = await startLocalBroker();
    const asked: string[] = [];
    const ended: string[] = [];
    await using bed = await startEmbeddedBed({
      table: TABLE,
      server,
      onMessage(topic, text) {
        if (topic === `${PREFIX}/request/each`) asked.push(text);
        if (topic.startsWith(`${PREFIX}/job_`)) ended.push(JSON.parse(text).run_name);
      },
    });
    const sheet = `${bed.folder}/sheet.csv`;
    await t.step("a wrong line is named, the others run, and the exit code is 1", async () => {
      await Deno.writeTextFile(sheet, "uuid,mode\na,fast\nb,\nc,medium\na,fast\n");
      const { code, out, err } = await ask(["run", "sort", "--each", sheet], server.url);
      equal(code, 1, err);
      match(out, /^3 started \(batch [a-z2-7]{12}\), 1 line with errors left out\n$/);
      match(err, /^error: Line 4: the message's field "mode" is "medium"; it must be fast or slow/m);
    });
    await t.step("the same sheet, mended and longer, starts what is new", async () => {
      await Deno.writeTextFile(sheet, "uuid,mode\na,fast\nb,\nc,slow\na,fast\nd,slow\n");
      const { code, out } = await ask(["run", "sort", "--each", sheet, "--json"], server.url);
      const { started, exists, errors } = JSON.parse(out);
      deepEqual([code, started, exists, errors], [0, 2, 3, 0]);
    });
    await t.step("a large one goes in pieces below 100 KB, its lines told by their numbers", async () => {
      asked.length = 0;
      const lines = Array.from(
        { length: 3_000 },
        (_, n) => `${"u".repeat(80)}${n % 1500},${n === 2_999 ? "odd" : "fast"}`,
      );
      const { code, out, err } = await ask(
        ["run", "sort", "--each", "-", "--dry-run"],
        server.url,
        `uuid,mode\n${lines.join("\n")}\n`,
      );
      deepEqual([code, asked.length > 2, asked.every((text) => text.length < 100_000)], [1, true, true], err);
      match(out, /^2999 lines are right \(batch \S+\); nothing was started, 1 line with errors left out\n$/);
      match(err, /Line 3001: the message's field "mode" is "odd"/);
      const copies = asked.flatMap((text) => JSON.parse(text).copies as number[]);
      deepEqual([copies.filter((copy) => copy === 1).length, copies.filter((copy) => copy === 2).length], [
        1_501,
        1_499,
      ], "the odd line is another one");
    });
    await t.step("failed runs are run again once, and a dry run says which", async () => {
      await ask(["run", "fail", "--each", "-"], server.url, "n\n1\n2\n");
      await eventually(async () => {
        const records = await Array.fromAsync(Deno.readDir(`${bed.folder}/runs`));
        return records.filter(({ name }) => name.startsWith("fail-")).length === 2;
      });
      const words = ["replay", "--row", "fail", "--since", "1h"];
      const dry = await ask([...words, "--dry-run"], server.url);
      match(dry.out, /^2 would be run again \(batch \S+\); nothing was started\n$/);
      match(dry.err, /^fail-\S+ {2}\S+Z {2}/m);
      match((await ask(words, server.url)).out, /^2 started \(batch/);
      await eventually(() => ended.filter((name) => name.startsWith("fail-")).length >= 4);
      match((await ask(words, server.url)).out, /^0 started \(batch \S+\); 2 were run again already\n$/);
    });
    await t.step("what is wrong with the words is said, with exit code 2", async () => {
      const cases: readonly (readonly [string[], RegExp])[] = [
        [["replay", "--since", "1h"], /^--row is missing/],
        [["replay", "--row", "fail"], /^--since is missing/],
        [["replay", "--row", "fail", "--since", "1h", "--state", "dead"], /"dead": write one of succeeded/],
        [["run", "sort", "--each", "no-such.csv"], /--each no-such\.csv: there is no such file/],
        [["run", "sort", "--each", "-"], /the sheet is empty/],
        [["run", "sort", "uuid=x", "--each", "-"], /with --each the payloads are in the sheet/],
        [["run", "sort", "--batch", "x"], /--batch is for sheets: give --each too/],
      ];
      for (const [words, said] of cases) {
        const { code, err } = await ask(words, server.url);
        equal(code, 2, words.join(" "));
        match(err, said);
      }
      const { code, err } = await ask(["replay", "--row", "fail", "--since", "soon"], server.url);
      equal(code, 1);
      match(err, /The time "soon": write how long ago/);
    });
  },
);
