/**
 * The timer of MQTT.js' keepalive, which clears it and sets it again at each PINGRESP and PUBACK, asked for or not. Here
 * that only moves its time. Deno keeps timers in a map, and the tables that a map outgrows or cleans up by the hundred
 * thousand stay in memory until V8 collects its old space. Knows nothing of MQTT.
 */

/** An interval that can be moved for nothing. One at a time: each client of MQTT.js needs its own (`timerVariant`). */
export class KeepaliveTimer {
  #call: (() => void) | undefined;
  #everyMs = 0;
  /** By performance.now(): when to call, and when the timer under it fires, Infinity: there is none. */
  #dueMs = 0;
  #firesMs = Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether it is to be looked if it was set again. */
  #looks = false;

  /** As setInterval, in place of the one before. */
  readonly set = (call: () => void, everyMs: number): number => {
    this.#call = call;
    this.#everyMs = everyMs;
    this.#dueMs = performance.now() + everyMs;
    // One that fires earlier goes on by itself.
    if (this.#dueMs < this.#firesMs) this.#arm();
    return 1;
  };

  /** As clearInterval. MQTT.js sets it again within the same call, or never: then the timer under it ends, too. */
  readonly clear = (): void => {
    this.#call = undefined;
    // MQTT.js handles packets by the thousand before a microtask gets its turn.
    if (this.#looks) return;
    this.#looks = true;
    queueMicrotask(() => {
      this.#looks = false;
      if (this.#call !== undefined) return;
      clearTimeout(this.#timer);
      this.#firesMs = Infinity;
    });
  };

  readonly #fire = (): void => {
    const now = performance.now();
    const isDue = now >= this.#dueMs;
    // Counted from now: after a long turn of the event loop, the broker gets its whole time to answer.
    if (isDue) this.#dueMs = now + this.#everyMs;
    this.#arm();
    if (isDue) this.#call?.();
  };

  #arm(): void {
    clearTimeout(this.#timer);
    this.#firesMs = this.#dueMs;
    this.#timer = setTimeout(this.#fire, Math.ceil(this.#dueMs - performance.now()));
  }
}
