import { deepEqual, equal, ok } from "node:assert/strict";
import { renderColumnSections, renderColumnTable, rowSchema } from "../../catalog/column_docs.ts";
import { allColumns, columnOf, columns } from "../../catalog/columns.ts";
import { filesOf, readProject } from "../harness/project.ts";
import { BESIDE, messages, read } from "./kit.ts";

const file = (path: string) => new URL(`../../docs/${path}`, import.meta.url);
const UPDATE = "UPDATE_DOCS=1 deno test -A tests/catalog/columns_test.ts && deno fmt docs";

Deno.test("docs/schema/row.schema.json is what rowSchema() gives", async () => {
  const schema = file("schema/row.schema.json");
  if (Deno.env.get("UPDATE_DOCS")) await Deno.writeTextFile(schema, JSON.stringify(rowSchema(), null, 2));
  else deepEqual(JSON.parse(await Deno.readTextFile(schema)), rowSchema(), UPDATE);
});

for (
  const [page, render] of [["table.md", renderColumnTable], ["columns.md", renderColumnSections]] as const
) {
  Deno.test(`docs/${page} says of the columns what the table of columns says`, async () => {
    const [begin, end] = ["<!-- columns -->", "<!-- end of columns -->"];
    const text = await Deno.readTextFile(file(page));
    const from = text.indexOf(begin) + begin.length;
    const to = text.indexOf(end);
    ok(from >= begin.length && to > from, `docs/${page} needs the marks ${begin} and ${end}`);
    if (Deno.env.get("UPDATE_DOCS")) {
      await Deno.writeTextFile(file(page), `${text.slice(0, from)}\n\n${render()}\n${text.slice(to)}`);
      return;
    }
    // `deno fmt` aligns columns and fills lines.
    const plain = (text: string) => text.replace(/-{3,}/g, "---").replace(/\s+/g, " ").trim();
    equal(plain(text.slice(from, to)), plain(render()), UPDATE);
  });
}

Deno.test("each example of a column is right", async (t) => {
  for (const { name, examples } of columns) {
    for (const example of examples) {
      await t.step(`${name} ${example}`, () => {
        const row: Record<string, string> = {
          job_name: "a",
          mqtt_topic: "x/y",
          image: "busybox",
          ...BESIDE[name],
          [name]: example,
        };
        const cells = Object.values(row).map((cell) => `"${cell.replaceAll('"', '""')}"`);
        const { rows, problems } = read(`${Object.keys(row).join(",")}\n${cells.join(",")}\n`);
        equal(rows.length, 1);
        deepEqual(problems.filter(({ severity }) => severity === "error"), []);
      });
    }
  }
});

Deno.test("each example of a planned column is right, and no table can have the column yet", async (t) => {
  for (const { name, kind, examples } of allColumns.filter(({ planned }) => planned)) {
    await t.step(name, () => {
      equal(columnOf(name), undefined);
      for (const example of examples) {
        const said: string[] = [];
        const report = {
          error: (message: string) => said.push(message),
          warn: (message: string) => said.push(message),
        };
        ok(kind.read(example, report, {}) !== undefined);
        deepEqual(said, []);
      }
    });
  }
});

Deno.test("the tables that the documentation shows are right", async (t) => {
  let found = 0;
  for (const page of ["README.md", ...await filesOf("docs/", ".md")]) {
    const text = await readProject(page);
    const tables = [...text.matchAll(/^( *)```csv\n([^]*?)^ *```$/gm)].map(([, indent, csv]) =>
      csv!.replaceAll(new RegExp(`^${indent}`, "gm"), "")
    );
    // Lines that are added to a table have no heads.
    const whole = tables.filter((csv) => csv.split("\n", 1)[0]!.split(",").includes("job_name"));
    found += whole.length;
    if (whole.length === 0) continue;
    await t.step(page, () => {
      for (const csv of whole) {
        const [header = ""] = csv.split("\n");
        if (!allColumns.some(({ name, planned }) => planned && header.split(",").includes(name))) {
          deepEqual(messages(read(csv)), []);
        }
      }
    });
  }
  ok(found >= 15, `only ${found} tables were found`);
});
