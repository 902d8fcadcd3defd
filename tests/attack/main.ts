/**
 * `deno task attack [--short] [--only=WORD]`: attacks the service as each actor of SECURITY.md can, and prints a table.
 * Exit code 1 where a bound was broken. Needs mosquitto, S3 server, cluster program (tests/install.sh); 512 MiB hold as
 * a real limit where this is root on a machine with control groups.
 */
import { loadavg } from "node:os";
import { needs } from "../harness/needs.ts";
import { ATTACKS } from "./attacks.ts";
import { Bed, LIMIT_MB } from "./bed.ts";
import { baselineOf, carryOut, type Line, tableOf } from "./runner.ts";

export async function attackAll(
  { form, only = "", tell = () => {} }: { form: "short" | "full"; only?: string; tell?: (line: Line) => void },
): Promise<{ lines: Line[]; conditions: string }> {
  await using bed = await Bed.start();
  const { baseline, peakMb } = await baselineOf(bed);
  const conditions = `${navigator.hardwareConcurrency} cores at a load of ${Math.round(loadavg()[0]!)}; memory ` +
    `${bed.limited ? `limited to ${LIMIT_MB} MiB` : "without a limit of its own"}; before any attack: ` +
    `${Math.round(peakMb)} MB, health ${Math.round(baseline.healthMs)} ms, loop ${Math.round(baseline.turnMs)} ms`;
  const lines: Line[] = [];
  for (const attack of ATTACKS) {
    if (form === "short" && !attack.short) continue;
    if (!`${attack.actor}: ${attack.name}`.includes(only)) continue;
    const line = await carryOut(attack, bed, form, baseline);
    lines.push(line);
    tell(line);
    // What comes after the end of the service says nothing.
    if (bed.service.status !== undefined) break;
  }
  await bed.checkStore();
  return { lines, conditions };
}

if (import.meta.main) {
  if (!await needs("mosquitto", "s3", "cluster")) Deno.exit(2);
  const form = Deno.args.includes("--short") ? "short" : "full";
  const only = Deno.args.find((arg) => arg.startsWith("--only="))?.slice("--only=".length) ?? "";
  const { lines, conditions } = await attackAll({
    form,
    only,
    tell: ({ actor, attack, held, seen, fault }) =>
      console.error(`${held ? "held  " : "BROKEN"} ${actor}: ${attack}: ${held ? seen : fault}`),
  });
  console.log(`${tableOf(lines)}\n\n${conditions}`);
  const failed = lines.filter(({ held }) => !held).length;
  console.log(`${lines.length - failed} passed, ${failed} failed`);
  Deno.exit(failed === 0 && lines.length > 0 ? 0 : 1);
}
