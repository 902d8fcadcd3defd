/**
 * Arguments of the command line: which are settings (each setting is a flag too), which are a command's own flags and
 * which are words. Pure; what the values mean is not looked at here.
 */
import { nearest } from "../util/nearest.ts";
import { GUESSES } from "./guesses.ts";
import { type Setting, type SettingName, SETTINGS } from "./settings.ts";

/** Arguments taken apart. */
export interface Arguments {
  /** By variable name. */
  readonly settings: ReadonlyMap<string, string>;
  /** The caller's own flags, by name without dashes; a switch is true. */
  readonly own: ReadonlyMap<string, string | true>;
  readonly positionals: readonly string[];
  readonly faults: readonly string[];
}

/** Flags of a command by name without dashes, one letter for `-f`. */
export type OwnFlags = Readonly<Record<string, "switch" | "value">>;

/** `--mqtt-url X`, `--mqtt-url=X`, `--handle-retained`, `--no-handle-retained`; after `--` all are positionals. */
export function parseArgs(args: readonly string[], own: OwnFlags = {}): Arguments {
  const settings = new Map<string, string>();
  const mine = new Map<string, string | true>();
  const positionals: string[] = [];
  const faults: string[] = [];
  for (let at = 0; at < args.length; at++) {
    const arg = args[at]!;
    if (arg === "--") {
      positionals.push(...args.slice(at + 1));
      break;
    }
    if (!isFlag(arg)) {
      positionals.push(arg);
      continue;
    }
    const [, flag = "", inline] = /^--?([^=]+)(?:=(.*))?$/s.exec(arg) ?? [];
    const target = flagTarget(flag, own);
    if (target === undefined) {
      faults.push(unknownFlag(flag, own));
      continue;
    }
    if (target.alone !== undefined && inline === undefined) {
      if (target.own) mine.set(target.name, true);
      else settings.set(target.name, target.alone);
      continue;
    }
    const value = inline ?? args[++at];
    if (value === undefined) faults.push(`--${flag}: give a value after it`);
    else if (target.own && target.alone !== undefined) faults.push(`--${flag}: it takes no value`);
    else (target.own ? mine : settings).set(target.name, value);
  }
  return { settings, own: mine, positionals, faults };
}

/** Whether an argument is a flag, with its value or without: `--mqtt-url`, `-f`; not `-` and `-5`. */
export function isFlag(arg: string): boolean {
  return /^-(-[a-z]|[a-z]$)/i.test(arg);
}

/** `alone`: its value when none is given; absent: it needs one. */
function flagTarget(flag: string, own: OwnFlags): { name: string; own: boolean; alone?: string } | undefined {
  if (Object.hasOwn(own, flag)) {
    return { name: flag, own: true, ...(own[flag] === "switch" ? { alone: "true" } : {}) };
  }
  const negated = settingOfFlag(flag.replace(/^no-/, ""));
  const name = settingOfFlag(flag);
  if (name !== undefined) return { name, own: false, ...(isFlagAlone(name) ? { alone: "true" } : {}) };
  if (negated !== undefined && isFlagAlone(negated)) return { name: negated, own: false, alone: "false" };
  return undefined;
}

function settingOfFlag(flag: string): string | undefined {
  return knownNames().find((name) => flagName(name) === flag);
}

/** Whether the setting's flag needs no value. */
export function isFlagAlone(name: string): boolean {
  return Object.hasOwn(SETTINGS, name) && settingOf(name as SettingName).flagAlone === true;
}

function unknownFlag(flag: string, own: OwnFlags): string {
  const guess = GUESSES[flag.toUpperCase().replaceAll("-", "_")];
  const known = [...Object.keys(own).filter((name) => name.length > 1), ...knownNames().map(flagName)];
  const hint = guess ? flagName(guess) : nearest(flag, known);
  const advice = hint === undefined ? "see --help" : `did you mean --${hint}?`;
  return `${flag.length === 1 ? "-" : "--"}${flag}: there is no such flag; ${advice}`;
}

/** `MQTT_URL` → `mqtt-url`. */
export function flagName(name: string): string {
  return name.toLowerCase().replaceAll("_", "-");
}

/** What the table says of a setting. */
export function settingOf(name: SettingName): Setting {
  return SETTINGS[name];
}

/** Names of all settings, with `*_FILE` of secrets. */
export function knownNames(): string[] {
  return (Object.keys(SETTINGS) as SettingName[]).flatMap((name) =>
    settingOf(name).secret ? [name, `${name}_FILE`] : [name]
  );
}
