/**
 * What the documentation and programs are told of the columns: JSON Schema, overview and one section a column.
 * Pure. Must say nothing that is not in the table of columns.
 */
import { columns, type NamedColumn } from "./columns.ts";

/** JSON Schema (2020-12) of a row, its properties named as the table's columns. Cells are text; numbers may be numbers. */
export function rowSchema(): Record<string, unknown> {
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Row of the table of jobs",
    type: "object",
    properties: Object.fromEntries(columns.map(({ name, kind, meaning, examples }) => [
      name,
      { ...kind.schema, description: meaning.replaceAll("`", ""), examples },
    ])),
    required: columns.filter(({ required }) => required).map(({ name }) => name),
    additionalProperties: true,
  };
}

/** The overview of all columns, in Markdown; it stands in docs/table.md. */
export function renderColumnTable(): string {
  const lines = columns.map(({ name, examples: [example], meaning }) =>
    `| [\`${name}\`](columns.md#${name}) | \`${example.replaceAll("|", "\\|")}\` | ${meaning.replaceAll("|", "\\|")} |`
  );
  return ["| Column | Example | Meaning |", "| --- | --- | --- |", ...lines].join("\n") + "\n";
}

/** A section for each column, in Markdown; docs/columns.md. */
export function renderColumnSections(): string {
  return columns.map(section).join("\n");
}

function section({ name, meaning, notation, examples, required, empty, kubernetes, since }: NamedColumn): string {
  const lines = [
    `## ${name}`,
    "",
    [meaning, notation].filter((text) => text !== undefined).join("\n\n"),
    "",
    `- Example: ${examples.map((example) => `\`${example}\``).join(" or ")}`,
    `- Empty: ${empty ?? (required === undefined ? "none" : "an error; the column is required")}`,
    `- The Job gets: ${kubernetes ?? "nothing; the service itself acts on it"}`,
    `- Since ${since}`,
  ];
  return lines.join("\n") + "\n";
}
