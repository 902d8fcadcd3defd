/**
 * How the service is, from what `/healthz` says: one word, and a sentence for each trouble with what it means. Pure.
 */

/** How the service is, as `/healthz` says it. */
export interface HealthView {
  readonly ok: boolean;
  readonly ready: boolean;
  /** What was looked at, and what was seen in words. */
  readonly checks: Readonly<Record<string, string>>;
}

export interface HealthWords {
  readonly state: "working" | "not ready" | "in trouble";
  /** What is as it should be, shortly. */
  readonly fine: readonly string[];
  /** Sentences. */
  readonly troubles: readonly string[];
}

/** What each check means where it is not as it should be; undefined: it is. */
const TROUBLES: Readonly<Record<string, (words: string) => string | undefined>> = {
  broker: (words) =>
    words === "connected" ? undefined : `The broker is ${words}: no message comes in. Runs that have begun go on.`,
  watch: (words) =>
    words === "alive"
      ? undefined
      : "The cluster has told nothing for a while: the states of runs shown here may be old, and ends are seen late.",
  leader: (words) => words.startsWith("cannot lead") ? `This replica ${words}. It handles no message.` : undefined,
  subscriptions: (words) => `The broker refuses topics, so that no message can start their rows: ${words}`,
};

/** `tableFailure`: why the table in force is not what the store has. */
export function healthWords({ ok, ready, checks }: HealthView, tableFailure: string | undefined): HealthWords {
  const troubles = Object.entries(checks).flatMap(([name, words]) => TROUBLES[name]?.(words) ?? []);
  if (tableFailure !== undefined) troubles.push(tableFailure);
  const shown: Readonly<Record<string, (words: string) => string>> = {
    broker: (words) => `broker ${words}`,
    leader: (words) => words,
    table: (words) => words,
    held: (words) => words,
    watch: () => "",
    subscriptions: () => "",
  };
  const fine = Object.entries(checks)
    .filter(([name, words]) => TROUBLES[name]?.(words) === undefined && words !== tableFailure)
    .flatMap(([name, words]) => (shown[name] ?? ((words: string) => `${name}: ${words}`))(words) || []);
  return { state: !ok ? "in trouble" : ready ? "working" : "not ready", fine, troubles };
}
