/** k8s/manifest.ts: names, the environment of a message, and the Job for Kubernetes. */
import { Buffer } from "node:buffer";
import { deepEqual, equal, match, notEqual, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { labelValue } from "../../k8s/labels.ts";
import { buildJob, unescapeDollars } from "../../k8s/manifest.ts";
import {
  deliveryHash,
  deliveryPartsOf,
  MAX_ENV_PAYLOAD_BYTES,
  messageEnv,
  payloadFits,
  payloadText,
  rowLabel,
  runNameFor,
  runNameStart,
  shortHash,
} from "../../run_spec.ts";
import { jobFacts } from "../../k8s/facts.ts";
import { parsePodTemplates } from "../../k8s/pod_templates.ts";
import type { Row, RunSpec } from "../../ports.ts";
import { row } from "../harness/fakes.ts";

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;
const OPTIONS = { namespace: "lab", instance: "lab-a", ttlSecondsAfterFinished: 3600 };

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function spec({ row = {}, payload = "{}", ...rest }: {
  row?: Partial<Row>;
  payload?: string | Uint8Array;
  payloadLink?: RunSpec["payloadLink"] & object;
  parentRun?: string;
} = {}): RunSpec {
  return {
    runName: "spike-sort-abcdefghijkl",
    row: {
      line: 2,
      jobName: "Spike Sort",
      mqttTopic: "data/+",
      image: "sort:1",
      gpu: 0,
      parallelism: 1,
      backoffLimit: 0,
      ...row,
    },
    message: { topic: "data/a", payload: typeof payload === "string" ? bytes(payload) : payload },
    messageHash: "mmmmmmmmmmmm",
    root: "rootrootroot",
    rootRun: "first-run",
    chainDepth: 1,
    receivedAt: new Date("2026-01-02T03:04:05.678Z"),
    ...rest,
  };
}

function env(payload: string | Uint8Array): Record<string, string> {
  return messageEnv(spec({ payload }));
}

function podOf(run: RunSpec) {
  return buildJob(run, OPTIONS).spec!.template.spec!;
}

function containerOf(run: RunSpec) {
  return podOf(run).containers[0]!;
}

Deno.test("rowLabel() keeps what can stand in an RFC 1123 label", () => {
  equal(rowLabel("Spike_Sort v2.1"), "spike-sort-v2-1");
  equal(rowLabel("--a--"), "a");
  equal(rowLabel("Ähnlich"), "hnlich");
  equal(rowLabel("日本"), "row");
});

Deno.test("run names are RFC 1123 labels of at most 63 characters, 52 for several pods, whatever the row is called", () => {
  fc.assert(fc.property(
    fc.string({ unit: "binary", maxLength: 200 }),
    fc.string(),
    fc.integer({ min: 1, max: 50 }),
    (jobName, text, parallelism) => {
      const row = { jobName, parallelism };
      for (const identity of [{ key: text }, { epoch: text, number: 7, messageHash: text }]) {
        const name = runNameFor(row, identity);
        match(name, LABEL);
        ok(name.length <= (parallelism > 1 ? 52 : 63));
      }
    },
  ));
});

Deno.test("a keyed run name is the same for the same key and row, and only for them", () => {
  const row = { jobName: "sort", parallelism: 1 };
  const name = runNameFor(row, { key: "k1" });
  match(name, /^sort-[a-z2-7]{12}$/);
  equal(runNameFor(row, { key: "k1" }), name);
  notEqual(runNameFor(row, { key: "k2" }), name);
  // The labels of these two rows are equal.
  notEqual(runNameFor({ jobName: "Sort", parallelism: 1 }, { key: "k1" }), name);
});

Deno.test("names of a delivery's runs sort as the deliveries' numbers do, and give these back", () => {
  const row = { jobName: "sort", parallelism: 1 };
  const number = fc.integer({ min: 0, max: 2 ** 40 - 1 });
  fc.assert(fc.property(number, number, (one, other) => {
    const [first, second] = [one, other].map((number) => runNameFor(row, { epoch: "e", number, messageHash: "m" }));
    match(first!, /^sort-[a-z2-7]{16}$/);
    equal(first! < second!, one < other);
    equal(deliveryPartsOf(first!)?.number, one);
    ok(first!.startsWith(runNameStart(row, one)));
  }));
});

Deno.test("names of a delivery's runs are others for another session, message or row", () => {
  const row = { jobName: "sort", parallelism: 1 };
  const identity = { epoch: "e", number: 7, messageHash: "m" };
  const names = [
    runNameFor(row, identity),
    runNameFor(row, { ...identity, epoch: "f" }),
    runNameFor(row, { ...identity, messageHash: "n" }),
    runNameFor({ ...row, jobName: "Sort" }, identity),
  ];
  equal(new Set(names).size, 4);
  equal(runNameFor(row, identity), names[0]);
  equal(deliveryPartsOf(names[0]!)?.hash, deliveryHash(row, identity));
  equal(deliveryPartsOf(runNameFor(row, { key: "k" })), undefined);
});

Deno.test("shortHash() tells apart where one part ends and the next begins", () => {
  notEqual(shortHash(["ab", "c"]), shortHash(["a", "bc"]));
  notEqual(shortHash(["ab"]), shortHash(["a", "b"]));
  equal(shortHash([bytes("ab")]), shortHash(["ab"]));
});

Deno.test("labelValue() makes a label value of any text, and leaves alone what is one", () => {
  fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 100 }), (text) => match(labelValue(text), LABEL_VALUE)));
  equal(labelValue("Spike_Sort.v2"), "Spike_Sort.v2");
  notEqual(labelValue("a b"), labelValue("a/b"));
});

