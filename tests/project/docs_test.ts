/**
 * Holds the documentation to the code: the reasons of reasons.ts stand in docs/troubleshoot.md, the commands
 * in docs/commands.md, each dependency has its line in the README. Reads files only.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { COMMANDS } from "../../cli/commands.ts";
import { filesOf, productModules, PROJECT, readProject as read } from "../harness/project.ts";
import { reasonTable, REPORT_REASONS, RUN_REASONS } from "../../reasons.ts";

const TROUBLESHOOT = "docs/troubleshoot.md";

/** What stands between the marks of a generated table. */
function generated(mark: string): RegExp {
  return new RegExp(`(<!-- ${mark}: made of reasons\\.ts -->\n\n)[^]*?(\n\n<!-- end -->)`);
}

Deno.test("docs/troubleshoot.md explains each reason that the code can give", async () => {
  const page = await read(TROUBLESHOOT);
  let made = page;
  for (const [mark, reasons] of [["reasons of runs", RUN_REASONS], ["reasons of reports", REPORT_REASONS]] as const) {
    ok(generated(mark).test(page), `the page has no mark "${mark}"`);
    made = made.replace(generated(mark), (_, begin, end) => `${begin}${reasonTable(reasons)}${end}`);
  }
  if (Deno.env.get("UPDATE_DOCS")) await Deno.writeTextFile(new URL(TROUBLESHOOT, PROJECT), made);
  // Column widths are the formatter's.
  const plain = (text: string) => text.replace(/ +/g, " ").replace(/-{3,}/g, "---");
  const advice = "is behind: UPDATE_DOCS=1 deno test -A tests/project/docs_test.ts; deno fmt docs/troubleshoot.md";
  equal(plain(page), plain(made), `${TROUBLESHOOT} ${advice}`);
});

/** A section for each command, in Markdown. */
function commandSections(): string {
  return Object.entries(COMMANDS).map(([name, { words, meaning, flags }]) =>
    [
      `## ${name}`,
      `\`${[name, ...words].join(" ")}\``,
      `${meaning}.`,
      Object.entries(flags).map(([flag, { value, meaning }]) =>
        `- \`--${flag}${value ? ` ${value}` : ""}\`: ${meaning}`
      ).join("\n"),
    ].filter((part) => part !== "").join("\n\n")
  ).join("\n\n");
}

Deno.test("docs/commands.md has each command with its flags as the code has them", async () => {
  const page = await read("docs/commands.md");
  const section = /(<!-- commands: made of cli\/commands\.ts -->\n\n)[^]*?(<!-- end of commands -->)/;
  ok(section.test(page), "the page has no marks");
  const made = page.replace(section, (_, begin, end) => `${begin}${commandSections()}\n\n${end}`);
  if (Deno.env.get("UPDATE_DOCS")) await Deno.writeTextFile(new URL("docs/commands.md", PROJECT), made);
  // Line breaks are the formatter's.
  const plain = (text: string) => text.replace(/\s+/g, " ");
  const advice = "is behind: UPDATE_DOCS=1 deno test -A tests/project/docs_test.ts; deno fmt docs/commands.md";
  equal(plain(page), plain(made), `docs/commands.md ${advice}`);
});

Deno.test("each line of docs/troubleshoot.md says what it means and what to do", async () => {
  const page = (await read("docs/troubleshoot.md")).split("## A run ended")[1] ?? "";
  const lines = page.split("\n").filter((line) => line.startsWith("| `"));
  ok(lines.length > 80, `only ${lines.length} lines were found`);
  deepEqual(lines.filter((line) => !/^\|(?: +[^ |][^|]* +\|){3}$/.test(line)), []);
});

