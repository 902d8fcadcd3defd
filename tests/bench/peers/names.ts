/** Who is measured with what, by name. Measures nothing. */
import { ARGO, ARGO_AT_LEAST_ONCE, ARGO_LIFTED } from "./argo.ts";
import { BARE, type Contestant, PYTHON, SERVICE } from "./contestants.ts";
import type { Case } from "./turn.ts";

/** By name. */
export const CONTESTANTS: Readonly<Record<string, Contestant>> = {
  "service": SERVICE,
  "argo": ARGO,
  "argo-lifted": ARGO_LIFTED,
  "argo-at-least-once": ARGO_AT_LEAST_ONCE,
  "python": PYTHON,
  "bare": BARE,
};

/** A process that creates Jobs and hears of no message; only bursts can be made by it. */
export const CREATES = { name: "creates", title: "bare creates, no messages" } as const;

/** A case, and how often it is measured of whom. */
export interface Planned extends Case {
  /** How often each has its turn; `once` lists those that take too long for more. */
  readonly turns: number;
  readonly once?: readonly string[];
  readonly without?: readonly string[];
  /** Only when it is named, or with `--large`. */
  readonly large?: true;
}

const SLOW = ["argo", "argo-at-least-once", "python"] as const;

/** By name. What Argo Events does at five Jobs a second needs no more than two of them. */
export const CASES: Readonly<Record<string, Planned>> = {
  "burst-500": { title: "500 at once", messages: 500, turns: 3, once: SLOW, limitMs: 40_000 },
  "burst-2000": { title: "2,000 at once", messages: 2_000, turns: 3, once: SLOW, without: ["argo"] },
  "steady-10": { title: "10 a second", messages: 100, perSecond: 10, turns: 3, once: ["argo"] },
  "steady-50": { title: "50 a second", messages: 250, perSecond: 50, turns: 3, without: ["argo"] },
  "steady-200": { title: "200 a second", messages: 1_000, perSecond: 200, turns: 3, without: ["argo"] },
  "kill-9": {
    title: "`kill -9` at 200 a second",
    messages: 1_000,
    perSecond: 200,
    fault: "kill-9",
    turns: 1,
    without: ["argo", "bare"],
    limitMs: 120_000,
  },
  "broker-restart": {
    title: "broker restarted at 50 a second",
    messages: 500,
    perSecond: 50,
    fault: "broker-restart",
    turns: 1,
    without: ["argo", "bare"],
    limitMs: 120_000,
  },
  "burst-10000": { title: "10,000 at once", messages: 10_000, turns: 1, without: SLOW, large: true, limitMs: 120_000 },
};
