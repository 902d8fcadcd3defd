/** A command of the program, run in the process of the test, with what it says. Knows no command. */
import { runCommand } from "../../cli.ts";

/** Its exit code, and what it wrote to standard output and standard error. */
export interface Heard {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs `command args…` with no other environment than `env`. `progress` is told what a terminal shows meanwhile. */
export async function call(
  [command = "", ...args]: readonly string[],
  env: Readonly<Record<string, string>> = {},
  stdin = "",
  progress?: (line: string) => void,
): Promise<Heard> {
  let [out, err] = ["", ""];
  const decoder = new TextDecoder();
  const code = await runCommand(command, args, {
    input: { env, readTextFile: (path) => Deno.readTextFileSync(path) },
    write(text) {
      out += typeof text === "string" ? text : decoder.decode(text);
      return Promise.resolve();
    },
    tell: (line) => void (err += `${line}\n`),
    read: () => Promise.resolve(new TextEncoder().encode(stdin)),
    progress,
  });
  return { code, out, err };
}
