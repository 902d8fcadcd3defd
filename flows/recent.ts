/**
 * Which group a message has made of a row, as long as the broker may send the message again. Forgets by itself.
 */

/** How long after its end: far longer than a broker takes to send again what was acknowledged. */
const REMEMBER_MS = 10 * 60_000;

interface Made {
  readonly group: string;
  readonly jobName: string;
  readonly messageHash: string;
}

export class RecentGroups {
  /** By message and row; those that have ended in the order of their ends. */
  readonly #ended = new Map<string, { readonly group: string; readonly forgetAt: number }>();
  readonly #open = new Map<string, string>();

  find(jobName: string, messageHash: string): string | undefined {
    const key = keyOf({ jobName, messageHash });
    return this.#open.get(key) ?? this.#ended.get(key)?.group;
  }

  begun(made: Made): void {
    this.#open.set(keyOf(made), made.group);
  }

  ended(made: Made): void {
    const now = Date.now();
    const key = keyOf(made);
    // An equal message may have made a later one.
    if (this.#open.get(key) === made.group) this.#open.delete(key);
    for (const [old, { forgetAt }] of this.#ended) {
      if (forgetAt > now) break;
      this.#ended.delete(old);
    }
    this.#ended.delete(key);
    this.#ended.set(key, { group: made.group, forgetAt: now + REMEMBER_MS });
  }
}

function keyOf({ messageHash, jobName }: Pick<Made, "messageHash" | "jobName">): string {
  return `${messageHash} ${jobName}`;
}
