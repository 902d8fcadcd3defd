/**
 * Which webhook hears of which ended run: the channels that its row names of its failures, else the preset one. Owns no
 * call: each webhook has a queue of its own, so that one which is away holds up no other.
 */
import type { Emit } from "../ports.ts";
import type { Webhook } from "./webhook.ts";

export interface NoticesOptions {
  /** Hears of what no channel hears. */
  readonly preset?: Webhook | undefined;
  /** By name. */
  readonly channels: ReadonlyMap<string, Webhook>;
  /** Names of the row's channels, as the table says now. */
  readonly channelsOf: (jobName: string) => readonly string[];
}

export class Notices {
  readonly #options: NoticesOptions;

  constructor(options: NoticesOptions) {
    this.#options = options;
  }

  /** Give it what the core tells; only ended runs matter here. */
  readonly emit: Emit = (event) => {
    if (event.type !== "finished") return;
    const { preset, channels, channelsOf } = this.#options;
    const isFailed = event.record.status === "failed";
    const names = isFailed && channels.size > 0 ? channelsOf(event.record.job_name) : [];
    const named = new Set(names.flatMap((name) => channels.get(name) ?? []));
    if (named.size === 0) preset?.emit(event);
    for (const webhook of named) webhook.emit(event);
  };

  /** See `Webhook.close`. */
  async close(options: { withinMs?: number } = {}): Promise<void> {
    const { preset, channels } = this.#options;
    await Promise.all([preset, ...channels.values()].map((webhook) => webhook?.close(options)));
  }
}
