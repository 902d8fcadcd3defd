/** YAML that is nested without end is refused before it is parsed, by each reader of YAML. */
import { deepEqual, equal, match, rejects, throws } from "node:assert/strict";
import { readWorkloads } from "../../catalog/import/documents.ts";
import { parsePolicy } from "../../catalog/policy.ts";
import { openKubeConfig } from "../../k8s/kubeconfig.ts";
import { parsePodTemplates } from "../../k8s/pod_templates.ts";
import { isNestedTooDeep } from "../../util/yaml_depth.ts";
import { PROJECT } from "../harness/project.ts";

const LEVELS = 20_000;
const DEEP: Readonly<Record<string, string>> = {
  "lists that are not closed": "a: " + "[".repeat(LEVELS),
  "lists that are closed": "[".repeat(LEVELS) + "]".repeat(LEVELS),
  "maps in one line": "a: " + "{a: ".repeat(LEVELS),
  "lists in one line": "- ".repeat(LEVELS) + "a",
  "keys of keys": "? ".repeat(LEVELS) + "a",
  "maps in lines": Array.from({ length: 1_200 }, (_, n) => `${" ".repeat(n)}a:\n`).join(""),
};

Deno.test("isNestedTooDeep() sees each way to nest", () => {
  deepEqual(Object.entries(DEEP).filter(([, text]) => !isNestedTooDeep(text)).map(([name]) => name), []);
});

Deno.test("isNestedTooDeep() takes manifests, lists of many objects and long scripts for what they are", async () => {
  for await (const { name } of Deno.readDir(new URL("deploy/kubernetes", PROJECT))) {
    if (!name.endsWith(".yaml")) continue;
    equal(isNestedTooDeep(await Deno.readTextFile(new URL(`deploy/kubernetes/${name}`, PROJECT))), false, name);
  }
  equal(isNestedTooDeep("- [a, {b: c}]\n".repeat(100_000)), false);
  equal(isNestedTooDeep(`command: |\n${"  if [[ -e a ]]; then echo ${a[1]}; fi # ----\n".repeat(10_000)}`), false);
});

Deno.test("a kubeconfig that is nested without end is refused by that", async () => {
  const kubeconfig = await Deno.makeTempFile();
  for (const text of Object.values(DEEP)) {
    await Deno.writeTextFile(kubeconfig, text);
    await rejects(openKubeConfig({ kubeconfig }), /^Error: .*: it is nested more deeply than anybody needs$/);
  }
  await Deno.remove(kubeconfig);
});

Deno.test("policy, templates and manifests that are nested without end are refused by that", () => {
  for (const text of Object.values(DEEP)) {
    throws(() => parsePolicy(text), /^TypeError: Cannot read the policy: it is nested more deeply than anybody needs$/);
    deepEqual(parsePodTemplates({ "t.yaml": text }, { allowPrivileged: false }).faults, [
      "Cannot use t.yaml: it is nested more deeply than anybody needs",
    ]);
    match(JSON.stringify(readWorkloads([{ name: "jobs.yaml", text }])), /nested too deeply/);
  }
});
