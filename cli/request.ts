/**
 * Commands that ask the running service for one thing: run, rerun and cancel. What is asked for many runs is batch.ts.
 */
import { isRunName } from "../run_spec.ts";
import { cut } from "../util/text.ts";
import { type Call, CommandError } from "./context.ts";
import { readTimeout, refusal, request } from "./service_requests.ts";

/** How long a running service is given to answer a request; a cluster may be slow to take a Job. */
const ANSWER_MS = 15_000;

type Request = "run" | "rerun" | "cancel";

const DONE: Readonly<Record<Request, string>> = { run: "Started", rerun: "Started", cancel: "Cancelled" };

/** Sends a request to the running service and waits for its answer. */
export async function ask(what: Request, call: Call): Promise<number> {
  const { words: [name = "", ...given], json, io } = call;
  if (call.flag("each") !== undefined) return await (await import("./batch.ts")).runEach(call);
  for (const flag of ["batch", "dry-run"]) {
    if (call.flag(flag) !== undefined) throw new CommandError(2, `--${flag} is for sheets: give --each too`);
  }
  const timeoutMs = readTimeout(call.flag("timeout"), ANSWER_MS);
  if (what !== "run" && !isRunName(name)) {
    throw new CommandError(2, `"${cut(name, 63)}" is no name of a run: see the command runs`);
  }
  const config = call.config();
  const payload = given[0] === "-" ? new TextDecoder().decode(await io.read()) : payloadOf(given);
  const asked = what === "run" ? { job_name: name, payload } : { run_name: name };
  const answer = await request({ config, io }, what, asked, timeoutMs);
  if (answer.status !== "ok") throw refusal(answer);
  const runName = answer.data?.run_name;
  if (typeof runName !== "string" || !isRunName(runName)) {
    throw new CommandError(1, "The answer names no run: does something else answer for the service?");
  }
  await io.write(json ? JSON.stringify(answer.data ?? {}) + "\n" : `${runName}\n`);
  if (!json) io.tell(`${DONE[what]}. See its log: mqtt-job-listener logs -f ${runName}`);
  return 0;
}

/** `uuid=x mode=fast` is the JSON object of these fields; one word of another form is the payload as it is. */
function payloadOf(words: readonly string[]): string {
  const fields = words.map((word) => /^([A-Za-z_][\w-]*)=(.*)$/s.exec(word));
  const odd = fields.indexOf(null);
  if (odd === -1) {
    return words.length === 0 ? "" : JSON.stringify(Object.fromEntries(fields.map((one) => one!.slice(1))));
  }
  if (words.length === 1) return words[0]!;
  throw new CommandError(2, `"${cut(words[odd]!, 63)}": write one payload, or fields such as uuid=x mode=fast`);
}
