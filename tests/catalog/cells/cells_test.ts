import { deepEqual, equal, match, ok } from "node:assert/strict";
import { env } from "../../../catalog/cells/env.ts";
import { inputs } from "../../../catalog/cells/inputs.ts";
import { mounts } from "../../../catalog/cells/mounts.ts";
import { nodeRules, tolerations } from "../../../catalog/cells/nodes.ts";
import { annotations, labels } from "../../../catalog/cells/pairs.ts";
import { resources } from "../../../catalog/cells/resources.ts";
import { args, idempotencyKey, output, workingDir } from "../../../catalog/cells/words.ts";
import { enabled, flag, gpu, gpuProducts, type Kind, runAs, when } from "../../../catalog/kinds.ts";

/** What a kind makes of a cell, and what it says. */
function reading<T>(kind: Kind<T>, text: string) {
  const errors: string[] = [];
  const warnings: string[] = [];
  const further = {};
  const report = {
    error: (message: string) => errors.push(message),
    warn: (message: string) => warnings.push(message),
  };
  return { value: kind.read(text, report, further), errors, warnings, further };
}

function right<T>(kind: Kind<T>, cases: readonly (readonly [text: string, value: T])[]) {
  for (const [text, value] of cases) deepEqual(reading(kind, text), { value, errors: [], warnings: [], further: {} });
}

function wrong(kind: Kind, cases: readonly (readonly [text: string, error: RegExp])[]) {
  for (const [text, error] of cases) {
    const { errors } = reading(kind, text);
    ok(errors.length > 0, `no error for ${text}`);
    match(errors[0]!, error);
  }
}

Deno.test("env takes a value as it stands after the first =", () => {
  right(env, [
    ["A=1; B = two words ;C=a=b=c", [
      { from: "value", name: "A", value: ["1"] },
      { from: "value", name: "B", value: [" two words"] },
      { from: "value", name: "C", value: ["a=b=c"] },
    ]],
    ["EMPTY=", [{ from: "value", name: "EMPTY", value: [] }]],
    ["URL=http://x/?a=1&b=2", [{ from: "value", name: "URL", value: ["http://x/?a=1&b=2"] }]],
    ['J={"payload": 1}', [{ from: "value", name: "J", value: ['{"payload": 1}'] }]],
  ]);
});

Deno.test("env knows keys and all of Secrets and ConfigMaps, and fields of the pod", () => {
  right(env, [
    ["K=secret:lab-s3/secret-key\nC=config:lab/mode;secret:lab-s3;config:lab", [
      { from: "secret", name: "K", object: "lab-s3", key: "secret-key" },
      { from: "config", name: "C", object: "lab", key: "mode" },
      { from: "all", kind: "secret", object: "lab-s3" },
      { from: "all", kind: "config", object: "lab" },
    ]],
    ["N=field:spec.nodeName; M=field:limits.memory; L=field:metadata.labels['team']", [
      { from: "field", name: "N", path: "spec.nodeName" },
      { from: "field", name: "M", path: "limits.memory" },
      { from: "field", name: "L", path: "metadata.labels['team']" },
    ]],
  ]);
});

Deno.test("env names the entry that is wrong and what would be right", () => {
  wrong(env, [
    ["A=1; B", /^the entry "B" cannot be used: write NAME=value, /],
    ["A=1; A=2", /the entries "A=1" and "A=2" say two things of one/],
    ["A=secret:lab-s3", /name the key too: secret:lab-s3\/key/],
    ["A=config:Lab/x", /did you mean "lab"\?/],
    ["A=secret:lab/a b", /"a b" is no key/],
    ["secret:lab/key", /name its variable: NAME=secret:lab\/key/],
    ["1A=x", /"1A" is no name of a variable/],
    ["export A=x", /leave out "export"/],
    ["MQTT_PAYLOAD=x", /MQTT_PAYLOAD is set by the service/],
    ["PAYLOAD_UUID=x", /is set by the service/],
    ["A=field:spec.replicas", /"spec.replicas" is no field/],
    ["A={payload.x", /is not closed/],
    ["BASH_ENV={payload.x}", /programs load code by BASH_ENV/],
    ["LD_PRELOAD=/lib/{payload.x}", /programs load code by LD_PRELOAD/],
  ]);
  match(reading(env, 'A="x y"').warnings[0] ?? "", /the quotes are part of the value of A/);
  match(reading(env, "A=secretKeyRef:x/y").warnings[0] ?? "", /write secret:name\/key/);
});

