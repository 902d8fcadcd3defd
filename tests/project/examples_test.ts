/**
 * Holds the examples of the documentation to the program: command lines to its parser, settings to their kinds, requests
 * to their schemas, YAML and Python to who reads them. Tables are held by tests/catalog/columns_test.ts. Starts nothing.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { parse } from "yaml";
import { parseTable } from "../../catalog.ts";
import { parseCommand } from "../../catalog/cells/command.ts";
import { askedFor } from "../../cli.ts";
import { COMMANDS } from "../../cli/commands.ts";
import { SAMPLES } from "../../cli/demo_samples.ts";
import { ConfigError, knownNames, loadConfig, type OwnFlags, parseArgs } from "../../config.ts";
import { parsePodTemplates } from "../../k8s/pod_templates.ts";
import { PAYLOADS } from "../../payloads/shapes.ts";
import { call } from "../harness/command.ts";
import { runOn } from "../harness/process.ts";
import { filesOf, PROJECT, readProject } from "../harness/project.ts";
import { needs } from "../harness/needs.ts";

interface Example {
  readonly page: string;
  readonly text: string;
}

const pages = [
  "README.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  "clients/python/README.md",
  ...await filesOf("docs/", ".md"),
];

/** The blocks of one language, without their indentation. */
async function blocks(language: string): Promise<Example[]> {
  const found: Example[] = [];
  for (const page of pages) {
    const marks = new RegExp(`^( *)\`\`\`${language}\\n([^]*?)^ *\`\`\`$`, "gm");
    for (const [, indent = "", text = ""] of (await readProject(page)).matchAll(marks)) {
      found.push({ page, text: text.replaceAll(new RegExp(`^${indent}`, "gm"), "") });
    }
  }
  return found;
}

