/**
 * Payloads that no container's environment can hold: where they are in the store, below RUNS_URL, and links to them.
 * Owns their names. Who writes records or Jobs must not make the service read or sign anything else.
 */
import type { ObjectStore, RunSpec } from "../ports.ts";
import { isRunName } from "../run_spec.ts";

const FOLDER = ".payloads/";
/** Presigned URLs of S3 last at most seven days. */
const LINK_SECONDS = 7 * 24 * 3600;

/** Puts the payload there, under the name of the run or group. */
export async function putPayload(
  store: ObjectStore,
  { runName, message }: { readonly runName: string; readonly message: Pick<RunSpec["message"], "payload"> },
  signal: AbortSignal,
): Promise<NonNullable<RunSpec["payloadLink"]>> {
  await store.put(FOLDER + runName, message.payload, { contentType: "application/octet-stream", signal });
  return await linkOfRun(store, runName);
}

/** A link to the payload of the run, or group, of that name. */
export async function linkOfRun(
  store: Pick<ObjectStore, "url" | "link">,
  runName: string,
): Promise<NonNullable<RunSpec["payloadLink"]>> {
  const key = FOLDER + runName;
  return { url: await store.link(key, { expiresSeconds: LINK_SECONDS }), object: `${store.url}/${key}` };
}

/** A new link to one that is there; undefined: this service puts none there. */
export async function linkPayload(
  store: Pick<ObjectStore, "url" | "link">,
  object: string,
): Promise<RunSpec["payloadLink"]> {
  const key = payloadKey(store, object);
  return key === undefined ? undefined : await linkOfRun(store, key.slice(FOLDER.length));
}

/** Key of a payload in the store; undefined: it is none that this service has put there. */
export function payloadKey({ url }: Pick<ObjectStore, "url">, object: string): string | undefined {
  const begin = `${url}/${FOLDER}`;
  const name = object.slice(begin.length);
  return object.startsWith(begin) && isRunName(name) ? FOLDER + name : undefined;
}
