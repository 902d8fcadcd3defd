/**
 * The payload of a message for people: JSON a line for each value, all else as it came. A pure function of its input.
 */
import { jsonLines } from "../json_text.ts";
import { short } from "./parts.tsx";

/** Characters shown at most. */
const MAX_SHOWN = 12 * 1024;

/** The text that came; what is too large is cut, and says so. */
export function Payload({ text }: { text: string }) {
  const json = jsonLines(text, MAX_SHOWN);
  return (
    <>
      <pre class="all" role="group" aria-labelledby="message-h">
        {json ? json.pieces.map(({ kind, text }) => kind === "key" ? <b>{text}</b> : text) : short(text, MAX_SHOWN)}
      </pre>
      {json?.isCut && <p class="muted">It goes on; the whole is to be had as it came.</p>}
    </>
  );
}