/** Lines of shell: those of blocks, without comments and with continued lines as one, and code within sentences. */
async function shellLines(): Promise<Example[]> {
  const found: Example[] = [];
  for (const { page, text } of await blocks("sh")) {
    for (const line of text.replaceAll(/\\\n\s*/g, "").split("\n")) {
      found.push({ page, text: line.replace(/(?:^|\s+)# .*$/, "") });
    }
  }
  for (const page of pages) {
    const prose = (await readProject(page)).replaceAll(/^ *```[^]*?^ *```$/gm, "");
    for (const [, code = ""] of prose.matchAll(/`([^`]+)`/g)) found.push({ page, text: code.replaceAll(/\s+/g, " ") });
  }
  return found;
}

/** What a line asks of this program, as words; undefined: it asks another one. */
function ourWords(line: string): readonly string[] | undefined {
  const [, rest] =
    /(?:^|\| |[A-Z]=\S+ )(?:mqtt-job-listener|(?:npx -y )?deno(?:@[\d.]+)? task (?:-q )?cli) (.+)$/.exec(line) ?? [];
  if (rest === undefined || rest.startsWith("|")) return undefined;
  const command = parseCommand(rest.replace(/ (?:>|\|) .*$/, ""));
  ok("words" in command, line);
  return command.words;
}

Deno.test("commands of the program that the documentation shows are ones that it takes", async () => {
  const switches: OwnFlags = { json: "switch", "no-color": "switch", help: "switch", version: "switch" };
  const wrong: string[] = [];
  let found = 0;
  for (const { page, text } of await shellLines()) {
    const words = ourWords(text);
    if (words === undefined) continue;
    const { name = "", rest } = askedFor(words);
    // `COMMAND` stands for any of them.
    if (name === "COMMAND" || name === "" && rest.length > 0) continue;
    found++;
    const command = COMMANDS[name];
    if (!command) {
      wrong.push(`${page}: ${text}: no such command`);
      continue;
    }
    const own = Object.fromEntries(
      Object.entries(command.flags).map(([flag, { value }]) => [flag, value ? "value" : "switch"] as const),
    );
    const { faults, positionals } = parseArgs(rest, { ...switches, ...own });
    const least = command.words.filter((word) => !word.startsWith("[")).length;
    const most = command.words.at(-1)?.includes("…") ? Infinity : command.words.length;
    if (positionals.length > most) wrong.push(`${page}: ${text}: too many words`);
    // Within a sentence a command is named without what follows it.
    if (positionals.length < least && words.length > 1) wrong.push(`${page}: ${text}: a word is missing`);
    wrong.push(...faults.map((fault) => `${page}: ${text}: ${fault}`));
  }
  ok(found > 15, `only ${found} were found`);
  deepEqual(wrong, []);
});

Deno.test("the commands that docs/commands.md begins with do what it says", async () => {
  const [first] = await blocks("sh").then((all) => all.filter(({ page }) => page === "docs/commands.md"));
  const lines = first!.text.trim().split("\n").map((line) => line.replace(/\s+# .*$/, ""));
  equal(lines.length, 3);
  for (const line of lines) {
    const { code, out, err } = await call(ourWords(line)!);
    equal(code, 0, err);
    ok(out.length > 20, line);
  }
});

Deno.test("settings that the documentation gives a value are settings, and take it", async () => {
  const wrong: string[] = [];
  let found = 0;
  const known = new Set(knownNames());
  for (const { page, text } of await shellLines()) {
    const command = /^(?:export )?((?:[A-Z][A-Z0-9_]+=\S+ ?)+)/.exec(text)?.[1];
    if (command === undefined) continue;
    for (const [, name = "", value = ""] of command.matchAll(/([A-Z][A-Z0-9_]+)=(\S+)/g)) {
      // Of tests, of other programs, and of what stands for any value.
      if (!known.has(name) || /…|^\.\/|_FILE$/.test(value + name)) continue;
      found++;
      try {
        loadConfig({ env: { [name]: value }, args: [], readTextFile: () => "x", random: () => "r" });
      } catch (error) {
        if (!(error instanceof ConfigError)) throw error;
        const own = error.faults.filter((fault) => fault.startsWith(`${name} `));
        wrong.push(...own.map((fault) => `${page}: ${text}: ${fault}`));
      }
    }
  }
  ok(found > 15, `only ${found} were found`);
  deepEqual(wrong, []);
});

Deno.test("requests that the documentation publishes are as their schemas say", async () => {
  const wrong: string[] = [];
  let found = 0;
  for (const { page, text } of await shellLines()) {
    const command = text.startsWith("mosquitto_pub") ? parseCommand(text) : undefined;
    if (!command || !("words" in command)) continue;
    const words = command.words;
    const topic = words[words.indexOf("-t") + 1]!;
    const message = words[words.indexOf("-m") + 1]!;
    if (message.startsWith("{")) JSON.parse(message);
    const [, request] = /^services\/mqtt_job_listener\/(request\/.+)$/.exec(topic) ?? [];
    if (request === undefined) continue;
    found++;
    const payload = Object.values(PAYLOADS).find(({ topic }) => topic === request);
    const { success, error } = payload?.shape.safeParse(JSON.parse(message)) ?? {};
    if (!success) wrong.push(`${page}: ${text}: ${error?.message ?? "no such request"}`);
  }
  ok(found > 0);
  deepEqual(wrong, []);
});

Deno.test("the requests that docs/topics.md describes are as their schemas say", async () => {
  const section = (await readProject("docs/topics.md")).split("## Requests")[1]!.split("```")[0]!.replaceAll(
    /\s+/g,
    " ",
  );
  const described = [...section.matchAll(/`(\{"[^`]*\})` for `(\w+)`/g)].map(([, json, what]) =>
    [what!, json!] as const
  );
  deepEqual(described.map(([what]) => what), ["run", "cancel", "each", "replay"]);
  for (const [what, json] of described) {
    const payload = Object.values(PAYLOADS).find(({ topic }) => topic === `request/${what}`)!;
    equal(payload.shape.safeParse(JSON.parse(json)).error?.message, undefined, what);
  }
});

Deno.test("the JSON that the documentation shows is JSON", async () => {
  const found = await blocks("json");
  ok(found.length > 1);
  for (const { text } of found) JSON.parse(text);
});

Deno.test("the pod template that docs/operate.md shows is one", async () => {
  const [example] = (await blocks("yaml")).filter(({ text }) => text.includes("kind: PodTemplate"));
  const { byName, faults } = parsePodTemplates({ "operate.yaml": example!.text }, { allowPrivileged: false });
  deepEqual(faults, []);
  ok("template" in byName.get("gpu-with-cache")!);
});

/** Whether all that is in `part` is in `whole`; of lists, each element in one of the other's. */
function holds(whole: unknown, part: unknown): boolean {
  if (typeof part !== "object" || part === null) return whole === part;
  if (typeof whole !== "object" || whole === null) return false;
  if (Array.isArray(part)) {
    return Array.isArray(whole) && part.every((one) => whole.some((other: unknown) => holds(other, one)));
  }
  return Object.entries(part).every(([name, value]) => holds((whole as Record<string, unknown>)[name], value));
}

Deno.test("the Job that docs/table.md shows is what explain makes of the row and the message above it", async () => {
  const section = (await readProject("docs/table.md")).split("## What becomes of a row\n")[1]!;
  const [, csv = ""] = /^```csv\n([^]*?)^```$/m.exec(section) ?? [];
  const [, yaml = ""] = /^```yaml\n([^]*?)^```$/m.exec(section) ?? [];
  const [, message = "", topic = ""] = /A message `(\{.+?\})` on `([^`]+)`/.exec(section) ?? [];
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/jobs.csv`, csv);
    await Deno.writeTextFile(`${folder}/policy.yaml`, "secrets: [lab-s3]\n");
    const { code, out, err } = await call(["explain", topic, message, "--json"], {
      CATALOG_URL: `${folder}/jobs.csv`,
      POLICY_FILE: `${folder}/policy.yaml`,
    });
    equal(code, 0, err);
    const [{ job }] = JSON.parse(out) as [{ job: { spec: { template: { spec: unknown } } } }];
    const shown = parse(yaml) as Record<string, unknown>;
    deepEqual(Object.keys(shown), ["tolerations", "volumes", "containers"]);
    ok(holds(job.spec.template.spec, shown), JSON.stringify(job.spec.template.spec, null, 2));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the lines that the README adds to the demo's table are right in it", async () => {
  const [added] = (await blocks("csv")).filter(({ page, text }) => page === "README.md" && text.startsWith("Shout,"));
  const prefix = "services/mqtt_job_listener";
  const sample = SAMPLES["chain"]!.table({ prefix, objects: "" });
  const { rows, problems } = parseTable(sample + added!.text, { topicPrefix: prefix });
  deepEqual(problems, []);
  equal(rows.length, sample.trim().split("\n").length - 1 + 3);
});

/** Prints what is wrong with the Python on standard input: its syntax, and names that the client's classes do not have. */
const LOOK = `
import ast, pathlib, sys
has = {}
for file in pathlib.Path("clients/python/src/mqtt_job_listener").glob("*.py"):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ClassDef):
            has[node.name] = {part.name for part in node.body if isinstance(part, ast.FunctionDef)} | {
                part.target.id for part in node.body if isinstance(part, ast.AnnAssign)}
kinds = {"jobs": "Jobs", "run": "Run", "end": "End"}
for node in ast.walk(ast.parse(sys.stdin.read())):
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        kind = kinds.get(node.value.id)
        if kind and node.attr not in has[kind]:
            print(f"{node.value.id}.{node.attr}: no such name in {kind}")
`;

Deno.test({
  name: "the Python that the documentation shows is Python, and uses what the client has",
  ignore: !await needs("python3"),
  async fn() {
    const examples = await blocks("python");
    ok(examples.length > 3);
    for (const { page, text } of examples) {
      const { said } = await runOn(text, "python3", ["-c", LOOK], { cwd: PROJECT });
      equal(said, "", `${page}:\n${text}`);
    }
  },
});
