/**
 * Whether a run's result is there before it begins (`skip_existing`). In doubt the run begins.
 */
import { type Emit, type ObjectLook, RefusedError, type RunSpec } from "../ports.ts";
import { MAX_PARSED_BYTES, outputOf, payloadText } from "../run_spec.ts";
import { parseJson } from "../util/json.ts";

/**
 * The URL of the result that is there already; undefined: the run is to begin. Throws RefusedError where the message
 * lacks what the URL is made of, and what `look` throws where the store does not answer for now.
 */
export async function outputThere(
  spec: RunSpec,
  { look, emit, signal }: { readonly look?: ObjectLook; readonly emit: Emit; readonly signal: AbortSignal },
): Promise<string | undefined> {
  const { row, attempt = 1, rerunOf, message } = spec;
  // A further attempt, or one that a person wants again, is to make anew what is there.
  if (!look || !row.skipExisting || attempt > 1 || rerunOf !== undefined || wantsAnew(message.payload)) {
    return undefined;
  }
  const output = outputOf(spec);
  if (output === undefined) return undefined;
  try {
    return await look(output, { signal }) ? output : undefined;
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    const words = `Job "${row.jobName}" runs, for whether its output is there cannot be seen: ${error.message}`;
    emit({
      type: "error",
      scope: "store",
      report: { reason: "OutputUnseen", message: words, job_name: row.jobName, line: row.line, column: "output" },
    });
    return undefined;
  }
}

/** The message, or the one that began its chain, says `"overwrite": true`. */
function wantsAnew(payload: Uint8Array): boolean {
  if (payload.length > MAX_PARSED_BYTES) return false;
  const message = fieldsOf(payloadText(payload));
  return message["overwrite"] === true || fieldsOf(message["input"])["overwrite"] === true;
}

function fieldsOf(text: unknown): Record<string, unknown> {
  try {
    const value: unknown = typeof text === "string" ? parseJson(text) : text;
    return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
  } catch {
    return {};
  }
}
