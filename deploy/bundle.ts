/**
 * `deno task bundle`: the program as JavaScript, in dist/bundle/ or the folder that is named: main.js, and parts that it
 * loads when they are wanted. Also mends one thing of Deno 2.9's bundler: `import()` of a CommonJS package becomes a part
 * that exports all of it as `default`, while who loads it asks for names, which are then undefined.
 */
const ROOT = new URL("../", import.meta.url);
const ENTRY = "main.js";
const FLAGS = ["--platform", "deno", "--minify", "--quiet", "--code-splitting"];

/** Of a part made of a CommonJS package, the end: its one export. */
const ONLY_DEFAULT = /^(?!.*\bexport\{).*\bexport default \w+\(\);\s*$/s;

/**
 * Makes the bundle anew; nothing of an older one is left. What runs from a bundle of the same sources goes on. `outDir`: as
 * seen from the project.
 */
export async function bundle(outDir: string): Promise<void> {
  const folder = new URL(`${outDir}/`, ROOT);
  await Deno.mkdir(folder, { recursive: true });
  const made = new URL(`${crypto.randomUUID()}/`, folder);
  try {
    const args = ["bundle", ...FLAGS, "--outdir", made.pathname, "main.ts"];
    const { success, stderr } = await new Deno.Command(Deno.execPath(), { args, cwd: ROOT }).output();
    if (!success) throw new Error(`deno bundle failed: ${new TextDecoder().decode(stderr)}`);
    const names = (await Array.fromAsync(Deno.readDir(made), ({ name }) => name))
      // The entry last, when all that it loads is there.
      .sort((a, b) => Number(a === ENTRY) - Number(b === ENTRY));
    await mend(made, names);
    for (const name of names) await Deno.rename(new URL(name, made), new URL(name, folder));
    for await (const { name, isFile } of Deno.readDir(folder)) {
      // Another process may remove the same.
      if (isFile && !names.includes(name)) await Deno.remove(new URL(name, folder)).catch(() => {});
    }
  } finally {
    await Deno.remove(made, { recursive: true });
  }
}

async function mend(folder: URL, names: readonly string[]): Promise<void> {
  const parts = new Map<string, string>();
  for (const name of names) parts.set(name, await Deno.readTextFile(new URL(name, folder)));
  const defaults = [...parts].filter(([, text]) => ONLY_DEFAULT.test(text)).map(([name]) => `import("./${name}")`);
  for (const [name, text] of parts) {
    const mended = defaults.reduce((all, call) => all.replaceAll(call, `${call}.then(part=>part.default)`), text);
    if (mended !== text) await Deno.writeTextFile(new URL(name, folder), mended);
  }
}

if (import.meta.main) await bundle(Deno.args[0] ?? "dist/bundle");
