/** Holds the direction of imports by folder, so that a new file is held on its first day; and the sizes of files. */
import { deepEqual, ok } from "node:assert/strict";
import { productModules, PROJECT, readProject } from "../harness/project.ts";

interface Import {
  readonly from: string;
  /** Path of a module of ours, or an npm name. */
  readonly to: string;
  readonly isOurs: boolean;
  readonly typeOnly: boolean;
  /** By `import()`, when it is wanted. */
  readonly lazy: boolean;
}

/** Whose ports they stand behind; each may use what lies in the folder of its name. */
const ADAPTERS = ["mqtt", "s3", "k8s", "local/broker", "local/store", "local/runner"];
/** Shapes and rules that know neither a peer nor the core's state. */
const PURE = ["ports", "reasons", "run_spec", "topics", "payloads", "outcome"];
/** They choose and join parts; the only ones that may import an adapter. */
const WIRING = ["main", "cli", "config", "adapters", "status", "observers"];
/** Core and pure modules import none of these. */
const SDKS = /^(mqtt|aedes|@aws-sdk|@kubernetes|hono|prom-client)/;

/** `k8s/client.ts` → `k8s`: a folder belongs to the module of its name; `local/` has none, its files stand alone. */
function concernOf(module: string): string {
  const parts = module.replace(/\.tsx?$/, "").split("/");
  return parts.slice(0, parts[0] === "local" ? 2 : 1).join("/");
}

const isPure = (concern: string) => PURE.includes(concern) || concern === "util";
/** The type of a row follows from the table of columns. */
const isRow = ({ from, to, typeOnly }: Import) => typeOnly && from === "ports.ts" && to === "catalog/columns.ts";
const isCore = (concern: string) => !isPure(concern) && ![...ADAPTERS, ...WIRING].includes(concern);

