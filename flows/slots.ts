/**
 * Who of a concurrency group may go on, and who gives way: decided from the runs that there are, so that it is decided
 * anew after a crash and comes to the same. Pure.
 */
import type { WhenBusy } from "../ports.ts";

/** A run of the group that lives or is being created. */
export interface Member {
  readonly runName: string;
  /** The first attempt's name: an attempt and the next one have one slot. */
  readonly slot: string;
  readonly receivedAtMs: number;
  /** It waits as a suspended Job; otherwise it has its slot. */
  readonly held: boolean;
  /** It is cancelled or has ended: it waits for nothing, and keeps its slot, if it has one, until it is gone. */
  readonly leaving: boolean;
  /** Of its row, as the table has it; Infinity: none. */
  readonly limit: number;
  readonly mode: WhenBusy;
}

export interface Plan {
  /** Those that get a slot, in this order. */
  readonly resume: readonly Member[];
  /** Those that are cancelled, and for which run. */
  readonly cancel: readonly { readonly member: Member; readonly by: string }[];
}

/** Slots that are taken. */
export function slotsOf(members: readonly Member[]): Set<string> {
  return new Set(members.filter(({ held }) => !held).map(({ slot }) => slot));
}

/** Those that wait, the oldest first. */
export function waitingOf(members: readonly Member[]): Member[] {
  return members.filter(({ held, leaving }) => held && !leaving).sort(byAge);
}

/** `wait`: the oldest first. The newest of those that wait says how the group goes on, should its rows differ. */
export function planOf(members: readonly Member[]): Plan {
  const slots = slotsOf(members);
  const waiting = waitingOf(members);
  const newest = waiting.at(-1);
  if (newest === undefined) return { resume: [], cancel: [] };
  const giveWay = newest.limit === Infinity ? [] : outdone(members, waiting, newest, slots.size);
  const gone = new Set(giveWay);
  const resume: Member[] = [];
  // Nobody younger goes before the oldest, whose limit may be a lower one: that could go on for ever.
  let isFull = false;
  for (const member of waiting) {
    if (gone.has(member) || isFull && member.limit < Infinity) continue;
    if (!slots.has(member.slot) && slots.size >= member.limit) {
      isFull = true;
      continue;
    }
    slots.add(member.slot);
    resume.push(member);
  }
  return { resume, cancel: giveWay.map((member) => ({ member, by: newest.runName })) };
}

/** Those in whose place a newer one runs (`replace`) or waits (`latest`). */
function outdone(
  members: readonly Member[],
  waiting: readonly Member[],
  { mode, limit }: Member,
  taken: number,
): readonly Member[] {
  if (mode === "latest") return waiting.slice(0, -Math.max(1, limit - taken));
  if (mode !== "replace") return [];
  const all = members.filter(({ leaving }) => !leaving).sort(byAge);
  const kept = new Set<string>();
  for (let at = all.length - 1; at >= 0 && kept.size < limit; at--) kept.add(all[at]!.slot);
  return all.filter(({ slot }) => !kept.has(slot));
}

function byAge(one: Member, other: Member): number {
  return one.receivedAtMs - other.receivedAtMs || (one.runName < other.runName ? -1 : 1);
}
