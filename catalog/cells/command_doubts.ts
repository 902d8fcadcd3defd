/**
 * What a command hardly means: words that only a shell, a Dockerfile or a word processor understands. Pure.
 */
import { cut } from "../problem.ts";
import { type Command, QUOTED } from "./command.ts";

const SHELL = "for a shell write sh -c '…'";

/** What cannot be meant as a command at all, as a clause to follow a colon; undefined: nothing. */
export function commandFault(text: string): string | undefined {
  const docker = /^(CMD|ENTRYPOINT|RUN)\s/.exec(text);
  const list = docker ? text.slice(docker[0].length).trim() : text;
  if (list.startsWith("[") && list.endsWith("]")) {
    const words = jsonWords(list);
    return `a list in brackets is not read; write ${
      words === undefined ? "the words with blanks between them" : cut(words)
    }`;
  }
  if (docker) return `leave out "${docker[1]}", which is for a Dockerfile; write ${cut(list)}`;
  if (/^\{\s{0,9}"/.test(text)) return "JSON is not read; write the program and its words with blanks between them";
  return undefined;
}

/** The words of a JSON list as this cell would have them. */
function jsonWords(text: string): string | undefined {
  try {
    const list: unknown = JSON.parse(text);
    if (!Array.isArray(list) || !list.every((word) => typeof word === "string")) return undefined;
    return list.map((word) => /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
  } catch {
    return undefined;
  }
}

/** A rule about one word outside its quotes; `{}` in what is said stands for the word. */
const WORD_DOUBTS: readonly (readonly [pattern: RegExp, message: string])[] = [
  [
    /^["'`]?[\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019\u201a\u2032\u2033]|[\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019\u201a\u2032\u2033]/,
    `"{}" has a quote of a word processor, which quotes nothing here; write ' or "`,
  ],
  [/^[\u2010-\u2015\u2212]/, `"{}" begins with a dash of a word processor; write - or --`],
  [/`/, `"{}" is passed on as it is, for no shell runs the command; ${SHELL}`],
  [/[|&;<>]/, `"{}" is passed on as it is, for no shell runs the command; ${SHELL}`],
  [/\$[\w({$@*#?!-]/, `"{}" is passed on as it is, for no shell runs the command; ${SHELL}`],
  [/^~(\/|$)/, `"{}" is passed on as it is, for no shell fills in "~"; write the whole path, or sh -c '…'`],
  [/^#/, `"{}" and what follows are words of the command, for nothing is a comment here; take them out`],
  [/[*?]|\[[^\]]{1,100}\]/, `"{}" is passed on as it is, for no shell looks for files; ${SHELL}`],
  [
    /^[A-Za-z]:\\?\0|\.(exe|bat|cmd|ps1)$/i,
    `"{}" is a program of Windows, and containers run Linux; name one of the image`,
  ],
];

/** Words that only a shell knows, where a program is named. */
const BUILTINS =
  /^(cd|source|\.|export|set|unset|alias|eval|exec|ulimit|umask|pushd|popd|if|for|while|until|case|then|do|function|let|declare|local|trap|shopt)$/;

/** What is hardly meant, as clauses to follow column and value; one for each kind of doubt. */
export function commandDoubts({ words, bare }: Command): string[] {
  const doubts = [programDoubt(words, bare), scriptDoubt(words, bare)].filter((doubt) => doubt !== undefined);
  const told = new Set<RegExp>();
  for (const outside of bare) {
    if (/^[\w/=,@%+-]*$/.test(outside)) continue;
    const word = outside.replaceAll(QUOTED, "…");
    const rule = WORD_DOUBTS.find(([pattern]) => pattern.test(outside));
    if (rule === undefined || told.has(rule[0])) continue;
    told.add(rule[0]);
    doubts.push(rule[1].replace("{}", () => cut(word)));
  }
  return doubts;
}

function programDoubt(words: readonly string[], bare: readonly string[]): string | undefined {
  const [program = ""] = words;
  if (words.length === 1 && bare[0] === QUOTED && /\s/.test(program)) {
    return "the quotes make one word of it, the name of a program with blanks; leave the outer quotes out";
  }
  if (/^[A-Za-z_]\w*=/.test(bare[0] ?? "")) {
    return `"${cut(program)}" is taken for the program; write env ${cut(program)} before the command, or sh -c '…'`;
  }
  if (BUILTINS.test(program)) return `"${program}" is a word of a shell and no program; ${SHELL}`;
  if (program.startsWith("=")) return `"${cut(program)}" is taken for the program; leave "=" out if that is not meant`;
  if (program.startsWith("-")) return `"${cut(program)}" is taken for the program; name one before it`;
  return undefined;
}

/** `sh -c echo hi`: only the word after -c is the script. */
function scriptDoubt(words: readonly string[], bare: readonly string[]): string | undefined {
  const [program = "", option = ""] = words;
  if (!/^(\/\S{1,100}\/)?(sh|bash|dash|ash|zsh|ksh)$/.test(program) || !/^-[a-z]*c$/.test(option)) return undefined;
  const script = words[2];
  // The script may stand in args.
  if (script === undefined) return undefined;
  // What follows is $0, $1, …; a sign alone is there to be $0.
  if (words.length === 3 || /^(|[-_]+|\S{0,20}sh)$/.test(words[3] ?? "") || /\$[0-9@*#{]|\bshift\b/.test(script)) {
    return undefined;
  }
  if (/[|&;<>]/.test(bare[3] ?? "")) return undefined;
  return `${program} runs "${cut(script)}" alone, for only the word after ${option} is the script; ` +
    "put all of it in one pair of quotes";
}
