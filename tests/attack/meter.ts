/**
 * Loaded into the service before its main module (`deno run --preload`): writes down how long its event loop was kept
 * busy at a stretch, to the file that ATTACK_METER names. Processor time of the thread, not time by the clock, so that
 * other programs on the machine do not count.
 */
const file = Deno.env.get("ATTACK_METER");
/** Shorter ones are not written down, in milliseconds. */
const LEAST_MS = 10;

/** Of the main thread, in milliseconds. The first field is its time on a processor in nanoseconds (proc(5)). */
function busyMs(): number {
  return Number(Deno.readTextFileSync("/proc/self/schedstat").split(" ")[0]) / 1e6;
}

if (file !== undefined) {
  let before = busyMs();
  Deno.unrefTimer(setInterval(() => {
    const now = busyMs();
    if (now - before > LEAST_MS) {
      Deno.writeTextFileSync(file, `${Date.now()} ${(now - before).toFixed(1)}\n`, { append: true });
    }
    before = now;
  }, 2));
}
