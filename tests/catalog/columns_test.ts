import { deepEqual, equal, ok } from "node:assert/strict";
import { columns, renderColumnTable, rowSchema } from "../../catalog/columns.ts";
import { read } from "./kit.ts";

const file = (path: string) => new URL(`../../docs/${path}`, import.meta.url);
const UPDATE = "UPDATE_DOCS=1 deno test -A tests/catalog/columns_test.ts && deno fmt docs";

Deno.test("docs/schema/row.schema.json is what rowSchema() gives", async () => {
  const schema = file("schema/row.schema.json");
  if (Deno.env.get("UPDATE_DOCS")) await Deno.writeTextFile(schema, JSON.stringify(rowSchema(), null, 2));
  else deepEqual(JSON.parse(await Deno.readTextFile(schema)), rowSchema(), UPDATE);
});

Deno.test("docs/table.md has the table of columns", async () => {
  const [begin, end] = ["<!-- columns -->", "<!-- end of columns -->"];
  const text = await Deno.readTextFile(file("table.md"));
  const from = text.indexOf(begin) + begin.length;
  const to = text.indexOf(end);
  ok(from >= begin.length && to > from, `docs/table.md needs the marks ${begin} and ${end}`);
  if (Deno.env.get("UPDATE_DOCS")) {
    await Deno.writeTextFile(file("table.md"), `${text.slice(0, from)}\n\n${renderColumnTable()}\n${text.slice(to)}`);
    return;
  }
  // `deno fmt` aligns the columns.
  const plain = (text: string) => text.replace(/-{3,}/g, "---").replace(/[ \t]+/g, " ").trim();
  equal(plain(text.slice(from, to)), plain(renderColumnTable()), UPDATE);
});

Deno.test("each example of a column is right", async (t) => {
  for (const { name, examples } of columns) {
    for (const example of examples) {
      await t.step(`${name} ${example}`, () => {
        const row: Record<string, string> = { job_name: "a", mqtt_topic: "x/y", image: "busybox", [name]: example };
        const cells = Object.values(row).map((cell) => `"${cell.replaceAll('"', '""')}"`);
        const { rows, problems } = read(`${Object.keys(row).join(",")}\n${cells.join(",")}\n`);
        equal(rows.length, 1);
        deepEqual(problems.filter(({ severity }) => severity === "error"), []);
      });
    }
  }
});
