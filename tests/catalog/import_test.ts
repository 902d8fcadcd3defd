/**
 * catalog/import.ts: manifests in the manner of those that people have become rows, the rows are read as a table, Jobs
 * are built of them, and these mean what the manifests meant.
 */
import { deepEqual, equal, match, notDeepEqual, ok } from "node:assert/strict";
import fc from "fast-check";
import { parseAllDocuments } from "yaml";
import {
  describeFinding,
  type Imported,
  importedCsv,
  importedTemplates,
  importManifests,
} from "../../catalog/import.ts";
import { escapeBraces, quoteWords } from "../../catalog/import/cells.ts";
import { parseCommand } from "../../catalog/cells/command.ts";
import { parseTemplate, plainText } from "../../catalog/cells/template.ts";
import { buildJob } from "../../k8s/manifest.ts";
import { parsePodTemplates } from "../../k8s/pod_templates.ts";
import type { Row, RunSpec } from "../../ports.ts";
import { jobMeaning, pairsMeaning, podMeaning } from "./import_kit.ts";
import { PREFIX, read } from "./kit.ts";

// deno-lint-ignore no-explicit-any
type Any = any;

const FOLDER = new URL("../data/manifests/", import.meta.url);
const OPTIONS = { topic: "lab/{name}", topicPrefix: PREFIX };

function imported(text: string, name = "x.yaml"): Imported {
  return importManifests([{ name, text }], OPTIONS);
}

/** The same, of a Job with this pod's spec. */
function importedPod(spec: Any, more: Any = {}, metadata: Any = {}): Imported {
  const template = { spec: { restartPolicy: "Never", ...spec } };
  const job = { apiVersion: "batch/v1", kind: "Job", metadata: { name: "a", ...metadata } };
  return imported(JSON.stringify({ ...job, spec: { backoffLimit: 0, template, ...more } }));
}

const container = (more: Any = {}) => ({ containers: [{ name: "c", image: "x:1", ...more }] });

const told = ({ findings }: Imported) => findings.map(describeFinding);
const cells = ({ rows }: Imported) => {
  const { job_name: _, mqtt_topic: __, image: ___, ...rest } = rows[0]!.cells;
  return rest;
};

// ---------------------------------------------------------------- round trip

/** What `explain` shows: the Job of the row over its template, as the operator's file has it. */
function jobOf(row: Row, { templates }: Imported): Any {
  const spec: RunSpec = {
    runName: "a-run",
    row,
    message: { topic: row.mqttTopic, payload: new TextEncoder().encode("{}") },
    messageHash: "mmmmmmmmmmmm",
    root: "rootrootroot",
    rootRun: "a-run",
    chainDepth: 0,
    receivedAt: new Date(0),
  };
  const read = parsePodTemplates({ "templates.yaml": importedTemplates(templates) }, { allowPrivileged: true });
  deepEqual(read.faults, []);
  return buildJob(spec, { namespace: "lab", instance: "a", ttlSecondsAfterFinished: 60, templates: () => read });
}

/** The workloads of a file, lists taken apart. */
function workloadsOf(text: string): Any[] {
  return parseAllDocuments(text).map((document) => document.toJS() as Any)
    .flatMap((object) => object.kind === "List" ? object.items : [object])
    .filter(({ kind }) => ["Job", "CronJob", "Pod", "PodTemplate"].includes(kind));
}

/** A Job's spec, its metadata and its pod's, of any kind. */
function partsOf(object: Any): { spec: Any; metadata: Any } {
  if (object.kind === "Job") return { spec: object.spec, metadata: object.metadata };
  if (object.kind === "CronJob") {
    return { spec: object.spec.jobTemplate.spec, metadata: object.spec.jobTemplate.metadata ?? {} };
  }
  if (object.kind === "PodTemplate") return { spec: { template: object.template }, metadata: {} };
  const { activeDeadlineSeconds, ...spec } = structuredClone(object.spec);
  if (object.status) {
    // What the cluster put into a pod that was printed from it.
    delete spec.nodeName;
    spec.tolerations = spec.tolerations?.filter(({ tolerationSeconds }: Any) => tolerationSeconds !== 300);
    const isToken = ({ name }: Any) => name.startsWith("kube-api-access-");
    spec.volumes = spec.volumes?.filter((volume: Any) => !isToken(volume));
    for (const one of spec.containers) one.volumeMounts = one.volumeMounts?.filter((mount: Any) => !isToken(mount));
  }
  return { spec: { activeDeadlineSeconds, template: { metadata: object.metadata, spec } }, metadata: object.metadata };
}

