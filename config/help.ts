/**
 * What people read about the settings: their part of `--help` and the README's table. Pure.
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

/** The README's configuration part in Markdown; stands between `<!-- config:begin -->` and `<!-- config:end -->`. */
export function renderConfigTable(): string {
  const lines: string[] = [];
  for (const group of GROUPS) {
    lines.push(`**${group}**`, "", "| Variable | Default | Meaning |", "| --- | --- | --- |");
    for (const [name, setting] of settingsOf(group)) {
      const names = setting.secret ? `\`${name}\`, \`${name}_FILE\`` : `\`${name}\``;
      const cells = [names, defaultOf(setting), setting.meaning];
      lines.push(`| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`);
    }
    lines.push("");
  }
  return lines.join("\n").trimEnd() + "\n";
}

function settingsOf(group: string): [SettingName, Setting][] {
  return (Object.keys(SETTINGS) as SettingName[]).map((name) => [name, settingOf(name)] as [SettingName, Setting])
    .filter(([, setting]) => setting.group === group);
}

function defaultOf({ preset, otherwise }: Setting): string {
  return preset === undefined ? otherwise ?? "none" : `\`${preset}\``;
}
