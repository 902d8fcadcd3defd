/**
 * Ctrl+C for commands that go on until somebody ends them: they end in their own way, at the second time at once.
 */

/** Aborts at SIGINT or SIGTERM (SIGINT alone on Windows, which has no other); a second one ends the process as usual. */
export function onInterrupt(): { signal: AbortSignal; dispose(): void } {
  const controller = new AbortController();
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  const dispose = () => signals.forEach((name) => Deno.removeSignalListener(name, stop));
  const stop = () => {
    controller.abort();
    dispose();
  };
  signals.forEach((name) => Deno.addSignalListener(name, stop));
  return { signal: controller.signal, dispose };
}
