/**
 * Cases of the crash matrix with groups and with limits: the service killed before and after each step of a group, from
 * its list of items to its end, and around the calls that let a Job go on or cancel it.
 */
import type { V1Job } from "@kubernetes/client-node";
import { errorMessage } from "../../util/errors.ts";
import { JobWatch } from "../harness/job_watch.ts";
import type { Kit } from "../harness/kit.ts";
import { boundNamespace } from "../harness/quota.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { type Cells, csv, shell } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";
import { type Case, type CaseResult, ENTRY, FINISH_MS } from "./stage.ts";

const ITEMS = 3;

/** What is played: rows with their Jobs, messages, and what is to be seen in the end. */
interface Play {
  readonly rows: readonly (Cells & { readonly job_name: string; readonly jobs: number })[];
  /** Topics of messages; further ones are sent when the first one has its Job. */
  readonly messages: readonly string[];
  /** Ends of groups, each once. */
  readonly groups: number;
  /** Of the first row at a time. */
  readonly maxRuns?: number;
  /** Jobs that the namespace may have at a time. */
  readonly quota?: number;
}

function group(id: string, prefix: string): Play {
  return {
    rows: [
      {
        job_name: `${id}-item`,
        mqtt_topic: `lab-${id}/in`,
        command: shell("true"),
        for_each: `1..${ITEMS}`,
        jobs: ITEMS,
      },
      { job_name: `${id}-then`, mqtt_topic: `${prefix}/group_complete/${id}-item`, command: shell("true"), jobs: 1 },
    ],
    messages: [`lab-${id}/in`],
    groups: 1,
  };
}

function limit(id: string): Play {
  const topic = `lab-${id}/in`;
  const row = { job_name: `${id}-one`, mqtt_topic: topic, command: shell("sleep 2"), max_runs: 1, jobs: 3 };
  return { rows: [row], messages: [topic, topic, topic], groups: 0, maxRuns: 1 };
}

/** The first one runs for as long as the second one takes to come, and gives way to it. */
function replace(id: string): Play {
  const topic = `lab-${id}/in`;
  const command = shell('trap "exit 143" TERM; [ -n "$MQTT_PAYLOAD" ] || { sleep 60 & wait; }');
  const row = { job_name: `${id}-one`, mqtt_topic: topic, command, max_runs: 1, when_busy: "replace", jobs: 2 };
  return { rows: [row], messages: [topic, topic], groups: 0, maxRuns: 1 };
}

/** Runs that fail once, in a namespace that has one Job at a time. */
function quota(id: string): Play {
  const topic = `lab-${id}/in`;
  const command = shell('[ "$ATTEMPT" = 2 ]');
  const row = { job_name: `${id}-one`, mqtt_topic: topic, command, retries: 1, jobs: 4 };
  return { rows: [row], messages: [topic, topic], groups: 0, quota: 1 };
}

/** Each by its number of those of the play. */
const STEPS: readonly (readonly [play: (id: string, prefix: string) => Play, step: string, what: string])[] = [
  [group, "open-group:1", "the note that a group is open"],
  [group, "manifest:1", "the list of a group's items"],
  [group, "create:1", "the create of the first item"],
  [group, "create:3", "the create of the last item"],
  [group, "item-mark:1", "the mark of an item"],
  [group, "item-mark:3", "the mark of the last item"],
  [group, "item-list:1", "the list of a group's marks"],
  [group, "group-publish:1", "the publication of a group's end"],
  [group, "close-group:1", "the removal of the note that it is open"],
  [group, "delete:3", "the deletion of the last item's Job"],
  [quota, "open-attempt:1", "the note of an attempt that waits for a place"],
  [quota, "close-attempt:1", "the removal of that note"],
  [limit, "create:2", "the create of a Job that waits"],
  [limit, "resume:1", "letting a Job go on"],
  [replace, "cancel:1", "the cancel of a run that gives way"],
  [replace, "resume:1", "letting go on in its place"],
];

export const FLOWS: readonly Case[] = STEPS.flatMap(([of, step, what]) =>
  ["before", "after"].map((when): Case => ({
    name: `${of.name}: killed ${when} ${what}`,
    alone: of === quota,
    play: (kit, id) => play(kit, id, { fault: step.replace(":", `:${when}:`), of }),
  }))
);

