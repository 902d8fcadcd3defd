/**
 * Cases of the crash matrix without a message: a row that is due by its schedule, and the service killed before and after
 * it writes since when rows are known, and before and after it creates the due run.
 */
import { errorMessage } from "../../util/errors.ts";
import { shortHash } from "../../run_spec.ts";
import { envOf, JobWatch } from "../harness/job_watch.ts";
import type { Kit } from "../harness/kit.ts";
import { startService } from "../harness/service.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";
import { type Case, type CaseResult, ENTRY, FINISH_MS } from "./stage.ts";

const HOUR_MS = 3600_000;

export const DUE_TIMES: readonly Case[] = ["schedule", "create"].flatMap((operation) =>
  ["before", "after"].map((when): Case => ({
    name: `killed ${when} ${operation === "create" ? "the create of a due run" : "the note of schedules"}`,
    play: (kit, id) => playDue(kit, id, `${operation}:${when}:1`),
  }))
);

/** A row that has been due within the last hour, known since before; the service dies at the fault and is started again. */
async function playDue(kit: Kit, id: string, fault: string): Promise<Omit<CaseResult, "name">> {
  const beginMs = performance.now();
  const prefix = `chaos-${id}`;
  const row = `${id}-due`;
  const env: Record<string, string> = {
    ...kit.env(prefix),
    MQTT_CLIENT_ID: prefix,
    REPLICA_NAME: id,
    LOG_LEVEL: "debug",
  };
  await using jobs = await JobWatch.start(kit.cluster.api);
  const cells = { image: "busybox:lab", job_name: row, mqtt_topic: "", schedule: "every 1h" };
  await kit.s3.put(env["CATALOG_URL"]!, csv([{ ...cells, command: shell("echo $PAYLOAD_DUE") }]));
  // The other row is gone from the table, so the note is written anew.
  const known = { schedule: "every 1h", time_zone: "UTC", since: new Date(Date.now() - 3 * HOUR_MS).toISOString() };
  const note = { topic_prefix: prefix, rows: [{ job_name: row, ...known }, { job_name: "gone", ...known }] };
  const due = new Date(Math.floor(Date.now() / HOUR_MS) * HOUR_MS).toISOString();
  await kit.s3.put(`${env["RUNS_URL"]}/.schedules/${shortHash(["schedules", prefix])}.json`, JSON.stringify(note));
  const wrong: string[] = [];
  const dues = () => jobs.created(row).map((job) => envOf(job)["PAYLOAD_DUE"]);
  try {
    await using dying = await startService({ ...env, CHAOS_FAULT: fault }, { entry: ENTRY, mayEnd: true });
    await eventually(() => dying.status !== undefined, { timeoutMs: FINISH_MS, what: `the service to die ${fault}` });
    if ((await dying.ended).signal !== "SIGKILL") wrong.push("it did not die by the fault");
    // Twice: the second start finds what the first has made, be it under way or ended.
    for (let time = 0; time < 2; time++) {
      await using _service = await startService(env, { entry: ENTRY });
      await eventually(() => dues().includes(due) && jobs.left(row).length === 0, {
        timeoutMs: FINISH_MS,
        intervalMs: 250,
        what: `the run due at ${due} to end`,
      });
    }
    // What is done twice is done a little later.
    await pause(1_000);
  } catch (error) {
    wrong.push(errorMessage(error).split("\n")[0]!);
  }
  const found = dues().filter((one) => one === due).length;
  // The clock may have gone over the hour meanwhile.
  const others = dues().filter((one) => one !== due);
  if (new Set(others).size !== others.length || others.some((one) => one! < due)) wrong.push(`also due: ${others}`);
  const records = (await kit.s3.list(`${env["RUNS_URL"]}/`)).filter((key) => key.includes(`/${row}-`)).length;
  if (records !== dues().length) wrong.push(`${records} records of ${dues().length} runs`);
  return {
    messages: 0,
    runs: dues().length,
    lost: found === 0 ? 1 : 0,
    doubled: Math.max(0, found - 1),
    outcome: wrong.length === 0 ? "ok" : wrong.join("; "),
    seconds: (performance.now() - beginMs) / 1000,
  };
}
