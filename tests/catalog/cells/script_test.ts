import { equal, match } from "node:assert/strict";
import { parseCommand } from "../../../catalog/cells/command.ts";
import { parseTemplate } from "../../../catalog/cells/template.ts";
import { scriptFault } from "../../../catalog/cells/words.ts";

function words(text: string): readonly string[] {
  const parsed = parseCommand(text);
  if ("fault" in parsed) throw new Error(parsed.fault);
  return parsed.words;
}

/** The fault of a row with these two cells. */
function faultOf(command: string, args: string) {
  const templates = words(args).map((word) => {
    const parsed = parseTemplate(word);
    if ("fault" in parsed) throw new Error(parsed.fault);
    return parsed.template;
  });
  return scriptFault({ ...(command === "" ? {} : { command: words(command) }), args: templates });
}

Deno.test("a placeholder in the script word of a program is an error", async (t) => {
  for (
    const [command, args] of [
      ["sh", "-c 'sort {payload.file}'"],
      ["sh -c", "'sort {payload.file}'"],
      ["/bin/bash -lc", "{payload.file}"],
      ["bash --login -eux -o pipefail -c", "'sort {payload.file}'"],
      ["bash", "-euxc '{payload.file}'"],
      ["busybox sh -c", "'cat {payload.file}'"],
      ["env A=1 sh -c", "'{payload.file}'"],
      ["timeout 60 nice -n 5 sh -c", "'{payload.file}'"],
      ["python3.12 -c", "'print(\"{payload.file}\")'"],
      ["python -Ic", "'{payload.file}'"],
      ["perl -ne", "'{payload.file}'"],
      ["perl -E", "'{payload.file}'"],
      ["node --eval", "'{payload.file}'"],
      ["node", "--eval={payload.file}"],
      ["ruby -e", "'{payload.file}'"],
      ["Rscript -e", "'{payload.file}'"],
      ["php -r", "'{payload.file}'"],
      ["pwsh -Command", "'{payload.file}'"],
      ["awk", "'/{payload.file}/' x"],
      ["sed -i", "'s/x/{payload.file}/' x"],
      ["deno eval", "'{payload.file}'"],
      ["psql -c", "'select {payload.file}'"],
      ["ssh host", "ls {payload.file}"],
      ["xargs sh -c", "'{payload.file}'"],
      ["env -S", "'{payload.file}'"],
      ["", "-c 'sort {payload.file}'"],
      ["", "-lc '{payload.file}'"],
      ["", "sh -c '{payload.file}'"],
      ["sh -c 'sort {payload.file}'", ""],
    ] as const
  ) {
    await t.step(`${command} | ${args}`, () => {
      const fault = faultOf(command, args);
      equal(fault?.column, command.includes("{") ? "command" : "args");
      match(fault?.message ?? "", /a payload must not be part of a script, .* put \{payload\.file\} into args/);
    });
  }
});

Deno.test("a placeholder beside the script is right", async (t) => {
  for (
    const [command, args] of [
      [`sh -c 'sort "$1"' -`, "{payload.file}"],
      ["python run.py", "--file {payload.file}"],
      ["python -m pkg", "-c config.json {payload.file}"],
      ["run", "-c {payload.config}"],
      ["awk '{print $1}'", "{payload.file}"],
      ["grep -e x", "{payload.file}"],
      ["python -m pkg", "-c {payload.config}"],
      ["python run.py", "-c {payload.config}"],
      [`sh -c 'exec "$@"' -`, "tool -c {payload.config}"],
      ["bash run.sh", "-c {payload.config}"],
      ["", "--config {payload.config}"],
      ["sh run.sh", "{payload.file}"],
      ["sh -c 'echo ${A} {{payload}}'", "x"],
    ] as const
  ) await t.step(`${command} | ${args}`, () => equal(faultOf(command, args), undefined));
});
