/** The end-to-end tests once more, with the bundled program: what `deno task compile` puts into the binary. */
import { ok } from "node:assert/strict";
import { needs } from "../harness/needs.ts";
import { run } from "../harness/process.ts";

const project = new URL("../..", import.meta.url).pathname;

Deno.test({
  name: "the bundled program passes the end-to-end tests",
  ignore: !await needs("mosquitto", "s3", "node"),
  async fn() {
    await run(Deno.execPath(), ["task", "bundle"], { cwd: project });
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "-A", "--quiet", "tests/e2e/e2e_test.ts", "tests/e2e/traces_test.ts"],
      cwd: project,
      env: { E2E_ENTRY: `${project}dist/bundle/main.js`, NO_COLOR: "1" },
    }).output();
    const said = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    ok(code === 0 && / passed /.test(said), said.slice(-8_000));
  },
});
