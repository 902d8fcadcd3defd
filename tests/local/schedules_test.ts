/** A row with a schedule on the parts of a laptop: the run that was missed within the last hour is made good, once. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { shortHash } from "../../run_spec.ts";
import { PREFIX, startEmbeddedBed } from "../harness/local_bed.ts";
import { eventually } from "../harness/wait.ts";

const HOUR_MS = 3600_000;
const TABLE = `job_name,mqtt_topic,image,command,schedule
tidy,,none,sh -c 'test -n "$PAYLOAD_DUE"',every 1h
`;

Deno.test({
  name: "a due time that was missed runs as a local process",
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    const dir = await Deno.makeTempDir({ prefix: "mjl-schedules-" });
    const since = new Date(Date.now() - 3 * HOUR_MS).toISOString();
    const note = {
      topic_prefix: PREFIX,
      rows: [{ job_name: "tidy", schedule: "every 1h", time_zone: "UTC", since }],
    };
    await Deno.mkdir(`${dir}/runs/.schedules`, { recursive: true });
    await Deno.writeTextFile(
      `${dir}/runs/.schedules/${shortHash(["schedules", PREFIX])}.json`,
      JSON.stringify(note),
    );
    const ends: { status: string; topic: string; run_name: string }[] = [];
    const bed = await startEmbeddedBed({
      table: TABLE,
      dir,
      onMessage: (topic, text) => void (topic.startsWith(`${PREFIX}/job_`) && ends.push(JSON.parse(text))),
    });
    try {
      await eventually(() => ends.length > 0);
      deepEqual([ends[0]!.status, ends[0]!.topic], ["succeeded", `${PREFIX}/schedule/tidy`]);
      equal(bed.service.nextDue().get("tidy")?.getUTCMinutes(), 0);
      const scheduled = bed.told.filter(({ type }) => type === "scheduled");
      ok(scheduled.every((event) => event.type === "scheduled" && event.lagMs <= HOUR_MS));
      equal(new Set(ends.map(({ run_name }) => run_name)).size, scheduled.length);
    } finally {
      await bed[Symbol.asyncDispose]();
    }
  },
});