function meaningOf({ spec, metadata }: { spec: Any; metadata: Any }, kind: string, mainName: string): Any {
  const { template } = spec;
  return {
    job: jobMeaning(spec, kind === "Pod" || kind === "PodTemplate"),
    pod: podMeaning(template, mainName),
    labels: pairsMeaning(metadata.labels, template.metadata?.labels),
    annotations: pairsMeaning(metadata.annotations, template.metadata?.annotations),
  };
}

/** Columns that no Job shows. */
const NOT_OF_JOBS = /^(job_name|mqtt_topic|image|schedule|time_zone|enabled|max_runs|when_busy)$/;

/** Fields of a Job that the comparison knows; each other one must be told. */
const COMPARED = new Set([
  "template",
  "parallelism",
  "completions",
  "completionMode",
  "backoffLimit",
  "activeDeadlineSeconds",
  "manualSelector",
  "podReplacementPolicy",
]);

interface Tried {
  readonly name: string;
  readonly columns: number;
  /** What only the pod template says; empty: there is none. */
  readonly template: readonly string[];
  readonly errors: number;
  readonly warnings: number;
  readonly notes: number;
}

const files = [...Deno.readDirSync(FOLDER)].map(({ name }) => name).sort();
const tried: Tried[] = [];

for (const file of files) {
  Deno.test(`the rows made of ${file} start the pods that it says`, async () => {
    const text = await Deno.readTextFile(new URL(file, FOLDER));
    const result = imported(text, file);
    // As the table and the operator's file would have them.
    const table = read(importedCsv(result.rows));
    deepEqual(table.problems.filter(({ severity }) => severity === "error"), []);
    const printed = parseAllDocuments(importedTemplates(result.templates)).map((one) => one.toJS());
    deepEqual(printed, JSON.parse(JSON.stringify(result.templates)));
    const originals = workloadsOf(text);
    equal(table.rows.length, originals.length);
    for (const [at, original] of originals.entries()) {
      const row = table.rows[at]!;
      const { cells } = result.rows[at]!;
      const parts = partsOf(original);
      const containers = parts.spec.template.spec.containers;
      const mainName = (containers.find(({ name }: Any) => name === "main") ?? containers[0]).name;
      const meaning = (row: Row) => {
        const { spec, metadata } = jobOf(row, result);
        return meaningOf({ spec, metadata }, "Job", "main");
      };
      const expected = meaningOf(parts, original.kind, mainName);
      deepEqual(meaning(row), expected);
      mustBeTold(result, original, parts);
      // The comparison sees each cell and the template: without one of them the Job is another.
      for (const column of Object.keys(cells).filter((name) => !NOT_OF_JOBS.test(name))) {
        const { [column]: _, ...left } = cells;
        const [other] = read(importedCsv([{ ...result.rows[at]!, cells: left }])).rows;
        if (other === undefined) continue; // the table refuses the row without it
        notDeepEqual(meaning(other), expected, `${row.jobName} without ${column}`);
      }
      const own = result.findings.filter(({ object }) => object?.includes(JSON.stringify(row.jobName)));
      const count = (severity: string) => own.filter((finding) => finding.severity === severity).length;
      tried.push({
        name: row.jobName,
        columns: Object.keys(cells).length,
        template: partsOfTemplate(result, cells["pod_template"]),
        errors: count("error"),
        warnings: count("warning"),
        notes: count("note"),
      });
    }
  });
}

function partsOfTemplate({ templates }: Imported, name: string | undefined): string[] {
  const template: Any = templates.find(({ metadata }) => metadata.name === name)?.template;
  if (!template) return [];
  const { containers: [main] = [{}], ...spec } = template.spec;
  const { name: _, ...own } = main;
  return [...new Set([...Object.keys(template.metadata ?? {}), ...Object.keys(spec), ...Object.keys(own)])]
    .filter((field) => field !== "volumes" || !("volumeMounts" in own)).sort().map((field) => `\`${field}\``);
}

