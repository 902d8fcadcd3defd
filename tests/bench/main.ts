/**
 * `deno task bench [name… | growth] [--once] [--messages=N] [--gigabytes=G] [--out=FILE]`: measures speed and memory of
 * the service against limits of the same run; prints a JSON line a figure as it is there, and a table at the end. Three
 * repeats, medians. Bursts are of 5,000 messages unless N says otherwise, and all else is scaled by it. `growth` measures
 * how cost grows. FILE gets the conditions and all lines; bench/plot.ts reads it. Exit code 1 when a goal is missed.
 * `deno task bench peers` is peers.ts, `deno task bench scale` scale.ts.
 */
import { numberFlag } from "../harness/flags.ts";
import { conditions, Saved } from "./conditions.ts";
import { GROWTH, measureGrowth } from "./growth.ts";
import { type BenchPoint, type BenchRow, rowsOf } from "./measure.ts";
import { benchPeers } from "./peers.ts";
import { MEASUREMENTS } from "./rows.ts";
import { benchScale } from "./scale.ts";

async function main(args: readonly string[]): Promise<number> {
  const asked = args.filter((arg) => !arg.startsWith("--"));
  if (asked[0] === "peers") return await benchPeers(args.slice(args.indexOf("peers") + 1));
  if (asked[0] === "scale") return await benchScale();
  const names = asked.length === 0
    ? Object.keys(MEASUREMENTS)
    : asked.flatMap((name) => name === "growth" ? Object.keys(GROWTH) : name);
  const known = [...Object.keys(MEASUREMENTS), "growth", ...Object.keys(GROWTH)];
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) {
    console.error(`Cannot measure ${unknown}: there are ${known.join(", ")}`);
    return 2;
  }
  const repeats = args.includes("--once") ? 1 : 3;
  const messages = numberFlag("messages", 5_000);
  const saved = new Saved(args.find((arg) => arg.startsWith("--out="))?.slice("--out=".length));
  saved.add(await conditions({ repeats, messages }));
  const rows: BenchRow[] = [];
  let failed = false;
  for (const name of names) {
    const begunMs = performance.now();
    try {
      for (const row of await measure(name, { repeats, messages }, (point) => saved.tell(point))) {
        saved.tell(row);
        rows.push(row);
      }
    } catch (error) {
      failed = true;
      console.error(`Cannot measure ${name}: ${error instanceof Error ? error.stack ?? error.message : error}`);
    }
    saved.tell({ measurement: name, seconds: Math.round((performance.now() - begunMs) / 1_000) });
  }
  saved.add({ loadAfter: Deno.loadavg() });
  console.log(textTable(rows));
  console.log(`Load of the machine: ${Deno.loadavg().map((load) => load.toFixed(1)).join(" ")}`);
  return failed || rows.some(({ ok }) => !ok) ? 1 : 0;
}

async function measure(
  name: string,
  { repeats, messages }: { readonly repeats: number; readonly messages: number },
  tell: (point: BenchPoint) => void,
): Promise<BenchRow[]> {
  if (name in GROWTH) {
    await measureGrowth(name, messages, tell);
    return [];
  }
  const { figures, once, run } = MEASUREMENTS[name]!;
  return rowsOf(await run(once ? 1 : repeats, messages, tell), figures);
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