Deno.test("messages that docs/troubleshoot.md quotes stand in the code", async () => {
  const files = await productModules();
  // What the code puts between the words of a message is … on the page; long messages are parted over lines.
  const plain = (text: string) => text.replace(/["`'\s+\\]|\$\{[^{}]*\}/g, "");
  const code = plain((await Promise.all(files.map(read))).join("\n"));
  const section = (await read("docs/troubleshoot.md")).split("## The service itself")[1] ?? "";
  const quoted = [...section.matchAll(/^\| (`[^|]+`) /gm)].flatMap(([, cell]) => [...cell!.matchAll(/`([^`]+)`/g)]);
  // Said by Deno and by the API server.
  const foreign = /^(Requires |namespaces |… forbidden)/;
  const missing = quoted.map(([, words]) => words!).filter((words) => !foreign.test(words)).filter((words) =>
    words.split("…").map((part) => plain(part).replace(/^[.;:()]+|[.;:()]+$/g, ""))
      .some((part) => part.length > 8 && !code.includes(part))
  );
  ok(quoted.length > 20, "the page's table was not found");
  deepEqual(missing, []);
});

Deno.test("each threat that SECURITY.md names has a defence and a test", async () => {
  const [, ...tables] = (await read("SECURITY.md")).split(/^\| Threat .*\n\| -.*\n/m);
  ok(tables.length >= 10, `only ${tables.length} tables were found`);
  const threats = tables.flatMap((text) => text.split(/\n(?!\|)/)[0]!.split("\n").filter((line) => line !== ""));
  ok(threats.length > 40, `only ${threats.length} threats`);
  deepEqual(threats.filter((line) => !/^\|[^|]{5,}\|[^|]{5,}\|[^|]*`[^`|]+\.(?:ts|yml)`[^|]*\|$/.test(line)), []);
});

/** What a checkout does not have: what is made when the project is built or runs, and names in a store. */
const NOT_IN_A_CHECKOUT = /^(dist\/|\.cache\/|\.live\.json|\.session\/|job\.json|package\.json)/;

Deno.test("files that ARCHITECTURE.md, CONTRIBUTING.md and SECURITY.md name exist", async () => {
  const roots = new Set([...Deno.readDirSync(PROJECT)].map(({ name }) => name));
  const [missing, found]: [string[], string[]] = [[], []];
  for (const page of ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]) {
    for (const [, path] of (await read(page)).matchAll(/`([\w.-]+(?:\/[\w.-]+)*\/?)`/g)) {
      const isPath = /\.(tsx?|md|ya?ml|json|sh)$/.test(path!) || path!.includes("/") && roots.has(path!.split("/")[0]!);
      if (!isPath || NOT_IN_A_CHECKOUT.test(path!)) continue;
      const exists = await Deno.stat(new URL(path!, PROJECT)).then(() => true, () => false);
      (exists ? found : missing).push(`${page}: ${path}`);
    }
  }
  ok(found.length > 80, `only ${found.length} names of files were found`);
  deepEqual(missing, []);
});

Deno.test("the README gives the reason of each dependency that the code imports", async () => {
  const { imports } = JSON.parse(await read("deno.json")) as { imports: Record<string, string> };
  const files = [...await filesOf("", ".ts", true)].filter((file) => !file.startsWith("tests/cluster/"));
  const code = (await Promise.all(files.map(read))).join("\n");
  const packages = new Set(Object.values(imports).map((at) => /^npm:((?:@[^/]+\/)?[^@/]+)/.exec(at)?.[1] ?? at));
  const used = [...packages].filter((name) => new RegExp(`"${name}(/[^"]*)?"`).test(code));
  const section = (await read("README.md")).split("## Dependencies")[1]?.split("\n## ")[0] ?? "";
  deepEqual(used.filter((name) => !section.includes(`\`${name}\``)), []);
});

Deno.test("each task that the documentation names is one of deno.json", async () => {
  const { tasks } = JSON.parse(await read("deno.json")) as { tasks: Record<string, unknown> };
  const unknown: string[] = [];
  for (const file of await filesOf("", ".md", true)) {
    for (const [, task] of (await read(file)).matchAll(/\b(?:deno|deno@[\d.]+) task ([a-z]+)/g)) {
      if (!Object.hasOwn(tasks, task!)) unknown.push(`${file}: ${task}`);
    }
  }
  deepEqual(unknown, []);
});