Deno.test("messageEnv() tells the row, the run, the topic, the payload and its top-level scalars", () => {
  deepEqual(env('{"uuid":"2022-e","n":3,"on":true,"none":null,"list":[1],"deep":{"a":1},"file name":"x"}'), {
    JOB_NAME: "Spike Sort",
    RUN_NAME: "spike-sort-abcdefghijkl",
    MQTT_TOPIC: "data/a",
    MQTT_PAYLOAD: '{"uuid":"2022-e","n":3,"on":true,"none":null,"list":[1],"deep":{"a":1},"file name":"x"}',
    PAYLOAD_UUID: "2022-e",
    PAYLOAD_N: "3",
    PAYLOAD_ON: "true",
    PAYLOAD_NONE: "",
    PAYLOAD_FILE_NAME: "x",
  });
});

Deno.test("messageEnv() keeps a number as it was written", () => {
  const { PAYLOAD_ID, PAYLOAD_X } = env('{"id":12345678901234567890,"x":1.0}');
  deepEqual([PAYLOAD_ID, PAYLOAD_X], ["12345678901234567890", "1.0"]);
});

Deno.test("messageEnv() gives a name that two fields make to the first", () => {
  equal(env('{"a-b":"first","a_b":"second"}')["PAYLOAD_A_B"], "first");
});

Deno.test("messageEnv() leaves NULs out of a field and replaces lone surrogates", () => {
  equal(env('{"a":"x\\u0000y\\ud800"}')["PAYLOAD_A"], "xy\ufffd");
});

Deno.test("messageEnv() gives bytes that are no text as base64", () => {
  for (const payload of [Uint8Array.of(0xff, 0xfe), bytes("a\0b")]) {
    const { MQTT_PAYLOAD, MQTT_PAYLOAD_BASE64 } = env(payload);
    equal(MQTT_PAYLOAD, "");
    deepEqual(Uint8Array.fromBase64(MQTT_PAYLOAD_BASE64!), payload);
  }
});

Deno.test("messageEnv() names where a payload in the store is", () => {
  const given = messageEnv(spec({ payload: "", payloadLink: { url: "https://s3/x?sig", object: "s3://b/x" } }));
  equal(given["MQTT_PAYLOAD_URL"], "https://s3/x?sig");
  equal(given["MQTT_PAYLOAD_OBJECT"], "s3://b/x");
  equal(given["MQTT_PAYLOAD"], "");
});

Deno.test("messageEnv() makes 200 fields at most", () => {
  const fields = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`f${i}`, i]));
  const names = Object.keys(env(JSON.stringify(fields))).filter((name) => name.startsWith("PAYLOAD_"));
  equal(names.length, 200);
});

