/**
 * Cases of the crash matrix with a row that needs two others: the service killed before and after each step from the
 * record of the last needed run to the end of the joined one.
 */
import { errorMessage } from "../../util/errors.ts";
import { JobWatch } from "../harness/job_watch.ts";
import type { Kit } from "../harness/kit.ts";
import { MqttEar, startService } from "../harness/service.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";
import { type Case, type CaseResult, ENTRY, FINISH_MS } from "./stage.ts";

/** Each by its number of those of one message: two runs that are needed, and the joined one. */
const STEPS = [
  ["record:2", "the record of the last needed run"],
  ["mark:1", "the first mark"],
  ["mark:2", "the last mark"],
  ["mark-list:2", "the list of marks"],
  ["create:3", "the create of the joined run"],
  ["delete:2", "the deletion of the last needed Job"],
  ["record:3", "the record of the joined run"],
  ["unmark:1", "the deletion of a mark"],
] as const;

export const JOINS: readonly Case[] = STEPS.flatMap(([step, what]) =>
  ["before", "after"].map((when): Case => ({
    name: `needs: killed ${when} ${what}`,
    play: (kit, id) => playJoin(kit, id, step.replace(":", `:${when}:`)),
  }))
);

/** One message for two rows that a third needs; the service dies at the fault and is started again. */
async function playJoin(kit: Kit, id: string, fault: string): Promise<Omit<CaseResult, "name">> {
  const beginMs = performance.now();
  const prefix = `chaos-${id}`;
  const env: Record<string, string> = {
    ...kit.env(prefix),
    MQTT_CLIENT_ID: prefix,
    REPLICA_NAME: id,
    LOG_LEVEL: "debug",
  };
  const base = { image: "busybox:lab", command: shell("true") };
  const [one, other, joined] = ["one", "other", "joined"].map((name) => `${id}-${name}`) as [string, string, string];
  await kit.s3.put(
    env["CATALOG_URL"]!,
    csv([
      { ...base, job_name: one, mqtt_topic: `lab-${id}/in` },
      { ...base, job_name: other, mqtt_topic: `lab-${id}/in` },
      { ...base, job_name: joined, mqtt_topic: "", needs: `${one}, ${other}` },
    ]),
  );
  await using jobs = await JobWatch.start(kit.cluster.api);
  await using ear = await MqttEar.connect(kit.broker.url, [`${prefix}/job_complete/+`]);
  const wrong: string[] = [];
  const count = (row: string) => jobs.created(row).length;
  const rows = [one, other, joined];
  try {
    await using dying = await startService({ ...env, CHAOS_FAULT: fault }, { entry: ENTRY });
    await ear.publish(`lab-${id}/in`, "m1");
    await eventually(() => dying.status !== undefined, { timeoutMs: FINISH_MS, what: `the service to die ${fault}` });
    if ((await dying.ended).signal !== "SIGKILL") wrong.push("it did not die by the fault");
    await using _service = await startService(env, { entry: ENTRY });
    await eventually(() => rows.every((row) => count(row) > 0 && jobs.left(row).length === 0), {
      timeoutMs: FINISH_MS,
      intervalMs: 250,
      what: () => `all runs to end; ${rows.map((row) => `${row}: ${count(row)} created`).join(", ")}`,
    });
    const marks = () => kit.s3.list(`${env["RUNS_URL"]}/.joins/`);
    const isOver = async () => (await marks()).length === 0;
    await eventually(isOver, { timeoutMs: FINISH_MS, what: async () => `${(await marks()).length} marks to go` });
    // What is done twice is done a little later.
    await pause(1_000);
  } catch (error) {
    wrong.push(errorMessage(error).split("\n")[0]!);
  }
  const ends = new Set(ear.json<{ run_name: string }>(`${prefix}/job_complete/${joined}`).map((end) => end.run_name));
  if (ends.size !== 1) wrong.push(`${ends.size} ends of the joined row`);
  const roots = new Set(
    jobs.created().flatMap(({ metadata }) => {
      const { labels = {}, annotations = {} } = metadata ?? {};
      return rows.includes(annotations["mqtt-job-listener/job-name"] ?? "")
        ? labels["mqtt-job-listener/root"] ?? ""
        : [];
    }),
  );
  if (roots.size !== 1) wrong.push(`${roots.size} roots`);
  return {
    messages: 1,
    runs: rows.reduce((sum, row) => sum + count(row), 0),
    lost: rows.filter((row) => count(row) === 0).length,
    doubled: rows.reduce((sum, row) => sum + Math.max(0, count(row) - 1), 0),
    outcome: wrong.length === 0 ? "ok" : wrong.join("; "),
    seconds: (performance.now() - beginMs) / 1000,
  };
}
