/**
 * Free TCP ports on loopback. They are taken from below the kernel's ephemeral range (32768 and up), so that no
 * outgoing connection can sit on one between the look and the bind, and a stopped server can have its port again.
 */

const FIRST = 20_000;
const COUNT = 12_000;
const given = new Set<number>();

/** A port of 127.0.0.1 on which nothing listens; each is given once per process. */
export function freePort(): number {
  for (let attempt = 0; attempt < 1000; attempt++) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    if (given.has(port) || !isFree(port)) continue;
    given.add(port);
    return port;
  }
  throw new Error(`Cannot find a free port: 1000 looks between ${FIRST} and ${FIRST + COUNT} were in vain`);
}

function isFree(port: number): boolean {
  try {
    Deno.listen({ hostname: "127.0.0.1", port }).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) return false;
    throw error;
  }
}

/** Whether something accepts connections on the port of 127.0.0.1. */
export async function accepts(port: number): Promise<boolean> {
  try {
    (await Deno.connect({ hostname: "127.0.0.1", port })).close();
    return true;
  } catch {
    return false;
  }
}
