/** Rows with the columns of real jobs on a real API server and a real node: what is accepted, and what a container gets. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import fc from "fast-check";
import { importedCsv, importedTemplates, importManifests } from "../../catalog/import.ts";
import { columns } from "../../catalog/columns.ts";
import { connectKubernetes } from "../../k8s.ts";
import { parsePodTemplates } from "../../k8s/pod_templates.ts";
import { resultOf } from "../../outcome.ts";
import type { Row } from "../../ports.ts";
import { BESIDE, messages, read } from "../catalog/kit.ts";
import { Seen } from "../conformance/cluster.ts";
import { BUSYBOX_IMAGE, startCluster } from "../harness/cluster.ts";
import { needs } from "../harness/needs.ts";
import { eventually } from "../harness/wait.ts";

const ready = await needs("cluster", "node");

const TEMPLATES = `
kind: PodTemplate
metadata: {name: cache}
template:
  spec:
    volumes: [{name: cache, emptyDir: {}}]
    initContainers:
    - name: fetch
      image: ${BUSYBOX_IMAGE}
      command: [sh, -c, echo model > /cache/model]
      volumeMounts: [{name: cache, mountPath: /cache}]
    - name: beside
      image: ${BUSYBOX_IMAGE}
      restartPolicy: Always
      command: [sh, -c, "trap 'exit 0' TERM; sleep 600 & wait"]
    containers:
    - name: main
      env: [{name: CACHE, value: /cache}, {name: RUN_NAME, value: forged}]
      volumeMounts: [{name: cache, mountPath: /cache, readOnly: true}]
---
kind: PodTemplate
metadata: {name: default}
template: {spec: {tolerations: [{operator: Exists}], terminationGracePeriodSeconds: 1}}
`;

/** The row of a table with these cells. */
function rowOf(cells: Record<string, string>): Row {
  const row = { job_name: "Real Row", mqtt_topic: "lab/+", image: BUSYBOX_IMAGE, ...cells };
  const quoted = Object.values(row).map((cell) => `"${cell.replaceAll('"', '""')}"`);
  const table = read(`${Object.keys(row).join(",")}\n${quoted.join(",")}\n`);
  ok(table.rows[0], messages(table).join("\n"));
  return table.rows[0];
}

/** What a sender may try: words of a shell, of Kubernetes, of C; and anything. */
const HOSTILE = [
  "$(id)",
  "$(MQTT_TOPIC)",
  "$$(MQTT_TOPIC)",
  "`id`",
  "'; id; '",
  '"; id; "',
  "a b\tc",
  "two\nlines",
  "-rf",
  "--",
  "${HOME}",
  "\\",
  "\\n",
  "*",
  "%s",
  "{payload.v}",
  "",
  " ",
  "ü日本👩‍🔬",
  "$".repeat(7) + "(RUN_NAME)",
];