/** What no comparison can find, for the service has nothing of the kind, has to be said. */
function mustBeTold(result: Imported, original: Any, { spec }: { spec: Any }): void {
  const paths = result.findings.map(({ path = "" }) => path);
  const isTold = (word: string) => ok(paths.some((path) => path.includes(word)), `${word} is silently dropped`);
  const isPrinted = original.metadata.uid !== undefined;
  for (const [field, value] of Object.entries(spec)) {
    if (COMPARED.has(field) || value === false || value === undefined || isPrinted && field === "selector") continue;
    isTold(field);
  }
  if (original.kind === "CronJob") {
    const inCells = ["jobTemplate", "schedule", "timeZone", "concurrencyPolicy"];
    for (const field of Object.keys(original.spec)) if (!inCells.includes(field)) isTold(field);
  }
  for (const { name } of spec.template.spec.containers[0].env ?? []) {
    if (/^(JOB_NAME|RUN_NAME|RESULT_FILE|MQTT_|PAYLOAD_)/.test(name)) isTold(name);
  }
  for (const { name } of spec.template.spec.containers.slice(1)) isTold(name);
  const { terminationMessagePolicy: policy } = spec.template.spec.containers[0];
  if (policy !== undefined && policy !== "File") isTold("terminationMessagePolicy");
  for (const key of Object.keys(original.metadata.labels ?? {})) {
    if (/^app\.kubernetes\.io\/(managed-by|instance)$/.test(key)) isTold(key);
  }
  if (original.metadata.namespace) isTold("namespace");
}

Deno.test("docs/import.md has the table of the manifests that were tried", async () => {
  ok(tried.length >= 40, `${tried.length} workloads`);
  const isAlone = ({ template }: Tried) => template.length === 0;
  const alone = tried.filter(isAlone).length;
  const lab = tried.filter(({ name }) => name.startsWith("lab-"));
  const lines = tried.map(({ name, columns, template, errors, warnings, notes }) =>
    `| ${name} | ${columns} | ${template.join(", ")} | yes | ${errors} | ${warnings} | ${notes} |`
  );
  const rendered = [
    "| Manifest | Cells | What only its pod template says | Equal | Errors | Warnings | Notes |",
    "| --- | --- | --- | --- | --- | --- | --- |",
    ...lines,
    "",
    `${tried.length} workloads, all equal: ${alone} in columns alone, ${tried.length - alone} with a pod template. ` +
    `Of the ${lab.length} in the manner of the lab ${lab.filter(isAlone).length} need columns alone.`,
  ].join("\n");
  console.log(rendered);
  const page = new URL("../../docs/import.md", import.meta.url);
  const text = await Deno.readTextFile(page);
  const [begin, end] = ["<!-- round trip -->", "<!-- end of round trip -->"];
  const [from, to] = [text.indexOf(begin) + begin.length, text.indexOf(end)];
  ok(from >= begin.length && to > from, `docs/import.md needs the marks ${begin} and ${end}`);
  if (Deno.env.get("UPDATE_DOCS")) {
    await Deno.writeTextFile(page, `${text.slice(0, from)}\n\n${rendered}\n\n${text.slice(to)}`);
    return;
  }
  const plain = (text: string) => text.replace(/-{3,}/g, "---").replace(/\s+/g, " ").trim();
  equal(
    plain(text.slice(from, to)),
    plain(rendered),
    "UPDATE_DOCS=1 deno test -A tests/catalog/import_test.ts && deno fmt",
  );
});

// ---------------------------------------------------------------- cells

