/**
 * Hearing that a signal aborts, where thousands wait for the same one: all of them hang on one listener, for Deno looks
 * through every listener of a signal each time that one is added or removed. Pure.
 */

const waiting = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls `callback` once when the signal aborts, at once if it has; call what it returns when that is no more of use. */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (signal?.aborted) callback();
  if (!signal || signal.aborted) return () => {};
  const callbacks = waiting.get(signal) ?? listenTo(signal);
  // An entry of its own, so that the same callback may wait twice.
  const entry = () => callback();
  callbacks.add(entry);
  return () => callbacks.delete(entry);
}

function listenTo(signal: AbortSignal): Set<() => void> {
  const callbacks = new Set<() => void>();
  waiting.set(signal, callbacks);
  signal.addEventListener("abort", () => callbacks.forEach((callback) => callback()), { once: true });
  return callbacks;
}

/** Made once: the stack that each takes costs more than all else of a Scope, and a run has six of them. */
const OVER = new DOMException("It is over", "AbortError");

/**
 * A part of the time of `parent`'s signal: over when that aborts, at end(), or when it is disposed of. Not a signal of
 * AbortSignal.any, which did not reach streams that had been open for a while.
 */
export class Scope implements Disposable {
  readonly #controller = new AbortController();
  readonly #leave: () => void;

  constructor(parent: AbortSignal | undefined) {
    this.#leave = onAbort(parent, () => this.#controller.abort(parent?.reason));
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  end(reason: unknown = OVER): void {
    this.#leave();
    this.#controller.abort(reason);
  }

  /** Goes on whatever becomes of the parent. */
  leave(): void {
    this.#leave();
  }

  [Symbol.dispose](): void {
    this.end();
  }
}
