/** The operator's pod templates from their files to the Job: what is read again, what a row gets, and what always wins. */
import { deepEqual, equal, match } from "node:assert/strict";
import fc from "fast-check";
import { buildJob } from "../../k8s/manifest.ts";
import { parsePodTemplates } from "../../k8s/pod_templates.ts";
import { TemplateFiles, templatesFor } from "../../k8s/template_files.ts";
import { type Row, type RunSpec, UnavailableError } from "../../ports.ts";
import { rowWith } from "../catalog/kit.ts";
import { row } from "../harness/fakes.ts";

function template(name: string, spec: unknown, metadata: unknown = {}): string {
  return JSON.stringify({ kind: "PodTemplate", metadata: { name }, template: { metadata, spec } });
}

function specOf(changes: Partial<Row> = {}): RunSpec {
  return {
    runName: "count-abcdefghijkl",
    row: row(changes),
    message: { topic: "x", payload: new TextEncoder().encode('{"uuid":"u"}') },
    messageHash: "abcdefghijkl",
    root: "rootrootroot",
    rootRun: "count-abcdefghijkl",
    chainDepth: 0,
    receivedAt: new Date(),
  };
}

function jobOf(text: string, changes: Partial<Row> = {}) {
  const templates = parsePodTemplates({ "t.yaml": text }, { allowPrivileged: true });
  deepEqual(templates.faults, []);
  const options = { namespace: "lab", instance: "lab", ttlSecondsAfterFinished: 60, templates: () => templates };
  return buildJob(specOf(changes), options).spec!.template;
}

const CACHE = template("cache", {
  initContainers: [{ name: "fetch", image: "busybox" }, { name: "log", image: "busybox", restartPolicy: "Always" }],
  containers: [{
    name: "main",
    image: "ignored",
    env: [{ name: "CACHE", value: "/cache" }, { name: "RUN_NAME", value: "forged" }],
    volumeMounts: [{ name: "cache", mountPath: "/cache" }],
    resources: { limits: { memory: "1Gi", "example.org/dongle": "1" } },
  }],
  volumes: [{ name: "cache", hostPath: { path: "/cache" } }],
  nodeSelector: { zone: "lab" },
}, { labels: { team: "imaging", "mqtt-job-listener/run": "forged" } });
const DEFAULT = template("default", { priorityClassName: "low", nodeSelector: { zone: "any", disk: "fast" } });

Deno.test("a row is laid over the template default, then over the one that it names, and its columns win", () => {
  const { metadata, spec } = jobOf(`${DEFAULT}\n---\n${CACHE}`, {
    podTemplate: "cache",
    image: "lab/sorter:3",
    memoryLimit: "8Gi",
    mounts: rowWith({ mounts: "pvc:data:/data" }).rows[0]!.mounts!,
  });
  const [main, ...others] = spec!.containers;
  equal(others.length, 0);
  equal(main!.image, "lab/sorter:3");
  deepEqual(main!.resources!.limits, { memory: "8Gi", "example.org/dongle": "1" });
  deepEqual(main!.volumeMounts!.map(({ mountPath }) => mountPath), ["/cache", "/data"]);
  deepEqual(spec!.volumes!.map(({ name }) => name), ["cache", "mount-1"]);
  deepEqual(spec!.initContainers!.map(({ name }) => name), ["fetch", "log"]);
  deepEqual([spec!.priorityClassName, spec!.nodeSelector], ["low", { zone: "lab", disk: "fast" }]);
  equal(main!.env!.find(({ name }) => name === "CACHE")!.value, "/cache");
  equal(main!.env!.find(({ name }) => name === "RUN_NAME")!.value, "count-abcdefghijkl");
  equal(metadata!.labels!["team"], "imaging");
  equal(metadata!.labels!["mqtt-job-listener/run"], "count-abcdefghijkl");
});

Deno.test("a row without a template is laid over the default, and over nothing where there is none", () => {
  equal(jobOf(DEFAULT).spec!.priorityClassName, "low");
  equal(jobOf(CACHE).spec!.initContainers, undefined);
});

Deno.test("a pod has no token of an account that nobody names", () => {
  const token = (spec: unknown, changes: Partial<Row> = {}) =>
    jobOf(template("default", spec), changes).spec!.automountServiceAccountToken;
  equal(token({ automountServiceAccountToken: true }), false);
  equal(token({ serviceAccountName: "reader" }), true);
  equal(token({ serviceAccountName: "reader", automountServiceAccountToken: false }), false);
  equal(token({}, { serviceAccount: "reader" }), true);
});

