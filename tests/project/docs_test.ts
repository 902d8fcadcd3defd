/**
 * Holds the documentation to the code: each reason and error message of the code stands in docs/troubleshoot.md, links lead
 * somewhere, each dependency has its line in the README. Reads files only.
 */
import { deepStrictEqual, ok } from "node:assert/strict";
import { productModules } from "../harness/project.ts";
import { type CodeMessage, messagesOf } from "./messages.ts";

const ROOT = new URL("../../", import.meta.url);
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
  return found.filter((word) => word !== undefined && !(file.startsWith("local/") && FACTS.has(word)));
}

Deno.test("docs/troubleshoot.md explains each reason that the code can give", async () => {
  const files = await productModules();
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
  const files = await productModules();
  const code = (await Promise.all(files.map(read))).join("\n");
  const rows = (await read("docs/troubleshoot.md")).matchAll(/^\| `([A-Z][A-Za-z]+)`[ ,]/gm);
  const stale = [...rows].map(([, reason]) => reason!).filter((reason) => !code.includes(`"${reason}"`));
  deepStrictEqual(stale, []);
});

/** Modules whose words stand elsewhere. */
const NOT_READ = [
  // Problems of cells are told with line, column and what would be right: the reason TableRow, and docs/table.md.
  "catalog/table.ts",
  "topics.ts",
  "catalog/cells.ts",
  "util/quantities.ts",
  "catalog/policy.ts",
  // What would be right, behind the name and value of a setting.
  "config/settings.ts",
  // Why a run ended, beside its reason.
  "outcome.ts",
  // Words of the page and of schemas that are no errors.
  "status/pages.ts",
  "payloads.ts",
];

/** What the search finds and the page need not explain: words that are no error, or part of a longer message. */
const NEEDS_NO_LINE = [
  "…; see it with the command: logs -f …",
  "… would run; each run gets a name of its own.…",
  "(a link that ends after 7 days)",
  "read the log of …", // k8s.ts: Cannot …
  "Its topics begin with … (TOPIC_PREFIX); should it come back, it may still do it",
  "its stream went silent", // logs.ts: [The rest of this log could not be read: …
  '. That happened … times in a row soon after connecting: does another instance use the client id "…"?', // mqtt/errors.ts
  "its command column is empty; only Kubernetes can run the image's own entrypoint. Write the command into the row, or " +
  "set up a cluster", // runner.ts: Cannot run job …
  "no answer", // cli/request.ts: Cannot reach the broker …
  "it closed the connection",
  "see help", // cli.ts, config.ts: Unknown command …, no such flag
  'did you mean "…"?',
  "did you mean --…?",
  "a message on …", // cli/demo.ts: created …, set off by
  "the end of …",
  "the last good table stays in force", // catalog.ts: Cannot read the table …
  "waiting for a usable one",
  "the service ends", // observers/webhook.ts: Cannot send the notice …
  "no answer within … ms",
  "Not found", // status.ts: headings of pages
  "Something failed",
  "Not done",
  "Not an object", // status.ts: The fields cannot be read
  "… is not a string",
  // Why a run ended, beside its reason.
  "Someone deleted its Job before it had ended",
  "Its Job vanished while this service was not running (deleted by someone, or by its time to live); how it ended is " +
  "not known",
  "Cancelled by …",
  "Job was active longer than specified deadline",
  "Job was deleted while it ran",
  "Job has reached the specified backoff limit",
  // Nobody sees these: faults of a caller within, or caught where they are thrown.
  "Cannot start the service from here: main.ts does",
  "Cannot connect: connect() was called before",
  "Cannot put the payload into the environment: it has … bytes",
  'Cannot run job "…" locally: the runner is closing',
  '"…" is no run name',
  "Taken over",
];

