/**
 * Scratch folders for the harness. Each says in `owner` which process made it, so that the next start can clear away
 * what a killed test run left: its processes, mounts, bridge and files. Touches only folders that it made.
 */
import { errorMessage } from "../../util/errors.ts";
import { endLeftovers, isOfDead, ownMark } from "./process.ts";
import { deleteBridge, endContainers, unmountBelow } from "./containers.ts";

const PREFIX = "mjl-";
// Short and fixed: a socket's path may have 107 bytes only, and TMPDIR can be anything.
const BASE = "/tmp";

let swept: Promise<void> | undefined;

/** Makes an empty folder, after clearing away those of dead test runs (once per process). */
export async function scratchFolder(kind: string): Promise<string> {
  await (swept ??= sweep());
  const dir = await Deno.makeTempDir({ dir: BASE, prefix: `${PREFIX}${kind}-` });
  await Deno.writeTextFile(`${dir}/owner`, `${ownMark()}\n`);
  return dir;
}

/** Removes a scratch folder with everything that still runs or is mounted in it. */
export async function removeFolder(dir: string): Promise<void> {
  await endLeftovers(dir);
  await endContainers(dir);
  await unmountBelow(dir);
  await deleteBridge(dir);
  await Deno.remove(dir, { recursive: true });
}

/** Clears away the scratch folders whose owner is dead. */
export async function sweep(): Promise<void> {
  for await (const entry of Deno.readDir(BASE)) {
    const dir = `${BASE}/${entry.name}`;
    if (!entry.isDirectory || !entry.name.startsWith(PREFIX)) continue;
    if (!await ownerIsDead(dir)) continue;
    await removeFolder(dir).catch((error) => {
      // Another test run may sweep it at this moment; what stays is the next sweep's. No test is to fail for it.
      if (!(error instanceof Deno.errors.NotFound)) console.warn(`Cannot clear away ${dir}: ${errorMessage(error)}`);
    });
  }
}

/** No `owner` file: not ours, or being made at this moment. */
async function ownerIsDead(dir: string): Promise<boolean> {
  const owner = await Deno.readTextFile(`${dir}/owner`).catch(() => undefined);
  return owner !== undefined && isOfDead(owner);
}
