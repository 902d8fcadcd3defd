/** Holds the direction of imports: core → ports and pure modules; adapters → ports and pure modules; wiring → all. */
import { deepStrictEqual, ok } from "node:assert/strict";

const PURE = [
  "abort",
  "bytes",
  "ports",
  "queue",
  "payloads",
  "topics",
  "graph",
  "table",
  "quantities",
  "words",
  "mqtt_words",
  "policy",
  "manifest",
  "outcome",
  "retry",
  "turns",
  "version",
];
const CORE = [
  "catalog",
  "runs",
  "records",
  "starter",
  "listener",
  "logs",
  "completion",
  "leader",
  "reports",
  "requests",
  "service",
];
const ADAPTERS = ["mqtt", "s3", "k8s", "embedded/broker", "embedded/directory", "embedded/runner"];

/** The core may name the shape of these, and log through none. */
const CORE_TYPES = ["metrics"];

async function importsOf(module: string): Promise<{ name: string; typeOnly: boolean }[]> {
  const text = await Deno.readTextFile(new URL(`../${module}.ts`, import.meta.url));
  const found = text.matchAll(/^(import|export)\s+(type\s)?[^;]*?from\s+"([^"]+)"/gm);
  const dynamic = [...text.matchAll(/\bimport\("([^"]+)"\)/g)].map(([, name]) => ({ name: name!, typeOnly: false }));
  return [...[...found].map(([, , type, name]) => ({ name: name!, typeOnly: type !== undefined })), ...dynamic];
}

function local(module: string, name: string): string {
  return new URL(name, `file:///${module}.ts`).pathname.slice(1).replace(/\.ts$/, "");
}

async function strangers(module: string, allowed: readonly string[], types: readonly string[] = []): Promise<string[]> {
  const imports = await importsOf(module);
  return imports.filter(({ name }) => name.startsWith("."))
    .map(({ name, typeOnly }) => ({ name: local(module, name), typeOnly }))
    .filter(({ name, typeOnly }) => !allowed.includes(name) && !(typeOnly && types.includes(name)))
    .map(({ name }) => `${module} -> ${name}`);
}

Deno.test("pure modules import pure modules only", async () => {
  deepStrictEqual((await Promise.all(PURE.map((module) => strangers(module, PURE)))).flat(), []);
});

Deno.test("the core imports the core, ports and pure modules only", async () => {
  deepStrictEqual(
    (await Promise.all(CORE.map((module) => strangers(module, [...CORE, ...PURE], CORE_TYPES)))).flat(),
    [],
  );
});

Deno.test("adapters import ports and pure modules only", async () => {
  const parts = [
    "embedded/podlog",
    "k8s_client",
    "k8s_config",
    "k8s_events",
    "k8s_facts",
    "k8s_watch",
    "mqtt_link",
    "mqtt_outbox",
  ];
  const allowed = [...PURE, ...parts];
  deepStrictEqual((await Promise.all([...ADAPTERS, ...parts].map((module) => strangers(module, allowed)))).flat(), []);
});

Deno.test("no core or pure module imports an SDK", async () => {
  const sdks = /^(mqtt|aedes|@aws-sdk|@kubernetes|npm:)/;
  const found = await Promise.all(
    [...CORE, ...PURE].map(async (module) =>
      (await importsOf(module)).filter(({ name, typeOnly }) => sdks.test(name) && !typeOnly)
        .map(({ name }) => `${module} -> ${name}`)
    ),
  );
  deepStrictEqual(found.flat(), []);
});

Deno.test("only config.ts reads the environment and the arguments", async () => {
  const readers: string[] = [];
  for (const folder of ["", "embedded/"]) {
    for await (const { name, isFile } of Deno.readDir(new URL(`../${folder}`, import.meta.url))) {
      if (!isFile || !name.endsWith(".ts") || name === "config.ts") continue;
      const text = await Deno.readTextFile(new URL(`../${folder}${name}`, import.meta.url));
      if (/Deno\.(env|args)\b/.test(text)) readers.push(folder + name);
    }
  }
  ok(readers.every((name) => name === "main.ts"), `these read it too: ${readers}`);
});
