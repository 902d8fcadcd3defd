/**
 * Messages on topics of OBSERVE_TOPICS that no row is for, told to the service's listeners as it tells of its own.
 */
import { openObserver } from "../adapters.ts";
import { rowsFor } from "../catalog.ts";
import type { Config } from "../config.ts";
import type { Service } from "../service.ts";
import { errorMessage } from "../util/errors.ts";

/** Tells of messages that no row is for, from when this replica has its own connection: then it is the one that works. */
export function observeWhenConnected(
  service: Service,
  config: Config,
  { onTrouble, signal }: { onTrouble: (reason: string) => void; signal: AbortSignal },
): void {
  let isObserving = false;
  const own = `${config.topicPrefix}/`;
  const onTopic = (topic: string) => {
    const { table } = service.catalog;
    if (topic.startsWith(own) || !table || rowsFor(table, topic).length > 0) return;
    service.emit({ type: "message", topic, rows: 0, outcome: "ignored", observed: true });
  };
  service.subscribe((event) => {
    if (event.type !== "broker" || !event.connected || isObserving) return;
    isObserving = true;
    openObserver(config, { onTopic, onTrouble }, signal).catch((error) => onTrouble(errorMessage(error)));
  });
}
