/**
 * Free TCP ports on loopback, each given once over all processes and threads of tests on this machine: what is given is
 * often bound seconds later, and a stopped server is to have its port again. They are taken from below the kernel's
 * ephemeral range (32768 and up), so that no outgoing connection can sit on one meanwhile.
 */
import { isOfDead, ownMark } from "./process.ts";

const FIRST = 20_000;
const COUNT = 12_000;
/** Has a file for each port that was given, with the process that has it. */
const FOLDER = `/tmp/mjl-ports-${Deno.uid()}`;
/** By this thread; where there is no /proc, no file tells that its process lives. */
const given = new Set<number>();

/** A port of 127.0.0.1 on which nothing listens; nobody else gets it while this process lives. */
export function freePort(): number {
  Deno.mkdirSync(FOLDER, { recursive: true });
  for (let attempt = 0; attempt < 1000; attempt++) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    if (given.has(port) || !reserve(port) || !isFree(port)) continue;
    given.add(port);
    return port;
  }
  throw new Error(`Cannot find a free port: 1000 looks between ${FIRST} and ${FIRST + COUNT} were in vain`);
}

/** By a file that only one can make. */
function reserve(port: number): boolean {
  const file = `${FOLDER}/${port}`;
  try {
    Deno.writeTextFileSync(file, ownMark(), { createNew: true });
    return true;
  } catch (error) {
    if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    removeOfDead(file);
    return false;
  }
}

/** What a process has had that is gone is anybody's from the next look on. */
function removeOfDead(file: string): void {
  try {
    if (isOfDead(Deno.readTextFileSync(file))) Deno.removeSync(file);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
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