Deno.test("a cell has the shortest notation that means the same", async (t) => {
  const cases: readonly (readonly [what: string, spec: Any, expected: Record<string, string>])[] = [
    ["words without quotes", container({ command: ["python", "a.py", "--x=1"] }), { command: "python a.py --x=1" }],
    ["words with quotes", container({ args: ["", "a b", "it's", 'say "x"'] }), { args: `'' 'a b' "it's" 'say "x"'` }],
    ["no request that is its limit", container({ resources: { limits: { cpu: 2 }, requests: { cpu: "2" } } }), {
      cpu_limit: "2",
    }],
    ["no default", {
      ...container({ imagePullPolicy: "IfNotPresent", terminationMessagePolicy: "File", stdin: false }),
      dnsPolicy: "ClusterFirst",
      securityContext: {},
    }, {}],
    ["a pull policy that is not the default", container({ image: "x", imagePullPolicy: "IfNotPresent" }), {
      image_pull_policy: "IfNotPresent",
    }],
    ["a GPU by its model", {
      ...container({ resources: { limits: { "nvidia.com/gpu": 1 } } }),
      nodeSelector: { "nvidia.com/gpu.product": "NVIDIA-A10" },
    }, { gpu: "1", gpu_product: "NVIDIA-A10" }],
    ["a model without a GPU is a rule for nodes", {
      ...container(),
      nodeSelector: { "nvidia.com/gpu.product": "NVIDIA-A10" },
    }, { node_selector: "nvidia.com/gpu.product=NVIDIA-A10" }],
    ["text that looks like a placeholder", container({ args: ["{payload.x}", "{index", "{other}"] }), {}],
    ["text that looks like a placeholder, closed", container({ args: ["{payload.x}", "{other}"] }), {
      args: `'{{payload.x}}' '{other}'`,
    }],
    ["a script with what looks like a placeholder", container({ command: ["sh", "-c", "awk '{index}'"] }), {
      command: "sh -c",
      args: `"awk '{{index}}'"`,
    }],
    ["dollars that Kubernetes takes away", container({ args: ["$$HOME", "$(date)", "$5"] }), {
      args: "'$HOME' '$(date)' '$5'",
    }],
    ["the user of the one container", container({ securityContext: { runAsUser: 7, runAsGroup: 8 } }), {
      run_as: "7:8",
    }],
  ];
  for (const [what, spec, expected] of cases) {
    await t.step(what, () => {
      const { pod_template: _, ...rest } = cells(importedPod(spec)) as Any;
      deepEqual(rest, expected);
    });
  }
});

Deno.test("words and texts are read back as they were", () => {
  fc.assert(fc.property(fc.array(fc.string({ unit: "grapheme" })), (words) => {
    deepEqual((parseCommand(quoteWords(words)) as Any).words, words);
  }));
  const piece = fc.constantFrom("{", "}", "{{", "payload", "index", ".a", "[0]", "=x", " ", "item", "a", "$");
  fc.assert(fc.property(fc.array(piece), (pieces) => {
    const text = pieces.join("");
    const parsed = parseTemplate(escapeBraces(text));
    // An opening without its end has no notation; the importer finds that out by reading back.
    if ("fault" in parsed) match(parsed.fault, /not closed/);
    else equal(plainText(parsed.template), text);
  }));
});

Deno.test("octal modes and yes are read as Kubernetes reads them, dates and words are texts", () => {
  const { templates, rows } = imported(`apiVersion: batch/v1
kind: Job
metadata: {name: a}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: c, image: "x:1", command: [stdbuf, -e0, 12:30, 2024-01-01], volumeMounts: [{name: v, mountPath: /v, readOnly: yes}, {name: k, mountPath: /k}]}
      volumes: [{name: v, persistentVolumeClaim: {claimName: v}}, {name: k, secret: {secretName: k, defaultMode: 0400}}]
`);
  equal(rows[0]!.cells["command"], "stdbuf -e0 12:30 2024-01-01");
  equal(rows[0]!.cells["mounts"], "pvc:v:/v:ro");
  equal((templates[0]!.template as Any).spec.volumes[0].secret.defaultMode, 256);
});

Deno.test("rows that need the same template share one, and none is called default", () => {
  const job = (name: string, nodeName: string) => ({
    kind: "Job",
    metadata: { name },
    spec: { template: { spec: { ...container(), nodeName } } },
  });
  const items = [job("default", "n1"), job("b", "n1"), job("c", "n2"), job("c", "n3"), job("No Name {x}", "n4")];
  const { rows, templates, findings } = imported(JSON.stringify({ kind: "List", items }));
  deepEqual(rows.map(({ cells }) => cells["job_name"]), ["default", "b", "c", "c-2", "No Name {x}"]);
  deepEqual(rows.map(({ cells }) => cells["pod_template"]), ["default-job", "default-job", "c", "c-2", "no-name-x"]);
  equal(templates.length, 4);
  ok(findings.some(({ message }) => /another row has the name/.test(message)));
});

// ---------------------------------------------------------------- what is told