async function play(
  kit: Kit,
  id: string,
  { fault, of }: { readonly fault: string; readonly of: (id: string, prefix: string) => Play },
): Promise<Omit<CaseResult, "name">> {
  const beginMs = performance.now();
  const prefix = `chaos-${id}`;
  const { rows, messages, groups, maxRuns, quota } = of(id, prefix);
  const env: Record<string, string> = {
    ...kit.env(prefix),
    MQTT_CLIENT_ID: prefix,
    REPLICA_NAME: id,
    LOG_LEVEL: "debug",
    RETRY_DELAY: "1s",
  };
  await using _quota = quota === undefined
    ? undefined
    : await boundNamespace(kit.cluster.api, { "count/jobs.batch": `${quota}` });
  await kit.s3.put(
    env["CATALOG_URL"]!,
    csv(rows.map(({ jobs: _jobs, ...cells }) => ({ ...cells, image: "busybox:lab" }))),
  );
  await using jobs = await JobWatch.start(kit.cluster.api);
  await using ear = await MqttEar.connect(kit.broker.url, [`${prefix}/#`]);
  const wrong: string[] = [];
  const count = (row: string) => jobs.created(row).length;
  const send = async () => {
    await ear.publish(messages[0]!, "");
    if (messages.length === 1) return;
    await eventually(() => count(rows[0]!.job_name) > 0, { timeoutMs: FINISH_MS });
    for (const topic of messages.slice(1)) await ear.publish(topic, "further");
  };
  const openGroups = async () => {
    const open: string[] = [];
    for (const url of await kit.s3.list(`${env["RUNS_URL"]}/.open-groups/`)) {
      // Who dies before the list of items is there leaves a note that a later process removes, a day after.
      const isBegun = await kit.s3.get(url.replace("/.open-groups/", "/.groups/")) !== undefined;
      if (isBegun) open.push(url);
    }
    return open;
  };
  try {
    await using dying = await startService({ ...env, CHAOS_FAULT: fault }, { entry: ENTRY });
    // It may die before it makes the Job that is waited for.
    const sending = send();
    await eventually(() => dying.status !== undefined, { timeoutMs: FINISH_MS, what: `the service to die ${fault}` });
    if ((await dying.ended).signal !== "SIGKILL") wrong.push("it did not die by the fault");
    await using _service = await startService(env, { entry: ENTRY });
    await sending;
    await eventually(
      () => rows.every((row) => count(row.job_name) >= row.jobs && jobs.left(row.job_name).length === 0),
      {
        timeoutMs: FINISH_MS,
        intervalMs: 250,
        what: () =>
          `all runs to end; ${rows.map(({ job_name }) => `${job_name}: ${count(job_name)} created`).join(", ")}`,
      },
    );
    const isOver = async () => (await openGroups()).length === 0;
    await eventually(isOver, { timeoutMs: FINISH_MS, what: async () => `the end of ${await openGroups()}` });
    // What is done twice is done a little later.
    await pause(1_500);
  } catch (error) {
    wrong.push(errorMessage(error).split("\n")[0]!);
  }
  const told = new Set(
    ["complete", "failed"].flatMap((how) => ear.json<{ group: string }>(`${prefix}/group_${how}/${rows[0]!.job_name}`))
      .map((end) => JSON.stringify([end.group, "succeeded" in end && end.succeeded])),
  );
  if (told.size !== groups) wrong.push(`${told.size} different ends of groups`);
  const most = mostAtOnce(jobs.created(rows[0]!.job_name));
  if (maxRuns !== undefined && most > maxRuns) wrong.push(`${most} runs at a time`);
  return {
    messages: messages.length,
    runs: rows.reduce((sum, row) => sum + count(row.job_name), 0),
    lost: rows.reduce((sum, row) => sum + Math.max(0, row.jobs - count(row.job_name)), 0),
    doubled: rows.reduce((sum, row) => sum + Math.max(0, count(row.job_name) - row.jobs), 0),
    outcome: wrong.length === 0 ? "ok" : wrong.join("; "),
    seconds: (performance.now() - beginMs) / 1000,
  };
}

/** By the times that Kubernetes writes down, which are whole seconds. */
function mostAtOnce(jobs: readonly V1Job[]): number {
  const spans = jobs.flatMap(({ status }) => {
    const end = status?.completionTime;
    return status?.startTime === undefined || end === undefined ? [] : [[time(status.startTime), time(end)] as const];
  });
  return Math.max(0, ...spans.map(([begin]) => spans.filter(([from, to]) => from <= begin && begin < to).length));
}

function time(date: Date | string): number {
  return new Date(date).getTime();
}
