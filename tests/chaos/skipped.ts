/**
 * Cases of the crash matrix with a run that ends without a Job, for its output is there: the service killed before and after
 * each step of its end.
 */
import { errorMessage } from "../../util/errors.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { JobWatch } from "../harness/job_watch.ts";
import type { Kit } from "../harness/kit.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";
import { type Case, type CaseResult, ENTRY, FINISH_MS } from "./stage.ts";

const STEPS = [
  ["note:1", "the note of a run without a Job"],
  ["publish:1", "the end of a run without a Job is told"],
  ["skip-record:1", "the record of a run without a Job"],
  ["unnote:1", "its note is removed"],
] as const;

export const SKIPPED: readonly Case[] = STEPS.flatMap(([step, what]) =>
  ["before", "after"].map((when): Case => ({
    name: `skip_existing: killed ${when} ${what}`,
    play: (kit, id) => playSkipped(kit, id, step.replace(":", `:${when}:`)),
  }))
);

/** One message whose output is there, and a row that waits for the end of its run. */
async function playSkipped(kit: Kit, id: string, fault: string): Promise<Omit<CaseResult, "name">> {
  const beginMs = performance.now();
  const prefix = `chaos-${id}`;
  const policy = await scratchFolder("policy");
  await Deno.writeTextFile(`${policy}/policy.yaml`, 'output_prefixes: ["s3://"]\n');
  const env: Record<string, string> = {
    ...kit.env(prefix),
    MQTT_CLIENT_ID: prefix,
    REPLICA_NAME: id,
    LOG_LEVEL: "debug",
    POLICY_FILE: `${policy}/policy.yaml`,
  };
  const [sort, after] = [`${id}-sort`, `${id}-after`];
  const image = "busybox:lab";
  const output = `${env["RUNS_URL"]}-outputs/there.zip`;
  await kit.s3.put(output, "there");
  await kit.s3.put(
    env["CATALOG_URL"]!,
    csv([
      { image, job_name: sort, mqtt_topic: `lab-${id}/sort`, output, skip_existing: "yes" },
      { image, command: shell("true"), job_name: after, mqtt_topic: `${prefix}/job_complete/${sort}` },
    ]),
  );
  await using jobs = await JobWatch.start(kit.cluster.api);
  await using ear = await MqttEar.connect(kit.broker.url, [`${prefix}/job_complete/+`, `${prefix}/job_failed/+`]);
  const wrong: string[] = [];
  const created = (row: string) => jobs.created(row).length;
  try {
    await using dying = await startService({ ...env, CHAOS_FAULT: fault }, { entry: ENTRY });
    await ear.publish(`lab-${id}/sort`, "m1");
    await eventually(() => dying.status !== undefined, { timeoutMs: FINISH_MS, what: `the service to die ${fault}` });
    if ((await dying.ended).signal !== "SIGKILL") wrong.push("it did not die by the fault");
    await using _service = await startService(env, { entry: ENTRY });
    await eventually(() => created(after) > 0 && jobs.left(after).length === 0, {
      timeoutMs: FINISH_MS,
      intervalMs: 250,
      what: () => `the child to end; ${created(after)} created`,
    });
    const notes = async () => (await kit.s3.list(`${env["RUNS_URL"]}/.unstarted/`)).length;
    await eventually(async () => await notes() === 0, { timeoutMs: FINISH_MS, what: "the note to be removed" });
    // What is done twice is done a little later.
    await pause(1_000);
  } catch (error) {
    wrong.push(errorMessage(error).split("\n")[0]!);
  }
  const ends = new Set(ear.json<{ run_name: string }>(`${prefix}/job_complete/${sort}`).map((end) => end.run_name));
  if (ends.size !== 1) wrong.push(`${ends.size} ends of the run without a Job`);
  if (created(sort) > 0) wrong.push("it has a Job");
  await removeFolder(policy);
  return {
    messages: 1,
    runs: created(after),
    lost: created(after) === 0 ? 1 : 0,
    doubled: Math.max(0, created(after) - 1),
    outcome: wrong.length === 0 ? "ok" : wrong.join("; "),
    seconds: (performance.now() - beginMs) / 1000,
  };
}