Deno.test("messageEnv() gives a single long field whole", () => {
  const text = "x".repeat(90 * 1024);
  equal(env(JSON.stringify({ text }))["PAYLOAD_TEXT"], text);
});

Deno.test("messageEnv() takes a payload that is no JSON object, or nested without end, as text alone", () => {
  for (const payload of ["[1]", "3", "{", "null", "", "[".repeat(50_000), `{"a":${"[".repeat(40_000)}`]) {
    deepEqual(Object.keys(env(payload)), ["JOB_NAME", "RUN_NAME", "MQTT_TOPIC", "MQTT_PAYLOAD"]);
  }
  equal(env(`{"b":1,"a":${"[".repeat(20_000)}${"]".repeat(20_000)}}`)["PAYLOAD_B"], "1");
});

Deno.test("messageEnv() never throws and never makes a name that a shell cannot use", () => {
  fc.assert(fc.property(fc.oneof(fc.json(), fc.string({ unit: "binary" }), fc.uint8Array()), (payload) => {
    for (const [name, value] of Object.entries(env(payload))) {
      match(name, /^[A-Z][A-Z0-9_]*$/);
      ok(!value.includes("\0") && value.isWellFormed());
    }
  }));
});

Deno.test("payloadFits() allows 96 KiB of text and 72 KiB of bytes", () => {
  const most = MAX_ENV_PAYLOAD_BYTES;
  equal(payloadFits(bytes("x".repeat(most))), true);
  equal(payloadFits(bytes("x".repeat(most + 1))), false);
  equal(payloadFits(new Uint8Array(most * 3 / 4)), true);
  equal(payloadFits(new Uint8Array(most * 3 / 4 + 1)), false);
  throws(() => env("x".repeat(most + 1)), RangeError);
});

Deno.test("no variable is longer than Linux allows, whatever payload fits", () => {
  const most = 131_072; // MAX_ARG_STRLEN of execve(2), with the name, `=` and the NUL at the end
  const unit = fc.constantFrom("x", "$", "\\u0000", "\\ud800", "ä", "😀", '\\"', "\0");
  const text = fc.tuple(unit, fc.nat(MAX_ENV_PAYLOAD_BYTES)).map(([one, size]) => {
    const inner = one.repeat(Math.floor(Math.max(0, size - 10) / Buffer.byteLength(one)));
    return `{"field":"${inner}"}`;
  });
  fc.assert(fc.property(text, (payload) => {
    fc.pre(payloadFits(bytes(payload)));
    for (const [name, value] of Object.entries(env(payload))) {
      const size = Buffer.byteLength(name) + Buffer.byteLength(value) + 2;
      ok(size <= most, `${name} has ${size} bytes`);
    }
  }));
});

Deno.test("payloadText() keeps a byte order mark and refuses what is not UTF-8", () => {
  equal(payloadText(bytes("\ufeffa")), "\ufeffa");
  equal(payloadText(Uint8Array.of(0xc3)), undefined);
});

Deno.test("buildJob() maps a row's quantities, GPU, disk and limits", () => {
  const job = buildJob(
    spec({
      row: {
        cpuRequest: "2",
        cpuLimit: "4",
        memoryRequest: "8Gi",
        memoryLimit: "16Gi",
        diskRequest: "10Gi",
        diskLimit: "20Gi",
        gpu: 2,
        gpuProduct: ["NVIDIA-A10"],
        diskMount: "/data",
        backoffLimit: 3,
        activeDeadlineSeconds: 60,
      },
    }),
    OPTIONS,
  );
  const pod = job.spec!.template.spec!;
  deepEqual(pod.containers[0]!.resources, {
    requests: { cpu: "2", memory: "8Gi", "ephemeral-storage": "10Gi", "nvidia.com/gpu": "2" },
    limits: { cpu: "4", memory: "16Gi", "ephemeral-storage": "20Gi", "nvidia.com/gpu": "2" },
  });
  deepEqual(pod.nodeSelector, { "nvidia.com/gpu.product": "NVIDIA-A10" });
  deepEqual(pod.volumes, [{ name: "disk", emptyDir: { sizeLimit: "20Gi" } }]);
  deepEqual(pod.containers[0]!.volumeMounts, [{ name: "disk", mountPath: "/data" }]);
  equal(pod.restartPolicy, "Never");
  equal(job.spec!.backoffLimit, 3);
  equal(job.spec!.activeDeadlineSeconds, 60);
  equal(job.spec!.ttlSecondsAfterFinished, 3600);
  equal(job.spec!.completionMode, undefined);
});

