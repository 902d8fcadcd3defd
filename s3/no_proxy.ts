/**
 * Which hosts are reached without a proxy: NO_PROXY as curl and Deno's fetch read it. Pure.
 */

/**
 * Whether `except` names the host. Entries are divided by commas: `*`, a domain (with what is below it, with or without
 * a dot in front), an address, or a network such as 10.0.0.0/8.
 */
export function isBypassed(host: string, except: string | undefined): boolean {
  const name = host.toLowerCase().replace(/^\[|\]$/g, "").replace(/\.$/, "");
  return (except ?? "").toLowerCase().split(",").map((entry) => entry.trim()).some((entry) => {
    if (entry === "" || entry === "*") return entry === "*";
    if (entry.includes("/")) return isWithin(name, entry);
    const domain = entry.replace(/^\*?\./, "").replace(/^([^:]*):\d+$/, "$1");
    return name === domain || name.endsWith(`.${domain}`);
  });
}

function isWithin(host: string, network: string): boolean {
  const [base = "", length = ""] = network.split("/");
  const [address, start] = [numberOf(host), numberOf(base)];
  if (address === undefined || start === undefined || !/^\d{1,2}$/.test(length)) return false;
  const size = 2 ** (32 - Math.min(32, Number(length)));
  return Math.floor(address / size) === Math.floor(start / size);
}

/** An IPv4 address as a number. */
function numberOf(address: string): number | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(address)?.slice(1).map(Number);
  if (!parts || parts.some((part) => part > 255)) return undefined;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}