Deno.test("a template knows roots, paths, defaults and the doubled brace", () => {
  const payload = (path: (string | number)[], source: string) => ({ root: "payload" as const, path, source });
  right(workingDir, [
    ["/a/{payload.uuid}/b", ["/a/", payload(["uuid"], "{payload.uuid}"), "/b"]],
    ["/{payload.a.b[0]}", ["/", payload(["a", "b", 0], "{payload.a.b[0]}")]],
    ["/{payload.p=default.json}", ["/", { ...payload(["p"], "{payload.p=default.json}"), preset: "default.json" }]],
    ["/{payload.p=}", ["/", { ...payload(["p"], "{payload.p=}"), preset: "" }]],
    ["/{payload}{topic[2]}", ["/", payload([], "{payload}"), { root: "topic", path: [2], source: "{topic[2]}" }]],
    ["/{{payload.uuid}}/{{x}}", ["/{payload.uuid}/{{x}}"]],
    ["/{}/{a,b}/${HOME}", ["/{}/{a,b}/${HOME}"]],
  ]);
  wrong(workingDir, [
    ["/{payload.}", /cannot be read; write a path such as/],
    ["/{payload uuid}", /cannot be read/],
    ["/{payload.uuid", /is not closed; end it with "}"/],
    ["/{topic.a}", /has levels only/],
    ["/{job_name.x}", /has no parts; write \{job_name\}/],
    ["/{index.a}", /has no parts; write \{index\}/],
    ["/{run_name=x}", /is never missing/],
    ["data", /not an absolute path; write "\/data"/],
  ]);
  match(reading(workingDir, "/{uuid}").warnings[0] ?? "", /did you mean "\{payload.uuid\}"/);
  match(reading(workingDir, "/{Payload.x}").warnings[0] ?? "", /did you mean "\{payload.x\}"/);
  deepEqual(reading(workingDir, "/${HOME}/{}/{a,b}").warnings, []);
});