Deno.test("buildJob() takes one of several GPU models, and another resource than whole GPUs", () => {
  const row = {
    gpu: 1,
    gpuResource: "nvidia.com/mig-1g.10gb",
    gpuProduct: ["NVIDIA-A100", "NVIDIA-H100"],
  };
  const pod = podOf(spec({ row }));
  deepEqual(pod.containers[0]?.resources, {
    requests: { "nvidia.com/mig-1g.10gb": "1" },
    limits: { "nvidia.com/mig-1g.10gb": "1" },
  });
  equal(pod.nodeSelector, undefined);
  deepEqual(pod.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms, [{
    matchExpressions: [{
      key: "nvidia.com/gpu.product",
      operator: "In",
      values: ["NVIDIA-A100", "NVIDIA-H100"],
    }],
  }]);
});

Deno.test("a Job's GPUs are those that its row asks for, whatever they are called", () => {
  const cases: [Partial<Row>, number, Record<string, string>][] = [
    [{ gpu: 2 }, 2, {}],
    [{ gpu: 3, gpuResource: "nvidia.com/mig-1g.10gb" }, 3, {}],
    [{ gpu: 1, gpuResource: "amd.com/gpu" }, 1, {}],
    [{ resources: [{ name: "nvidia.com/a100", quantity: "2" }, { name: "example.com/fpga", quantity: "1" }] }, 2, {
      "example.com/fpga": "1",
    }],
    [{ gpu: 1, resources: [{ name: "hugepages-2Mi", quantity: "96Mi" }] }, 1, { "hugepages-2Mi": "96Mi" }],
  ];
  for (const [row, gpu, requests] of cases) {
    const facts = jobFacts(JSON.parse(JSON.stringify(buildJob(spec({ row }), OPTIONS))));
    deepEqual([facts.gpu, facts.requests], [gpu, requests]);
  }
});

Deno.test("buildJob() leaves out what the row does not say", () => {
  const container = containerOf(spec());
  deepEqual(container.resources, { requests: {}, limits: {} });
  equal(container.command, undefined);
  equal(container.imagePullPolicy, undefined);
  equal(podOf(spec()).nodeSelector, undefined);
  equal(podOf(spec()).volumes, undefined);
  equal(buildJob(spec(), OPTIONS).spec!.activeDeadlineSeconds, undefined);
});

Deno.test("buildJob() makes an Indexed Job of parallelism", () => {
  const { parallelism, completions, completionMode } = buildJob(spec({ row: { parallelism: 4 } }), OPTIONS).spec!;
  deepEqual([parallelism, completions, completionMode], [4, 4, "Indexed"]);
});

Deno.test("buildJob() labels the Job and its pods alike, and notes on the Job what a label cannot hold", () => {
  const { metadata, spec: { template } = {} } = buildJob(spec({ parentRun: "parent" }), OPTIONS);
  deepEqual(metadata!.labels, {
    "app.kubernetes.io/managed-by": "mqtt-job-listener",
    "app.kubernetes.io/instance": "lab-a",
    "mqtt-job-listener/row": labelValue("Spike Sort"),
    "mqtt-job-listener/run": "spike-sort-abcdefghijkl",
    "mqtt-job-listener/message": "mmmmmmmmmmmm",
    "mqtt-job-listener/root": "rootrootroot",
  });
  deepEqual(template!.metadata!.labels, metadata!.labels);
  deepEqual(metadata!.annotations, {
    "mqtt-job-listener/job-name": "Spike Sort",
    "mqtt-job-listener/topic": "data/a",
    "mqtt-job-listener/parent-run": "parent",
    "mqtt-job-listener/root-run": "first-run",
    "mqtt-job-listener/chain-depth": "1",
    "mqtt-job-listener/received-at": "2026-01-02T03:04:05.678Z",
  });
});

