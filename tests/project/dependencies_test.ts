/**
 * What the program depends on: pinned to the version and by hash, named with a reason in README.md, and without an
 * advisory. Advisories are the registry's: where it cannot be asked, that one test says so and is left out.
 */
import { deepEqual, ok } from "node:assert/strict";

interface Lock {
  readonly specifiers: Readonly<Record<string, string>>;
  readonly npm: Readonly<Record<string, { readonly integrity?: string }>>;
}

async function json<T>(name: string): Promise<T> {
  return JSON.parse(await Deno.readTextFile(new URL(`../../${name}`, import.meta.url))) as T;
}

/** `npm:name@version` of each import, without paths below it. */
async function pins(): Promise<string[]> {
  const { imports } = await json<{ imports: Record<string, string> }>("deno.json");
  return [...new Set(Object.values(imports).map((specifier) => specifier.replace(/^(npm:@?[^@]+@[^/]+)\/.*$/, "$1")))];
}

Deno.test("each dependency is pinned to one version of npm's", async () => {
  deepEqual((await pins()).filter((pin) => !/^npm:(@[\w.-]+\/)?[\w.-]+@\d+\.\d+\.\d+$/.test(pin)), []);
});

Deno.test("the lock file holds what is pinned, nothing else, and a hash of every package", async () => {
  const { specifiers, npm } = await json<Lock>("deno.lock");
  deepEqual(Object.keys(specifiers).sort(), (await pins()).sort());
  const without = Object.entries(npm).filter(([, { integrity }]) => !/^sha512-[\w+/]+=*$/.test(integrity ?? ""));
  deepEqual(without.map(([name]) => name), []);
});

Deno.test("README.md names each dependency", async () => {
  const readme = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
  const names = (await pins()).map((pin) => pin.slice("npm:".length, pin.lastIndexOf("@")));
  deepEqual(names.filter((name) => !readme.includes(`\`${name}\``)), []);
});

const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
  args: ["audit"],
  cwd: new URL("../..", import.meta.url),
  env: { NO_COLOR: "1" },
}).output();
const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
// A machine that cannot reach the registry knows nothing of advisories: no reason to fail, nor to pass.
const unasked = !success && /error sending request/.test(said);
if (unasked) console.error(`Left out: deno audit could not ask the registry (${said.split("\n")[0]})`);

Deno.test({ name: "no dependency has an advisory", ignore: unasked, fn: () => ok(success, said) });
