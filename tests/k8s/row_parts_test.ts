/** k8s/row_parts.ts: what each column puts into the Job. */
import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { buildJob, unescapeDollars } from "../../k8s/manifest.ts";
import type { Row, RunSpec } from "../../ports.ts";
import { runNameFor } from "../../run_spec.ts";
import { read } from "../catalog/kit.ts";

/** The row of a table with these cells, free of problems. */
function rowOf(cells: Record<string, string>): Row {
  const row: Record<string, string> = { job_name: "Sort", mqtt_topic: "lab/+", image: "sort:1", ...cells };
  const quoted = Object.values(row).map((cell) => `"${cell.replaceAll('"', '""')}"`);
  const table = read(`${Object.keys(row).join(",")}\n${quoted.join(",")}\n`);
  deepEqual(table.problems, []);
  return table.rows[0]!;
}

function jobOf(cells: Record<string, string>, payload: unknown = {}) {
  const run: RunSpec = {
    runName: "sort-abcdefghijkl",
    row: rowOf(cells),
    message: { topic: "lab/a", payload: new TextEncoder().encode(JSON.stringify(payload)) },
    messageHash: "mmmmmmmmmmmm",
    root: "rootrootroot",
    rootRun: "sort-abcdefghijkl",
    chainDepth: 0,
    receivedAt: new Date(0),
  };
  const job = buildJob(run, { namespace: "lab", instance: "lab-a", ttlSecondsAfterFinished: 60 });
  const pod = job.spec!.template.spec!;
  return { job, pod, container: pod.containers[0]! };
}

Deno.test("args become the container's args, each placeholder within its word", () => {
  const value = "a 'b' \"c\"\n$(MQTT_PAYLOAD) $HOME `id`; rm -rf /";
  const { container } = jobOf(
    { command: `sh -c 'sort "$1"' -`, args: "{payload.file} --mode={payload.mode=fast}" },
    { file: value },
  );
  deepEqual(container.command?.map(unescapeDollars), ["sh", "-c", 'sort "$1"', "-"]);
  deepEqual(container.args?.map(unescapeDollars), [value, "--mode=fast"]);
  // Kubernetes expands $(NAME): a doubled $ is the character.
  ok(container.args?.every((word) => !/(^|[^$])(\$\$)*\$\(/.test(word)));
  deepEqual(jobOf({ args: "-v" }).container.args, ["-v"]);
});

Deno.test("a run whose message lacks what a placeholder names is refused", () => {
  throws(() => jobOf({ args: "{payload.file}" }), { name: "RefusedError", message: /column args .* no "file"/ });
});

Deno.test("env follows the service's own variables", () => {
  const { container } = jobOf({
    env: "A=x {payload.n}; B=secret:s3/key; C=config:lab/mode; D=field:spec.nodeName; E=field:limits.memory; " +
      "secret:all; config:all",
  }, { n: "$(A)" });
  const env = container.env!;
  equal(env.find(({ name }) => name === "JOB_NAME")?.value, "Sort");
  deepEqual(env.slice(-5), [
    { name: "A", value: "x $$(A)" },
    { name: "B", valueFrom: { secretKeyRef: { name: "s3", key: "key" } } },
    { name: "C", valueFrom: { configMapKeyRef: { name: "lab", key: "mode" } } },
    { name: "D", valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } } },
    { name: "E", valueFrom: { resourceFieldRef: { resource: "limits.memory" } } },
  ]);
  deepEqual(container.envFrom, [{ secretRef: { name: "all" } }, { configMapRef: { name: "all" } }]);
});

Deno.test("mounts share the volume of one object, beside the disk", () => {
  const { pod, container } = jobOf({
    disk_mount: "/tmp",
    disk_limit: "1Gi",
    mounts:
      "pvc:data/raw:/raw:ro; pvc:data:/data; secret:s3/key:/etc/key; config:lab:/etc/lab; memory:8Gi:/dev/shm; scratch:/s",
  });
  deepEqual(pod.volumes, [
    { name: "disk", emptyDir: { sizeLimit: "1Gi" } },
    { name: "mount-1", persistentVolumeClaim: { claimName: "data" } },
    { name: "mount-2", secret: { secretName: "s3", items: [{ key: "key", path: "key" }] } },
    { name: "mount-3", configMap: { name: "lab" } },
    { name: "mount-4", emptyDir: { medium: "Memory", sizeLimit: "8Gi" } },
    { name: "mount-5", emptyDir: {} },
  ]);
  deepEqual(container.volumeMounts, [
    { name: "disk", mountPath: "/tmp" },
    { name: "mount-1", mountPath: "/raw", subPath: "raw", readOnly: true },
    { name: "mount-1", mountPath: "/data" },
    { name: "mount-2", mountPath: "/etc/key", subPath: "key", readOnly: true },
    { name: "mount-3", mountPath: "/etc/lab", readOnly: true },
    { name: "mount-4", mountPath: "/dev/shm" },
    { name: "mount-5", mountPath: "/s" },
  ]);
});

