/** Holds the track record of docs/reliability.md to the project: its commits exist, its lines name tests and cases that do. */
import { deepEqual, ok } from "node:assert/strict";
import { casesOf, type Extent } from "../chaos/matrix.ts";
import { PROJECT, readProject } from "../harness/project.ts";

/** Of the section "Track record": the cells of each row of its tables, and all of it. */
async function trackRecord(): Promise<{ rows: string[][]; text: string }> {
  const text = (await readProject("docs/reliability.md")).split("\n## Track record\n")[1]?.split("\n## ")[0] ?? "";
  const rows = text.split("\n").filter((line) => line.startsWith("| ") && !/^\| (-|What was seen)/.test(line))
    .map((line) => line.split(" | ").map((cell) => cell.replace(/^\| | \|$/g, "").trim()));
  ok(rows.length > 25, `only ${rows.length} rows were found`);
  return { rows, text };
}

const git = async (...args: string[]) =>
  await new Deno.Command("git", { args, cwd: PROJECT }).output().catch(() => undefined);

/** A checkout without history, or no git, knows no commits. */
async function whyUnasked(): Promise<string | undefined> {
  const said = await git("rev-parse", "--is-shallow-repository");
  if (!said?.success) return "there is no git, or no repository";
  return new TextDecoder().decode(said.stdout).trim() === "true" ? "the checkout has no history" : undefined;
}

const unasked = await whyUnasked();
if (unasked) console.error(`Left out: the commits of the track record, for ${unasked}`);

Deno.test("each row of the track record has what was seen, a cause, a commit and one line", async () => {
  const { rows } = await trackRecord();
  deepEqual(
    rows.filter(([seen = "", cause = "", commit = "", line = "", ...more]) =>
      seen.length < 15 || cause.length < 15 || !/^[0-9a-f]{7}$/.test(commit) ||
      !/`(?:nice |MODEL_RUNS=\d+ )?deno .*`/.test(line) ||
      more.length > 0
    ),
    [],
  );
});

Deno.test({
  name: "each commit of the track record exists",
  ignore: unasked !== undefined,
  async fn() {
    const { text } = await trackRecord();
    const commits = [...new Set([...text.matchAll(/\b(?=[a-f]*\d)[0-9a-f]{7}\b/g)].map(([commit]) => commit))];
    ok(commits.length > 20, `only ${commits.length} were found`);
    const missing: string[] = [];
    for (const commit of commits) {
      if (!(await git("merge-base", "--is-ancestor", commit, "HEAD"))?.success) missing.push(commit);
    }
    deepEqual(missing, []);
  },
});

/** The names of a file's tests, as they are written: with ${…} in some. */
function testNames(code: string): string[] {
  return [...code.matchAll(/(?:Deno\.test\(\s*|\bname: )(["'`])((?:(?!\1)[^\\]|\\.)*)\1/g)].map(([, , name]) => name!);
}

Deno.test("each line of the track record names a test or a case of the crash matrix that there is", async () => {
  const { text } = await trackRecord();
  const lines = [...text.matchAll(/`(?:nice |MODEL_RUNS=\d+ )?(deno [^`]+)`/g)].map(([, line]) =>
    line!.replace(/\s+/g, " ")
  );
  const wrong: string[] = [];
  for (const line of lines) {
    const test = /^deno test -A (tests\/\S+_test\.ts)(?: --filter="([^"]+)")?$/.exec(line);
    const chaos = /^deno task chaos((?: --[a-z-]+(?:=\S+)?)+)$/.exec(line);
    if (test) {
      const [, path, filter = ""] = test;
      const names = await readProject(path!).then(testNames, () => []);
      if (!names.some((name) => name.includes(filter))) wrong.push(line);
    } else if (chaos) {
      const flags = new Map(
        chaos[1]!.trim().split(" ").map((flag): [string, string] => {
          const [name = "", value = ""] = flag.slice(2).split("=");
          return [name, value];
        }),
      );
      const isKnown = [...flags.keys()].every((flag) =>
        ["short", "faults", "only", "long", "chatty", "minutes", "seed", "per-second"].includes(flag)
      );
      const extent: Extent = flags.has("short") ? "short" : flags.has("faults") ? "faults" : "full";
      if (!isKnown || !casesOf(extent).some(({ name }) => name.includes(flags.get("only") ?? ""))) wrong.push(line);
    } else wrong.push(line);
  }
  ok(lines.length > 25, `only ${lines.length} lines were found`);
  deepEqual(wrong, []);
});
