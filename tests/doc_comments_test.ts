/** Each module says at its head what it owns, and each function that it exports has a doc comment. */
import { deepStrictEqual, ok } from "node:assert/strict";

const root = new URL("..", import.meta.url);

async function modules(): Promise<string[]> {
  const found: string[] = [];
  for (const folder of ["", "embedded/"]) {
    for await (const { name, isFile } of Deno.readDir(new URL(folder, root))) {
      if (isFile && name.endsWith(".ts")) found.push(folder + name);
    }
  }
  return found.sort();
}

Deno.test("each module begins with a comment", async () => {
  const silent: string[] = [];
  for (const module of await modules()) {
    if (!(await Deno.readTextFile(new URL(module, root))).startsWith("/**")) silent.push(module);
  }
  deepStrictEqual(silent, []);
});

Deno.test("each exported function has a doc comment", async () => {
  const silent: string[] = [];
  let exports = 0;
  for (const module of await modules()) {
    const lines = (await Deno.readTextFile(new URL(module, root))).split("\n");
    lines.forEach((line, i) => {
      const name = /^export (?:async )?function\*? (\w+)/.exec(line);
      if (!name) return;
      exports++;
      if (!/\*\/$/.test(lines[i - 1] ?? "")) silent.push(`${module}:${i + 1} ${name[1]}`);
    });
  }
  ok(exports > 80, `only ${exports} exports were found`);
  deepStrictEqual(silent, []);
});
