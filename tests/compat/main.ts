/**
 * The compatibility suites on real servers: `deno task compat [--brokers] [--stores] [NAME…]`. On each server that is
 * named, or on all: the conformance suite of its port, and what people do with the service end to end. Writes what it found
 * into docs/compatibility.md. Exits with 1 where a check has the verdict "no", or a server is missing.
 */
import { needs } from "../harness/needs.ts";
import { brokerServer, COMPAT_BROKERS, tryBroker } from "./brokers.ts";
import { tryStore } from "./store_checks.ts";
import { COMPAT_STORES } from "./stores.ts";
import { type Kind, type ServerResult, writeResults } from "./verdicts.ts";

const IDS = [...COMPAT_BROKERS, ...COMPAT_STORES].map(({ id }) => id);
let bad = false;

async function keep(kind: Kind, result: ServerResult, order: readonly string[]): Promise<void> {
  const { server, version, verdicts } = result;
  console.log(`\n${server} ${version}`);
  for (const { check, answer, words } of verdicts) {
    if (answer !== "not asked") console.log(`  ${answer.padEnd(5)} ${check}${words ? `: ${words}` : ""}`);
  }
  bad ||= verdicts.some(({ answer }) => answer === "no");
  await writeResults(kind, [result], order);
}

function leftOut(id: string, why: string): void {
  bad = true;
  console.error(`Left out: ${id}; ${why}`);
}

const flags = Deno.args.filter((arg) => arg.startsWith("--"));
const names = Deno.args.filter((arg) => !arg.startsWith("--"));
const unknown = flags.find((flag) => !["--brokers", "--stores"].includes(flag)) ??
  names.find((name) => !IDS.includes(name));
if (unknown !== undefined) {
  console.error(`There is no "${unknown}". Servers: ${IDS.join(", ")}; flags: --brokers, --stores`);
  Deno.exit(2);
}
const isWanted = (kind: Kind, id: string) =>
  names.length > 0 ? names.includes(id) : flags.length === 0 || flags.includes(`--${kind}`);

for (const broker of COMPAT_BROKERS.filter(({ id }) => isWanted("brokers", id))) {
  if (broker.part !== undefined && !await needs(broker.part)) leftOut(broker.id, "run tests/install.sh all-brokers");
  else await keep("brokers", await tryBroker(broker), COMPAT_BROKERS.map((one) => brokerServer(one).server));
}
for (const store of COMPAT_STORES.filter(({ id }) => isWanted("stores", id))) {
  const missing = store.missing();
  if (missing !== undefined) leftOut(store.id, missing);
  else await keep("stores", await tryStore(store), COMPAT_STORES.map(({ name }) => name));
}
Deno.exit(bad ? 1 : 0);
