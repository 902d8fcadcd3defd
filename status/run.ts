/**
 * What the page of a run shows, gathered from the view: its record or live state, message, log, timeline, attempts, and all
 * runs of its message. What cannot be had leaves its part of the page out. Must not know HTTP, nor what pages look like.
 */
import { stringify } from "yaml";
import type { EventFacts, JobFacts, RunRecord, RunView } from "../ports.ts";
import { isRunName, keptPayload, lineageOfRecord, recordedLineage } from "../run_spec.ts";
import { pulledAt } from "../runs.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import type { Page } from "./answers.ts";
import { attemptsOf } from "./attempts.ts";
import { ancestorsOf, descendantsOf, familyLines, familyOf, type FamilyRun, pickLines } from "./family.ts";
import { waitData, waitsOf } from "./joins.ts";
import { type LogTail, logTail } from "./log_stream.ts";
import { type Looking, MAX_OF_ROOT } from "./look.ts";
import { runPage } from "./pages/run.tsx";
import { liveRunData } from "./run_json.ts";
import { liveTimeline, timelineOf } from "./timeline.ts";

/** A run that lives or has ended. */
export interface FoundRun {
  readonly live?: RunView;
  readonly record?: RunRecord;
}

/** Events of the cluster on the page of a live run. */
const MAX_EVENTS = 10;
/** Bars on the page of a run. */
const MAX_BARS = 60;
const MAX_PAYLOAD_SHOWN = 96 * 1024;

/** undefined: there is none, or the name cannot be one. */
export async function findRun(runName: string, { view, signal }: Looking): Promise<FoundRun | undefined> {
  if (!isRunName(runName)) return undefined;
  const live = view.liveRun(runName);
  if (live) return { live };
  const record = await view.record(runName, signal());
  return record && { record };
}

/** The page of a run; undefined: there is none of that name. */
export async function readRun(runName: string, looking: Looking): Promise<Page | undefined> {
  const found = await findRun(runName, looking);
  if (!found) return undefined;
  const { view, actions, signal } = looking;
  const now = new Date();
  const { live, record } = found;
  const root = rootOf(found);
  const [ended, attempts, log, message, events] = await Promise.all([
    view.history.find({ root, everyItem: true, limit: MAX_OF_ROOT }, signal()).catch(() => []),
    attemptsOf(view, found, signal()),
    readLog(runName, looking),
    record ? messageOfRecord(record) : liveMessage(runName, looking),
    readEvents(found, looking),
  ]);
  const liveOnes = view.liveRuns().filter((run) => run.root === root);
  // Of the record itself the history may not know yet, or no more.
  const known = record && !ended.some(({ run_name }) => run_name === runName) ? [...ended, record] : ended;
  const runs = familyOf(liveOnes, known);
  const waits = await waitsOf({ root, live: liveOnes, ended: known }, view, signal());
  const shown = {
    runName,
    root,
    ...compact({ live, record, log }),
    ...message,
    timeline: record ? timelineOf(record) : liveTimeline(live!, { now, pulledAt: pulledAt(events, live!.startedAt) }),
    events: events.slice(-MAX_EVENTS),
    attempts,
    waits,
    ancestors: ancestorsOf(runs, runName),
    descendants: descendantsOf(runs, runName),
    reruns: runs.filter(({ rerun_of }) => rerun_of === runName),
    family: pickLines(familyLines(runs), { most: MAX_BARS, own: runName }),
    isFamilyCut: ended.length >= MAX_OF_ROOT,
  };
  return { data: dataOf(shown, runs), html: () => runPage({ ...shown, now, actions }) };
}

