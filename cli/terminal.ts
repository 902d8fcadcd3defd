/**
 * Standard input and output of this process as the commands see them, and what the terminal behind them can show. Owns when
 * there are colours; must let nothing from outside give the terminal an order.
 */
import { processInput } from "../config.ts";
import { redact } from "../util/redact.ts";
import { oneLine, visible } from "../util/text.ts";
import { textWidth } from "../util/text_width.ts";
import type { Io } from "./context.ts";
import { type Screen, styled } from "./table_text.ts";

/**
 * Whether to colour what goes to a terminal, or to a file or pipe (`isTerminal` false): https://no-color.org/ and, for
 * FORCE_COLOR, https://force-color.org/. The flag `--no-color` goes before all.
 */
export function wantsColour(
  env: Readonly<Record<string, string | undefined>>,
  { isTerminal, noColour = false }: { readonly isTerminal: boolean; readonly noColour?: boolean },
): boolean {
  if (noColour || env["NO_COLOR"]) return false;
  const forced = env["FORCE_COLOR"];
  if (forced) return forced !== "0" && forced !== "false";
  return isTerminal && env["TERM"] !== "dumb";
}

/** `noColour`: the flag was given. */
export function processIo({ noColour = false }: { readonly noColour?: boolean } = {}): Io {
  const encoder = new TextEncoder();
  const decoder = new TextDecoder();
  const input = processInput();
  // What jobs, publishers and answers wrote must not give orders to a person's terminal; a file or pipe gets each byte.
  const isTerminal = Deno.stdout.isTerminal();
  const colour = wantsColour(input.env, { isTerminal, noColour });
  const width = isTerminal ? terminalWidth() : undefined;
  const errors: Screen = { colour: wantsColour(input.env, { isTerminal: Deno.stderr.isTerminal(), noColour }) };
  return {
    input,
    ...(isTerminal || colour ? { screen: { colour, ...(width === undefined ? {} : { width }) } } : {}),
    async write(text, { styled: isOurs = false } = {}) {
      const shown = isTerminal && !isOurs
        ? visible(typeof text === "string" ? text : decoder.decode(text, { stream: true }))
        : text;
      const bytes = typeof shown === "string" ? encoder.encode(shown) : shown;
      for (let at = 0; at < bytes.length;) at += await Deno.stdout.write(bytes.subarray(at));
    },
    ...(isTerminal && input.env["TERM"] !== "dumb" ? { redraw: (text: string) => drawScreen(text) } : {}),
    tell: (line, style) => console.error(styled(visible(redact(line)), style, errors)),
    read: async () => new Uint8Array(await new Response(Deno.stdin.readable).arrayBuffer()),
    progress: Deno.stderr.isTerminal() && input.env["TERM"] !== "dumb" ? progressLine() : undefined,
  };
}

/** A line that each call replaces; an empty one takes it away. */
function progressLine(): (line: string) => void {
  let isShown = false;
  return (line) => {
    if (line === "" && !isShown) return;
    isShown = line !== "";
    Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[K${oneLine(redact(line))}`));
  };
}

/** From the upper left corner. */
function drawScreen(text: string): void {
  const shown = fitScreen(text, consoleSize());
  // Each line is cleared to its end, and what is below the last: without a flicker.
  Deno.stdout.writeSync(new TextEncoder().encode(`\x1b[H${shown.map((line) => `${line}\x1b[K\n`).join("")}\x1b[J`));
}

/** The first lines, as many as there is room for, the cursor's own line left free: else the terminal would scroll. */
export function fitScreen(text: string, size: { columns: number; rows: number } | undefined): string[] {
  const lines = text.split("\n");
  if (!size || size.rows < 2 || size.columns < 1) return lines;
  // deno-lint-ignore no-control-regex
  const rowsOf = (line: string) => Math.max(1, Math.ceil(textWidth(line.replace(/\x1b\[\d+m/g, "")) / size.columns));
  const all = lines.map(rowsOf);
  let left = size.rows - 1;
  if (all.reduce((sum, rows) => sum + rows, 0) <= left) return lines;
  left -= 1; // of the …
  const fitting = all.findIndex((rows) => (left -= rows) < 0);
  return [...lines.slice(0, fitting), "…"];
}

/** In columns; undefined: the terminal does not say. */
function terminalWidth(): number | undefined {
  return consoleSize()?.columns || undefined;
}

function consoleSize(): { columns: number; rows: number } | undefined {
  try {
    return Deno.consoleSize();
  } catch {
    return undefined;
  }
}
