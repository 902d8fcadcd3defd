/** Ends as CloudEvents: the user properties of what is published, the same for the same end. */
import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import { EventTopics } from "../../observers/event_topics.ts";
import { endProperties } from "../../payloads.ts";
import type { PublishOptions } from "../../ports.ts";
import { FakeBroker } from "../harness/fakes.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";

class Broker extends FakeBroker {
  readonly options: (PublishOptions & { topic: string })[] = [];

  override publish(topic: string, payload: string | Uint8Array, options: PublishOptions = {}): Promise<void> {
    this.options.push({ topic, ...options });
    return super.publish(topic, payload);
  }
}

Deno.test("an end has the same properties each time it is published, each attribute also with ce_", () => {
  const end = {
    what: "run",
    name: "sort-1",
    status: "failed",
    jobName: "sort é",
    finishedAt: "2026-01-01T00:00:00Z",
  } as const;
  const { properties = {}, contentType } = endProperties(end, "lab/with space");
  deepEqual(endProperties(end, "lab/with space").properties, properties);
  deepEqual([properties["id"], properties["source"], contentType], [
    "sort-1/failed",
    "/lab/with%20space",
    "application/json",
  ]);
  for (const name of ["specversion", "id", "source", "type", "subject", "time"]) {
    equal(properties[`ce_${name}`], properties[name]);
  }
  equal("traceparent" in properties, false);
});

Deno.test("a refusal on job_failed is a CloudEvent of its own each time", async () => {
  const broker = new Broker();
  const topics = new EventTopics({ broker, topicPrefix: PREFIX, signal: new AbortController().signal });
  const report = { reason: "Refused", message: "no right", job_name: "sort" } as const;
  for (const _ of [1, 2]) topics.error(report);
  await eventually(() => broker.options.length === 4);
  const [one, other] = broker.options.filter(({ topic }) => topic === `${PREFIX}/job_failed/sort`);
  equal(one!.properties!["ce_type"], "mqtt-job-listener.run.refused");
  match(one!.properties!["id"]!, /^[0-9a-f-]{36}\/refused$/);
  notEqual(one!.properties!["id"], other!.properties!["id"]);
  const errors = broker.options.filter(({ topic }) => topic === `${PREFIX}/ERROR`);
  deepEqual(errors.map(({ properties }) => properties), [undefined, undefined]);
});
