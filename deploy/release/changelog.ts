/** What CHANGELOG.md says of one version. Reads no file. */

export interface Notes {
  /** What stands in brackets behind the version: a date, or "unreleased". */
  readonly when: string;
  /** The part below the heading, as Markdown. */
  readonly text: string;
}

/** The part of the version, or undefined where it has no heading. */
export function notesOf(changelog: string, version: string): Notes | undefined {
  const parts = changelog.split(/^## /m).slice(1);
  const part = parts.find((text) => text.startsWith(`${version} `) || text.startsWith(`${version}\n`));
  if (part === undefined) return undefined;
  const [heading = "", ...lines] = part.split("\n");
  return { when: /\(([^)]*)\)/.exec(heading)?.[1] ?? "", text: `${lines.join("\n").trim()}\n` };
}
