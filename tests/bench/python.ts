/**
 * The Python of the peer: a virtual environment in the tests' cache, filled by pip from requirements.txt when it is
 * first asked for. Fails with what is missing; the bench never measures without its peer in silence.
 */
import { cacheFolder, isFile } from "../harness/cache.ts";
import { run } from "../harness/process.ts";

const REQUIREMENTS = new URL("./peers/requirements.txt", import.meta.url).pathname;

/** Path of a Python that has what the peer needs. Takes some seconds the first time. */
export async function peerPython(): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await Deno.readFile(REQUIREMENTS));
  const folder = `${cacheFolder()}/peer-${new Uint8Array(digest).toHex().slice(0, 16)}`;
  const python = `${folder}/bin/python`;
  // Written last: an install may be broken off.
  const mark = `${folder}/complete`;
  if (isFile(mark)) return python;
  try {
    await run("python3", ["-m", "venv", "--clear", folder]);
    await run(python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS]);
  } catch (error) {
    throw new Error(`Cannot make the peer's Python: python3 with venv and pip is needed: ${(error as Error).message}`, {
      cause: error,
    });
  }
  await Deno.writeTextFile(mark, "");
  return python;
}