Deno.test("a value that looks like a secret is warned of and never shown", () => {
  const secret = "hunter2-hunter2";
  const env = [
    { name: "DB_PASSWORD", value: secret },
    { name: "HF_TOKEN", value: "hf_abcdefghijklmnop" },
    { name: "URL", value: `https://u:${secret}@host/` },
    { name: "TOKEN_FILE", value: "/run/token" },
    { name: "JOB_NAME", value: secret },
    { name: "KEYBOARD", value: "de" },
  ];
  const result = importedPod(container({ env }), { password: secret, extra: { token: secret } });
  const lines = told(result);
  ok(!lines.join("\n").includes(secret) && !lines.join().includes("hf_"), lines.join("\n"));
  const warned = result.findings.filter(({ severity }) => severity === "warning").map(({ path }) => path);
  deepEqual(warned.map((path) => path?.split(" ").at(-1)), ["DB_PASSWORD", "HF_TOKEN", "URL"]);
  ok(lines.some((line) => /DB_PASSWORD=secret:name\/db-password/.test(line)));
  ok(lines.some((line) => /^error: .*env JOB_NAME: the service sets this variable/.test(line)));
  for (const field of ["password", "extra"]) ok(lines.some((line) => line.includes(`spec.${field}: neither`)));
});

Deno.test("what cannot be a row is one sentence each", async (t) => {
  const cases: readonly (readonly [text: string, expected: RegExp])[] = [
    ["", /^error: x\.yaml: the file holds no object$/],
    ["a: [b, hunter2", /^error: x\.yaml: it is not YAML \([A-Z_]+ at line 1\); mend it/],
    ["a: {{ .Values.hunter2 }}\nb: [", /it looks like a chart's template; render it first: helm template/],
    ["- 1\n- 2", /it is no object of Kubernetes/],
    ["hunter2", /it is no object of Kubernetes/],
    ["kind: Deployment\nmetadata: {name: d}", /Deployment "d": a row runs a Job, a Pod/],
    ["kind: Job\napiVersion: batch.volcano.sh/v1alpha1", /a Job of batch.volcano.sh is no Job of batch\/v1/],
    ["kind: Secret\nmetadata: {name: s}\ndata: {a: hunter2}", /^note: .*Secret "s": nothing of it is read or shown/],
    ["kind: Kustomization", /kubectl kustomize/],
    ["metadata: {name: x}", /it has no kind/],
    ["kind: Job\nmetadata: {name: a}", /there is no container with an image, so there is no row/],
    ["kind: Job\nspec: {template: {spec: {containers: [{image: 'A B'}]}}}", /there is no row: image: not an image/],
    ["kind: Job\nspec: {template: {spec: {containers: [{image: a, env: {A: hunter2}}]}}}", /env: .*a list of objects/],
    [`kind: Job\n${"#".repeat(5_000_000)}`, /the file has more than 4194304 characters; part it/],
    [`kind: Job\nspec: ${"[".repeat(5000)}`, /nested too deeply|it is not YAML/],
    [`kind: Job\nspec: ${"{a: ".repeat(150)}1${"}".repeat(150)}`, /nested too deeply/],
    [
      `a0: &a0 [x]\n${
        Array.from({ length: 20 }, (_, at) => `a${at + 1}: &a${at + 1} [*a${at}, *a${at}, *a${at}]`).join("\n")
      }`,
      /too many of them/,
    ],
  ];
  for (const [text, expected] of cases) {
    await t.step(text.slice(0, 60), () => {
      const result = imported(text);
      deepEqual(result.rows, []);
      equal(result.findings.length, 1, told(result).join("\n"));
      match(told(result)[0]!, expected);
      ok(!told(result)[0]!.includes("hunter2"));
    });
  }
});

Deno.test("no manifest makes the import throw, and what it makes is a table without errors", async () => {
  const texts = await Promise.all(files.map((file) => Deno.readTextFile(new URL(file, FOLDER))));
  const originals = texts.flatMap(workloadsOf);
  const junk = fc.constantFrom<unknown>(
    null,
    0,
    -1,
    1.5,
    "",
    "x",
    "{payload.x}",
    "a;b\nc",
    true,
    [],
    {},
    [null],
    ["x"],
    {
      a: 1,
    },
    [{ name: "mount-1" }],
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...originals),
      fc.array(fc.tuple(fc.nat(), junk), { maxLength: 4 }),
      (original, changes) => {
        const object = structuredClone(original);
        for (const [at, value] of changes) {
          const places: [Any, string][] = [];
          const visit = (node: Any): void => {
            for (const key of Object.keys(node)) {
              places.push([node, key]);
              if (typeof node[key] === "object" && node[key] !== null) visit(node[key]);
            }
          };
          visit(object);
          const place = places[at % places.length];
          if (place) place[0][place[1]] = structuredClone(value);
        }
        const result = imported(JSON.stringify(object));
        ok(result.rows.length > 0 || result.findings.length > 0);
        if (result.rows.length > 0) {
          deepEqual(read(importedCsv(result.rows)).problems.filter(({ severity }) => severity === "error"), []);
        }
        importedTemplates(result.templates);
      },
    ),
    { numRuns: 400 },
  );
});

