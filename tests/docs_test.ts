/**
 * Holds the documentation to the code: each reason that the code can give stands in docs/troubleshoot.md, links lead
 * somewhere, each dependency has its line in the README. Reads files only.
 */
import { deepStrictEqual, ok } from "node:assert/strict";

const ROOT = new URL("../", import.meta.url);
const HIDDEN = /^(\..*|node_modules|dist|demo-data)$/;

const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));

async function filesOf(folder: string, extension: string, deep = false): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isFile, isDirectory } of Deno.readDir(new URL(folder || ".", ROOT))) {
    if (isFile && name.endsWith(extension)) found.push(folder + name);
    if (deep && isDirectory && !HIDDEN.test(name)) found.push(...await filesOf(`${folder}${name}/`, extension, true));
  }
  return found.sort();
}

/** The ways in which the code names a reason of its own. */
const REASONS = [
  /\breason: "([A-Z]\w+)"/g,
  /\breason: [^,\n]*\? "([A-Z]\w+)" : "([A-Z]\w+)"/g,
  /\bfailed\([^"`]*"([A-Z]\w+)"/g,
  /\bended\("\w+", "([A-Z]\w+)"/g,
  /\bafterGrace\([^"`]*"([A-Z]\w+)"/g,
  /#report\(run, "([A-Z]\w+)"/g,
];
/** The runner's facts of a container or Job, in Kubernetes' words: outcome.ts makes reasons of them. */
const FACTS = new Set(["Error", "StartError", "ContainerCreating"]);

async function reasonsOf(file: string): Promise<string[]> {
  const text = await read(file);
  const found = REASONS.flatMap((pattern) => [...text.matchAll(pattern)].flatMap(([, ...words]) => words));
  return found.filter((word) => word !== undefined && !(file.startsWith("embedded/") && FACTS.has(word)));
}

Deno.test("docs/troubleshoot.md explains each reason that the code can give", async () => {
  const files = [...await filesOf("", ".ts"), ...await filesOf("embedded/", ".ts")];
  const reasons = new Set((await Promise.all(files.map(reasonsOf))).flat());
  // Should a pattern above go stale, one of these is missing first.
  for (
    const known of ["OOMKilled", "ImageRateLimit", "TableUnreachable", "ChainTooDeep", "CompletionWaits", "Deleted"]
  ) {
    ok(reasons.has(known), `the patterns do not find ${known}`);
  }
  const page = await read("docs/troubleshoot.md");
  deepStrictEqual([...reasons].filter((reason) => !page.includes(`\`${reason}\``)), []);
});

Deno.test("docs/troubleshoot.md gives no reason that the code does not know", async () => {
  const files = [...await filesOf("", ".ts"), ...await filesOf("embedded/", ".ts")];
  const code = (await Promise.all(files.map(read))).join("\n");
  const rows = (await read("docs/troubleshoot.md")).matchAll(/^\| `([A-Z][A-Za-z]+)` /gm);
  const stale = [...rows].map(([, reason]) => reason!).filter((reason) => !code.includes(`"${reason}"`));
  deepStrictEqual(stale, []);
});

Deno.test("messages that docs/troubleshoot.md quotes stand in the code", async () => {
  const files = [...await filesOf("", ".ts"), ...await filesOf("embedded/", ".ts")];
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
  deepStrictEqual(missing, []);
});

/** As GitHub makes an anchor of a heading. */
function anchorOf(heading: string): string {
  return heading.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").trim().replaceAll(" ", "-");
}

Deno.test("relative links of the documentation lead somewhere", async () => {
  const broken: string[] = [];
  for (const file of await filesOf("", ".md", true)) {
    const text = (await read(file)).replace(/^```[\s\S]*?^```/gm, "");
    for (const [, link] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link!)) continue;
      const url = new URL(link!, new URL(file, ROOT));
      const anchor = decodeURIComponent(url.hash.slice(1));
      url.hash = "";
      const exists = await Deno.stat(url).then(() => true, () => false);
      if (!exists) broken.push(`${file}: ${link}`);
      else if (anchor !== "" && url.pathname.endsWith(".md")) {
        const headings = [...(await Deno.readTextFile(url)).matchAll(/^#+ (.+)$/gm)].map(([, words]) =>
          anchorOf(words!)
        );
        if (!headings.includes(anchor)) broken.push(`${file}: ${link} (no such heading)`);
      }
    }
  }
  deepStrictEqual(broken, []);
});

Deno.test("the README gives the reason of each dependency that the code imports", async () => {
  const { imports } = JSON.parse(await read("deno.json")) as { imports: Record<string, string> };
  const files = [...await filesOf("", ".ts", true)].filter((file) => !file.startsWith("tests/cluster/"));
  const code = (await Promise.all(files.map(read))).join("\n");
  const packages = new Set(Object.values(imports).map((at) => /^npm:((?:@[^/]+\/)?[^@/]+)/.exec(at)?.[1] ?? at));
  const used = [...packages].filter((name) => new RegExp(`"${name}(/[^"]*)?"`).test(code));
  const section = (await read("README.md")).split("## Dependencies")[1]?.split("\n## ")[0] ?? "";
  deepStrictEqual(used.filter((name) => !section.includes(`\`${name}\``)), []);
});

Deno.test("each task that the documentation names is one of deno.json", async () => {
  const { tasks } = JSON.parse(await read("deno.json")) as { tasks: Record<string, unknown> };
  const unknown: string[] = [];
  for (const file of await filesOf("", ".md", true)) {
    for (const [, task] of (await read(file)).matchAll(/\b(?:deno|deno@[\d.]+) task ([a-z]+)/g)) {
      if (!Object.hasOwn(tasks, task!)) unknown.push(`${file}: ${task}`);
    }
  }
  deepStrictEqual(unknown, []);
});