Deno.test("args part words first and read placeholders within each word", () => {
  const file = { root: "payload" as const, path: ["file"], source: "{payload.file}" };
  right(args, [
    [`--in {payload.file} 'a b' ""`, [["--in"], [file], ["a b"], []]],
    [`"x {payload.file} y"`, [["x ", file, " y"]]],
    [`--seed={attempt}`, [["--seed=", { root: "attempt", path: [], source: "{attempt}" }]]],
  ]);
  wrong(args, [["{attempt.x}", /has no parts; write \{attempt\}/]]);
  wrong(args, [["'a", /not a list of words: the quote ' at character 1 is not closed/]]);
});

Deno.test("mounts know claims, secrets, configs, memory and scratch", () => {
  right(mounts, [
    ["pvc:data:/data; pvc:data/raw/a:/raw:ro", [
      { from: "pvc", object: "data", path: "/data", readOnly: false },
      { from: "pvc", object: "data", subPath: "raw/a", path: "/raw", readOnly: true },
    ]],
    ["secret:s3:/root/.aws/;config:lab/a.json:/etc/a.json:ro", [
      { from: "secret", object: "s3", path: "/root/.aws" },
      { from: "config", object: "lab", key: "a.json", path: "/etc/a.json" },
    ]],
    ["memory:8Gi:/dev/shm; scratch:/tmp", [
      { from: "memory", size: "8Gi", path: "/dev/shm" },
      { from: "scratch", path: "/tmp" },
    ]],
  ]);
  wrong(mounts, [
    ["/data:/data", /a folder of the node can be mounted by an operator's pod_template only/],
    ["hostPath:/data:/data", /operator's pod_template only/],
    ["claim:x:/data", /write "pvc" instead of "claim"/],
    ["tmpfs:8Gi:/dev/shm", /write "memory" instead of "tmpfs"/],
    ["what:x:/data", /"what" is nothing that can be mounted/],
    ["pvc:x:data", /the path "data" must begin with "\/"/],
    ["pvc:x", /the path "x" must begin|the path is missing/],
    ["pvc:x:/a/../b", /has "\.\."/],
    ["pvc:x/../y:/a", /must lie within the claim/],
    ["pvc:x:/proc", /nothing can be mounted over \/proc/],
    ["pvc:My_Data:/a", /did you mean "my-data"\?/],
    ["memory:8GB:/dev/shm", /"8GB" is no size: write "8Gi"/],
    ["memory:8:/dev/shm", /"8" is 8 bytes/],
    ["pvc:a:/x; scratch:/x/", /say two things of one/],
    ["secret:a:/x:rw", /is always read-only/],
  ]);
});

Deno.test("node rules are kubectl's selectors", () => {
  right(nodeRules, [
    ["zone=lab, gpu in (a,b), gpu notin (c), ssd, !spot, cores>11, rank<3, x!=y, z==w", [
      { key: "zone", operator: "In", values: ["lab"] },
      { key: "gpu", operator: "In", values: ["a", "b"] },
      { key: "gpu", operator: "NotIn", values: ["c"] },
      { key: "ssd", operator: "Exists", values: [] },
      { key: "spot", operator: "DoesNotExist", values: [] },
      { key: "cores", operator: "Gt", values: ["11"] },
      { key: "rank", operator: "Lt", values: ["3"] },
      { key: "x", operator: "NotIn", values: ["y"] },
      { key: "z", operator: "In", values: ["w"] },
    ]],
  ]);
  wrong(nodeRules, [
    ["zone: lab", /the entry "zone: lab" cannot be used: write key=value/],
    ["cores>many", /"many" after ">" must be a whole number/],
    ["zone in a,b", /write key=value/],
    ["Ex ample.org/x=1", /write key=value/],
    ["a=b c", /write key=value/],
    ["zone=a/b", /"a\/b" is no value of a label/],
  ]);
});

Deno.test("tolerations are kubectl's taints", () => {
  right(tolerations, [
    ["a; b=c:NoSchedule; d:noexecute; *", [
      { key: "a" },
      { key: "b", value: "c", effect: "NoSchedule" },
      { key: "d", effect: "NoExecute" },
      {},
    ]],
  ]);
  wrong(tolerations, [["a:NoWay", /"NoWay" is no effect; write NoSchedule, /], ["=x", /write key, key=value/]]);
});

Deno.test("resources have no column of their own", () => {
  right(resources, [
    ["rdma/ib=1; hugepages-2Mi=96Mi", [
      { name: "rdma/ib", quantity: "1" },
      { name: "hugepages-2Mi", quantity: "96Mi" },
    ]],
  ]);
  wrong(resources, [
    ["cpu=2", /use the column cpu_request and cpu_limit/],
    ["nvidia.com/gpu=1", /use the column gpu/],
    ["fpga=1", /"fpga" is no resource/],
    ["a.b/c=0.5", /"0.5" is no whole number/],
    ["a.b/c", /write name=number/],
  ]);
});

Deno.test("gpu counts whole GPUs or another resource", () => {
  deepEqual(reading(gpu, "2"), { value: 2, errors: [], warnings: [], further: {} });
  deepEqual(reading(gpu, "nvidia.com/mig-1g.10gb=1"), {
    value: 1,
    errors: [],
    warnings: [],
    further: { gpuResource: "nvidia.com/mig-1g.10gb" },
  });
  deepEqual(reading(gpu, "nvidia.com/gpu=3").further, {});
  wrong(gpu, [["nvidia.com/a100=many", /is no whole number/], ["nvidia.com/gpu=x", /write nvidia.com\/gpu=1/]]);
  right(gpuProducts, [["NVIDIA-A10, NVIDIA-L4", ["NVIDIA-A10", "NVIDIA-L4"]]]);
});

Deno.test("labels and annotations are a row's own", () => {
  right(labels, [["team=x; example.org/run={run_name}", [
    { key: "team", value: ["x"] },
    { key: "example.org/run", value: [{ root: "run_name", path: [], source: "{run_name}" }] },
  ]]]);
  right(annotations, [["a=any text, at all", [{ key: "a", value: ["any text, at all"] }]]]);
  wrong(labels, [
    ["team=a b", /"a b" is no value of a label/],
    [
      "mqtt-job-listener/run=x",
      /is set by the service or by Kubernetes; take a key of yours, such as example.org\/run/,
    ],
    ["app.kubernetes.io/managed-by=me", /is set by the service/],
    ["batch.kubernetes.io/job-name=x", /is set by the service/],
    ["kueue.x-k8s.io/queue-name=q", /use the column queue/],
    ["team", /write key=value/],
  ]);
  wrong(annotations, [["container.apparmor.security.beta.kubernetes.io/main=unconfined", /takes a guard off/]]);
});

Deno.test("inputs are required, optional or a choice", () => {
  right(inputs, [["uuid, file, params=default.json, mode=fast|slow, note=", [
    { name: "uuid", required: true },
    { name: "file", required: true },
    { name: "params", required: false, preset: "default.json" },
    { name: "mode", required: false, preset: "fast", choices: ["fast", "slow"] },
    { name: "note", required: false, preset: "" },
  ]]]);
  wrong(inputs, [["a b", /"a b" is no name of a field/], ["m=a||b", /is empty/], ["a, a=1", /say two things/]]);
});

Deno.test("the other cells say what would be right", () => {
  right(runAs, [["1000", { user: 1000 }], ["0:100", { user: 0, group: 100 }]]);
  wrong(runAs, [["root", /write the numbers of user and group/], ["9999999999", /write the numbers/]]);
  right(flag, [["Yes", true], ["off", false]]);
  right(enabled, [["no", "no"], ["TRUE", "yes"], ["Paused", "paused"]]);
  wrong(enabled, [["maybe", /write yes, no or paused/]]);
  right(when, [["payload.a == “x” && topic != ‘y’", `payload.a == "x" && topic != 'y'`]]);
  wrong(idempotencyKey, [["always", /the row would run once/]]);
  wrong(output, [
    ["results.zip", /not a place for a result; write s3:/],
    ["s3://bucket/", /name the object/],
    ["s3://bucket/../x", /without "\.\."/],
  ]);
  equal(reading(output, "s3://lab/results/{payload.uuid}.zip").value?.length, 3);
});
