/**
 * What a message about an end says beside its payload: MQTT 5 user properties with the attributes of a CloudEvent
 * (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/mqtt-protocol-binding.md, binary mode) and the trace
 * context. Pure.
 */
import type { PublishOptions } from "../ports.ts";
import { compact } from "../util/compact.ts";

/** An end, as far as its properties say it. */
export interface EndFacts {
  readonly what: "run" | "group";
  /** Of the run or the group: an end that is told twice, for want of an answer or after a crash, is the same event. */
  readonly name: string;
  readonly status: string;
  readonly jobName: string;
  /** RFC 3339. */
  readonly finishedAt: string;
  readonly traceparent?: string | undefined;
  readonly tracestate?: string | undefined;
}

/**
 * The properties of an end's message. Each attribute of the CloudEvent is there twice: under its own name, as the binding for
 * MQTT has it, and with `ce_` before it, as that for Kafka has it, which is what bridges and older consumers look for.
 */
export function endProperties(
  { what, name, status, jobName, finishedAt, traceparent, tracestate }: EndFacts,
  topicPrefix: string,
): Pick<PublishOptions, "properties" | "contentType"> {
  const attributes = {
    specversion: "1.0",
    id: `${name}/${status}`,
    source: `/${encodeURI(topicPrefix)}`,
    type: `mqtt-job-listener.${what}.${status}`,
    subject: jobName,
    time: finishedAt,
  };
  const prefixed = Object.fromEntries(Object.entries(attributes).map(([key, value]) => [`ce_${key}`, value]));
  const properties = {
    ...attributes,
    ...prefixed,
    ce_datacontenttype: CONTENT_TYPE,
    ...compact({ traceparent, tracestate }),
  };
  return { properties, contentType: CONTENT_TYPE };
}

/** `datacontenttype` is MQTT's own property Content Type. */
const CONTENT_TYPE = "application/json";
