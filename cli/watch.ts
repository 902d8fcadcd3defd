/**
 * `--watch`: a command's result again and again, until Ctrl+C. Owns when it is looked and how a terminal is redrawn; knows no
 * command. A peer that cannot be reached for now does not end it.
 */
import { UnavailableError } from "../ports.ts";
import { errorMessage } from "../util/errors.ts";
import { delayAtMost } from "../util/retry.ts";
import { visible } from "../util/text.ts";
import type { Call, Io } from "./context.ts";
import { onInterrupt } from "./interrupt.ts";

const PAUSE_MS = 2_000;
/** Looking takes at most so much of the time: a store of a million runs is not read without a pause. */
const SHARE = 5;

/** What one look gave. */
interface Look {
  readonly result: string;
  /** What was said beside it. */
  readonly told: readonly string[];
  readonly code: number;
}

/**
 * Runs the command over and over. In a terminal the screen shows the last result; in a file or pipe a result is written when
 * it differs from the one before. Resolves with the last exit code when `signal` is aborted; rejects when the command does,
 * but not with UnavailableError. `pauseMs`: between two looks. Default: two seconds.
 */
export async function watch(
  call: Call,
  line: readonly string[],
  run: (call: Call) => Promise<number> | number,
  { signal = onInterrupt().signal, pauseMs = PAUSE_MS }: { signal?: AbortSignal; pauseMs?: number } = {},
): Promise<number> {
  const { io } = call;
  let before: Look | undefined;
  while (true) {
    const begun = performance.now();
    const look = await lookOnce(call, run);
    if (signal.aborted) return look.code;
    if (io.redraw) io.redraw(screenOf(look, line));
    else if (look.result !== before?.result || look.told.join("\n") !== before.told.join("\n")) await print(io, look);
    before = look;
    await delayAtMost(Math.max(pauseMs, (performance.now() - begun) * (SHARE - 1)), signal);
    if (signal.aborted) return look.code;
  }
}

async function lookOnce(call: Call, run: (call: Call) => Promise<number> | number): Promise<Look> {
  const told: string[] = [];
  const decoder = new TextDecoder();
  let result = "";
  const io: Io = {
    ...call.io,
    write: (text, { styled = false } = {}) => {
      const words = typeof text === "string" ? text : decoder.decode(text, { stream: true });
      // As a terminal is given it; a pipe gets each byte.
      result += styled || call.io.redraw === undefined ? words : visible(words);
      return Promise.resolve();
    },
    tell: (text) => void told.push(text),
    progress: undefined,
  };
  try {
    const code = await run({ ...call, io });
    return { result, told, code };
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error;
    return { result: "", told: [`${errorMessage(error)}; trying again`], code: 3 };
  }
}

function screenOf({ result, told }: Look, line: readonly string[]): string {
  const head = `${new Date().toISOString().slice(11, 19)} UTC  mqtt-job-listener ${line.join(" ")}  (Ctrl+C ends)`;
  return [visible(head), "", result.trimEnd(), ...told.map(visible)].join("\n");
}

async function print(io: Io, { result, told }: Look): Promise<void> {
  for (const text of told) io.tell(text);
  await io.write(result, { styled: true });
}
