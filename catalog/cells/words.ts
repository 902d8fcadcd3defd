/**
 * Cells made of text with placeholders: `args`, `working_dir`, `idempotency_key`, `output`. Pure.
 * Words are parted first and placeholders are read within each word, so that a value stays one argument.
 */
import type { Template } from "../../ports.ts";
import { cut } from "../problem.ts";
import type { Kind, Report } from "../kinds.ts";
import { parseCommand } from "./command.ts";
import { scriptsIn } from "./script.ts";
import { hasPlaceholder, parseTemplate } from "./template.ts";

export const args: Kind<readonly Template[]> = {
  schema: { type: "string" },
  hasLines: true,
  read(text, report) {
    const parsed = parseCommand(text);
    if ("fault" in parsed) {
      report.error(`not a list of words: ${parsed.fault}`);
      return undefined;
    }
    const quoted = parsed.bare.find((word) => /[\u201c\u201d\u201e\u2018\u201a\u00ab\u00bb]/.test(word));
    if (quoted !== undefined) {
      report.warn(`"${cut(quoted)}" has a quote of a word processor, which quotes nothing here; write ' or "`);
    }
    const words = parsed.words.map((word) => readTemplate(word, report));
    return words.includes(undefined) ? undefined : words as Template[];
  },
};

/** The template of a text; undefined: it was reported. */
function readTemplate(text: string, report: Report): Template | undefined {
  const parsed = parseTemplate(text);
  if ("fault" in parsed) {
    report.error(parsed.fault);
    return undefined;
  }
  for (const doubt of parsed.doubts) report.warn(doubt);
  return parsed.template;
}

export const workingDir: Kind<Template> = {
  schema: { type: "string", pattern: "^$|^/" },
  read(path, report) {
    if (path.startsWith("/")) return readTemplate(path, report);
    report.error(`not an absolute path; write "/${path}"`);
    return undefined;
  },
};

/** They are known only once the run has its name, which the key makes. */
const NAMED_BY_KEY: ReadonlySet<string> = new Set(["run_name", "root_run", "attempt"]);

export const idempotencyKey: Kind<Template> = {
  schema: { type: "string", maxLength: 1000 },
  read(text, report) {
    if (text.length > 1000) {
      report.error(`the key has ${text.length} characters, 1000 are allowed`);
      return undefined;
    }
    const template = readTemplate(text, report);
    const own = template?.find((piece) => typeof piece !== "string" && NAMED_BY_KEY.has(piece.root));
    if (own !== undefined && typeof own !== "string") {
      report.error(`${own.source} is made of the key itself; write what the message says, such as {payload.uuid}`);
      return undefined;
    }
    if (template === undefined || hasPlaceholder(template)) return template;
    report.error(
      "every message would have this key, so the row would run once; add a placeholder such as {payload.uuid}",
    );
    return undefined;
  },
};

export const output: Kind<Template> = {
  schema: { type: "string", maxLength: 1024, pattern: "^$|^(s3://|file://|/|\\./)" },
  read(url, report) {
    const place = /^(s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\/|file:\/\/\/|\/|\.\/)(.*)$/s.exec(url);
    if (!place || url.length > 1024) {
      report.error(
        "not a place for a result; write s3://bucket/folder/{payload.uuid}.zip, or a path where the store is a folder",
      );
      return undefined;
    }
    if (place[2] === "" || place[2]?.split("/").includes("..")) {
      report.error(`name the object after "${place[1]}", without ".."`);
      return undefined;
    }
    return readTemplate(url, report);
  },
};

/**
 * What is wrong with the words of a run: the first placeholder that would become part of a script. `command` has none,
 * as its placeholders are not filled; its texts are looked at all the same, for somebody meant them.
 */
export function scriptFault(
  { command, args }: { readonly command?: readonly string[]; readonly args?: readonly Template[] },
): { column: "command" | "args"; value: string; message: string } | undefined {
  const own = command ?? [];
  const templates = args ?? [];
  const texts = [
    ...own,
    ...templates.map((word) => word.map((piece) => typeof piece === "string" ? piece : piece.source).join("")),
  ];
  for (const at of scriptsIn(texts, { isWhole: command !== undefined })) {
    const text = texts[at];
    if (text === undefined) continue;
    const template = at < own.length ? templateOf(text) : templates[at - own.length] ?? [];
    const placeholder = template.find((piece) => typeof piece !== "string");
    if (placeholder === undefined) continue;
    const program = own.length === 0 ? "the image's entrypoint" : own[0]?.split("/").at(-1);
    return {
      column: at < own.length ? "command" : "args",
      value: cut(text),
      message: `a payload must not be part of a script, and ${program} would run this word as one: write ` +
        `sh -c 'sort "$1"' - into command and put ${placeholder.source} into args`,
    };
  }
  return undefined;
}

function templateOf(text: string): Template {
  const parsed = parseTemplate(text);
  return "fault" in parsed ? [] : parsed.template;
}