Deno.test("a CronJob becomes a row with its schedule and zone, switched off where it is suspended, and without a topic", async (t) => {
  const cronJob = (spec: Any) => ({
    kind: "CronJob",
    metadata: { name: "a" },
    spec: { ...spec, jobTemplate: { spec: { backoffLimit: 0, template: { spec: container() } } } },
  });
  const cases: readonly (readonly [spec: Any, cells: Any, finding?: RegExp])[] = [
    [{ schedule: "30 2 * * *", timeZone: "Europe/Berlin" }, { schedule: "30 2 * * *", time_zone: "Europe/Berlin" }],
    [{ schedule: "@hourly" }, { schedule: "@hourly" }],
    [{ schedule: "@every 1h30m" }, { schedule: "every 1h30m" }],
    [{ schedule: "TZ=Asia/Tokyo 0 4 * * MON" }, { schedule: "0 4 * * MON", time_zone: "Asia/Tokyo" }],
    [
      { schedule: "@daily", suspend: true },
      { schedule: "@daily", enabled: "no" },
      /spec\.suspend = true: the row is switched off/,
    ],
    [{ schedule: "@daily", suspend: false }, { schedule: "@daily" }],
    [{ schedule: "@daily", concurrencyPolicy: "Forbid" }, { schedule: "@daily", max_runs: "1", when_busy: "forbid" }],
    [{ schedule: "@daily", concurrencyPolicy: "Replace" }, { schedule: "@daily", max_runs: "1", when_busy: "replace" }],
    [{ schedule: "@daily", concurrencyPolicy: "Allow" }, { schedule: "@daily" }],
    [{ schedule: "0 0 30 2 *" }, { mqtt_topic: "lab/a" }, /spec\.schedule = 0 0 30 2 \*: that time never comes/],
    [{ schedule: "@daily", timeZone: "Mars/Base" }, { mqtt_topic: "lab/a" }, /the table knows no such time zone/],
    [{ schedule: "@daily", startingDeadlineSeconds: 60 }, { schedule: "@daily" }, /STARTING_DEADLINE/],
  ];
  for (const [spec, expected, finding] of cases) {
    await t.step(JSON.stringify(spec), () => {
      const result = imported(JSON.stringify(cronJob(spec)));
      const { job_name: _, image: __, ...cells } = result.rows[0]!.cells;
      deepEqual(cells, { mqtt_topic: "", ...expected });
      deepEqual(read(importedCsv(result.rows)).problems.filter(({ severity }) => severity === "error"), []);
      if (finding) {
        ok(result.findings.some((one) => finding.test(describeFinding(one))), JSON.stringify(result.findings));
      }
    });
  }
});

Deno.test("a Job that is suspended becomes a row that is switched off", () => {
  const spec = { suspend: true, backoffLimit: 0, template: { spec: container() } };
  const { rows } = imported(JSON.stringify({ kind: "Job", metadata: { name: "a" }, spec }));
  equal(rows[0]!.cells["enabled"], "no");
});

Deno.test("a policy about disruptions alone is a row's own or its cell, any other one is named", () => {
  const policy = (action: string, more: Any[] = []) => ({
    podFailurePolicy: { rules: [{ action, onPodConditions: [{ type: "DisruptionTarget" }] }, ...more] },
    podReplacementPolicy: "Failed",
  });
  const ignored = importedPod(container(), policy("Ignore"));
  deepEqual([cells(ignored), told(ignored).filter((line) => line.includes("pod"))], [{}, []]);
  const failed = importedPod(container(), policy("FailJob"));
  deepEqual(cells(failed), { rerun_after_disruption: "no" });
  const codes = importedPod(
    container(),
    policy("Ignore", [{ action: "FailJob", onExitCodes: { operator: "In", values: [1] } }]),
  );
  match(told(codes).join("\n"), /podFailurePolicy: retry_on says which exit codes/);
});
