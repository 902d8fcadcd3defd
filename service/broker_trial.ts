/**
 * The trial of the broker's order on the service's own topic `info`: owns what is subscribed and published for it, and for
 * how long. What it shows is the listener's to know.
 */
import type { Listener } from "../listener.ts";
import { type Broker, RefusedError } from "../ports.ts";

/** Of the whole trial: a broker that does not answer by then is not known. */
const TRIAL_MS = 10_000;

/**
 * Whether the broker gives packet identifiers in order, see listener.ts. In a new session nobody's message waits; in
 * another one some may come, and what comes for a filter that is not among `others` is nobody's.
 */
export async function tryOrder(
  listener: Listener,
  { broker, topic, body, others, signal: stop }: {
    broker: Broker;
    topic: string;
    body: string;
    others: readonly string[];
    signal: AbortSignal;
  },
): Promise<void> {
  const signal = AbortSignal.any([stop, AbortSignal.timeout(TRIAL_MS)]);
  try {
    await broker.subscribe(new Set([...others, topic]), signal).catch((error) => {
      if (!(error instanceof RefusedError) || broker.refused.has(topic)) throw error;
    });
    await listener.tryOrder({
      topic,
      publish: () => broker.publish(topic, body, { signal }),
      reconnect: () => broker.reconnect(),
      signal,
    });
  } catch {
    // Not allowed, or no answer: then identifiers decide nothing.
    stop.throwIfAborted();
  }
}