Deno.test({
  name: "rows of real jobs on a real cluster",
  ignore: !ready,
  async fn(t) {
    await using kubernetes = await startCluster({ node: "real" });
    using cluster = await connectKubernetes({
      kubeconfig: kubernetes.kubeconfig,
      instance: "test",
      qps: 0,
      burst: 0,
      ttlSeconds: 600,
    });
    const { api } = kubernetes;
    await eventually(() => api.find("/api/v1/namespaces/default/serviceaccounts/default"));
    await using seen = new Seen(cluster, BUSYBOX_IMAGE);
    const payload = JSON.stringify({ uuid: "u-1", file: "a b.txt", mode: "fast" });

    await t.step("the API server takes the examples of every column", async () => {
      for (const { name, examples } of columns) {
        for (const example of examples) {
          if (name === "mqtt_topic") continue;
          const row = rowOf({ cpu_request: "1m", memory_request: "1Mi", ...BESIDE[name], [name]: example });
          equal(
            await cluster.create(seen.spec("", { row, payload }), { dryRun: true }),
            "created",
            `${name} ${example}`,
          );
        }
      }
    });

    await t.step("a hostile value stays one argument of a real container's shell", async () => {
      const anything = fc.string({ unit: "binary", maxLength: 20 }).filter((value) => !value.includes("\0"));
      const values = [
        ...HOSTILE,
        ...fc.sample(anything, { numRuns: 40, seed: 7 }).map((value) => value.toWellFormed()),
      ];
      const row = rowOf({
        command: `sh -c 'for word in "$@"; do printf "%s" "$word" | od -An -v -tx1 | tr -d " \\n"; echo; done' -`,
        args: values.map((_, at) => `{payload.v[${at}]}`).join(" "),
      });
      const runName = await seen.run("", { row, payload: JSON.stringify({ v: values }) });
      await seen.ended(runName);
      const { podName } = await seen.pod(runName);
      const lines = (await seen.log(podName)).split("\n").slice(0, -1);
      deepEqual(
        lines.map((hex) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.fromHex(hex))),
        values,
      );
    });

    await t.step("a container has its variables, files, folder and user", async () => {
      const data = (text: string) => btoa(text);
      await api.create("/api/v1/namespaces/default/secrets", {
        metadata: { name: "s3" },
        data: { key: data("s3cret") },
      });
      await api.create("/api/v1/namespaces/default/configmaps", { metadata: { name: "lab" }, data: { mode: "slow" } });
      const row = rowOf({
        command: `sh -c 'echo "$A|$B|$C|$D|$key|$mode"; cat /etc/key /etc/lab/mode; echo; pwd; id -u; id -g; ` +
          `touch /data/x /dev/shm/y && echo written'`,
        env:
          "A=x {payload.file}; B=secret:s3/key; C=config:lab/mode; D=field:metadata.namespace; secret:s3; config:lab",
        mounts: "secret:s3/key:/etc/key; config:lab:/etc/lab; scratch:10Mi:/data; memory:10Mi:/dev/shm",
        working_dir: "/data",
        run_as: "1000:100",
        labels: "team=imaging; file={payload.file}",
        node_selector: "kubernetes.io/os=linux",
        tolerations: "*",
        termination_grace_seconds: "1",
      });
      const runName = await seen.run("", { row, payload });
      await seen.ended(runName);
      const { podName } = await seen.pod(runName);
      deepEqual((await seen.log(podName)).split("\n"), [
        "x a b.txt|s3cret|slow|default|s3cret|slow",
        "s3cretslow",
        "/data",
        "1000",
        "100",
        "written",
        "",
      ]);
    });

    await t.step("a template's init container, sidecar and volume stand beside the row's own container", async () => {
      const templates = parsePodTemplates({ "t.yaml": TEMPLATES }, { allowPrivileged: false });
      deepEqual(templates.faults, []);
      using other = await connectKubernetes({
        kubeconfig: kubernetes.kubeconfig,
        instance: "templates",
        qps: 0,
        burst: 0,
        ttlSeconds: 600,
        templates: () => templates,
      });
      await using seen = new Seen(other, BUSYBOX_IMAGE);
      const row = rowOf({
        command: `sh -c 'cat /cache/model; echo "$CACHE $RUN_NAME"; echo "[1]" > "$RESULT_FILE"'`,
        pod_template: "cache",
      });
      const spec = seen.spec("", { row, payload });
      // What the command check --server asks.
      equal(await other.create(spec, { dryRun: true }), "created");
      equal(await other.create(spec), "created");
      equal((await seen.ended(spec.runName)).end?.type, "Complete");
      const { podName } = await seen.pod(spec.runName);
      equal(await seen.log(podName), `model\n/cache ${spec.runName}\n`);
      deepEqual(await eventually(() => resultOf(seen.podsOf(spec.runName)).result), [1]);
    });

    await t.step("the API server takes the rows that are made of manifests", async () => {
      const folder = new URL("../data/manifests/", import.meta.url);
      let templates = parsePodTemplates({}, { allowPrivileged: true });
      using importing = await connectKubernetes({
        kubeconfig: kubernetes.kubeconfig,
        instance: "import",
        qps: 0,
        burst: 0,
        ttlSeconds: 600,
        templates: () => templates,
      });
      let made = 0;
      for (const { name } of Deno.readDirSync(folder)) {
        const text = await Deno.readTextFile(new URL(name, folder));
        const result = importManifests([{ name, text }], { topic: "lab/{name}", topicPrefix: "services/lab" });
        templates = parsePodTemplates({ [name]: importedTemplates(result.templates) }, { allowPrivileged: true });
        deepEqual(templates.faults, [], name);
        for (const row of read(importedCsv(result.rows)).rows) {
          equal(await importing.create(seen.spec("", { row, payload }), { dryRun: true }), "created", row.jobName);
          made++;
        }
      }
      ok(made >= 50, `${made} rows`);
    });

    await t.step("a message that lacks a value makes no Job", async () => {
      const row = rowOf({ command: "true", args: "{payload.gone}" });
      await rejects(cluster.create(seen.spec("", { row, payload })), (error: Error) => {
        match(error.message, /args of job "Real Row" \(line 2\): \{payload\.gone\} has no value/);
        return error.name === "RefusedError";
      });
    });
  },
});