Deno.test("whatever template and row say, the service's own fields win", () => {
  const word = fc.constantFrom("Always", "OnFailure", "forged", "", "main");
  const main = fc.record({
    name: fc.constant("main"),
    env: fc.array(fc.record({ name: fc.constantFrom("JOB_NAME", "RUN_NAME", "RESULT_FILE", "A"), value: word })),
    restartPolicy: word,
    terminationMessagePath: word,
    terminationMessagePolicy: word,
    image: word,
  }, { requiredKeys: ["name"] });
  const pod = fc.record({
    restartPolicy: word,
    automountServiceAccountToken: fc.boolean(),
    containers: fc.array(main, { maxLength: 1 }),
    hostNetwork: fc.boolean(),
  }, { requiredKeys: [] });
  const labels = fc.dictionary(fc.constantFrom("mqtt-job-listener/run", "app.kubernetes.io/managed-by", "x"), word);
  const rows = fc.record({ runAs: fc.constant({ user: 7 }), workingDir: fc.constant(["/w"]), gpu: fc.nat(3) }, {
    requiredKeys: [],
  });
  const metadata = fc.record({ labels, annotations: labels }, { requiredKeys: [] });
  fc.assert(fc.property(pod, pod, metadata, rows, (first, second, meta, changes) => {
    const text = `${template("default", first, meta)}\n---\n${template("t", second, meta)}`;
    const built = jobOf(text, { ...changes, podTemplate: "t" });
    const plain = jobOf(template("other", {}), changes);
    const [own, container] = [plain.spec!.containers[0]!, built.spec!.containers[0]!];
    equal(built.spec!.restartPolicy, "Never");
    equal(built.spec!.automountServiceAccountToken, false);
    equal(built.spec!.containers.length, 1);
    for (const [name, value] of Object.entries(plain.metadata!.labels!)) equal(built.metadata!.labels![name], value);
    for (const { name, value } of own.env!) {
      deepEqual(container.env!.filter((one) => one.name === name).map((one) => one.value), [value]);
    }
    for (const field of ["image", "name", "terminationMessagePath", "terminationMessagePolicy"] as const) {
      equal(container[field], own[field]);
    }
    equal((container as { restartPolicy?: string }).restartPolicy, undefined);
  }));
});

Deno.test("templatesFor() says why a row cannot use its template", async (t) => {
  const good = parsePodTemplates({ "t.yaml": CACHE }, { allowPrivileged: true });
  const commanding = template("default", { containers: [{ name: "main", command: ["sh", "-c"] }] });
  const cases: [string, Parameters<typeof templatesFor>, RegExp][] = [
    ["there is none", [{ podTemplate: "cash" }, good], /^there is no pod template "cash"; there are cache$/],
    ["it is wrong", [
      { podTemplate: "cache" },
      parsePodTemplates({ "t.yaml": CACHE }, { allowPrivileged: false }),
    ], /^the pod template "cache" cannot be used: .*allow_privileged: true/],
    ["its file is wrong", [
      { podTemplate: "b" },
      parsePodTemplates({ "t.yaml": CACHE, "u.yaml": "{" }, { allowPrivileged: true }),
    ], /u\.yaml, document 1: it is not YAML .*may hold the pod template "default"/],
    ["its command is not checked with the row's args", [
      { args: [["x"]] },
      parsePodTemplates({ "t.yaml": commanding }, { allowPrivileged: false }),
    ], /write both into the row/],
    ["its volume is called as the row's", [
      {},
      parsePodTemplates({ "t.yaml": template("default", { volumes: [{ name: "disk" }] }) }, { allowPrivileged: false }),
    ], /rows have volumes called "disk"/],
  ];
  for (const [name, args, words] of cases) {
    await t.step(name, () => match((templatesFor(...args) as { fault: string }).fault, words));
  }
});

Deno.test("TemplateFiles reads a file or folder again when it has changed, and says what cannot be read", async () => {
  await inFolder(async (dir) => {
    const files = new TemplateFiles(dir, { allowPrivileged: false });
    equal(await files.refresh(), true);
    equal(await files.refresh(), false);
    match(files.faultOf(row({ podTemplate: "a" }))!, /^there is no pod template "a"; see POD_TEMPLATES$/);
    await Deno.writeTextFile(`${dir}/a.yaml`, template("a", {}));
    await Deno.writeTextFile(`${dir}/notes.txt`, "no template");
    equal(await files.refresh(), true);
    equal(files.faultOf(row({ podTemplate: "a" })), undefined);
    const gone = new TemplateFiles(`${dir}/none`, { allowPrivileged: false });
    equal(await gone.refresh(), true);
    match(gone.faultOf(row())!, /^Cannot read POD_TEMPLATES .*none: .*may hold the pod template "default"$/);
  });
});

Deno.test("buildJob() waits with a run whose template has vanished since the table was checked", () => {
  const templates = () => parsePodTemplates({}, { allowPrivileged: false });
  const options = { namespace: "lab", instance: "lab", ttlSecondsAfterFinished: 60, templates };
  try {
    buildJob(specOf({ podTemplate: "gone" }), options);
    throw new Error("not refused");
  } catch (error) {
    equal(error instanceof UnavailableError, true);
    match((error as Error).message, /Cannot make a Job of "count": there is no pod template "gone"/);
  }
});

async function inFolder(work: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "templates-" });
  try {
    await work(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}
