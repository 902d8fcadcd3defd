/**
 * Finds, reads and shows single settings: flag before environment, value before file, preset last. Collects what is
 * wrong; knows nothing of how settings depend on each other, which is config.ts.
 */
import { errorMessage, safeWords } from "../util/errors.ts";
import { nearest } from "../util/nearest.ts";
import { publicUrl, redact, registerSecret } from "../util/redact.ts";
import { oneLine } from "../util/text.ts";
import { type Arguments, flagName, knownNames, parseArgs, settingOf } from "./args.ts";
import { decoded } from "./kinds.ts";
import { GUESSES } from "./guesses.ts";
import { type Setting, type SettingName, SETTINGS, type SettingValue } from "./settings.ts";

/** Where settings come from. */
export interface ConfigInput {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Flags, without the command; or what parseArgs made of them. */
  readonly args?: readonly string[] | Arguments;
  /** For `*_FILE` and TLS files; throws if it cannot. */
  readonly readTextFile: (path: string) => string;
  /** Name of this machine, where it may be known. */
  readonly host?: string | undefined;
  /** Random part of a replica's name. */
  readonly random?: () => string;
}

/** A setting as a person wrote it. */
export interface Raw {
  readonly text: string;
  /** As the person wrote it: `MQTT_URL` or `--mqtt-url`. */
  readonly source: string;
  /** Not from the variable of that very name. */
  readonly moved: boolean;
  /** The file that the text was read from. */
  readonly file?: string;
}

/** Longest refused value that a message shows, in characters. */
const LONGEST_VALUE = 200;

/** Finds, reads and shows settings, and collects what is wrong with them. */
export class Reader {
  readonly faults: string[];
  readonly warnings: string[] = [];
  readonly shown: Record<string, string | number | boolean> = {};
  readonly secrets: string[] = [];
  readonly #input: ConfigInput;
  readonly #args: Arguments;

