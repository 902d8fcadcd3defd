/**
 * What the local runner would start of a run, for people to read. Starts nothing and makes no folder.
 */
import { join, resolve } from "node:path";
import type { RunSpec } from "../../ports.ts";
import { compact } from "../../util/compact.ts";
import { newRun } from "./run.ts";

/** What would be started of a run, as people read it; `env` beside PATH, HOME and what comes from secrets. */
export interface ProcessPlan {
  readonly run_name: string;
  readonly command: readonly string[];
  /** Where it starts; `{index}` stands for the number of a part. */
  readonly dir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly parts?: number;
  readonly memory_limit?: string;
  readonly deadline_seconds?: number;
  readonly concurrency_group?: string;
  /** Columns of the row that do nothing on this machine. */
  readonly not_followed?: readonly string[];
}

/** What `create` would make of a run in the folder `dir`. Throws RefusedError as it does. */
export function processPlan(
  spec: RunSpec,
  { dir, hasSecrets = false }: { readonly dir: string; readonly hasSecrets?: boolean },
): ProcessPlan {
  const { command, env, workingDir, pods, memoryLimit, activeDeadlineSeconds, leftOut = [] } = newRun(spec, {
    hasSecrets,
  });
  const folder = resolve(Deno.cwd(), dir, spec.runName);
  return {
    run_name: spec.runName,
    command,
    dir: workingDir ?? join(folder, pods.length > 1 ? "{index}" : "0"),
    env,
    ...compact({
      parts: pods.length > 1 ? pods.length : undefined,
      memory_limit: memoryLimit,
      deadline_seconds: activeDeadlineSeconds,
      concurrency_group: spec.concurrency,
      not_followed: leftOut.length > 0 ? leftOut : undefined,
    }),
  };
}
