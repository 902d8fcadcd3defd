/** Carries out attacks one by one and judges each by its own bound and those of all; makes the table. */
import { ok } from "node:assert/strict";
import { type Attack, Bed, type Form, HEALTH_MS, LIMIT_MB, type Measured, MORE_MB, MOST_MB, TURN_MS } from "./bed.ts";
import { pause } from "../harness/wait.ts";

export interface Line {
  readonly actor: string;
  readonly attack: string;
  readonly bound: string;
  readonly seen: string;
  readonly held: boolean;
  /** Why not. */
  readonly fault?: string;
}

/** Figures of the same run without an attack: a busy machine is slow for everybody. */
export interface Baseline {
  readonly healthMs: number;
  readonly turnMs: number;
}

export async function baselineOf(bed: Bed): Promise<{ baseline: Baseline; peakMb: number }> {
  const { measured } = await bed.measure(async () => {
    await pause(3_000);
    return "";
  });
  return {
    baseline: { healthMs: Math.max(...measured.healthMs), turnMs: measured.turnMs },
    peakMb: measured.peakMb,
  };
}

export async function carryOut(attack: Attack, bed: Bed, form: Form, baseline: Baseline): Promise<Line> {
  const { actor, name, bound } = attack;
  try {
    const { seen, measured } = await bed.measure(() => attack.run(bed, form));
    await bed.checkCanaries();
    judge(attack, measured, baseline);
    return { actor, attack: name, bound, seen: `${seen}; ${figures(measured)}`, held: true };
  } catch (error) {
    const fault = error instanceof Error ? error.message : String(error);
    return { actor, attack: name, bound, seen: "", held: false, fault };
  }
}

/** Nine of ten answers were as fast; of few, half. A single slow one is the machine's, on which others work too. */
function usual(healthMs: readonly number[]): number {
  const sorted = healthMs.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length * (sorted.length < 10 ? 0.5 : 0.9))] ?? Infinity;
}

function judge({ turnMs = TURN_MS, large = false }: Attack, measured: Measured, baseline: Baseline): void {
  const slow = usual(measured.healthMs);
  const mostMb = large ? LIMIT_MB : Math.max(MOST_MB, measured.beforeMb + MORE_MB);
  ok(measured.peakMb < mostMb, `${Math.round(measured.peakMb)} MB of memory, ${Math.round(measured.beforeMb)} before`);
  ok(!measured.healthMs.includes(Infinity), "/healthz did not answer");
  ok(slow < HEALTH_MS + 3 * baseline.healthMs, `/healthz took ${Math.round(slow)} ms`);
  if (turnMs === null) return;
  // What a turn takes without an attack, such as a collection of garbage, is no attack's work.
  const most = Math.max(turnMs, 1.5 * baseline.turnMs);
  ok(measured.turnMs <= most, `the event loop was kept busy for ${Math.round(measured.turnMs)} ms at a stretch`);
}

function figures({ peakMb, healthMs, turnMs }: Measured): string {
  const turn = turnMs === 0 ? "under 10" : Math.round(turnMs);
  return `${Math.round(peakMb)} MB, health ${Math.round(Math.max(...healthMs))} ms, loop ${turn} ms`;
}

export function tableOf(lines: readonly Line[]): string {
  const cell = (text: string) => text.replaceAll("|", "\\|").replaceAll(/\s+/g, " ");
  return [
    "| Actor | Attack | Bound | Seen | Held |",
    "| --- | --- | --- | --- | --- |",
    ...lines.map(({ actor, attack, bound, seen, held, fault }) =>
      `| ${
        [actor, attack, bound, held ? seen : (fault ?? "").slice(0, 500), held ? "yes" : "NO"].map(cell).join(" | ")
      } |`
    ),
  ].join("\n");
}
