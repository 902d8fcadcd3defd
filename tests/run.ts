/**
 * Runs the tests in two passes: side by side nearly all, then one after the other those that set variables or measure
 * time. Owns which file is of which kind: what it needs says so.
 * usage: run.ts [--unit] [FILE-OR-FOLDER | OPTION-OF-DENO-TEST]...   --unit: only what needs nothing installed
 */
const PROJECT = new URL("../", import.meta.url);

/** What a file says that sets variables: files that run side by side share one environment. */
const SETS_ENV = /Deno\.env\.set|\/aws_env\.ts"/;
/** They measure time: how long a pattern or a table takes, what a message costs. */
const ALONE_FILE = /^tests\/(project\/regex_test|catalog\/faults_test|bench\/ranges_test)\.ts$/;
/** What takes longest, for it begins first in its folder. Deno takes folders of longer names before others. */
const LONG = [
  "tests/chaos/faults_test.ts",
  "tests/e2e/replicas_test.ts",
  "tests/e2e/ends_test.ts",
  "tests/e2e/row_outcomes_test.ts",
  "tests/e2e/logs_test.ts",
  "tests/e2e/brokers_delivery_test.ts",
  "tests/e2e/e2e_test.ts",
  "tests/cli_test.ts",
  "tests/k8s_test.ts",
];
/** Folders without a test that does anything where no part is wanted, or that is about more than the product's code. */
const NOT_UNIT = /^tests\/(attack|bench|chaos|clients|deploy|e2e|fuzz|harness|image|look|mqtt|project|s3)\//;

async function* testFiles(path: string): AsyncGenerator<string> {
  const { isFile } = await Deno.stat(new URL(path, PROJECT));
  if (isFile) return yield path;
  for await (const { name, isDirectory } of Deno.readDir(new URL(`${path}/`, PROJECT))) {
    if (isDirectory || /_test\.tsx?$/.test(name)) yield* testFiles(`${path}/${name}`);
  }
}

async function isAlone(file: string): Promise<boolean> {
  return ALONE_FILE.test(file) || SETS_ENV.test(await Deno.readTextFile(new URL(file, PROJECT)));
}

/** Runs them; resolves to whether all passed. Types are checked by `deno task check`. */
async function pass(files: readonly string[], options: string[], env: Record<string, string> = {}): Promise<boolean> {
  if (files.length === 0) return true;
  const args = ["test", "-A", "--no-check", ...options, ...files];
  return (await new Deno.Command(Deno.execPath(), { args, env, cwd: PROJECT }).spawn().status).success;
}

const unit = Deno.args.includes("--unit");
const given = Deno.args.filter((arg) => arg !== "--unit");
const options = given.filter((arg) => arg.startsWith("-"));
const paths = given.filter((arg) => !arg.startsWith("-")).map((path) => path.replace(/^\.\/|\/$/g, ""));
const files: string[] = [];
for (const path of paths.length > 0 ? paths : ["tests"]) files.push(...await Array.fromAsync(testFiles(path)));
files.sort();
const rank = (file: string) => LONG.includes(file) ? LONG.indexOf(file) : LONG.length;
files.sort((a, b) => rank(a) - rank(b));
const cores = navigator.hardwareConcurrency;

let passed: boolean;
if (unit) {
  // Much of their time is waiting, so that two share a core.
  const env = { MJL_UNIT: "yes", DENO_JOBS: String(2 * cores) };
  passed = await pass(files.filter((file) => !NOT_UNIT.test(file)), ["--parallel", ...options], env);
} else {
  const alone = new Set<string>();
  for (const file of files) if (await isAlone(file)) alone.add(file);
  // Half of the time of those with a cluster or a broker is waiting: for leases, graces, restarts.
  const together = await pass(files.filter((file) => !alone.has(file)), ["--parallel", ...options], {
    DENO_JOBS: String(cores + 2),
  });
  passed = await pass([...alone], options) && together;
}
Deno.exit(passed ? 0 : 1);
