/**
 * Finds, reads and shows single settings: flag before environment, value before file, preset last. Collects what is
 * wrong; knows nothing of how settings depend on each other, which is config.ts.
 */
import { nearest } from "../util/nearest.ts";
import { type Arguments, flagName, knownNames, parseArgs, settingOf } from "./args.ts";
import { GUESSES, type Setting, type SettingName, SETTINGS, type SettingValue } from "./settings.ts";

/** Where settings come from. */
export interface ConfigInput {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Flags, without the command; or what parseArgs made of them. */
  readonly args?: readonly string[] | Arguments;
  /** For `*_FILE` and TLS files; throws if it cannot. */
  readonly readTextFile: (path: string) => string;
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
    if (setting.secret === true) this.hide(text);
    const read = setting.kind.safeParse(text);
    if (!read.success) {
      this.fault(
        raw?.source ?? name,
        setting.secret || setting.mayHoldSecret ? undefined : text,
        read.error.issues[0]?.message ?? "",
      );
      return undefined;
    }
    if (!setting.secret) this.shown[name] = showable(text, read.data);
    return read.data as SettingValue<N>;
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
      const text = this.file(file, source(`${name}_FILE`))?.replace(/\r?\n$/, "");
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
  file(path: string, source: string): string | undefined {
    try {
      return this.#input.readTextFile(path);
    } catch (error) {
      this.fault(source, path, `cannot read the file: ${(error as Error).message}`);
      return undefined;
    }
  }

  /** The text of the file that a setting names. */
  fileOf(name: SettingName): string | undefined {
    const path = this.get(name) as string | undefined;
    return path === undefined ? undefined : this.file(path, this.raw(name)?.source ?? name);
  }

  fault(source: string, value: string | undefined, advice: string): void {
    this.faults.push(`${source}${value === undefined ? "" : ` "${maskCredentials(value)}"`}: ${advice}`);
  }

  hide(secret: string): void {
    this.secrets.push(secret);
  }
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
  return maskCredentials(text);
}

/** Hides user and password of a URL, also of one that is not quite a URL. */
export function maskCredentials(text: string): string {
  return text.replace(/(:\/\/)[^/?#\s]*@/, "$1***@");
}
