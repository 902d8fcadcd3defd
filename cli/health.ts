/**
 * The command health: asks the service at STATUS_ADDR whether it is well. Containers run it every few seconds, so it
 * imports next to nothing.
 */
import { oneLine } from "../util/text.ts";
import { type Call, printLine } from "./context.ts";
import { get, notTheService, statusUrl } from "./service_page.ts";
import { styled } from "./table_text.ts";

/** Much more than the service answers. */
const LONGEST_ANSWER = 64 * 1024;

/** Asks `/healthz` of the service at STATUS_ADDR. */
export async function health({ json, io, ...call }: Call): Promise<number> {
  const url = statusUrl(call.config(), "/healthz");
  const { text, status } = await get(url, LONGEST_ANSWER);
  const seen = readHealth(text);
  if (!seen) throw notTheService(url, status);
  if (json) await printLine(io, JSON.stringify(seen));
  else {
    const lines = Object.entries(seen.checks).map(([what, state]) => oneLine(`${what}: ${state}`));
    const head = styled(seen.ok ? "healthy" : "not healthy", seen.ok ? "good" : "bad", io.screen);
    await io.write([head, ...lines, ""].join("\n"), { styled: true });
  }
  return seen.ok ? 0 : 1;
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
