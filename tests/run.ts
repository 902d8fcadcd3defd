/**
 * Runs the tests in two passes: side by side those that start little or mostly wait, then one after the other those that
 * start a cluster, or measure time. Owns which file is of which kind: what it needs says so.
 * usage: run.ts [--unit] [FILE-OR-FOLDER | OPTION-OF-DENO-TEST]...   --unit: only what needs nothing installed
 */
const PROJECT = new URL("../", import.meta.url);

/**
 * What a file says that is to have the machine for itself: a cluster's start takes both of two cores, and files that run
 * side by side share one environment.
 */
const ALONE = /\bneeds\([^)]*"(cluster|node|kwok)"|Deno\.env\.set|\/aws_env\.ts"/;
/** The first counts processes and mounts, the others measure time. */
const ALONE_FILE = /^tests\/(harness\/harness_test|project\/regex_test|catalog\/faults_test|mqtt_test)\.ts$/;
/** Minutes of waiting, for leases, graces and restarts of brokers: first of all, so that the others run beside them. */
const WAITING = [
  "tests/e2e/replicas_test.ts",
  "tests/mqtt/brokers_test.ts",
  "tests/e2e/row_outcomes_test.ts",
  "tests/e2e/brokers_delivery_test.ts",
  "tests/harness/brokers_test.ts",
  "tests/e2e/rights_test.ts",
];
/** Folders without a test that does anything where no part is wanted, or that is about more than the product's code. */
const NOT_UNIT = /^tests\/(attack|bench|chaos|clients|e2e|fuzz|harness|look|mqtt|project|s3)\//;

async function* testFiles(path: string): AsyncGenerator<string> {
  const { isFile } = await Deno.stat(new URL(path, PROJECT));
  if (isFile) return yield path;
  for await (const { name, isDirectory } of Deno.readDir(new URL(`${path}/`, PROJECT))) {
    if (isDirectory || /_test\.tsx?$/.test(name)) yield* testFiles(`${path}/${name}`);
  }
}

async function isHeavy(file: string): Promise<boolean> {
  if (WAITING.includes(file)) return false;
  return ALONE_FILE.test(file) || ALONE.test(await Deno.readTextFile(new URL(file, PROJECT)));
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
files.sort((a, b) => Number(WAITING.includes(b)) - Number(WAITING.includes(a)));
const cores = navigator.hardwareConcurrency;

let passed: boolean;
if (unit) {
  // Much of their time is waiting, so that two share a core.
  const env = { MJL_UNIT: "yes", DENO_JOBS: String(2 * cores) };
  passed = await pass(files.filter((file) => !NOT_UNIT.test(file)), ["--parallel", ...options], env);
} else {
  const heavy = new Set<string>();
  for (const file of files) if (await isHeavy(file)) heavy.add(file);
  const light = await pass(files.filter((file) => !heavy.has(file)), ["--parallel", ...options], {
    DENO_JOBS: String(cores + 1),
  });
  passed = await pass([...heavy], options) && light;
}
Deno.exit(passed ? 0 : 1);
