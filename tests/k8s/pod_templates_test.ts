/** k8s/pod_templates.ts: which templates may be used, and what is said of the others. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { MAX_TEMPLATE_BYTES, parsePodTemplates } from "../../k8s/pod_templates.ts";

function template(name: string, spec: string): string {
  return `apiVersion: v1\nkind: PodTemplate\nmetadata: {name: ${name}}\ntemplate:\n  spec: ${spec}\n`;
}

function read(text: string, allowPrivileged = false) {
  const { byName, faults } = parsePodTemplates({ "templates.yaml": text }, { allowPrivileged });
  return { faults, fault: (name: string) => (byName.get(name) as { fault?: string }).fault, byName };
}

Deno.test("parsePodTemplates() reads documents, lists and several files", () => {
  const list = `kind: PodTemplateList\nitems:\n- {kind: PodTemplate, metadata: {name: c}, template: {spec: {}}}\n`;
  const { byName, faults } = parsePodTemplates({
    "one.yaml": `${template("a", "{nodeName: n}")}---\n${template("b", "{}")}---\n`,
    "two.yaml": list,
  }, { allowPrivileged: false });
  deepEqual(faults, []);
  deepEqual([...byName.keys()], ["a", "b", "c"]);
  deepEqual(byName.get("a"), { template: { spec: { nodeName: "n" } } });
});

Deno.test("parsePodTemplates() says which document cannot be used, and takes the others", () => {
  const { byName, faults } = read(`kind: Job\n---\n${template("A_B", "{}")}---\n${template("good", "{}")}`);
  deepEqual([...byName.keys()], ["good"]);
  equal(faults.length, 2);
  match(faults[0]!, /^Cannot use templates\.yaml, document 1: it must be of the kind PodTemplate$/);
  match(faults[1]!, /document 2: metadata\.name must be a name of Kubernetes/);
});

Deno.test("parsePodTemplates() shows nothing of a file that is not YAML", () => {
  const { faults } = read("kind: PodTemplate\ntemplate: {spec: {containers: [{env: [hunter2");
  equal(faults.length, 1);
  ok(!faults[0]!.includes("hunter2"), faults[0]!);
});

Deno.test("parsePodTemplates() refuses what is far too large", () => {
  match(read("#".repeat(MAX_TEMPLATE_BYTES + 1)).faults[0]!, /more than 1048576 characters/);
});

Deno.test("parsePodTemplates() follows no aliases of aliases of aliases", () => {
  const lines = Array.from({ length: 20 }, (_, at) => `a${at + 1}: &a${at + 1} [*a${at}, *a${at}, *a${at}, *a${at}]`);
  equal(read(`kind: PodTemplate\na0: &a0 [x]\n${lines.join("\n")}\n`).faults.length, 1);
});

Deno.test("a template that stands twice is no template", () => {
  match(read(`${template("a", "{}")}---\n${template("a", "{}")}`).fault("a")!, /it stands twice/);
});

Deno.test("an ordinary second container is refused with the way out", () => {
  const { fault } = read(template("a", "{containers: [{name: main}, {name: proxy, image: p}]}"));
  match(fault("a")!, /its container "proxy" would hold the Job .* native sidecar/);
});

const PRIVILEGES = [
  ["{hostNetwork: true}", /hostNetwork/],
  ["{hostPID: true}", /hostPID/],
  ["{hostIPC: true}", /hostIPC/],
  ["{volumes: [{name: v, hostPath: {path: /}}]}", /the host path of the volume "v"/],
  ["{containers: [{name: main, securityContext: {privileged: true}}]}", /privileged: true of the container "main"/],
  ["{initContainers: [{name: i, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]}", /added capabilities .* "i"/],
  ["{containers: [{name: main, securityContext: {allowPrivilegeEscalation: true}}]}", /allowPrivilegeEscalation/],
  ["{containers: [{name: main, ports: [{containerPort: 1, hostPort: 1}]}]}", /hostPort/],
  ["{containers: [{name: main, securityContext: {procMount: Unmasked}}]}", /procMount/],
] as const;

Deno.test("power over the node needs the policy's word, and the error says which line to add where", async (t) => {
  for (const [spec, words] of PRIVILEGES) {
    await t.step(spec, () => {
      const fault = read(template("a", spec)).fault("a")!;
      match(fault, words);
      match(fault, /add the line allow_privileged: true to POLICY_FILE$/);
      equal(read(template("a", spec), true).fault("a"), undefined);
    });
  }
});
