/**
 * What the core tells, made fit for log, topics, page and webhook. Pure.
 */
import type { ServiceEvent } from "../ports.ts";
import { safeWords } from "../util/errors.ts";

/** Words of peers are cut and lose their secrets here, on their way to log, topics, page and webhook. */
export function withSafeWords(event: ServiceEvent): ServiceEvent {
  switch (event.type) {
    case "message":
      return event.filtered === undefined ? event : {
        ...event,
        filtered: event.filtered.map((row) => ({ ...row, because: safeWords(row.because) })),
      };
    case "join":
      return event.because === undefined ? event : { ...event, because: safeWords(event.because) };
    case "waiting":
      return { ...event, reason: safeWords(event.reason) };
    case "broker":
      return event.reason === undefined ? event : { ...event, reason: safeWords(event.reason) };
    case "finished":
    case "retrying":
      return { ...event, record: { ...event.record, message: safeWords(event.record.message) } };
    case "error": {
      const { message, value } = event.report;
      const report = { ...event.report, message: safeWords(message) };
      return { ...event, report: value === undefined ? report : { ...report, value: safeWords(value) } };
    }
    default:
      return event;
  }
}
