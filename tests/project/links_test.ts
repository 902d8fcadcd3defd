/**
 * The documentation as pages that lead to each other: links and their anchors lead somewhere, and every page is found
 * from the README. Reads files only.
 */
import { deepEqual, match, ok } from "node:assert/strict";
import { filesOf, productModules, PROJECT, readProject as read } from "../harness/project.ts";

/** Markdown without its code. */
const prose = (text: string) => text.replace(/^ *```[^]*?^ *```/gm, "");

/** Anchors of a page, as GitHub makes them of headings: the second of two that are alike ends in -1. */
function anchorsOf(text: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading] of prose(text).matchAll(/^#+ (.+)$/gm)) {
    const words = heading!.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1");
    const anchor = words.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").trim().replaceAll(" ", "-");
    let free = anchor;
    for (let n = 1; anchors.has(free); n++) free = `${anchor}-${n}`;
    anchors.add(free);
  }
  return anchors;
}

/** Where the relative links of a text lead, seen from the file that it stands in. */
function linksOf(text: string, file: string): { link: string; path: string; anchor: string }[] {
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)].filter(([, link]) => !/^[a-z]+:/.test(link!)).map(([, link]) => {
    const url = new URL(link!, new URL(file, PROJECT));
    const anchor = decodeURIComponent(url.hash.slice(1));
    url.hash = "";
    return { link: link!, path: decodeURIComponent(url.href.slice(PROJECT.href.length)), anchor };
  });
}

async function brokenLinks(text: string, file: string): Promise<string[]> {
  const broken: string[] = [];
  for (const { link, path, anchor } of linksOf(text, file)) {
    const exists = await Deno.stat(new URL(path, PROJECT)).then(() => true, () => false);
    if (!exists) broken.push(`${file}: ${link}`);
    else if (anchor !== "" && path.endsWith(".md") && !anchorsOf(await read(path)).has(anchor)) {
      broken.push(`${file}: ${link} (no such heading)`);
    }
  }
  return broken;
}

Deno.test("relative links of the documentation lead somewhere, to headings too", async () => {
  const broken: string[] = [];
  for (const file of await filesOf("", ".md", true)) broken.push(...await brokenLinks(prose(await read(file)), file));
  deepEqual(broken, []);
});

Deno.test("addresses of pages that the code says lead to a heading", async () => {
  const [broken, found]: [string[], string[]] = [[], []];
  for (const file of await productModules()) {
    for (const [, path, anchor] of (await read(file)).matchAll(/\b(docs\/[a-z]+\.md)(?:#([\w-]+))?/g)) {
      found.push(path!);
      const text = await read(path!).catch(() => undefined);
      if (text === undefined || anchor !== undefined && !anchorsOf(text).has(anchor)) {
        broken.push(`${file}: ${path}${anchor ? `#${anchor}` : ""}`);
      }
    }
  }
  ok(found.length > 5, `only ${found.length} were found`);
  deepEqual(broken, []);
});

Deno.test("every page of the documentation is found from the README", async () => {
  const seen = new Set(["README.md"]);
  for (const file of seen) {
    for (const { path } of linksOf(prose(await read(file)), file)) if (path.endsWith(".md")) seen.add(path);
  }
  const pages = await filesOf("", ".md", true);
  ok(pages.length > 15, `only ${pages.length} pages`);
  deepEqual(pages.filter((page) => !seen.has(page)), []);
});

Deno.test("docs/README.md leads to every page of docs", async () => {
  const linked = linksOf(await read("docs/README.md"), "docs/README.md").map(({ path }) => path);
  const pages = (await filesOf("docs/", ".md")).filter((page) => page !== "docs/README.md");
  deepEqual(pages.filter((page) => !linked.includes(page)), []);
});

Deno.test("llms.txt is as llmstxt.org says, leads to every page of docs, and its links lead somewhere", async () => {
  const text = await read("llms.txt");
  match(text, /^# [^\n]+\n\n(?:> [^\n]+\n)+\n/, "a title, then one sentence as a quotation");
  const sections = text.split(/^## .+$/m).slice(1);
  ok(sections.length >= 2);
  for (const section of sections) {
    for (const line of section.trim().split("\n")) match(line, /^- \[[^\]]+\]\([^)]+\): \S.+$/);
  }
  deepEqual(await brokenLinks(text, "llms.txt"), []);
  const linked = linksOf(text, "llms.txt").map(({ path }) => path);
  deepEqual((await filesOf("docs/", ".md")).filter((page) => !linked.includes(page)), []);
});
