/**
 * The service as users have it: from the bundle, which Deno has looked through before, as in the image. Owns the bundle of
 * this process.
 */
import { bundle } from "../../deploy/bundle.ts";
import { run } from "./process.ts";
import { PROJECT } from "./project.ts";
import { type ServiceProcess, type ServiceStart, startService } from "./service.ts";

const FOLDER = "dist/bundle";
let made: Promise<string> | undefined;

/** Path of the bundle's entry, made anew once. */
export function bundleEntry(): Promise<string> {
  return made ??= make();
}

/** Starts it from the bundle unless `entry` says otherwise. */
export async function startBundled(
  env: Readonly<Record<string, string>>,
  options: ServiceStart = {},
): Promise<ServiceProcess> {
  return await startService(env, { entry: await bundleEntry(), ...options });
}

async function make(): Promise<string> {
  await bundle(FOLDER);
  const folder = new URL(`${FOLDER}/`, PROJECT).pathname;
  // Another process may be making the same beside it, in a folder.
  const parts = (await Array.fromAsync(Deno.readDir(folder))).filter(({ isFile }) => isFile);
  await run(Deno.execPath(), ["cache", "--quiet", ...parts.map(({ name }) => `${folder}${name}`)]);
  return `${folder}main.js`;
}
