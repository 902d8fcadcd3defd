/**
 * The command health: asks the service at STATUS_ADDR whether it is well. Containers run it every few seconds, so it
 * imports next to nothing.
 */
import type { Config } from "../config.ts";
import { UnavailableError } from "../ports.ts";
import { errorMessage } from "../util/errors.ts";
import { startOf } from "../util/streams.ts";
import { oneLine } from "../util/text.ts";
import { type Call, CommandError, printLine } from "./context.ts";
import { styled } from "./table_text.ts";

const HEALTH_MS = 5_000;
/** Much more than the service answers. */
const LONGEST_ANSWER = 64 * 1024;

/** Asks `/healthz` of the service at STATUS_ADDR. */
export async function health({ json, io, ...call }: Call): Promise<number> {
  const url = statusUrl(call.config(), "/healthz");
  const { text, status } = await get(url, LONGEST_ANSWER);
  const seen = readHealth(text);
  if (!seen) throw new CommandError(1, `${url} is not the service's: it answered ${status}; see STATUS_ADDR`);
  if (json) await printLine(io, JSON.stringify(seen));
  else {
    const lines = Object.entries(seen.checks).map(([what, state]) => oneLine(`${what}: ${state}`));
    const head = styled(seen.ok ? "healthy" : "not healthy", seen.ok ? "good" : "bad", io.screen);
    await io.write([head, ...lines, ""].join("\n"), { styled: true });
  }
  return seen.ok ? 0 : 1;
}

/** Of the service at STATUS_ADDR, as it is reached from here. */
export function statusUrl({ status: { listen } }: Pick<Config, "status">, path: string): string {
  if (!listen) throw new CommandError(2, "STATUS_ADDR is off: there is no service to ask");
  const host = ({ "0.0.0.0": "127.0.0.1", "::": "::1" } as Record<string, string>)[listen.hostname] ?? listen.hostname;
  return `http://${host.includes(":") ? `[${host}]` : host}:${listen.port}${path}`;
}

/** Answers with at most `maxBytes` of the text. Rejects with UnavailableError. */
export async function get(url: string, maxBytes: number): Promise<{ text: string; status: number }> {
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(HEALTH_MS) });
    return { text: await startOf(answer.body, maxBytes), status: answer.status };
  } catch (cause) {
    throw new UnavailableError(`Cannot reach the service at ${url} (STATUS_ADDR): ${errorMessage(cause)}`, { cause });
  }
}

function readHealth(text: string): { ok: boolean; checks: Record<string, string> } | undefined {
  try {
    const { ok, checks } = JSON.parse(text);
    const isHealth = typeof ok === "boolean" && typeof checks === "object" && checks !== null;
    return isHealth && Object.values(checks).every((state) => typeof state === "string") ? { ok, checks } : undefined;
  } catch {
    return undefined;
  }
}
