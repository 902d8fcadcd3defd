/** Counts timers of this process, of Deno's and of Node's functions. */
import process from "node:process";

/** Begun up to now, this one among them. */
export function timersBegun(): number {
  const timer = setTimeout(() => {});
  clearTimeout(timer);
  return Number(timer);
}

/** That are still to fire. */
export function timersOpen(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
}
