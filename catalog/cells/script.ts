/**
 * Which words of a command line a program would run as a script, so that no payload becomes part of one. Pure.
 * A list of what people use: whoever edits the table may run what they like, the sender of a message may not.
 */

interface Interpreter {
  readonly program: RegExp;
  /** The option that takes a script. */
  readonly option: RegExp;
  /** Options end at the first word that is none; what follows is the program's own. Absent: they may stand anywhere. */
  readonly valued?: RegExp;
}

const INTERPRETERS: readonly Interpreter[] = [
  // Short options may be joined: -c, -lc, -euxc. `valued`: a word follows that is no option either.
  {
    program: /^(sh|bash|dash|ash|zsh|ksh|mksh|fish|csh|tcsh)$/,
    option: /^-(?=[A-Za-z]+$)[^c]*c|^--command$/,
    valued: /^[-+][A-Za-z]*[oO]$|^--(rcfile|init-file)$/,
  },
  { program: /^(python|pypy|jython)[\d.]*$/, option: /^-[A-Za-z]*c$/, valued: /^-[WX]$/ },
  { program: /^perl[\d.]*$/, option: /^-[A-Za-z0-9]*[eE]$/, valued: /^-[IMm]$/ },
  {
    program: /^(ruby|lua|julia|R|Rscript|octave|nodejs|node|bun|scala|groovy|elixir|erl)[\d.]*$/,
    option: /^-[A-Za-z]*[epE]$|^--(eval|print)$|^-eval$/,
    valued: /^-[IrlLCJ]$|^--(require|import|project)$/,
  },
  { program: /^php[\d.]*$/, option: /^-[BERr]$/, valued: /^-[dcz]$/ },
  { program: /^(pwsh|powershell(\.exe)?)$/i, option: /^-(c|command|ec|encodedcommand)$/i },
  { program: /^cmd(\.exe)?$/i, option: /^\/[ck]$/i },
  {
    program: /^(su|runuser|script|flock|psql|duckdb|vim?|nvim)$/,
    option: /^-[A-Za-z]*c$|^--(session-)?command$/,
  },
  {
    program: /^(mysql|mariadb|mongo|mongosh|sed|awk|gawk|mawk|nawk)$/,
    option: /^-e$|^--(execute|eval|expression|source)$/,
  },
  { program: /^env$/, option: /^-[A-Za-z0-9]*S$|^--split-string$/ },
  { program: /^find$/, option: /^-(exec|execdir|ok|okdir)$/ },
];
/** Programs whose first word that is no option is a script. */
const BY_PLACE = /^(sed|awk|gawk|mawk|nawk)$/;
/** Programs that hand all that follows to a shell or take it for code. */
const ALL_AFTER = /^(eval|ssh|parallel|watch)$/;

/**
 * Positions of the words that are run as scripts. `isWhole`: false where the image's own entrypoint stands before them;
 * then what follows `-c` counts, for the entrypoint may be a shell.
 */
export function scriptsIn(words: readonly string[], { isWhole }: { isWhole: boolean }): Set<number> {
  const found = new Set<number>();
  if (!isWhole) addAfterOption(words, 0, { option: /^-[A-Za-z]*c$/ }, found);
  for (const [at, word] of words.entries()) {
    const program = word.split("/").at(-1) ?? "";
    for (const one of INTERPRETERS) {
      if (one.program.test(program)) addAfterOption(words, at + 1, one, found);
    }
    if (BY_PLACE.test(program)) addFirstPlain(words, at + 1, found);
    if (program === "deno" && words[at + 1] === "eval") addFirstPlain(words, at + 2, found);
    if (ALL_AFTER.test(program)) { for (let next = at + 1; next < words.length; next++) found.add(next); }
  }
  return found;
}

function addAfterOption(
  words: readonly string[],
  from: number,
  { option, valued }: Pick<Interpreter, "option" | "valued">,
  found: Set<number>,
): void {
  for (let at = from; at < words.length; at++) {
    const word = words[at] ?? "";
    if (option.test(word)) {
      found.add(at + 1);
      if (valued) return;
    } // --eval=…, and -e… in one word.
    else if (/^--?[a-z-]+=/i.test(word) && option.test(word.slice(0, word.indexOf("=")))) found.add(at);
    else if (/^-[A-Za-z]./.test(word) && option.test(word.slice(0, 2))) found.add(at);
    else if (!valued || /^[-+]/.test(word) && word !== "-m") continue;
    else if (!valued.test(words[at - 1] ?? "")) return;
  }
}

function addFirstPlain(words: readonly string[], from: number, found: Set<number>): void {
  const at = words.findIndex((word, at) => at >= from && !word.startsWith("-"));
  if (at !== -1) found.add(at);
}

/** Variables by which programs load code: a payload must not choose it. */
const CODE_VARIABLE =
  /^(PATH|LD_(PRELOAD|LIBRARY_PATH|AUDIT)|ENV|BASH_ENV|SHELLOPTS|BASHOPTS|IFS|PS4|PROMPT_COMMAND|PYTHON(PATH|STARTUP|HOME|INSPECT|WARNINGS)|PERL5(LIB|OPT|DB)|RUBY(OPT|LIB)|NODE_(OPTIONS|PATH)|JAVA_TOOL_OPTIONS|JDK_JAVA_OPTIONS|_JAVA_OPTIONS|CLASSPATH|GIT_SSH(_COMMAND)?|GIT_EXTERNAL_DIFF|EDITOR|VISUAL|PAGER|LESSOPEN|R_PROFILE(_USER)?|R_LIBS|JULIA_LOAD_PATH|LUA_(PATH|CPATH|INIT))$/;

/** Whether programs take the variable's value for code or for where code lies. */
export function isCodeVariable(name: string): boolean {
  return CODE_VARIABLE.test(name);
}
