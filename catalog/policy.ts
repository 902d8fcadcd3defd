/**
 * Rules of a shared cluster beyond Kubernetes' own, read from one small YAML file and checked against rows.
 * Pure. Must not know the cluster: what it would refuse by itself, it says itself.
 */
import { LineCounter, parseDocument } from "yaml";
import * as z from "zod";
import type { Row } from "../ports.ts";
import { compact } from "../util/compact.ts";
import { memoryAt, rungsOf } from "../run_spec.ts";
import { isMore, quantityValue } from "../util/quantities.ts";
import { type AllowLists, findForbidden } from "./allow_lists.ts";
import { cut, type Problem } from "./problem.ts";
import { nearest } from "../util/nearest.ts";
import { trimEnd } from "../util/text.ts";
import { errorMessage } from "../util/errors.ts";
import { isNestedTooDeep } from "../util/yaml_depth.ts";

/** Rules; an absent one is not checked, but see AllowLists. */
export interface Policy extends AllowLists {
  /** The file that it was read from, for people. */
  readonly file?: string;
  /** Pod templates of the operator's may ask for host paths, host namespaces, privilege and capabilities. */
  readonly allowPrivileged?: boolean;
  /** A limit may be at most this much above its request, in percent. */
  readonly limitsWithinPercentOfRequests?: number;
  /** Jobs of this service at a time; those beyond it wait. */
  readonly maxJobs?: number;
  /** Words, or sequences of words, that no command may hold. */
  readonly bannedCommands?: readonly string[];
  /** GPU models that rows may ask for. */
  readonly gpuProducts?: readonly string[];
  /** GPUs of one pod. */
  readonly maxGpu?: number;
  readonly maxParallelism?: number;
  /** Memory of one pod, a quantity: of its limit, on each rung of a ladder. */
  readonly maxMemory?: string;
}

const count = (least: number) =>
  z.int(`must be a whole number of at least ${least}`).min(least, `must be at least ${least}`);
const word = z.string("must be text; put it in quotes").trim().min(1, "must not be empty");
const list = z.array(word, "must be a list, such as [sleep, watch]");

const memory = z.string("must be a size such as 64Gi; put a bare number in quotes")
  .refine((text) => (quantityValue(text) ?? 0) > 0, "must be a size such as 64Gi");

const yesNo = z.boolean("must be true or false");

const FILE = z.strictObject({
  limits_within_percent_of_requests: z.number("must be a number of percent, such as 20").min(0, "must be at least 0"),
  max_jobs: count(1),
  banned_commands: list,
  gpu_products: list,
  max_gpu: count(0),
  max_parallelism: count(1),
  max_memory: memory,
  secrets: list,
  config_maps: list,
  claims: list,
  service_accounts: list,
  priority_classes: list,
  queues: list,
  images: list,
  output_prefixes: list,
  runtime_classes: list,
  pod_templates: list,
  run_as_root: yesNo,
  allow_privileged: yesNo,
}).partial();

/**
 * Reads the text of a policy file; an empty one has no rules. `file`: its path, for people.
 * Throws TypeError naming each wrong line, key and value.
 */
export function parsePolicy(text: string, file?: string): Policy {
  if (isNestedTooDeep(text)) throw new TypeError("Cannot read the policy: it is nested more deeply than anybody needs");
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const [broken] = document.errors;
  if (broken) {
    const { line } = lineCounter.linePos(broken.pos[0]);
    throw new TypeError(`Cannot read the policy, line ${line}: ${errorMessage(broken)}`, { cause: broken });
  }
  const content = contentOf(document) ?? {};
  const result = FILE.safeParse(content);
  if (!result.success) {
    const faults = result.error.issues.flatMap((issue) => describeIssue(issue, content));
    throw new TypeError(`Cannot use the policy: ${faults.join("; ")}`);
  }
  const rules = Object.entries(result.data).map(([key, rule]) => [camelCase(key), rule]);
  return { ...Object.fromEntries(rules), ...compact({ file }) };
}

function contentOf(document: ReturnType<typeof parseDocument>): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch (cause) {
    // An alias of nothing, or aliases of aliases that would fill the memory.
    throw new TypeError("Cannot read the policy: its YAML aliases (*name) cannot be followed", { cause });
  }
}

