/** May make Jobs in the namespace of the service. */
import { equal, ok } from "node:assert/strict";
import { ANNOTATION, LABEL } from "../../k8s/labels.ts";
import { eventually } from "../harness/wait.ts";
import { type Attack, type Bed, PREFIX } from "./bed.ts";
import { checkOrders } from "./publisher.ts";

const ACTOR = "foreign user of the namespace";
const JOBS = "/apis/batch/v1/namespaces/default/jobs";

/** Makes a Job with the labels of the service's own, but for `changes`. */
async function makeJob(
  bed: Bed,
  name: string,
  { labels = {}, annotations = {} }: { labels?: Record<string, string>; annotations?: Record<string, string> },
): Promise<string> {
  const [own] = await bed.created("normal", 1);
  const metadata = {
    name,
    labels: { ...own!.metadata!.labels, [LABEL.run]: name, [LABEL.row]: "normal", ...labels },
    annotations: { ...own!.metadata!.annotations, ...annotations },
  };
  const spec = {
    suspend: true,
    template: {
      metadata: { labels: metadata.labels },
      spec: { restartPolicy: "Never", containers: [{ name: "main", image: "busybox:lab" }] },
    },
  };
  await bed.cluster.api.create(JOBS, { apiVersion: "batch/v1", kind: "Job", metadata, spec });
  return name;
}

export const FOREIGN: readonly Attack[] = [
  {
    actor: ACTOR,
    name: "Jobs with the service's labels, called `evil/#`, with topics of 200 KB, escapes, `../x`",
    bound: "left alone and named; not announced, not deleted, not cancelled",
    short: true,
    async run(bed) {
      const from = bed.ear.heard.length;
      const note = (jobName: string, more: Record<string, string> = {}) => ({
        annotations: { [ANNOTATION.jobName]: jobName, ...more },
      });
      const names = await Promise.all([
        makeJob(bed, "evil-hash-aaaaaaaaaaaa", note("evil/#")),
        makeJob(bed, "evil-plus-aaaaaaaaaaaa", note("+")),
        makeJob(bed, "evil-path-aaaaaaaaaaaa", note("../../x")),
        makeJob(bed, "evil-escape-aaaaaaaaaaaa", note("\x1b[2J\u202e")),
        makeJob(bed, "evil-long-aaaaaaaaaaaa", note("x".repeat(200_000))),
        makeJob(bed, "normal-bad", note("normal")),
        makeJob(bed, "normal-topicaaaaaaa", note("normal", { [ANNOTATION.topic]: "y".repeat(200_000) })),
        makeJob(bed, "normal-rowaaaaaaaaa", { labels: { [LABEL.row]: "other" } }),
      ]);
      // Whoever reconnects to the broker says again what was not acknowledged.
      bed.brokerGate.cut();
      await bed.sendNormal();
      await bed.normalRan();
      for (const name of names) {
        const answer = await bed.ask("cancel", { run_name: name });
        equal(answer["status"], "error", `${name} was cancelled`);
        ok(await bed.cluster.api.find(`${JOBS}/${name}`), `${name} is gone`);
      }
      await eventually(() => bed.ear.heard.slice(from).some(({ topic }) => topic === `${PREFIX}/ERROR`), {
        what: "a word on ERROR",
      });
      const said = bed.ear.heard.slice(from);
      equal(said.filter(({ topic }) => /job_complete|job_failed/.test(topic)).length, 0);
      for (const { text } of said) {
        ok(text.length < 100_000, `${text.length} characters`);
        checkOrders("topics", text);
      }
      for (const name of names) await bed.cluster.api.delete(`${JOBS}/${name}`, { propagationPolicy: "Background" });
      return `${names.length} Jobs left alone`;
    },
  },
  {
    actor: ACTOR,
    name: "one of the service's Jobs given a parent, depth and topic of others' making",
    bound: "read or left out, never a fault",
    short: true,
    async run(bed) {
      const job = (await bed.created("normal", 1)).at(-1)!.metadata!.name!;
      const annotations = {
        [ANNOTATION.parentRun]: "../../x",
        [ANNOTATION.rootRun]: "\x1b[2J",
        [ANNOTATION.chainDepth]: "1e99",
        [ANNOTATION.receivedAt]: "never",
        [ANNOTATION.payloadObject]: "s3://other/secret",
      };
      await bed.cluster.api.patch(`${JOBS}/${job}`, { metadata: { annotations } });
      await bed.sendNormal();
      await bed.normalRan();
      const answer = await bed.ask("rerun", { run_name: job });
      equal(answer["status"], "error", "it read an object of others' choice");
      checkOrders("log", await bed.service.log());
      return "rerun refused";
    },
  },
];
