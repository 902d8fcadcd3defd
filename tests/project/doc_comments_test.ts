/** Each module says at its head what it owns, and each function that it exports has a doc comment. */
import { deepEqual, ok } from "node:assert/strict";
import { productModules, readProject } from "../harness/project.ts";

Deno.test("each module begins with a comment", async () => {
  const silent: string[] = [];
  for (const module of await productModules()) {
    if (!(await readProject(module)).startsWith("/**")) silent.push(module);
  }
  deepEqual(silent, []);
});

Deno.test("each exported function has a doc comment", async () => {
  const silent: string[] = [];
  let exports = 0;
  for (const module of await productModules()) {
    const lines = (await readProject(module)).split("\n");
    lines.forEach((line, i) => {
      const name = /^export (?:async )?function\*? (\w+)/.exec(line);
      if (!name) return;
      exports++;
      if (!/\*\/$/.test(lines[i - 1] ?? "")) silent.push(`${module}:${i + 1} ${name[1]}`);
    });
  }
  ok(exports > 80, `only ${exports} exports were found`);
  deepEqual(silent, []);
});