  constructor(input: ConfigInput) {
    this.#input = input;
    const { args = [] } = input;
    this.#args = "settings" in args ? args : parseArgs(args);
    this.faults = [...this.#args.faults];
    if (!("settings" in args)) {
      for (const word of this.#args.positionals) {
        this.faults.push(`"${word}": no such argument is expected; see --help`);
      }
    }
    this.warnings.push(...unknownVariables(input.env));
  }

  /** The setting's value, its preset's if it is not set; undefined: it has none, or is wrong. */
  get<N extends SettingName>(name: N): SettingValue<N> | undefined {
    const setting = settingOf(name);
    const raw = this.raw(name);
    const text = raw?.text ?? setting.preset;
    if (text === undefined) return undefined;
    if (setting.secret === true) {
      this.hide(text);
      for (const url of urlsWithin(text)) {
        this.hide(url);
        this.#hideWithin(url, true);
      }
    } else if (setting.mayHoldSecret) this.#hideWithin(text, false);
    const read = setting.kind(text);
    if ("fault" in read) {
      const isHidden = setting.secret || setting.mayHoldSecret;
      this.fault(raw?.source ?? name, isHidden ? undefined : text, read.fault);
      return undefined;
    }
    if (!setting.secret) this.shown[name] = showable(text, read.value);
    return read.value as SettingValue<N>;
  }

  /** The text as set, by flag before environment, by value before file. */
  raw(name: SettingName): Raw | undefined {
    const { secret, aliases = [] } = settingOf(name);
    for (const [env, from] of [[false, this.#args.settings], [true, this.#input.env]] as const) {
      const look = (key: string) => from instanceof Map ? from.get(key) : (from as Record<string, string>)[key];
      const source = (key: string) => env ? key : `--${flagName(key)}`;
      for (const key of [name, ...aliases]) {
        const text = secret ? look(key) : look(key)?.trim();
        if (text) return { text, source: source(key), moved: !env || key !== name };
      }
      const file = secret ? look(`${name}_FILE`)?.trim() : undefined;
      if (!file) continue;
      const text = this.file(file, source(`${name}_FILE`), true)?.replace(/\r?\n$/, "");
      if (text === "") this.fault(source(`${name}_FILE`), file, "the file is empty");
      return text ? { text, source: source(`${name}_FILE`), moved: true, file } : undefined;
    }
    return undefined;
  }

  /** The file that the value of a secret was read from; undefined: it did not come from one. */
  secretFile(name: SettingName): string | undefined {
    const source = this.raw(name)?.source;
    const file = `${name}_FILE`;
    if (source === file) return this.#input.env[file]?.trim();
    return source === `--${flagName(file)}` ? this.#args.settings.get(file)?.trim() : undefined;
  }

  /** Whether there is a value, or a file that should hold it. */
  isSet(name: SettingName): boolean {
    const keys = [name, ...(settingOf(name).aliases ?? []), ...(settingOf(name).secret ? [`${name}_FILE`] : [])];
    return keys.some((key) => this.#args.settings.get(key) || this.#input.env[key]);
  }

  /** A file's text; a file that cannot be read is a fault of `source`. */
  file(path: string, source: string, ofSecret = false): string | undefined {
    try {
      return this.#input.readTextFile(path);
    } catch (error) {
      // Some write the secret itself where its file is to be named; Deno's words hold it as well.
      const isPath = !ofSecret || /[/\\]/.test(path);
      if (!isPath) this.hide(path);
      this.fault(source, isPath ? path : undefined, `cannot read the file: ${errorMessage(error)}`);
      return undefined;
    }
  }

  /** The text of the file that a setting names. */
  fileOf(name: SettingName): string | undefined {
    const path = this.get(name) as string | undefined;
    return path === undefined ? undefined : this.file(path, this.raw(name)?.source ?? name);
  }

  fault(source: string, value: string | undefined, advice: string): void {
    const shown = value === undefined ? "" : ` "${oneLine(safeWords(value, LONGEST_VALUE))}"`;
    this.faults.push(`${source}${shown}: ${safeWords(advice)}`);
  }

  /** From now on nobody sees it, be the configuration right or wrong. */
  hide(secret: string): void {
    this.secrets.push(secret);
    registerSecret(secret);
  }

  /** Hides what gives access in a URL: password and query; of one that is a secret itself the path as well. */
  #hideWithin(text: string, isSecret: boolean): void {
    const url = URL.parse(text);
    if (!url) return;
    if (url.password) this.hide(decoded(url.password) ?? url.password);
    for (const [name, value] of url.searchParams) {
      // A short word of another parameter would blot out half of the log.
      if (value.length >= 8 || /token|pass|secret|key|sig|auth/i.test(name)) this.hide(value);
    }
    const more = [url.password, url.search.slice(1)];
    if (isSecret) more.push(url.href, url.pathname.slice(1), decoded(url.pathname.slice(1)) ?? "");
    for (const part of more) if (part.length >= 8) registerSecret(part);
  }
}

/** A secret may be a URL, or hold several behind their names. */
function urlsWithin(text: string): string[] {
  return text.split(/[\n;]/).flatMap((entry) => {
    const scheme = entry.indexOf("://");
    return scheme < 0 ? [] : entry.slice(entry.lastIndexOf("=", scheme) + 1).trim();
  });
}

/** Environment variables that look like settings of ours but are none, as sentences. */
function unknownVariables(env: ConfigInput["env"]): string[] {
  const known = knownNames();
  const all = new Set([...known, ...Object.values(SETTINGS).flatMap((setting: Setting) => setting.aliases ?? [])]);
  const family =
    /^(MQTT|CATALOG|LOGS?|RUNS?|STATUS|WEBHOOK|LEASE|LEADER|REPLICA|TOPIC|MAX|POLICY|UNSCHEDULABLE|IMAGE)_/;
  // Kubernetes puts variables of its own there for each Service: MQTT_SERVICE_HOST, MQTT_PORT_1883_TCP, MQTT_PORT=tcp://…
  const isServiceLink = (name: string) =>
    /_SERVICE_(HOST|PORT)|_PORT_\d+_/.test(name) || (name.endsWith("_PORT") && /^\w+:\/\//.test(env[name] ?? ""));
  return Object.keys(env).flatMap((name) => {
    if (!env[name] || all.has(name) || isServiceLink(name)) return [];
    const guess = GUESSES[name];
    if (guess !== undefined && env[guess]) return [];
    const hint = guess ?? (family.test(name) ? nearest(name, known) : undefined);
    return hint === undefined ? [] : [`${name} is set but not used: did you mean ${hint}?`];
  });
}

function showable(text: string, value: unknown): string | number | boolean {
  if (typeof value === "number" || typeof value === "boolean") {
    // A duration is shown as it was written, not in whichever unit the code has.
    return /^\d+$/.test(text) || typeof value === "boolean" ? value : text;
  }
  return shownPlace(text);
}

/** A URL without user, password and query; anything else as it is, but for what looks like a credential. */
export function shownPlace(text: string): string {
  const url = URL.parse(text);
  return url && (url.username || url.password || url.search) ? publicUrl(text) : redact(text);
}