Deno.test("buildJob() gives the pod no token, no service links and no way to more privileges", () => {
  const pod = podOf(spec());
  equal(pod.automountServiceAccountToken, false);
  equal(pod.enableServiceLinks, false);
  equal(pod.serviceAccountName, undefined);
  deepEqual(pod.securityContext, { seccompProfile: { type: "RuntimeDefault" } });
  equal(pod.containers[0]!.securityContext!.allowPrivilegeEscalation, false);
});

Deno.test("buildJob() forbids a container of all privileges no further ones, which no API server takes", () => {
  for (
    const context of ["privileged: true", "capabilities: { add: [CAP_SYS_ADMIN] }", "capabilities: { add: [SYS_NICE] }"]
  ) {
    const text = `kind: PodTemplate
metadata: { name: mighty }
template: { spec: { containers: [{ name: main, securityContext: { ${context} } }] } }`;
    const templates = parsePodTemplates({ "t.yaml": text }, { allowPrivileged: true });
    deepEqual(templates.faults, []);
    const job = buildJob(spec({ row: { podTemplate: "mighty" } }), { ...OPTIONS, templates: () => templates });
    const { securityContext } = job.spec!.template.spec!.containers[0]!;
    equal(securityContext?.allowPrivilegeEscalation, context.includes("NICE") ? false : undefined);
  }
});

Deno.test("buildJob() escapes every dollar of a command, so that no payload becomes a piece of shell", () => {
  const { command } = containerOf(spec({ row: { command: ["sh", "-c", "echo $(MQTT_PAYLOAD) $HOME"] } }));
  deepEqual(command, ["sh", "-c", "echo $$(MQTT_PAYLOAD) $$HOME"]);
});

/** What Kubernetes makes of a value: `$$` is `$`, and `$(NAME)` of a name that is there is its value. */
function expand(value: string, names: ReadonlyMap<string, string>): string {
  return value.replace(/\$\$|\$\(([^)]*)\)/g, (all, name) => all === "$$" ? "$" : names.get(name) ?? all);
}

Deno.test("Kubernetes' expansion of a Job's environment gives back the exact values", () => {
  const pieces = fc.array(fc.constantFrom("$", "$$", "$(", "$(JOB_NAME)", ")", "a"), { maxLength: 12 });
  fc.assert(fc.property(pieces, (parts) => {
    const payload = parts.join("");
    const seen = new Map<string, string>();
    for (const { name, value } of containerOf(spec({ payload })).env!) seen.set(name, expand(value!, seen));
    equal(seen.get("MQTT_PAYLOAD"), payload);
    equal(unescapeDollars(containerOf(spec({ payload })).env!.find((e) => e.name === "MQTT_PAYLOAD")!.value!), payload);
  }));
});

Deno.test("a payload changes nothing of a Job but values of its environment", () => {
  const without = (run: RunSpec) => {
    const job = buildJob(run, OPTIONS);
    const [container] = job.spec!.template.spec!.containers;
    const { env: _, ...rest } = container!;
    return JSON.stringify({ ...job, spec: { ...job.spec, template: rest } });
  };
  const usual = without(spec());
  fc.assert(fc.property(fc.json(), (payload) => equal(without(spec({ payload })), usual)));
});

Deno.test("the Job that a record keeps has no signed link, no long value and no managed fields", () => {
  const made = buildJob(
    {
      runName: "count-abc",
      row: row(),
      message: { topic: "lab/count", payload: new Uint8Array(0) },
      payloadLink: { url: "https://s3/x?X-Amz-Signature=s3cret", object: "s3://b/x" },
      messageHash: "h",
      root: "rootrootroot",
      rootRun: "count-abc",
      chainDepth: 0,
      receivedAt: new Date(0),
    },
    { namespace: "n", instance: "i", ttlSecondsAfterFinished: 1 },
  );
  made.spec!.template.spec!.containers[0]!.env!.push({ name: "PAYLOAD_A", value: "x".repeat(5_000) });
  const asJson = JSON.parse(JSON.stringify({ ...made, metadata: { ...made.metadata, managedFields: [{}] } }));
  const kept = JSON.stringify(jobFacts(asJson).manifest?.());
  ok(!kept.includes("s3cret") && !kept.includes("managedFields") && kept.length < 4_000, kept);
  ok(kept.includes('"backoffLimit":0') && kept.includes('"image":"busybox"') && kept.includes("3976 more characters"));
});
