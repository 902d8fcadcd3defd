/**
 * What commands ask of the running service's page at STATUS_ADDR. Believes nothing of the answers, of which each command
 * reads its own. `health` runs every few seconds, so this imports next to nothing.
 */
import type { Config } from "../config.ts";
import { UnavailableError } from "../ports.ts";
import { errorMessage } from "../util/errors.ts";
import { startOf } from "../util/streams.ts";
import { CommandError } from "./context.ts";

const ANSWER_MS = 5_000;

/** Of the service at STATUS_ADDR, as it is reached from here. */
export function statusUrl({ status: { listen } }: Pick<Config, "status">, path: string): string {
  if (!listen) throw new CommandError(2, "STATUS_ADDR is off: there is no service to ask");
  const host = ({ "0.0.0.0": "127.0.0.1", "::": "::1" } as Record<string, string>)[listen.hostname] ?? listen.hostname;
  return `http://${host.includes(":") ? `[${host}]` : host}:${listen.port}${path}`;
}

/** Answers with at most `maxBytes` of the text. Rejects with UnavailableError. */
export async function get(url: string, maxBytes: number): Promise<{ text: string; status: number }> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS) });
    return { text: await startOf(answer.body, maxBytes), status: answer.status };
  } catch (cause) {
    throw new UnavailableError(`Cannot reach the service at ${url} (STATUS_ADDR): ${errorMessage(cause)}`, { cause });
  }
}

/** Whatever answered at `url`, it is no answer of the service's. */
export function notTheService(url: string, status: number): CommandError {
  return new CommandError(1, `${url} is not the service's: it answered ${status}; see STATUS_ADDR`);
}
