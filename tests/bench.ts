/**
 * `deno task bench [name…] [--once] [--messages=N]`: measures speed and memory of the service against limits of the same run; prints a
 * JSON line a figure as it is there, and a table at the end. Three repeats, medians. Bursts are of 5,000 messages
 * unless N says otherwise, full cycles of 2/5 of that. Exit code 1 when a goal is missed.
 */
import { numberFlag } from "./harness/flags.ts";
import { type BenchPoint, type BenchRow, rowsOf } from "./bench/measure.ts";
import { MEASUREMENTS } from "./bench/rows.ts";

async function main(args: readonly string[]): Promise<number> {
  const names = args.filter((arg) => !arg.startsWith("--"));
  const unknown = names.find((name) => !(name in MEASUREMENTS));
  if (unknown !== undefined) {
    console.error(`Cannot measure ${unknown}: there are ${Object.keys(MEASUREMENTS).join(", ")}`);
    return 2;
  }
  const repeats = args.includes("--once") ? 1 : 3;
  const messages = numberFlag("messages", 5_000);
  const rows: BenchRow[] = [];
  let failed = false;
  for (const name of names.length > 0 ? names : Object.keys(MEASUREMENTS)) {
    const { figures, once, run } = MEASUREMENTS[name]!;
    try {
      const tell = (point: BenchPoint) => console.log(JSON.stringify(point));
      const measured = rowsOf(await run(once ? 1 : repeats, messages, tell), figures);
      for (const row of measured) console.log(JSON.stringify(row));
      rows.push(...measured);
    } catch (error) {
      failed = true;
      console.error(`Cannot measure ${name}: ${error instanceof Error ? error.stack ?? error.message : error}`);
    }
  }
  console.log(textTable(rows));
  console.log(`Load of the machine: ${Deno.loadavg().map((load) => load.toFixed(1)).join(" ")}`);
  return failed || rows.some(({ ok }) => !ok) ? 1 : 0;
}

function textTable(rows: readonly BenchRow[]): string {
  const cells = rows.map(({ name, unit, value, limit, ratio, goal, ok }) =>
    [name, `${value} ${unit}`, limit ?? "", ratio ?? "", goal, ok ? "ok" : "MISSED"].map(String)
  );
  const all = [["figure", "value", "limit", "ratio", "goal", ""], ...cells];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((line) => line[column]!.length)));
  return all.map((line) => line.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()).join("\n");
}

if (import.meta.main) Deno.exit(await main(Deno.args));
