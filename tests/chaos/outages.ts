/**
 * Random outages: kills a part of the scene, leaves it away for a few seconds, starts it again. What is killed when
 * comes from a seed, so that a run can be repeated as far as a busy machine lets it. Knows nothing of messages.
 */
import { pause } from "../harness/wait.ts";

/** A part that can be killed and started. */
export interface Victim {
  readonly name: string;
  kill(): Promise<void>;
  start(): Promise<void>;
}

/** Numbers from 0 to 1 from a seed (mulberry32, public domain, by Tommy Ettinger). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface OutageOptions {
  readonly victims: readonly Victim[];
  readonly random: () => number;
  /** No outage begins after this time (performance.now()). */
  readonly untilMs: number;
  /** From the start of one outage to that of the next, if the first is over by then. */
  readonly everyMs: readonly [least: number, most: number];
  readonly awayMs: readonly [least: number, most: number];
  readonly onKill: (name: string, awayMs: number) => void;
}

/** Resolves when the time is up and all parts run; rejects when a part cannot be started. */
export async function makeOutages(
  { victims, random, untilMs, everyMs, awayMs, onKill }: OutageOptions,
): Promise<Map<string, number>> {
  const kills = new Map(victims.map(({ name }) => [name, 0]));
  const between = ([least, most]: readonly [number, number]) => least + (most - least) * random();
  for (;;) {
    const beginMs = performance.now() + between(everyMs);
    if (beginMs > untilMs) return kills;
    await pause(beginMs - performance.now());
    // One in five takes a second part with it.
    const first = Math.floor(random() * victims.length);
    const second = (first + 1 + Math.floor(random() * (victims.length - 1))) % victims.length;
    const chosen = random() < 0.2 ? [first, second] : [first];
    await Promise.all(chosen.map(async (index) => {
      const victim = victims[index]!;
      const away = between(awayMs);
      kills.set(victim.name, kills.get(victim.name)! + 1);
      onKill(victim.name, away);
      await victim.kill();
      await pause(away);
      await victim.start();
    }));
  }
}
