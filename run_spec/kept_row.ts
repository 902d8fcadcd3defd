/**
 * The row that a Job, a group or a note keeps so that runs can be made of it, read back and checked: whoever may write Jobs
 * or objects, or the folders of the local runner, may have written it. What a table would not let through is asked of the policy again
 * by who uses it (flows/retries.ts). Pure.
 */
import * as z from "zod";
import type { Row } from "../ports.ts";
import { errorMessage } from "../util/errors.ts";
import { parseJson } from "../util/json.ts";
import { quantityValue } from "../util/quantities.ts";

/** Fields that nothing reads when an attempt is made are let through as they are. */
function rowShape() {
  // The longest text of a cell.
  const text = z.string().max(32_768);
  const words = z.array(text).max(10_000);
  const size = z.string().refine((one) => quantityValue(one) !== undefined);
  const whole = z.int().min(0);
  const path = z.array(z.union([text, whole]));
  const placeholder = z.looseObject({ root: text, path, preset: text.optional(), source: text });
  const template = z.array(z.union([text, placeholder]));
  const nodeRules = z.array(z.looseObject({ key: text, operator: text, values: words }));
  const pairs = z.array(z.looseObject({ key: text, value: template }));
  const entry = (...words: string[]) => z.looseObject({ from: z.enum(words) });

  return z.looseObject({
    line: whole,
    jobName: text,
    mqttTopic: text,
    image: text,
    gpu: whole,
    parallelism: z.int().min(1),
    backoffLimit: whole,
    ...z.object({
      command: words,
      args: z.array(template),
      env: z.array(z.union([
        entry("value").extend({ name: text, value: template }),
        entry("secret", "config").extend({ name: text, object: text, key: text }),
        entry("field").extend({ name: text, path: text }),
        entry("all").extend({ kind: z.enum(["secret", "config"]), object: text }),
      ])),
      mounts: z.array(z.union([
        entry("pvc").extend({ object: text, subPath: text.optional(), path: text, readOnly: z.boolean() }),
        entry("secret", "config").extend({ object: text, key: text.optional(), path: text }),
        entry("memory", "scratch").extend({ size: size.optional(), path: text }),
      ])),
      workingDir: template,
      runAs: z.looseObject({ user: whole, group: whole.optional() }),
      cpuRequest: size,
      cpuLimit: size,
      memoryRequest: size,
      memoryLimit: size,
      memoryRequests: z.array(size),
      memoryLimits: z.array(size).min(1),
      diskRequest: size,
      diskLimit: size,
      diskMount: text,
      gpuResource: text,
      gpuProduct: words,
      resources: z.array(z.looseObject({ name: text, quantity: size })),
      nodeSelector: nodeRules,
      nodePreference: nodeRules,
      tolerations: z.array(z.looseObject({ key: text.optional(), value: text.optional(), effect: text.optional() })),
      completions: z.int().min(1),
      activeDeadlineSeconds: whole,
      terminationGraceSeconds: whole,
      labels: pairs,
      annotations: pairs,
      imagePullPolicy: z.enum(["Always", "IfNotPresent", "Never"]),
      imagePullSecret: words,
      serviceAccount: text,
      priorityClass: text,
      runtimeClass: text,
      queue: text,
      podTemplate: text,
      inputs: z.array(z.looseObject({
        name: text,
        required: z.boolean(),
        preset: text.optional(),
        choices: words.optional(),
      })),
      output: template,
      owner: text,
      retries: whole,
      retryOn: z.array(z.union([z.looseObject({ first: whole, last: whole }), z.looseObject({ reason: text })])),
      rerunAfterDisruption: z.boolean(),
      notify: words,
      needs: words,
      concurrencyGroup: template,
      maxRuns: z.int().min(1),
      maxWaiting: whole,
      whenBusy: z.enum(["wait", "forbid", "replace", "latest"]),
      enabled: z.enum(["yes", "no", "paused"]),
      skipExisting: z.boolean(),
    }).partial().shape,
  });
}

let made: ReturnType<typeof rowShape> | undefined;

/** Made when the first row is read back: it takes 4 ms, which no start need wait for. */
function row(): ReturnType<typeof rowShape> {
  return made ??= rowShape();
}

/** Of what an object of the store keeps; undefined: it is no row. */
export function storedRow(value: unknown): Row | undefined {
  return row().safeParse(value).success ? value as Row : undefined;
}

/** Of the JSON that a Job keeps. Throws SyntaxError where it is no row. */
export function keptRow(json: string): Row {
  let value: unknown;
  try {
    value = parseJson(json);
  } catch (cause) {
    throw new SyntaxError(`it is not JSON: ${errorMessage(cause)}`, { cause });
  }
  const read = row().safeParse(value);
  if (read.success) return value as Row;
  throw new SyntaxError(`it is no row of a table, by its ${read.error.issues[0]?.path.join(".") || "shape"}`);
}
