/** The command `import`: files in, table and templates out, exit codes. What becomes of a manifest is tests/catalog. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { runCommand } from "../../cli.ts";
import { parseTable } from "../../catalog.ts";
import { parsePodTemplates } from "../../k8s/pod_templates.ts";

const FOLDER = new URL("../data/manifests/", import.meta.url).pathname;

async function call(words: readonly string[], stdin: string | Uint8Array = "") {
  let [out, err] = ["", ""];
  const code = await runCommand("import", words, {
    input: { env: {}, readTextFile: (path) => Deno.readTextFileSync(path) },
    write: (text) => {
      out += typeof text === "string" ? text : new TextDecoder().decode(text);
      return Promise.resolve();
    },
    tell: (line) => void (err += `${line}\n`),
    read: () => Promise.resolve(typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin),
    progress: undefined,
  });
  return { code, out, err };
}

const read = (csv: string) => parseTable(csv, { topicPrefix: "services/mqtt_job_listener" });

Deno.test("import writes a table of several files and says what to do before it is used", async () => {
  const { code, out, err } = await call([`${FOLDER}spike-sorting.yaml`, `${FOLDER}blast-array.yaml`]);
  equal(code, 0, err);
  const { rows, problems } = read(out);
  deepEqual(problems, []);
  deepEqual(rows.map(({ jobName, mqttTopic }) => [jobName, mqttTopic]), [
    ["spike-sorting", "lab/spike-sorting"],
    ["blast-array", "lab/blast-array"],
  ]);
  match(err, /warning: mqtt_topic: it is a proposal; write the topic/);
  match(err, /the secret "prp-s3-credentials" is not allowed; add the line secrets: \[prp-s3-credentials\]/);
  match(err, /2 rows, 0 pod templates, 0 errors, 2 warnings, \d notes\n$/);
});

Deno.test("import --topic gives each row its topic", async () => {
  const { out, err } = await call([`${FOLDER}several-documents.yaml`, "--topic", "x/{name}/start"]);
  deepEqual(read(out).rows.map(({ mqttTopic }) => mqttTopic), ["x/first-of-list/start", "x/second-of-list/start"]);
  ok(!err.includes("proposal"), err);
  ok(!(out + err).includes("hunter2"), "of a Secret nothing is shown");
});

Deno.test("import puts pod templates behind the table, or into the file that is named, and never over another", async () => {
  const manifest = `${FOLDER}fetch-then-run.yaml`;
  const together = await call([manifest]);
  const [csv = "", yaml = ""] = together.out.split("\n---\n");
  equal(read(`${csv}\n`).rows.length, 1);
  const isUsable = (text: string) => {
    const { byName, faults } = parsePodTemplates({ "t.yaml": text }, { allowPrivileged: false });
    deepEqual(faults, []);
    ok("template" in byName.get("fetch-then-run")!);
  };
  isUsable(yaml);
  const dir = await Deno.makeTempDir();
  try {
    const file = `${dir}/templates.yaml`;
    const apart = await call([manifest, "--templates", file]);
    equal(apart.code, 0, apart.err);
    equal(read(apart.out).rows.length, 1);
    isUsable(await Deno.readTextFile(file));
    match(apart.err, /1 pod template in .*templates\.yaml/);
    const again = await call([manifest, "--templates", file]);
    equal(again.code, 2);
    match(again.err, /Cannot write .*templates\.yaml: the file is there already; name another one/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("import --json gives rows, table, templates and findings in one object", async () => {
  const { code, out } = await call(["-", "--json"], await Deno.readTextFile(`${FOLDER}host-path.yaml`));
  equal(code, 0);
  const { rows, csv, templates, findings } = JSON.parse(out);
  equal(rows[0].job_name, "host-path");
  equal(rows[0].object, 'Job "host-path"');
  equal(rows[0].pod_template, "host-path");
  match(csv, /^job_name,mqtt_topic,image,/);
  equal(templates[0].kind, "PodTemplate");
  const texts = findings.map(({ text }: { text: string }) => text);
  ok(texts.some((text: string) => /add the line allow_privileged: true to POLICY_FILE/.test(text)), texts.join("\n"));
});

Deno.test("import ends with 1 where something could not be carried, 2 where it was called wrongly", async (t) => {
  const cases: readonly (readonly [words: readonly string[], code: number, said: RegExp])[] = [
    [[`${FOLDER}policies-of-failure.yaml`], 1, /podFailurePolicy/],
    [["-"], 1, /standard input: the file holds no object/],
    [[], 2, /JOB\.yaml… is missing/],
    [["no-such-file.yaml"], 2, /Cannot read no-such-file\.yaml: there is no such file/],
    [[`${FOLDER}cfd.yaml`, "--topic", "a/#/b"], 2, /--topic "a\/#\/b": /],
    [[`${FOLDER}cfd.yaml`, "--templates", `${FOLDER}cfd.yaml/x`, "--template"], 2, /did you mean --templates/],
    [[FOLDER], 2, /Cannot read .*manifests/],
  ];
  for (const [words, code, said] of cases) {
    await t.step(words.join(" ").replaceAll(FOLDER, ""), async () => {
      const heard = await call(words);
      equal(heard.code, code, heard.err);
      match(heard.err, said);
    });
  }
});

Deno.test("import reads UTF-16 and a byte order mark, as editors on Windows write them", async () => {
  const text = "\ufeff" + await Deno.readTextFile(`${FOLDER}plate-reader.yaml`);
  const utf16 = new Uint8Array(Uint16Array.from(text, (char) => char.charCodeAt(0)).buffer);
  for (const bytes of [utf16, new TextEncoder().encode(text)]) {
    const { code, out, err } = await call(["-"], bytes);
    equal(code, 0, err);
    equal(read(out).rows[0]?.jobName, "plate-reader");
  }
});
