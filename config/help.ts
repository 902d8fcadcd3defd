/**
 * What people read about the settings: their part of `--help` and docs/settings.md. Pure.
 */
import { wrap } from "../util/text_width.ts";
import { flagName, settingOf } from "./args.ts";
import { GROUPS, type Setting, type SettingName, SETTINGS } from "./settings.ts";

/** The settings' part of `--help`: each flag, its variable, meaning and default. */
export function renderHelp({ width = 100 }: { width?: number } = {}): string {
  const lines = [
    ...wrap(
      "Settings, as a flag or a variable of the environment; a flag wins. Of a secret, the flag or variable with _FILE " +
        "at its end names a file that holds it.",
      width,
    ),
  ];
  for (const group of GROUPS) {
    lines.push("", `${group}:`);
    for (const [name, setting] of settingsOf(group)) {
      lines.push(`  --${flagName(name)}  ${name}${setting.secret ? `, ${name}_FILE` : ""}`);
      lines.push(
        ...wrap(`${setting.meaning} Default: ${defaultOf(setting)}`.replaceAll("`", ""), width - 6, " ".repeat(6)),
      );
    }
  }
  return lines.join("\n") + "\n";
}

/** The generated part of docs/settings.md in Markdown: an overview, then a heading for each setting, to link to. */
export function renderSettings(): string {
  const lines: string[] = [];
  for (const group of GROUPS) {
    lines.push(`- ${group}: ${settingsOf(group).map(([name]) => linkTo(name)).join(", ")}`);
  }
  for (const group of GROUPS) {
    // Not the bare name of the group: "Cluster" would have the anchor of the setting CLUSTER.
    lines.push("", `## ${group}: settings`);
    for (const [name, setting] of settingsOf(group)) {
      lines.push("", `### ${name}`, "", linked(setting.meaning, name), "");
      lines.push(`- Default: ${linked(defaultOf(setting), name)}`, `- Flag: \`--${flagName(name)}\``);
      if (setting.secret) lines.push(`- From a file: \`${name}_FILE\`, \`--${flagName(`${name}_FILE`)}\``);
    }
  }
  return lines.join("\n") + "\n";
}

/** The names of other settings, where they stand as code, as links to them. */
function linked(words: string, self: SettingName): string {
  return words.replace(
    /`([A-Z0-9_]+)`/g,
    (code, name: string) => Object.hasOwn(SETTINGS, name) && name !== self ? linkTo(name) : code,
  );
}

function linkTo(name: string): string {
  return `[\`${name}\`](#${name.toLowerCase()})`;
}

function settingsOf(group: string): [SettingName, Setting][] {
  return (Object.keys(SETTINGS) as SettingName[]).map((name) => [name, settingOf(name)] as [SettingName, Setting])
    .filter(([, setting]) => setting.group === group);
}

function defaultOf({ preset, otherwise }: Setting): string {
  return preset === undefined ? otherwise ?? "none" : `\`${preset}\``;
}
