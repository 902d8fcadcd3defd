/**
 * Where and as whom the pod runs: nodes, taints, user, accounts, classes. Pure.
 * A list that a merge replaces as a whole (rules of nodes, tolerations) is said by the row or by the template, never by
 * both.
 */
import type { NodeRule, Toleration } from "../../ports.ts";
import { compact } from "../../util/compact.ts";
import { nodeRuleText } from "../cells/nodes.ts";
import { type Fields, isMap, mapOf, mapsOf } from "./documents.ts";
import { type Draft, readsBack } from "./draft.ts";
import { taker } from "./container.ts";
import type { ReportFinding } from "./finding.ts";

const GPU_PRODUCT = "nvidia.com/gpu.product";

/** Offers the columns about nodes, taints, user, accounts and classes; `main`: the run's own container. */
export function readPlacement(spec: Fields, main: Fields, draft: Draft, report: ReportFinding): void {
  readNodes(spec, draft);
  readPreferences(spec, draft);
  const tolerations = mapsOf(spec["tolerations"]);
  draft.offerAll("tolerations", tolerations.map(tolerationCell), taker(spec, "tolerations"));
  readUser(spec, main, draft);
  readNames(spec, draft, report);
}

// ---------------------------------------------------------------- nodes

function readNodes(spec: Fields, draft: Draft): void {
  const affinity = mapOf(spec["affinity"]);
  const node = mapOf(affinity["nodeAffinity"]);
  const required = node["requiredDuringSchedulingIgnoredDuringExecution"];
  const selected = Object.entries(mapOf(spec["nodeSelector"]))
    .map(([key, value]): NodeRule => ({ key, operator: "In", values: [String(value)] }));
  const expressions = required === undefined ? [] : termRules(mapOf(required)["nodeSelectorTerms"]);
  // Terms of which one is enough have no notation; then the template has both, for a row's rules would take their place.
  if (expressions === undefined) return;
  const rules = [...selected, ...expressions];
  if (rules.length === 0) return;
  const models = rules.filter(({ key }) => key === GPU_PRODUCT);
  const [model] = models;
  const isModel = models.length === 1 && model?.operator === "In" && draft.has("gpu") &&
    readsBack("gpuProduct", model.values.join(", "), model.values);
  const others = isModel ? rules.filter((rule) => rule !== model) : rules;
  if (!others.every((rule) => readsBack("nodeSelector", nodeRuleText(rule), [rule]))) return;
  const take = () => {
    delete spec["nodeSelector"];
    delete node["requiredDuringSchedulingIgnoredDuringExecution"];
    dropEmptyAffinity(spec);
  };
  if (isModel) draft.offer("gpuProduct", model.values.join(", "), model.values, take);
  draft.offerAll("nodeSelector", others.map((rule) => [nodeRuleText(rule), rule] as const), take);
}

/** Rules of a single term of expressions; undefined: there is more to it. */
function termRules(terms: unknown): NodeRule[] | undefined {
  const [term, ...others] = mapsOf(terms);
  if (term === undefined || others.length > 0) return undefined;
  const { matchExpressions, ...more } = term;
  if (Object.values(more).some((value) => !Array.isArray(value) || value.length > 0)) return undefined;
  return mapsOf(matchExpressions).map(ruleOf);
}

function ruleOf({ key, operator, values }: Fields): NodeRule {
  return {
    key: String(key),
    operator: operator as NodeRule["operator"],
    values: Array.isArray(values) ? values.map(String) : [],
  };
}

/**
 * Preferences of one rule each and of one weight. The scheduler scales the sums of weights to what the best node has
 * (NormalizeScore of its plug-in NodeAffinity), so that equal weights are as good as 1.
 */
function readPreferences(spec: Fields, draft: Draft): void {
  const node = mapOf(mapOf(spec["affinity"])["nodeAffinity"]);
  const preferred = mapsOf(node["preferredDuringSchedulingIgnoredDuringExecution"]);
  const rules = preferred.map(({ preference }) => termRules([preference]));
  const isEqual = new Set(preferred.map(({ weight }) => weight)).size === 1;
  if (!isEqual || rules.some((found) => found?.length !== 1)) return;
  draft.offerAll(
    "nodePreference",
    rules.flatMap((found) => found ?? []).map((rule) => [nodeRuleText(rule), rule]),
    () => {
      delete node["preferredDuringSchedulingIgnoredDuringExecution"];
      dropEmptyAffinity(spec);
    },
  );
}

