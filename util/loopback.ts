/**
 * Which names and addresses are this machine's own. Pure.
 */

/** Whether `hostname` is a loopback address, or `localhost`; an IPv6 address may stand in brackets. */
export function isLoopback(hostname: string): boolean {
  const name = hostname.replace(/^\[|\]$/g, "");
  return name === "localhost" || name === "::1" || /^127(\.\d{1,3}){3}$/.test(name);
}
