/**
 * `deno task fuzz --minutes=N [--target=NAME] [--seed=N]`: feeds each reader of what comes from outside with inputs that
 * are nearly right. A finding is printed with the number that makes the input again, and kept in `.cache/fuzz/`.
 */
import { type Finding, fuzz } from "./fuzz.ts";
import { TARGETS } from "./targets.ts";

function flag(name: string): string | undefined {
  return Deno.args.find((arg) => arg.startsWith(`--${name}=`))?.split("=")[1];
}

if (import.meta.main) {
  const minutes = Number(flag("minutes") ?? 10);
  const seed = Number(flag("seed") ?? Date.now() % 2 ** 31);
  const only = flag("target");
  const names = Object.keys(TARGETS).filter((name) => only === undefined || name === only);
  if (names.length === 0 || !(minutes > 0)) {
    console.error(`Use: --minutes=N, --seed=N, --target=${Object.keys(TARGETS).join("|")}`);
    Deno.exit(2);
  }
  const findings: Finding[] = [];
  console.log(`seed ${seed}, ${minutes} minutes, ${names.length} targets`);
  // In turns of a few seconds, so that each has had its share whenever it is broken off.
  const until = performance.now() + minutes * 60_000;
  const runs = new Map<string, number>();
  for (let turn = 0; performance.now() < until; turn++) {
    for (const name of names) {
      const found = await fuzz(name, {
        from: seed + (runs.get(name) ?? 0),
        forMs: Math.min(5_000, until - performance.now()),
      });
      runs.set(name, (runs.get(name) ?? 0) + found.inputs);
      for (const finding of found.findings) {
        if (findings.some(({ target, words }) => target === finding.target && words === finding.words)) continue;
        findings.push(finding);
        console.log(`${finding.target}: input ${finding.number}: ${finding.words}\n  ${finding.file}`);
      }
    }
  }
  for (const [name, inputs] of runs) {
    const failed = findings.filter(({ target }) => target === name).length;
    console.log(`${name.padEnd(12)} ${String(inputs).padStart(9)} inputs  ${failed} findings`);
  }
  const failed = new Set(findings.map(({ target }) => target)).size;
  console.log(`${names.length - failed} passed, ${failed} failed`);
  Deno.exit(failed === 0 ? 0 : 1);
}
