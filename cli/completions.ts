/**
 * Scripts by which bash, zsh and fish complete the program's commands, flags and values. Pure text.
 */

/** A flag as completions need it. */
export interface FlagOfCompletion {
  /** With its dashes. */
  readonly name: string;
  readonly meaning: string;
  /** What stands for its value; absent: it takes none. */
  readonly value?: string;
  readonly choices?: readonly string[];
}

/** A command as completions need it. */
export interface Completion {
  readonly name: string;
  readonly meaning: string;
  readonly flags: readonly FlagOfCompletion[];
  /** What its first word may be. */
  readonly choices: readonly string[];
}

/** The script of a shell. `settings`: flags that every command takes, with their dashes. */
export function completionScript(shell: string, commands: readonly Completion[], settings: readonly string[]): string {
  const script = { bash: bashScript, zsh: zshScript }[shell] ?? fishScript;
  return script(commands.map((one) => ({ ...one, meaning: shellWords(one.meaning) })), settings);
}

/** Without what a shell would take for its own. */
function shellWords(text: string): string {
  return text.replaceAll(";", ",").replace(/[`'":\\]/g, "");
}

function cases(all: readonly Completion[], words: (one: Completion) => readonly string[], assign: string): string[] {
  return all.filter((one) => words(one).length > 0).map((one) =>
    `      ${one.name}) ${assign}(${words(one).join(" ")}) ;;`
  );
}

const flagNames = ({ flags }: Completion) => flags.map(({ name }) => name);

/** What may follow a flag, whichever command has it. */
function valueCases(all: readonly Completion[], assign: string): string[] {
  const known = new Map(all.flatMap(({ flags }) => flags.map(({ name, choices }) => [name, choices ?? []] as const)));
  return [...known].filter(([, choices]) => choices.length > 0)
    .map(([name, choices]) => `    ${name}) ${assign}(${choices.join(" ")}) ;;`);
}

function bashScript(all: readonly Completion[], settings: readonly string[]): string {
  return `# Completions of mqtt-job-listener for bash: source <(mqtt-job-listener completions bash)
_mqtt_job_listener() {
  local cur=\${COMP_WORDS[COMP_CWORD]} command=\${COMP_WORDS[1]}
  local -a words=()
  case \${COMP_WORDS[COMP_CWORD - 1]} in
${valueCases(all, "words=").join("\n")}
  esac
  if [[ $COMP_CWORD -eq 1 ]]; then
    words=(${all.map(({ name }) => name).join(" ")})
  elif [[ $cur == -* ]]; then
    case $command in
${cases(all, flagNames, "words=").join("\n")}
    esac
    words+=(${settings.join(" ")})
  elif [[ $COMP_CWORD -eq 2 ]]; then
    case $command in
${cases(all, ({ choices }) => choices, "words=").join("\n")}
    esac
  fi
  COMPREPLY=($(compgen -W "\${words[*]}" -- "$cur"))
}
complete -o default -F _mqtt_job_listener mqtt-job-listener
`;
}

function zshScript(all: readonly Completion[], settings: readonly string[]): string {
  return `#compdef mqtt-job-listener
# Completions of mqtt-job-listener for zsh, after compinit: source <(mqtt-job-listener completions zsh)
_mqtt_job_listener() {
  local -a commands words_here
  commands=(
${all.map(({ name, meaning }) => `    '${name}:${meaning}'`).join("\n")}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  if [[ $words[CURRENT] == -* ]]; then
    case $words[2] in
${cases(all, flagNames, "words_here=").join("\n")}
    esac
    words_here+=(${settings.join(" ")})
    compadd -- $words_here
    return
  fi
  case $words[CURRENT-1] in
${valueCases(all, "words_here=").join("\n")}
  esac
  if (( CURRENT == 3 && ! $#words_here )); then
    case $words[2] in
${cases(all, ({ choices }) => choices, "words_here=").join("\n")}
    esac
  fi
  if (( $#words_here )); then compadd -- $words_here; else _files; fi
}
compdef _mqtt_job_listener mqtt-job-listener
`;
}

function fishScript(all: readonly Completion[], settings: readonly string[]): string {
  const begin = "complete -c mqtt-job-listener";
  const lines = all.flatMap(({ name, meaning, flags, choices }) => {
    const within = `${begin} -n '__fish_seen_subcommand_from ${name}'`;
    return [
      `${begin} -n __fish_use_subcommand -f -a ${name} -d '${meaning}'`,
      ...flags.map(({ name: flag, value, choices, meaning }) => {
        const option = flag.startsWith("--") ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`;
        const wants = choices ? ` -x -a '${choices.join(" ")}'` : value ? " -r" : "";
        return `${within} ${option}${wants} -d '${shellWords(meaning)}'`;
      }),
      ...(choices.length > 0 ? [`${within} -f -a '${choices.join(" ")}'`] : []),
    ];
  });
  const help = "# Completions of mqtt-job-listener for fish: mqtt-job-listener completions fish | source";
  const more = settings.map((flag) => `${begin} -n 'not __fish_use_subcommand' -l ${flag.slice(2)} -r`);
  return [help, ...lines, ...more, ""].join("\n");
}
