/**
 * What a run of the compatibility suites found, and the tables that docs/compatibility.md shows of it. Owns the file of
 * the last results of each server, so that one server can be tried alone without losing what was found of the others.
 */
import { PROJECT } from "../harness/project.ts";

/** `part`: it works where the reason given does not matter, or with what the reason says. */
export type Answer = "yes" | "part" | "no" | "not asked";

export interface Verdict {
  readonly check: string;
  readonly answer: Answer;
  /** Why not, or what differs; a sentence or a figure. */
  readonly words?: string;
}

export interface ServerResult {
  readonly server: string;
  readonly version: string;
  /** What must be set at the server or the service. */
  readonly setting: string;
  readonly verdicts: readonly Verdict[];
}

/** A kind of server, and the marks of its tables in the document. */
export type Kind = "brokers" | "stores";

type Results = Record<Kind, readonly ServerResult[]>;

const FILE = new URL("tests/compat/results.json", PROJECT);
const DOCUMENT = new URL("docs/compatibility.md", PROJECT);

const SIGNS: Record<Answer, string> = { yes: "yes", part: "in part", no: "**no**", "not asked": "–" };

/** Longest that one check may take: what hangs is a finding too. */
const CHECK_MS = 180_000;

/** Runs one check; what it throws makes the verdict "no", what it returns is said beside the "yes". */
export async function tried(
  check: string,
  body: () => Promise<Omit<Verdict, "check"> | string | void>,
): Promise<Verdict> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`it did not end within ${CHECK_MS / 1000} s`)), CHECK_MS);
  try {
    const outcome = await Promise.race([body(), late.promise]);
    if (typeof outcome === "object") return { check, ...outcome };
    return { check, answer: "yes", ...(outcome === undefined ? {} : { words: outcome }) };
  } catch (error) {
    const [words = ""] = (error instanceof Error ? error.message : String(error)).split("\n");
    return { check, answer: "no", words: words.length > 160 ? `${words.slice(0, 160)}…` : words };
  } finally {
    clearTimeout(timer);
  }
}

/** The last results of all servers. */
export async function readResults(): Promise<Results> {
  return JSON.parse(await Deno.readTextFile(FILE));
}

/** Puts the results of the servers that were tried into the file and the document; `order`: of all servers. */
export async function writeResults(
  kind: Kind,
  found: readonly ServerResult[],
  order: readonly string[],
): Promise<void> {
  const results = await readResults();
  const kept = results[kind].filter(({ server }) => !found.some((one) => one.server === server));
  const all = [...kept, ...found].filter(({ server }) => order.includes(server));
  all.sort((a, b) => order.indexOf(a.server) - order.indexOf(b.server));
  const next: Results = { ...results, [kind]: all };
  await Deno.writeTextFile(FILE, `${JSON.stringify(next, undefined, 2)}\n`);
  await Deno.writeTextFile(DOCUMENT, withTables(await Deno.readTextFile(DOCUMENT), next));
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--quiet", DOCUMENT.pathname, FILE.pathname],
    cwd: PROJECT.pathname,
  }).output();
  if (!success) throw new Error("Cannot format docs/compatibility.md: deno fmt failed");
}

/** The document with its tables made anew. */
export function withTables(document: string, results: Results): string {
  for (const kind of ["brokers", "stores"] as const) {
    const [begin, end] = [`<!-- ${kind}: written by deno task compat -->`, `<!-- ${kind}: end -->`];
    const [from, to] = [document.indexOf(begin), document.indexOf(end)];
    if (from < 0 || to < from) throw new Error(`docs/compatibility.md lacks the marks ${begin} and ${end}`);
    document = `${document.slice(0, from)}${begin}\n\n${tablesOf(results[kind])}\n${document.slice(to)}`;
  }
  return document;
}

function tablesOf(servers: readonly ServerResult[]): string {
  const checks = [...new Set(servers.flatMap(({ verdicts }) => verdicts.map(({ check }) => check)))];
  const of = (server: ServerResult, check: string) => server.verdicts.find((verdict) => verdict.check === check);
  const matrix = [
    ["Check", ...servers.map(({ server, version }) => `${server} ${version}`)],
    ...checks.map((check) => [check, ...servers.map((server) => SIGNS[of(server, check)?.answer ?? "not asked"])]),
    ["Setting needed", ...servers.map(({ setting }) => setting || "none")],
  ];
  const remarks = servers.flatMap(({ server, version, verdicts }) =>
    verdicts.filter(({ words }) => words).map(({ check, answer, words }) => [
      `${server} ${version}`,
      check,
      SIGNS[answer],
      words!,
    ])
  );
  return `${table(matrix)}\nWhat stands behind the words in the table:\n\n${
    table([["Server", "Check", "Verdict", "Why, or what differs"], ...remarks])
  }`;
}

function table(rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`;
  const [head = [], ...rest] = rows;
  return line(head) + line(head.map(() => "---")) + rest.map(line).join("");
}