function dataOf(
  {
    runName,
    root,
    live,
    record,
    log,
    timeline,
    events,
    attempts,
    waits,
    ancestors,
    descendants,
    reruns,
    manifest,
    ...message
  }:
    & FoundRun
    & RunMessage
    & {
      readonly runName: string;
      readonly root: string;
      readonly log?: LogTail;
      readonly timeline: unknown;
      readonly events: unknown;
      readonly attempts: unknown;
      readonly waits: Parameters<typeof waitData>[0][];
      readonly ancestors: readonly string[];
      readonly descendants: readonly FamilyRun[];
      readonly reruns: readonly FamilyRun[];
    },
  runs: readonly FamilyRun[],
): unknown {
  return {
    run_name: runName,
    root,
    state: record?.status ?? live?.state,
    ...compact({ live: live && liveData(live), record, manifest }),
    ...log ? { log: { text: log.text, extent: log.extent } } : {},
    ...compact({ payload: message.payload, payload_note: message.payloadNote }),
    timeline,
    events,
    attempts,
    waits: waits.map(waitData),
    ancestors,
    descendants: descendants.map(({ run_name }) => run_name),
    reruns: reruns.map(({ run_name }) => run_name),
    runs,
  };
}

/** A live run with all that is known of it. */
function liveData(run: RunView): Record<string, unknown> {
  return {
    ...liveRunData(run),
    ...recordedLineage(run),
    created_at: run.createdAt,
    ...compact({
      held_for: run.heldBy,
      released_at: run.releasedAt,
      scheduled_at: run.scheduledAt,
      disruptions: run.disruptions,
    }),
  };
}

function rootOf({ live, record }: FoundRun): string {
  return record ? lineageOfRecord(record).root : live!.root;
}

/** What the cluster says of a live run, the last of it, oldest first. */
async function readEvents({ live, record }: FoundRun, { view, signal }: Looking): Promise<readonly EventFacts[]> {
  if (record || !live) return [];
  return await view.events?.(live.runName, signal()).catch(() => []) ?? [];
}

async function readLog(runName: string, { view, signal }: Looking): Promise<LogTail | undefined> {
  try {
    return await logTail(view, runName, signal());
  } catch (error) {
    return { text: `The log cannot be read now: ${errorMessage(error)}`, extent: "whole" };
  }
}

// ---------------------------------------------------------------- its message and its Job

/** What a page shows of a run's message and Job; what there is not is left out. */
export interface RunMessage {
  readonly payload?: string;
  /** Why there is no text. */
  readonly payloadNote?: string;
  /** As YAML. */
  readonly manifest?: string;
}

/** The message's payload as it came; undefined: it is not known here. */
export async function payloadOf(runName: string, looking: Looking): Promise<Uint8Array | undefined> {
  const found = await findRun(runName, looking);
  if (!found) return undefined;
  if (found.record) return keptPayload(found.record);
  return (await looking.view.job(runName, looking.signal()))?.payload;
}

/** The Job as YAML; undefined: it is not known any more. */
export async function manifestOf(runName: string, looking: Looking): Promise<string | undefined> {
  const found = await findRun(runName, looking);
  if (!found) return undefined;
  const job = found.record ? found.record.job : (await looking.view.job(runName, looking.signal()))?.manifest?.();
  return job && asYaml(job);
}

function messageOfRecord({ job, payload, payload_object }: RunRecord): RunMessage {
  const manifest = job && asYaml(job);
  if (payload !== null) return compact({ manifest, payload });
  const payloadNote = payload_object === undefined
    ? "Its payload is not text."
    : `Its payload is large; it is at ${payload_object}`;
  return compact({ manifest, payloadNote });
}

async function liveMessage(runName: string, { view, signal }: Looking): Promise<RunMessage> {
  try {
    const job = await view.job(runName, signal());
    if (!job) return {};
    return { ...compact({ manifest: job.manifest && asYaml(job.manifest()) }), ...textOf(job) };
  } catch (error) {
    return { payloadNote: `Its payload cannot be read now: ${errorMessage(error)}` };
  }
}

function textOf({ payload, payloadObject }: JobFacts): RunMessage {
  if (payloadObject !== undefined) return { payloadNote: `Its payload is large; it is at ${payloadObject}` };
  if (payload === undefined) return {};
  if (payload.length > MAX_PAYLOAD_SHOWN) return { payloadNote: `Its payload has ${payload.length} bytes.` };
  try {
    return { payload: new TextDecoder("utf-8", { fatal: true }).decode(payload) };
  } catch {
    return { payloadNote: "Its payload is not text." };
  }
}

function asYaml(job: Readonly<Record<string, unknown>>): string {
  return stringify(job, { lineWidth: 0, aliasDuplicateObjects: false });
}