function dropEmptyAffinity(spec: Fields): void {
  const affinity = mapOf(spec["affinity"]);
  if (Object.keys(mapOf(affinity["nodeAffinity"])).length === 0) delete affinity["nodeAffinity"];
  if (Object.keys(affinity).length === 0) delete spec["affinity"];
}

function tolerationCell({ key, operator = "Equal", value, effect, ...more }: Fields): readonly [string, unknown] {
  // How long it is tolerated has no notation: the text reads back to nothing.
  if (Object.keys(more).length > 0) return ["", undefined];
  const isAny = operator === "Exists";
  const expected = compact({
    key: isGiven(key) ? String(key) : undefined,
    value: isAny ? undefined : String(value ?? ""),
    effect: isGiven(effect) ? String(effect) : undefined,
  }) as unknown as Toleration;
  const taint = expected.key === undefined ? "*" : isAny ? expected.key : `${expected.key}=${expected.value}`;
  return [expected.effect === undefined ? taint : `${taint}:${expected.effect}`, expected];
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null && value !== "";
}

// ---------------------------------------------------------------- user

function readUser(spec: Fields, main: Fields, draft: Draft): void {
  const [pod, own] = [spec["securityContext"], main["securityContext"]];
  const isAlone = mapsOf(spec["initContainers"]).length === 0 && mapsOf(spec["containers"]).length === 1;
  // The row's user is the pod's: a container's own counts for the pod only where it is the pod's one container.
  const mine = isMap(own) && (own["runAsUser"] !== undefined || own["runAsGroup"] !== undefined);
  if (mine && !isAlone) return;
  const { runAsUser: podUser, runAsGroup: podGroup, fsGroup } = mapOf(pod);
  const user = mapOf(own)["runAsUser"] ?? podUser;
  const group = mapOf(own)["runAsGroup"] ?? podGroup;
  if (typeof user !== "number") return;
  // The row's group owns the volumes too, which is another thing where there are volumes and nobody asked for that.
  const hasVolumes = mapsOf(spec["volumes"]).length > 0;
  if (group !== undefined && fsGroup !== group && (fsGroup !== undefined || hasVolumes)) return;
  const expected = group === undefined ? { user } : { user, group };
  draft.offer("runAs", group === undefined ? `${user}` : `${user}:${group}`, expected, () => {
    for (const fields of [pod, own]) {
      if (!isMap(fields)) continue;
      delete fields["runAsUser"];
      delete fields["runAsGroup"];
      if (group !== undefined) delete fields["fsGroup"];
    }
  });
}

// ---------------------------------------------------------------- names

function readNames(spec: Fields, draft: Draft, report: ReportFinding): void {
  const { serviceAccountName, automountServiceAccountToken: token, priorityClassName, runtimeClassName } = spec;
  if (typeof serviceAccountName === "string" && token !== false) {
    draft.offer("serviceAccount", serviceAccountName, serviceAccountName, taker(spec, "serviceAccountName"));
    delete spec["automountServiceAccountToken"];
  } else if (serviceAccountName === undefined) {
    if (token === true) {
      const message =
        "a run gets the token of an account that it names; write service_account=default if that is meant";
      report("error", "automountServiceAccountToken", message, true);
    }
    delete spec["automountServiceAccountToken"];
  }
  if (typeof priorityClassName === "string") {
    draft.offer("priorityClass", priorityClassName, priorityClassName, taker(spec, "priorityClassName", "priority"));
  }
  if (typeof runtimeClassName === "string") {
    draft.offer("runtimeClass", runtimeClassName, runtimeClassName, taker(spec, "runtimeClassName"));
  }
  const grace = spec["terminationGracePeriodSeconds"];
  if (grace !== undefined) {
    draft.offer("terminationGraceSeconds", String(grace), grace, taker(spec, "terminationGracePeriodSeconds"));
  }
  const pullSecrets = mapsOf(spec["imagePullSecrets"]).map(({ name }) => String(name));
  draft.offerAll("imagePullSecret", pullSecrets.map((name) => [name, name]), taker(spec, "imagePullSecrets"));
}
