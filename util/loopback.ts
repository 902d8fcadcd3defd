/**
 * Which names and addresses are this machine's own. Pure: nothing is looked up.
 */

/** Whether a host, as a setting or a URL has it (also in brackets), is a name or an address of loopback. */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[|\]$/g, "").replace(/\.$/, "");
  if (name === "localhost" || name.endsWith(".localhost")) return true; // RFC 6761, 6.3
  // `new URL` knows each spelling of an address: 127.1, 0x7f.1, ::ffff:127.0.0.1.
  const { hostname } = URL.parse(name.includes(":") ? `http://[${name}]` : `http://${name}`) ?? { hostname: "" };
  return /^127(\.\d{1,3}){3}$/.test(hostname) || hostname === "[::1]" || /^\[::ffff:7f[\da-f]{2}:/.test(hostname);
}
