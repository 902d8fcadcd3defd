/**
 * The limit of "publish → Job visible": a process that creates the same Job by fetch as soon as a message reaches it and
 * has the Jobs watched as the service has, and does nothing else. Takes the path of its order; says `ready` when it is
 * subscribed.
 */
import mqtt from "mqtt";
import { Semaphore } from "../../util/semaphore.ts";
import { drainWatch, type JobTemplate } from "./bare_creator.ts";

/** What the process is told. */
export interface BareListenerOrder {
  readonly brokerUrl: string;
  /** Its topics end with a level that can be a Job's name. */
  readonly filter: string;
  readonly server: string;
  readonly ca: string;
  readonly token: string;
  readonly template: JobTemplate;
  readonly concurrency: number;
}

async function listen(
  { brokerUrl, filter, server, ca, token, template, concurrency }: BareListenerOrder,
): Promise<void> {
  const client = Deno.createHttpClient({ caCerts: [ca], http2: false, poolMaxIdlePerHost: concurrency });
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const { metadata } = template;
  const url = `${server}/apis/batch/v1/namespaces/${metadata.namespace}/jobs`;
  const turns = new Semaphore(concurrency);
  void drainWatch({ ca, token }, url);
  const connection = await mqtt.connectAsync(brokerUrl, { protocolVersion: 5 });
  const create = async (topic: string) => {
    const annotations = { ...metadata.annotations, "mqtt-job-listener/topic": topic };
    const job = { ...template, metadata: { ...metadata, name: topic.split("/").at(-1), annotations } };
    const response = await fetch(url, { method: "POST", client, headers, body: JSON.stringify(job) });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
  };
  connection.on("message", (topic) => turns.take(() => create(topic), undefined));
  await connection.subscribeAsync(filter, { qos: 1 });
  console.log("ready");
}

if (import.meta.main) await listen(JSON.parse(await Deno.readTextFile(Deno.args[0]!)));