/** What a line of the page quotes, as patterns: `…` stands for anything, and a message may go on. */
function quotesOf(page: string): RegExp[] {
  const spans = page.split("\n").filter((line) => line.startsWith("| `"))
    .flatMap((line) => [...line.split(" | ")[0]!.matchAll(/`([^`]+)`/g)].map(([, words]) => bare(words!)));
  return spans.map((words) => {
    // A quote of next to nothing would explain everything: it must be the message itself.
    const isShort = words.replace(/[^\p{L}]/gu, "").length < 12;
    if (isShort) return new RegExp(`^${RegExp.escape(words)}$`);
    return new RegExp("^" + words.split("…").map((part) => RegExp.escape(part)).join(".*"), "s");
  });
}

/** Without what differs between a message and its quote in Markdown. */
function bare(text: string): string {
  return text.replace(/["`\[\]]/g, "").replace(/\s+/g, " ").replace(/(?: ?…)+ ?/g, "…").trim();
}

function isExplained(quotes: readonly RegExp[], message: string): boolean {
  return NEEDS_NO_LINE.includes(message) || quotes.some((quote) => quote.test(bare(message)));
}

async function allMessages(): Promise<CodeMessage[]> {
  const files = (await productModules()).filter((file) => !NOT_READ.includes(file));
  return (await Promise.all(files.map(async (file) => messagesOf(file, await read(file))))).flat();
}

Deno.test("docs/troubleshoot.md explains each error message of the code", async () => {
  const quotes = quotesOf(await read("docs/troubleshoot.md"));
  const messages = await allMessages();
  const missing = messages.filter(({ text }) => !isExplained(quotes, text));
  deepStrictEqual(missing.map(({ where, text }) => `${where}: ${text}`), []);
  // Should the search go stale, one of these is missing first.
  for (
    const known of [
      /^There is no run …, neither/, // cli/commands.ts: throw, over two lines
      /^No row is for/, // cli/commands.ts: told
      /^Nothing was asked/, // cli/request.ts
      /^The connection to the broker … was lost; whether .* look with/, // cli/request.ts: returned, joined by +
      /^--…: there is no such flag/, // config.ts: returned
      /^Failed: the chain did not finish/, // cli/demo.ts
      /^Cannot start: Deno was not given/, // config/permissions.ts
      /^The token is not the right one/, // status.ts: a page
      /^There is no log of …/, // status.ts: text
      /^The request needs the field/, // control.ts
      /^Broker … does not support MQTT/, // mqtt/errors.ts
      /^there is no bucket/, // s3.ts
    ]
  ) ok(messages.some(({ text }) => known.test(text)), `the search does not find ${known}`);
});

Deno.test("a new error message is missed in docs/troubleshoot.md", async () => {
  const quotes = quotesOf(await read("docs/troubleshoot.md"));
  const code = [
    "throw new CommandError(1, `Cannot knit ${what}: ` +",
    '  (isLate ? "it is late" : `${wool.join("; ")} is short`));',
    'io.tell("Nothing can be knit");',
    "return refuse(403, `Knitting ${what} is not for you`);",
  ].join("\n");
  const found = messagesOf("knit.ts", code);
  const wanted = ["Cannot knit …: …", "it is late", "… is short", "Nothing can be knit", "Knitting … is not for you"];
  deepStrictEqual(found.map(({ text }) => text), wanted);
  deepStrictEqual(found.map(({ where }) => where).slice(-2), ["knit.ts:3", "knit.ts:4"]);
  deepStrictEqual(found.filter(({ text }) => isExplained(quotes, text)), []);
});

Deno.test("messages that need no line in docs/troubleshoot.md stand in the code", async () => {
  const messages = new Set((await allMessages()).map(({ text }) => text));
  deepStrictEqual(NEEDS_NO_LINE.filter((text) => !messages.has(text)), []);
});

Deno.test("each line of docs/troubleshoot.md says what it means and what to do", async () => {
  const page = (await read("docs/troubleshoot.md")).split("## A run ended")[1] ?? "";
  const lines = page.split("\n").filter((line) => line.startsWith("| `"));
  ok(lines.length > 80, `only ${lines.length} lines were found`);
  deepStrictEqual(lines.filter((line) => !/^\|(?: +[^ |][^|]* +\|){3}$/.test(line)), []);
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