async function imports(): Promise<Import[]> {
  const found = (await productModules()).map(async (from) => {
    const text = await readProject(from);
    const fixed = [...text.matchAll(/^(?:import|export)\s+(type\s)?[^;]*?from\s+"([^"]+)"/gm)]
      .map(([, type, name]) => ({ name: name!, typeOnly: type !== undefined, lazy: false }));
    const dynamic = [...text.matchAll(/\bimport\("([^"]+)"\)/g)]
      .map(([, name]) => ({ name: name!, typeOnly: false, lazy: true }));
    return [...fixed, ...dynamic].map(({ name, ...how }): Import => {
      const isOurs = name.startsWith(".") && !name.endsWith(".json");
      return { from, to: isOurs ? new URL(name, `file:///${from}`).pathname.slice(1) : name, isOurs, ...how };
    });
  });
  return (await Promise.all(found)).flat();
}

const IMPORTS = await imports();

function arrows(from: (concern: string) => boolean, allowed: (to: string, one: Import) => boolean): string[] {
  return IMPORTS.filter((one) => {
    const [own, to] = [concernOf(one.from), concernOf(one.to)];
    return one.isOurs && from(own) && own !== to && !allowed(to, one);
  }).map((one) => `${one.from} -> ${one.to}`);
}

Deno.test("zod is imported as a module: its object `z` would bring 220 KB of languages into the bundle", async () => {
  const modules = await Promise.all((await productModules()).map(async (path) => [path, await readProject(path)]));
  deepEqual(modules.filter(([, text]) => /^import (type )?\{ z \} from "zod"/m.test(text!)).map(([path]) => path), []);
});

/** Packages that are loaded with these modules, before anything of them is called. */
function packagesOf(...modules: readonly string[]): string[] {
  const seen = new Set(modules);
  // A set that grows is gone through to its end.
  for (const module of seen) {
    for (const { from, to, typeOnly, lazy } of IMPORTS) if (from === module && !typeOnly && !lazy) seen.add(to);
  }
  return [...seen].filter((name) => !/\.(tsx?|json)$|^node:/.test(name)).sort();
}

Deno.test("commands load the packages that they need, and no other: health runs every few seconds", () => {
  const common = ["main.ts", "cli.ts", "cli/terminal.ts"];
  deepEqual(packagesOf(...common, "cli/help.ts", "cli/health.ts"), ["@logtape/logtape"]);
  const table = ["cli/table.ts", "catalog.ts", "catalog/compile.ts", "catalog/policy.ts", "catalog/rules.ts"];
  deepEqual(packagesOf(...common, ...table, "adapters.ts"), ["@logtape/logtape", "yaml", "zod"]);
});

Deno.test("nothing that runs loads the shapes of payloads, which are for docs/schema/", () => {
  deepEqual(IMPORTS.filter(({ to, typeOnly }) => to === "payloads/shapes.ts" && !typeOnly), []);
});

Deno.test("the imports are found", () => {
  ok(IMPORTS.some(({ from, to }) => from === "k8s/client.ts" && to === "ports.ts"));
  ok(IMPORTS.some(({ from, to }) => from === "main.ts" && to === "cli.ts"), "import() counts");
});

Deno.test("util imports util only", () => {
  // Errors that a caller tells apart are defined with the ports.
  deepEqual(arrows((own) => own === "util", (to) => to === "ports" || to === "util"), []);
});

Deno.test("pure modules import pure modules only", () => {
  deepEqual(arrows(isPure, (to, one) => isPure(to) || isRow(one)), []);
});

Deno.test("adapters import ports and pure modules only", () => {
  deepEqual(arrows((own) => ADAPTERS.includes(own), isPure), []);
});

Deno.test("the core imports the core and pure modules only", () => {
  // What the core publishes and what it is asked for belong to observers; of metrics it names a shape.
  const isObserver = (to: string, { typeOnly, to: path }: Import) =>
    to === "observers" && (typeOnly || path === "observers/event_topics.ts");
  deepEqual(arrows(isCore, (to, one) => isCore(to) || isPure(to) || isObserver(to, one)), []);
});

Deno.test("no core or pure module imports an SDK", () => {
  const found = IMPORTS.filter(({ from, to, isOurs, typeOnly }) =>
    !isOurs && !typeOnly && SDKS.test(to) && (isCore(concernOf(from)) || isPure(concernOf(from)))
  );
  deepEqual(found.map(({ from, to }) => `${from} -> ${to}`), []);
});

Deno.test("what lies in a folder is imported by its own concern only", () => {
  const shared = ["util", "local", "observers"];
  const strangers = IMPORTS.filter((one) => !isRow(one)).filter(({ from, to, isOurs }) =>
    isOurs && to.includes("/") && !shared.includes(to.split("/")[0]!) && concernOf(from) !== concernOf(to) &&
    !WIRING.includes(concernOf(from))
  );
  deepEqual(strangers.map(({ from, to }) => `${from} -> ${to}`), []);
});

Deno.test("only config.ts and main.ts read the environment and the arguments", async () => {
  const readers: string[] = [];
  for (const module of await productModules()) {
    if (/Deno\.(env|args)\b/.test(await readProject(module))) readers.push(module);
  }
  deepEqual(readers.filter((module) => !["config.ts", "main.ts"].includes(module)), []);
});

Deno.test("what a caught value says is taken by util/errors.ts, which hides secrets and cuts", async () => {
  const found: string[] = [];
  for (const module of await productModules()) {
    const text = await readProject(module);
    if (module !== "util/errors.ts" && /\bas Error\)\.message|\bcause\.message\b/.test(text)) found.push(module);
  }
  deepEqual(found, []);
});

Deno.test("the root shows the design: few files, none of them long", async () => {
  const root = [...Deno.readDirSync(PROJECT)].filter(({ name }) => /\.tsx?$/.test(name));
  ok(root.length <= 26, `${root.length} modules at the root`);
  const lengths = await Promise.all((await productModules()).map(async (module) => {
    return { module, lines: (await readProject(module)).split("\n").length - 1 };
  }));
  const long = lengths.filter(({ module, lines }) => lines > (module === "main.ts" ? 100 : 500));
  deepEqual(long.map(({ module }) => module), []);
});
