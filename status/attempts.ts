/**
 * The attempts of a run, side by side: those before it by their names, those after it by what each record says comes next.
 * Reads only, and not more than a page shows.
 */
import type { RunRecord, RunView } from "../ports.ts";
import { earlierAttempts } from "../run_spec.ts";
import { compact } from "../util/compact.ts";
import type { RunState } from "./pages/parts.tsx";
import type { StatusView } from "./view.ts";

/** Looked for in each direction. */
const MAX_ATTEMPTS = 10;

/** What a page shows of one attempt. */
export interface AttemptView {
  readonly run_name: string;
  readonly attempt: number;
  /** undefined: nothing is known of it. */
  readonly state?: RunState;
  readonly reason?: string;
  readonly exit_code?: number;
  /** As the row has it. */
  readonly memory_limit?: string;
  /** Bytes. */
  readonly peak_memory?: number;
  readonly node?: string;
  readonly started_at?: string | null;
  readonly finished_at?: string;
}

/** In order; empty where there is only the one. What cannot be read is there with its name alone. */
export async function attemptsOf(
  view: StatusView,
  { live, record }: { readonly live?: RunView; readonly record?: RunRecord },
  signal: AbortSignal,
): Promise<AttemptView[]> {
  const own = record ? ofRecord(record) : live && ofLive(live);
  if (!own) return [];
  const place = record
    ? {
      runName: record.run_name,
      jobName: record.job_name,
      ...compact({ attempt: own.attempt, firstRun: record.first_run }),
    }
    : live!;
  const names = earlierAttempts(place, MAX_ATTEMPTS);
  const before = await Promise.all(
    names.map((name, at) => look(view, name, own.attempt - names.length + at, signal)),
  );
  const after: AttemptView[] = [];
  for (let next = record?.retried_as; next !== undefined && after.length < MAX_ATTEMPTS;) {
    const found = await read(view, next, signal);
    after.push(found.shown ?? { run_name: next, attempt: own.attempt + after.length + 1 });
    next = found.next;
  }
  const all = [...before, own, ...after];
  return all.length > 1 ? all : [];
}

async function look(view: StatusView, run_name: string, attempt: number, signal: AbortSignal): Promise<AttemptView> {
  return (await read(view, run_name, signal)).shown ?? { run_name, attempt };
}

async function read(
  view: StatusView,
  runName: string,
  signal: AbortSignal,
): Promise<{ readonly shown?: AttemptView; readonly next?: string }> {
  const live = view.liveRun(runName);
  if (live) return { shown: ofLive(live) };
  const record = await view.record(runName, signal).catch(() => undefined);
  return record ? { shown: ofRecord(record), ...compact({ next: record.retried_as }) } : {};
}

function ofLive({ runName, attempt = 1, state, limits, nodes, startedAt }: RunView): AttemptView {
  return {
    run_name: runName,
    attempt,
    state,
    ...compact({
      memory_limit: limits["memory"],
      node: nodes.join(", ") || undefined,
      started_at: startedAt?.toISOString(),
    }),
  };
}

function ofRecord(record: RunRecord): AttemptView {
  const { run_name, attempt = 1, status: state, reason, exit_code, peak_memory, started_at, finished_at } = record;
  const parts = { memory_limit: record.limits["memory"], node: record.node ?? undefined, peak_memory };
  return {
    ...{ run_name, attempt, state, reason, started_at, finished_at },
    ...compact({ ...parts, exit_code: exit_code ?? undefined }),
  };
}
