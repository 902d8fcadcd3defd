/**
 * The command messages: asks the service at STATUS_ADDR what became of the last messages, and what one on a topic would
 * start.
 */
import type { MessagesInput } from "../status/pages/messages.tsx";
import { oneLine } from "../util/text.ts";
import { type Call, hint, plain, printLine } from "./context.ts";
import { get, notTheService, statusUrl } from "./service_page.ts";
import { type Style, styled } from "./table_text.ts";

/** More than the service answers: 200 messages of 2 KB. */
const LONGEST_ANSWER = 4 * 1024 * 1024;
const OUTCOMES: Readonly<Record<string, string>> = { runs: "runs", ignored: "for no row", duplicate: "known already" };

const STYLES: Readonly<Record<string, Style>> = { runs: "good", refused: "bad", ignored: "warning", filtered: "faint" };

/** Words of others, in a line of ours. */
function own(text: string): string {
  return oneLine(plain(text));
}

/** Prints them, newest first; with a word those whose topic holds it. */
export async function messages({ json, io, words: [topic = ""], ...call }: Call): Promise<number> {
  const url = statusUrl(call.config(), "/messages.json");
  const { text, status } = await get(`${url}?topic=${encodeURIComponent(topic)}`, LONGEST_ANSWER);
  const seen = readAnswer(text);
  if (!seen) throw notTheService(url, status);
  if (json) await printLine(io, JSON.stringify(seen));
  else {
    for (const { at, topic, outcome, runs, why } of seen.messages) {
      const word = styled(own(OUTCOMES[outcome] ?? outcome), STYLES[outcome], io.screen);
      const head = `${own(`${at.slice(0, 19).replace("T", " ")}  ${topic}`)}  ${[word, ...runs.map(own)].join(" ")}`;
      const lines = [head, ...why.map((sentence) => `    ${own(sentence)}`), ""];
      await io.write(lines.join("\n"), { styled: true });
    }
    const run = seen.messages.find(({ runs }) => runs.length > 0)?.runs[0];
    if (run !== undefined) hint(io, `See its log: mqtt-job-listener logs ${own(run)}`);
  }
  if (seen.asked) io.tell(plain(answerWords(seen.asked)));
  else if (seen.messages.length === 0) io.tell("No message has come since the service began");
  return 0;
}

function answerWords({ topic, rows, off, nearest }: NonNullable<MessagesInput["asked"]>): string {
  if (rows.length > 0) return `A message on "${topic}" is for ${rows.join(", ")}`;
  if (off.length > 0) return `The rows for "${topic}" are switched off (enabled): ${off.join(", ")}`;
  return `No row is for "${topic}"${nearest === undefined ? "" : `: did you mean "${nearest}"?`}`;
}

/** As JSON has it. */
type Answer = Omit<MessagesInput, "messages"> & {
  readonly messages: readonly (Omit<MessagesInput["messages"][number], "at"> & { readonly at: string })[];
};

function readAnswer(text: string): Answer | undefined {
  try {
    const answer = JSON.parse(text) as Answer;
    return Array.isArray(answer.messages) && answer.messages.every(isMessage) ? answer : undefined;
  } catch {
    return undefined;
  }
}

function isMessage({ at, topic, outcome, runs, why }: Answer["messages"][number]): boolean {
  return [at, topic, outcome].every((word) => typeof word === "string") && Array.isArray(runs) && Array.isArray(why);
}
