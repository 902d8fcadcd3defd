/**
 * What the program says of its own use: help of all and of one command, for people and as JSON, and completion scripts.
 */
import { flagName, knownNames, renderHelp } from "../config.ts";
import { nearest } from "../util/nearest.ts";
import { wrap } from "../util/text_width.ts";
import { type Command, COMMANDS, usageOf } from "./commands.ts";
import { type Completion, completionScript } from "./completions.ts";
import { type Call, CommandError, type Io } from "./context.ts";
import { type Screen, styled } from "./table_text.ts";

/** Lines are no longer than is read with ease. */
const WIDEST = 120;
const NARROWEST = 60;

const EXAMPLES = [
  ["See it work, with nothing installed", "demo --once"],
  ["What is wrong with a table", "check jobs.csv"],
  ["What a message would start", `explain lab/upload '{"uuid":"x"}'`],
  ["What failed", "runs --state failed"],
  ["Run a row by hand, and see it", "run sort uuid=x mode=fast"],
] as const;

const EXIT_CODES = [
  ["0", "done, and what was asked about is well"],
  ["1", "what was asked about is bad, failed or does not exist"],
  ["2", "wrong use or configuration"],
  ["3", "a peer (broker, store, cluster, service) cannot be reached or does not answer"],
] as const;

/** The command help. */
export async function help({ words: [name], json, io }: Call): Promise<number> {
  return await printHelp(io, name, json);
}

/** Prints what there is to say of one command, or of all. */
export async function printHelp(io: Io, name: string | undefined, json: boolean): Promise<number> {
  if (name !== undefined && !Object.hasOwn(COMMANDS, name)) {
    const guess = nearest(name, Object.keys(COMMANDS));
    throw new CommandError(
      2,
      `There is no command "${name}"${guess === undefined ? "" : `: did you mean "${guess}"?`}`,
    );
  }
  if (json) await io.write(helpJson(name) + "\n");
  else {
    // The settings are the service's.
    const text = name === undefined || name === "start"
      ? longHelp(io.screen)
      : commandHelp(name, COMMANDS[name]!, io.screen);
    await io.write(text, { styled: true });
  }
  return 0;
}

/** The commands, without the settings. */
export function shortHelp(screen: Screen = { colour: false }): string {
  const usages = Object.entries(COMMANDS).map(([name, { words }]) => [name, ...words].join(" "));
  const meanings = Object.values(COMMANDS).map(({ meaning }) => meaning);
  return [
    ...wrap("mqtt-job-listener: a message on an MQTT topic starts a Kubernetes Job, as a table says", widthOf(screen)),
    "",
    heading("Examples:", screen),
    ...listed(EXAMPLES.map(([why, line]) => [`mqtt-job-listener ${line}`, why]), screen),
    "",
    heading("Commands:", screen),
    ...listed(usages.map((usage, at) => [usage, meanings[at]!]), screen),
    "",
    ...wrap(
      "`help COMMAND` tells a command's flags. Each takes --json, which makes JSON of errors too, and --no-color.",
      widthOf(screen),
    ),
    "",
  ].join("\n");
}

function longHelp(screen: Screen = { colour: false }): string {
  return [shortHelp(screen), ...exitCodes(screen), "", renderHelp({ width: widthOf(screen) })].join("\n");
}

function commandHelp(name: string, command: Command, screen: Screen = { colour: false }): string {
  const flags = Object.entries(command.flags).map(([flag, { value, meaning }]) => {
    return [`${flag.length === 1 ? "-" : "--"}${flag}${value ? ` ${value}` : ""}`, meaning] as const;
  });
  return [
    `Usage: ${usageOf(name, command)}`,
    "",
    ...wrap(command.meaning, widthOf(screen)),
    ...flags.length > 0 ? ["", heading("Flags:", screen), ...listed(flags, screen)] : [],
    "",
    ...exitCodes(screen),
    "",
    "Settings can be given as flags too: see `help`.",
    "",
  ].join("\n");
}

function exitCodes(screen: Screen): string[] {
  return [heading("Exit codes:", screen), ...listed(EXIT_CODES, screen)];
}

function heading(text: string, screen: Screen): string {
  return styled(text, "strong", screen);
}

function widthOf({ width = 100 }: Screen): number {
  return Math.max(NARROWEST, Math.min(width, WIDEST));
}

/** Two columns; the second one goes on in lines of its own where the terminal is narrow. */
function listed(lines: readonly (readonly [string, string])[], screen: Screen): string[] {
  const left = Math.min(38, Math.max(...lines.map(([name]) => name.length)));
  return lines.flatMap(([name, meaning]) => {
    const indent = " ".repeat(left + 4);
    const wrapped = screen.width === undefined ? [meaning] : wrap(meaning, widthOf(screen) - indent.length);
    const first = `  ${name.padEnd(left)}  `;
    if (name.length > left) return [`  ${name}`, ...wrapped.map((line) => indent + line)];
    return wrapped.map((line, at) => (at === 0 ? first : indent) + line);
  });
}

function helpJson(only?: string): string {
  const commands = Object.entries(COMMANDS).filter(([name]) => only === undefined || name === only)
    .map(([name, { words, meaning, flags }]) => ({ name, words, meaning, flags }));
  return JSON.stringify({ commands, settings: knownNames() });
}

/** The command completions. */
export async function printCompletions({ words: [shell = ""], json, io }: Call): Promise<number> {
  const settings = knownNames().map((name) => `--${flagName(name)}`);
  const script = completionScript(shell, completions(), ["--help", "--no-color", "--version", ...settings]);
  await io.write(json ? JSON.stringify({ shell, script }) + "\n" : script);
  return 0;
}

function completions(): Completion[] {
  return Object.entries(COMMANDS).map(([name, { meaning, flags, choices }]) => ({
    name,
    meaning,
    flags: Object.entries(flags).map(([flag, rest]) => ({ ...rest, name: `${flag.length === 1 ? "-" : "--"}${flag}` })),
    choices: name === "help" ? Object.keys(COMMANDS) : choices ?? [],
  }));
}
