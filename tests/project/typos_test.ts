/** No word of code or documentation is misspelt, as far as typos (https://github.com/crate-ci/typos) knows. */
import { equal } from "node:assert/strict";
import { toolPath } from "../harness/cache.ts";
import { needs } from "../harness/needs.ts";
import { PROJECT } from "../harness/project.ts";

Deno.test({
  name: "no word is misspelt",
  ignore: !await needs("typos"),
  async fn() {
    const command = new Deno.Command(toolPath("typos")!, { args: ["--format", "brief"], cwd: PROJECT });
    const { stdout, stderr } = await command.output();
    equal(new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr), "");
  },
});
