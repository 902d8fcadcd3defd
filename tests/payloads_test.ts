/** Holds docs/schema/ to payloads/shapes.ts, and that to what a running service says. */
import { deepEqual, ok } from "node:assert/strict";
import { z } from "zod";
import { PAYLOADS, payloadSchemas } from "../payloads/shapes.ts";
import { PREFIX, startEmbeddedBed } from "./harness/local_bed.ts";
import { eventually } from "./harness/wait.ts";

const FOLDER = new URL("../docs/schema/", import.meta.url);
const TABLE = `job_name,mqtt_topic,image,cpu_request,command,for_each
greet,lab/greet,none,,sh -c 'echo hello',
after,${PREFIX}/job_complete/greet,none,,true,
fail,lab/fail,none,,sh -c 'exit 3',
long,lab/long,none,,sleep 60,
loop,${PREFIX}/job_complete/loop,none,,true,
empty,lab/empty,none,,,
broken,lab/broken,none,four,true,
files,lab/files,none,,sh -c 'exit 3',payload.files
`;

Deno.test("docs/schema/ is what payloadSchemas() gives", async () => {
  const schemas = payloadSchemas();
  for (const [name, schema] of Object.entries(schemas)) {
    const file = new URL(`${name}.schema.json`, FOLDER);
    if (Deno.env.get("UPDATE_SCHEMAS")) await Deno.writeTextFile(file, JSON.stringify(schema, undefined, 2) + "\n");
    deepEqual(JSON.parse(await Deno.readTextFile(file)), JSON.parse(JSON.stringify(schema)), name);
  }
  const files = [...Deno.readDirSync(FOLDER)].map(({ name }) => name.replace(".schema.json", ""));
  deepEqual(files.sort(), [...Object.keys(schemas), "row"].sort());
});

Deno.test("docs/table.md links the schema of each payload", async () => {
  const page = await Deno.readTextFile(new URL("../docs/table.md", import.meta.url));
  deepEqual(Object.keys(PAYLOADS).filter((name) => !page.includes(`(schema/${name}.schema.json)`)), []);
});

/** Name of the schema of a message below the prefix. */
function nameOf(word: string): string {
  const [first = "", ...rest] = word.split("/");
  if (first === "request" || first === "response") return `${first}.${rest[0]}`;
  return first === "ERROR" ? "error" : first;
}

/** What a schema's file has against a payload, and fields that no file names. */
async function faultsOf(name: string, payload: unknown): Promise<string[]> {
  if (!Object.hasOwn(PAYLOADS, name)) return [`there is no schema ${name}`];
  const file = await Deno.readTextFile(new URL(`${name}.schema.json`, FOLDER));
  const read = z.fromJSONSchema(JSON.parse(file)).safeParse(payload);
  if (!read.success) return [`${name}: ${read.error.message}`];
  const named = PAYLOADS[name as keyof typeof PAYLOADS].shape.safeParse(payload);
  if (!named.success) return [`${name}: ${named.error.message}`];
  try {
    deepEqual(named.data, payload);
    return [];
  } catch (error) {
    return [`${name} has a field that no schema names: ${(error as Error).message}`];
  }
}

Deno.test("a schema refuses what the service never says", async () => {
  ok((await faultsOf("state", "away")).length > 0);
  ok((await faultsOf("job_complete", { status: "succeeded", job_name: "greet" })).length > 0);
  ok((await faultsOf("request.cancel", {})).length > 0);
  ok((await faultsOf("request.run", { job_name: "greet", colour: "red" })).length > 0);
});

const options = { sanitizeOps: false, sanitizeResources: false };

Deno.test("all that a service says below its prefix is as the schemas have it", options, async () => {
  const said: { name: string; payload: unknown }[] = [];
  await using bed = await startEmbeddedBed({
    table: TABLE,
    maxChainDepth: 1,
    info: { version: "1", replica: "a", cluster: "local", config: { MQTT_URL: "mqtt://x" } },
    onMessage(topic, text) {
      const name = nameOf(topic.slice(PREFIX.length + 1));
      said.push({ name, payload: name === "state" ? text : JSON.parse(text) });
    },
  });
  const { client } = bed;
  const heard = (name: string, fits: (payload: Record<string, unknown>) => boolean = () => true) =>
    eventually(() => said.find((one) => one.name === name && fits(one.payload as Record<string, unknown>)));
  const ask = async (what: string, asked: object) => {
    const transaction = crypto.randomUUID();
    await client.publishAsync(`${PREFIX}/request/${what}`, JSON.stringify({ ...asked, transaction }), { qos: 1 });
    const { payload } = await heard(`response.${what}`, (answer) => answer["transaction"] === transaction);
    return payload as { data?: { run_name: string } };
  };
  await client.publishAsync("lab/greet", '{"name":"Ada"}', { qos: 1 });
  await client.publishAsync("lab/fail", "", { qos: 1 });
  await client.publishAsync("lab/empty", "", { qos: 1 });
  await ask("refresh", {});
  await ask("check", {});
  await ask("run", { job_name: "loop", payload: { a: 1 } });
  const long = (await ask("run", { job_name: "long" })).data?.run_name ?? "";
  await ask("cancel", { run_name: long });
  await heard("job_failed", ({ run_name }) => run_name === long);
  const again = (await ask("rerun", { run_name: long })).data?.run_name ?? "";
  await ask("cancel", { run_name: again });
  await ask("cancel", { run_name: "nobody" });
  await ask("each", { job_name: "greet", sheet: "name\nEve\nBob,x\n", batch: "b1" });
  await ask("each", { job_name: "nobody", sheet: "name\n" });
  await client.publishAsync("lab/files", '{"files":[]}', { qos: 1 });
  await client.publishAsync("lab/files", '{"files":["a","b"]}', { qos: 1 });
  await heard("group_complete", ({ total }) => total === 0);
  await heard("group_failed", ({ failed }) => failed === 2);
  await heard("job_failed", ({ item }) => item === "b");
  await heard("job_complete", ({ job_name }) => job_name === "after");
  await heard("job_failed", ({ job_name }) => job_name === "fail");
  await heard("job_failed", ({ reason }) => reason === "Refused");
  await heard("error", ({ reason }) => reason === "ChainTooDeep");
  await ask("replay", { job_name: "fail", since: "1h", dry_run: true });
  await ask("replay", { job_name: "fail", since: "1h" });
  await bed.stopService();
  await heard("state", (payload) => payload as unknown === "offline");
  const names = new Set(said.map(({ name }) => name));
  deepEqual(Object.keys(PAYLOADS).filter((name) => !names.has(name)), [], "none of these was heard");
  deepEqual((await Promise.all(said.map(({ name, payload }) => faultsOf(name, payload)))).flat(), []);
});