function camelCase(key: string): string {
  return key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function describeIssue(issue: z.core.$ZodIssue, content: unknown): string[] {
  if (issue.code === "unrecognized_keys") {
    const known = Object.keys(FILE.shape);
    return issue.keys.map((key) => {
      const near = nearest(key, known);
      return `unknown key ${key}, ${near === undefined ? `known are ${known.join(", ")}` : `did you mean ${near}?`}`;
    });
  }
  if (issue.path.length === 0) return ["it must be a list of lines such as max_jobs: 400"];
  let value = content;
  for (const step of issue.path) value = (value as Record<PropertyKey, unknown>)[step];
  return [`${issue.path.join(".")} ${issue.message}, not ${JSON.stringify(value)}`];
}

/** What the policy has against a row: errors only, in the order of the rules. An empty policy allows no Secret. */
export function checkRow(policy: Policy, row: Row): Problem[] {
  const problems: Problem[] = [];
  const refuse = (column: string, value: string, message: string) =>
    problems.push({
      severity: "error",
      line: row.line,
      column,
      value,
      message: `against the policy: ${message}`,
      jobName: row.jobName,
    });
  checkLimits(policy, row, refuse);
  checkMemory(policy, row, refuse);
  const args = (row.args ?? []).map((word) => word.map((piece) => typeof piece === "string" ? piece : "…").join(""));
  const banned = findBanned(policy.bannedCommands ?? [], [...row.command ?? [], ...args]);
  if (banned !== undefined) {
    const column = findBanned([banned], row.command ?? []) === undefined ? "args" : "command";
    const words = column === "args" ? args : row.command ?? [];
    refuse(column, cut(words.join(" ")), `"${banned}" may not be run; take it out of the ${column}`);
  }
  if (policy.maxGpu !== undefined && row.gpu > policy.maxGpu) {
    refuse("gpu", String(row.gpu), `at most ${policy.maxGpu} GPUs are allowed`);
  }
  const products = row.gpuProduct ?? [""];
  if (policy.gpuProducts && row.gpu > 0 && products.some((product) => !policy.gpuProducts?.includes(product))) {
    refuse("gpu_product", products.join(", "), `name one of ${policy.gpuProducts.join(", ") || "none"}`);
  }
  if (policy.maxParallelism !== undefined && row.parallelism > policy.maxParallelism) {
    refuse("parallelism", String(row.parallelism), `at most ${policy.maxParallelism} pods at a time are allowed`);
  }
  const file = policy.file ?? "the file that POLICY_FILE names";
  for (const { column, value, message } of findForbidden(policy, row, file)) refuse(column, value, message);
  return problems;
}

type Refuse = (column: string, value: string, message: string) => void;

/** A pod without a limit may use all that its node has. */
function checkMemory({ maxMemory }: Policy, row: Row, refuse: Refuse): void {
  if (maxMemory === undefined) return;
  const most = quantityValue(maxMemory) ?? 0;
  if (row.memoryLimit === undefined) refuse("memory_limit", "", `write a limit of at most ${maxMemory}`);
  const sizes = row.memoryLimits ?? [row.memoryLimit ?? "0"];
  const over = sizes.find((size) => isMore(quantityValue(size) ?? 0, most));
  if (over !== undefined) {
    refuse("memory_limit", sizes.join(", "), `${over} is more than the ${maxMemory} that are allowed`);
  }
}

function checkLimits(policy: Policy, row: Row, refuse: Refuse): void {
  const percent = policy.limitsWithinPercentOfRequests;
  if (percent === undefined) return;
  const pairs = [
    ["cpu", row.cpuRequest, row.cpuLimit],
    ...Array.from({ length: rungsOf(row) }, (_, rung) => {
      const { request, limit } = memoryAt(row, rung);
      return ["memory", request, limit] as const;
    }),
    ["disk", row.diskRequest, row.diskLimit],
  ] as const;
  for (const [resource, request, limit] of pairs) {
    // A limit alone is right: Kubernetes takes it as the request too.
    if (request === undefined) continue;
    const most = (quantityValue(request) ?? 0) * (1 + percent / 100);
    if (limit === undefined) {
      refuse(
        `${resource}_limit`,
        "",
        `a request needs a limit at most ${percent} % above it; write a limit from ${request} on`,
      );
    } else if ((quantityValue(limit) ?? 0) > most * (1 + 1e-9)) {
      const over = Math.round(((quantityValue(limit) ?? 0) / (quantityValue(request) ?? 1) - 1) * 100);
      refuse(
        `${resource}_limit`,
        limit,
        `${over} % above ${resource}_request (${request}), at most ${percent} % are allowed; raise the request or lower the limit`,
      );
    }
  }
}

/**
 * The banned entry that the command holds. Scripts such as that of `sh -c '…'` are looked into, paths are taken for
 * their last part: /bin/sleep is sleep. A guard against habits, not against somebody who wants to get round it.
 */
function findBanned(banned: readonly string[], command: readonly string[]): string | undefined {
  if (banned.length === 0) return undefined;
  const words = command.flatMap((part) => part.split(/[\s;|&()<>`"']+/)).filter((part) => part !== "").map(baseName);
  return banned.find((entry) => {
    const wanted = entry.split(/\s+/).map(baseName);
    return words.some((_, at) => wanted.every((part, offset) => words[at + offset] === part));
  });
}

function baseName(path: string): string {
  return trimEnd(path, "/").split("/").at(-1) || path;
}