Deno.test("keys that are mounted one by one are listed, so that a missing one is no empty folder", () => {
  const { pod, container } = jobOf({
    mounts: "config:lab/a:/a; config:lab/b:/b; config:lab/a:/again; config:lab:/all",
  });
  deepEqual(pod.volumes, [
    { name: "mount-1", configMap: { name: "lab", items: [{ key: "a", path: "a" }, { key: "b", path: "b" }] } },
    { name: "mount-2", configMap: { name: "lab" } },
  ]);
  deepEqual(container.volumeMounts?.map(({ name, subPath }) => [name, subPath]), [
    ["mount-1", "a"],
    ["mount-1", "b"],
    ["mount-1", "a"],
    ["mount-2", undefined],
  ]);
});

Deno.test("placement follows selector, preference, tolerations and GPU models", () => {
  const { pod, container } = jobOf({
    gpu: "1",
    gpu_product: "NVIDIA-A10, NVIDIA-L4",
    resources: "rdma/ib=2; hugepages-2Mi=96Mi",
    memory_request: "1Gi",
    node_selector: "zone=lab, !spot, cores>11",
    node_preference: "fast",
    tolerations: "nvidia.com/gpu; lab=x:NoSchedule; *",
  });
  deepEqual(pod.affinity?.nodeAffinity, {
    requiredDuringSchedulingIgnoredDuringExecution: {
      nodeSelectorTerms: [{
        matchExpressions: [
          { key: "nvidia.com/gpu.product", operator: "In", values: ["NVIDIA-A10", "NVIDIA-L4"] },
          { key: "zone", operator: "In", values: ["lab"] },
          { key: "spot", operator: "DoesNotExist" },
          { key: "cores", operator: "Gt", values: ["11"] },
        ],
      }],
    },
    preferredDuringSchedulingIgnoredDuringExecution: [
      { weight: 1, preference: { matchExpressions: [{ key: "fast", operator: "Exists" }] } },
    ],
  });
  deepEqual(pod.tolerations, [
    { key: "nvidia.com/gpu", operator: "Exists" },
    { key: "lab", operator: "Equal", value: "x", effect: "NoSchedule" },
    { operator: "Exists" },
  ]);
  const devices = { "nvidia.com/gpu": "1", "rdma/ib": "2", "hugepages-2Mi": "96Mi" };
  deepEqual(container.resources, { requests: { memory: "1Gi", ...devices }, limits: devices });
});

Deno.test("the other columns stand where Kubernetes has them", () => {
  const { job, pod, container } = jobOf({
    working_dir: "/data/{payload.id}",
    run_as: "1000:100",
    image_pull_policy: "always",
    image_pull_secret: "one; two",
    service_account: "runner",
    priority_class: "low",
    runtime_class: "nvidia",
    termination_grace_seconds: "0",
    queue: "lab-queue",
    labels: "team=x; example.org/id={payload.id}",
    annotations: "example.org/note=a b {payload.id}",
  }, { id: "a b" });
  equal(container.workingDir, "/data/a b");
  equal(container.imagePullPolicy, "Always");
  deepEqual(pod.securityContext, {
    seccompProfile: { type: "RuntimeDefault" },
    runAsUser: 1000,
    runAsGroup: 100,
    fsGroup: 100,
  });
  deepEqual(pod.imagePullSecrets, [{ name: "one" }, { name: "two" }]);
  equal(pod.serviceAccountName, "runner");
  equal(pod.automountServiceAccountToken, true);
  equal(pod.priorityClassName, "low");
  equal(pod.runtimeClassName, "nvidia");
  equal(pod.terminationGracePeriodSeconds, 0);
  equal(job.metadata?.labels?.["kueue.x-k8s.io/queue-name"], "lab-queue");
  equal(job.metadata?.labels?.["team"], "x");
  match(job.metadata?.labels?.["example.org/id"] ?? "", /^a-b-[a-z2-7]{8}$/);
  equal(job.metadata?.annotations?.["example.org/note"], "a b a b");
  deepEqual(job.spec?.template.metadata?.annotations, { "example.org/note": "a b a b" });
  equal(pod.restartPolicy, "Never");
});

Deno.test("completions make an Indexed Job, whose name has room for the index", () => {
  const { job } = jobOf({ completions: "100", parallelism: "3" });
  equal(job.spec?.completions, 100);
  equal(job.spec?.parallelism, 3);
  equal(job.spec?.completionMode, "Indexed");
  const name = (cells: Record<string, string>) =>
    runNameFor(rowOf({ job_name: "x".repeat(80), ...cells }), { key: "k" });
  equal(name({ completions: "2" }).length, 52);
  equal(name({}).length, 63);
});

Deno.test("a row of the old columns makes the Job that it made", () => {
  const { job, pod, container } = jobOf({ command: "run", cpu_limit: "1" });
  deepEqual(Object.keys(pod).sort(), [
    "automountServiceAccountToken",
    "containers",
    "enableServiceLinks",
    "restartPolicy",
    "securityContext",
  ]);
  deepEqual(Object.keys(container).sort(), [
    "command",
    "env",
    "image",
    "name",
    "resources",
    "securityContext",
    "terminationMessagePath",
    "terminationMessagePolicy",
  ]);
  deepEqual(Object.keys(job.spec?.template.metadata ?? {}), ["labels"]);
  equal(pod.automountServiceAccountToken, false);
});
