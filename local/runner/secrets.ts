/**
 * Secrets and config maps of this machine, for rows that name some: a folder `{name}` each, in it a file `{key}` each. Owns
 * what of them a process gets. Their values stand in no record, log or `job.json`.
 */
import { dirname, join } from "node:path";
import type { EnvEntry, Mount, Row } from "../../ports.ts";
import { errorMessage } from "../../util/errors.ts";
import { readAtMost } from "../../util/streams.ts";

/** What of a row is read from there. */
export interface Wanted {
  readonly env: readonly Exclude<EnvEntry, { readonly from: "value" | "field" }>[];
  readonly mounts: readonly KeyMount[];
}

/** As Kubernetes has it, in bytes: of a Secret or ConfigMap as a whole, and here of each key. */
const MAX_BYTES = 1024 * 1024;
const MAX_KEYS = 1_000;
const WORDS = { secret: "secret", config: "config map" } as const;

type KeyMount = Extract<Mount, { readonly from: "secret" | "config" }>;

function isOfKeys(mount: Mount): mount is KeyMount {
  return mount.from === "secret" || mount.from === "config";
}

/** What the row takes of secrets and config maps; undefined: nothing. */
export function wantedBy({ env = [], mounts = [] }: Pick<Row, "env" | "mounts">): Wanted | undefined {
  const wanted: Wanted = {
    env: env.filter((entry) => entry.from !== "value" && entry.from !== "field"),
    mounts: mounts.filter(isOfKeys),
  };
  return wanted.env.length + wanted.mounts.length === 0 ? undefined : wanted;
}

/**
 * The variables: `all` that a whole secret gives, which all others go before, and `keys` that are named one by one. A last
 * line end of a file is none of the value. Throws an Error that names what is not there.
 */
export async function readVariables(
  dir: string,
  { env }: Wanted,
): Promise<Record<"all" | "keys", Record<string, string>>> {
  const found = { all: {} as Record<string, string>, keys: {} as Record<string, string> };
  for (const entry of env) {
    if (entry.from === "all") {
      for (const key of await keysOf(dir, entry.kind, entry.object)) {
        // Kubernetes leaves out what is no name of a variable, too.
        if (/^[A-Za-z_]\w*$/.test(key)) found.all[key] = await valueOf(dir, { ...entry, from: entry.kind, key });
      }
    } else found.keys[entry.name] = await valueOf(dir, entry);
  }
  return found;
}

/**
 * Puts links to what the row mounts below `folder`, each at its own path there: no process may mount something on a
 * machine of somebody's. Throws an Error that names what is not there.
 */
export async function linkMounts(dir: string, { mounts }: Wanted, folder: string): Promise<void> {
  for (const { from, object, key, path } of mounts) {
    const keys = await keysOf(dir, from, object);
    if (key !== undefined && !keys.includes(key)) throw noKey(dir, { from, object, key });
    const link = join(folder, path);
    await Deno.mkdir(dirname(link), { recursive: true });
    await Deno.symlink(join(dir, object, key ?? ""), link).catch((error) => {
      // By another process of the same run.
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    });
  }
}

interface Key {
  readonly from: "secret" | "config";
  readonly object: string;
  readonly key: string;
}

async function valueOf(dir: string, { from, object, key }: Key): Promise<string> {
  if (!(await keysOf(dir, from, object)).includes(key)) throw noKey(dir, { from, object, key });
  const { readable } = await Deno.open(join(dir, object, key));
  const bytes = await readAtMost(readable, MAX_BYTES).catch((cause) => {
    throw new Error(`the key "${key}" of the ${WORDS[from]} "${object}" cannot be used: ${errorMessage(cause)}`, {
      cause,
    });
  });
  return new TextDecoder().decode(bytes).replace(/\r?\n$/, "").replaceAll("\0", "");
}

/** Names of the files that are its keys; those that begin with `..` are how Kubernetes mounts them. */
async function keysOf(dir: string, from: Key["from"], object: string): Promise<string[]> {
  const keys: string[] = [];
  try {
    for await (const { name, isDirectory } of Deno.readDir(join(dir, object))) {
      if (!isDirectory && !name.startsWith("..") && keys.push(name) === MAX_KEYS) break;
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Error(`the ${WORDS[from]} "${object}" does not exist: make the folder ${join(dir, object)}`);
  }
  return keys;
}

function noKey(dir: string, { from, object, key }: Key): Error {
  return new Error(`the ${WORDS[from]} "${object}" has no key "${key}": write the file ${join(dir, object, key)}`);
}
