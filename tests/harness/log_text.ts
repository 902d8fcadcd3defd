/** Output at random access for tests, which counts what is read of it. */
import { LineCounter, LineMap, type LogText } from "../../logs.ts";

export interface CountedText extends LogText {
  /** Bytes read so far. */
  readonly bytesRead: number;
}

/** The text as if it were a run's output; `numbered: false`: as of a former version. */
export function logTextOf(
  content: string | Uint8Array,
  { numbered = true, step = 1024, ...more }: Partial<LogText> & { numbered?: boolean; step?: number } = {},
): CountedText {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  const counter = new LineCounter({ step });
  counter.push(bytes);
  const text = {
    head: "",
    parts: [],
    isLive: false,
    ...numbered ? { lines: new LineMap(counter, { at: 0, breaks: 0 }) } : {},
    bytesRead: 0,
    ...more,
    size: bytes.length,
    read(from: number, length: number): Promise<Uint8Array> {
      const part = bytes.slice(from, from + length);
      text.bytesRead += part.length;
      return Promise.resolve(part);
    },
  };
  return text;
}
