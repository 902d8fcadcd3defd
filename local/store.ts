/**
 * LocalStore: the ObjectStore port on a folder, for a laptop. Owns the mapping of keys to files and writes that are
 * whole or not there at all. Must not reach outside its folder, whatever the key and whatever a link there points at.
 */
import { dirname, isAbsolute, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import {
  MAX_GET_BYTES,
  type ObjectInfo,
  type ObjectPart,
  type ObjectStore,
  RefusedError,
  type StoredObject,
  TooLargeError,
  UnavailableError,
} from "../ports.ts";
import { keyFault, prefixFault, shownKey } from "../util/object_key.ts";
import { readAtMost, TooManyBytes } from "../util/streams.ts";
import { errorMessage } from "../util/errors.ts";

/** Files of writes under way. The name cannot be a key's: keys are escaped, and `~` always is. */
const TEMPORARY = /^~([0-9]+)-[0-9a-f-]{36}$/;
/** A temporary file that nobody has written to for so long was left by a crash. */
const STALE_MS = 24 * 3600 * 1000;
/** Longest name that common file systems take, in bytes. */
const LONGEST_NAME = 255;

/** Objects as files: `a/b.txt` is the file `b.txt` in the folder `a`. The folder is made at the first write. */
export class LocalStore implements ObjectStore {
  readonly url: string;
  readonly #root: string;
  #cleaned: Promise<void> | undefined;

  /** `folder`: a path, or a `file:` URL. */
  constructor(folder: string) {
    const path = folder.startsWith("file:") ? fromFileUrl(folder) : folder;
    if (path === "") throw new TypeError("Invalid store folder: it is empty");
    this.#root = isAbsolute(path) ? resolve(path) : resolve(Deno.cwd(), path);
    this.url = pathToFileURL(this.#root).href;
  }

  async get(
    key: string,
    { ifNoneMatch, maxBytes = MAX_GET_BYTES, signal }: {
      ifNoneMatch?: string;
      maxBytes?: number;
      signal?: AbortSignal;
    } = {},
  ): Promise<StoredObject | "unchanged" | undefined> {
    signal?.throwIfAborted();
    return await this.#on("read", key, async (path) => {
      const { isFile, size, mtime } = await Deno.stat(path);
      if (!isFile) return undefined;
      if (size > maxBytes) throw new TooManyBytes(maxBytes);
      const body = await readAtMost((await Deno.open(path)).readable, maxBytes, signal);
      // Of the content: an editor may save twice within a tick of the file system's clock, with the same size.
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body as Uint8Array<ArrayBuffer>));
      const etag = `"${digest.subarray(0, 16).toHex()}"`;
      if (etag === ifNoneMatch) return "unchanged";
      return { body, etag, ...(mtime ? { modifiedAt: mtime } : {}) };
    });
  }

  async read(
    key: string,
    { tail, signal }: { tail?: number; signal?: AbortSignal } = {},
  ): Promise<ReadableStream<Uint8Array> | undefined> {
    signal?.throwIfAborted();
    return await this.#on("read", key, async (path) => {
      const { isFile, size } = await Deno.stat(path);
      // Asked first: to open a named pipe is to wait for its writer.
      if (!isFile) return undefined;
      const file = await Deno.open(path);
      if (tail !== undefined) await file.seek(Math.max(0, size - tail), Deno.SeekMode.Start);
      return signal ? file.readable.pipeThrough(new TransformStream(), { signal }) : file.readable;
    });
  }

  async readPart(
    key: string,
    { from, length, signal }: { from: number; length: number; signal?: AbortSignal },
  ): Promise<ObjectPart | undefined> {
    signal?.throwIfAborted();
    return await this.#on("read", key, async (path) => {
      const { isFile, size } = await Deno.stat(path);
      if (!isFile) return undefined;
      using file = await Deno.open(path);
      await file.seek(from, Deno.SeekMode.Start);
      const bytes = new Uint8Array(Math.max(0, Math.min(length, size - from)));
      let filled = 0;
      while (filled < bytes.length) {
        const count = await file.read(bytes.subarray(filled));
        if (count === null) break;
        filled += count;
      }
      return { bytes: bytes.subarray(0, filled), size };
    });
  }

  async exists(key: string, { signal }: { signal?: AbortSignal } = {}): Promise<boolean> {
    signal?.throwIfAborted();
    return await this.#on("look up", key, async (path) => (await Deno.stat(path)).isFile) ?? false;
  }

  async put(
    key: string,
    body: string | Uint8Array | AsyncIterable<Uint8Array>,
    { signal }: { contentType?: string; signal?: AbortSignal } = {},
  ): Promise<void> {
    await this.#write(key, body, Deno.rename, signal);
  }

  async putIfAbsent(
    key: string,
    body: string | Uint8Array,
    { signal }: { contentType?: string; signal?: AbortSignal } = {},
  ): Promise<boolean> {
    let isNew = true;
    // rename(2) replaces and link(2) refuses, both at once for every reader.
    await this.#write(key, body, async (from, to) => {
      await Deno.link(from, to).catch((error) => {
        if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
        isNew = false;
      });
    }, signal);
    return isNew;
  }

  /** `place` gives the whole file its name. */
  async #write(
    key: string,
    body: string | Uint8Array | AsyncIterable<Uint8Array>,
    place: (temporary: string, path: string) => Promise<void>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    signal?.throwIfAborted();
    const path = this.#path("write", key);
    const folder = dirname(path);
    await this.#checkInside(folder, "write", key);
    await (this.#cleaned ??= this.#removeStale());
    const temporary = `${folder}/~${Date.now()}-${crypto.randomUUID()}`;
    try {
      await Deno.mkdir(folder, { recursive: true });
      await writeWhole(temporary, body, signal);
      await place(temporary, path);
    } catch (error) {
      throw this.#explain(error, "write", key, signal);
    } finally {
      // Gone after a rename.
      await Deno.remove(temporary).catch(() => {});
    }
  }

  async delete(key: string, { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    signal?.throwIfAborted();
    await this.#on("delete", key, async (path) => {
      if ((await Deno.stat(path)).isFile) await Deno.remove(path);
    });
  }

  async *list(
    prefix: string,
    { after, signal }: { after?: string; signal?: AbortSignal } = {},
  ): AsyncIterable<ObjectInfo> {
    const fault = prefixFault(prefix);
    if (fault !== undefined) throw this.#refuse("list", prefix, fault);
    const start = prefix.slice(0, prefix.lastIndexOf("/") + 1);
    await this.#checkInside(this.#folderOf(start), "list", prefix);
    for await (const { key, path } of this.#filesBelow(start, prefix, after)) {
      signal?.throwIfAborted();
      const info = await Deno.stat(path).catch(() => undefined);
      // Deleted since its folder was read, or no file.
      if (info?.isFile) yield { key, size: info.size, modifiedAt: info.mtime ?? new Date(0) };
    }
  }

  /** A `file:` URL; it does not expire. */
  async link(key: string, _options: { expiresSeconds: number }): Promise<string> {
    const path = this.#path("make a link to", key);
    await this.#checkInside(path, "make a link to", key);
    return pathToFileURL(path).href;
  }

  #folderOf(folder: string): string {
    return folder === "" ? this.#root : join(this.#root, ...folder.slice(0, -1).split("/").map(escapeName));
  }

  /** Keys below a folder (`""` or ending in `/`) in the order of their UTF-8 bytes, with their files. */
  async *#filesBelow(
    folder: string,
    prefix: string,
    after: string | undefined,
  ): AsyncGenerator<{ readonly key: string; readonly path: string }> {
    const paths = new Map<string, string>();
    try {
      const folderPath = this.#folderOf(folder);
      for await (const { name, isDirectory, isSymlink } of Deno.readDir(folderPath)) {
        const path = join(folderPath, name);
        // Links are followed to files within, and not to folders, where they might go round in a circle.
        if (TEMPORARY.test(name) || isSymlink && !await this.#isInside(path)) continue;
        // A name that no key has.
        if (escapeName(unescapeName(name)) !== name) continue;
        // With its slash, as it is within keys: `a.txt` comes before `a/b`.
        paths.set(folder + unescapeName(name) + (isDirectory ? "/" : ""), path);
      }
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return;
      throw this.#explain(error, "list", folder);
    }
    for (const key of [...paths.keys()].sort(compareBytes)) {
      if (!key.startsWith(prefix) && !prefix.startsWith(key)) continue;
      if (key.endsWith("/")) {
        if (after === undefined || compareBytes(key, after) > 0 || after.startsWith(key)) {
          yield* this.#filesBelow(key, prefix, after);
        }
      } else if (key.startsWith(prefix) && (after === undefined || compareBytes(key, after) > 0)) {
        if (keyFault(key) === undefined) yield { key, path: paths.get(key)! };
      }
    }
  }

  /** The file of a key; throws RefusedError for a key that no store, or no file system, may have. */
  #path(verb: string, key: string): string {
    const fault = key === "" ? "it is empty" : keyFault(key);
    if (fault !== undefined) throw this.#refuse(verb, key, fault);
    const names = key.split("/").map(escapeName);
    if (names.some((name) => name.length > LONGEST_NAME)) {
      throw this.#refuse(verb, key, `a part is longer than ${LONGEST_NAME} bytes`);
    }
    return join(this.#root, ...names);
  }

  #refuse(verb: string, key: string, fault: string): RefusedError {
    return new RefusedError(`Cannot ${verb} "${shownKey(key)}" in ${this.url}: the key cannot be used, for ${fault}`);
  }

  /** Throws RefusedError where a symbolic link on the way to the path leads out of the folder. */
  async #checkInside(path: string, verb: string, key: string): Promise<void> {
    try {
      if (await this.#isInside(path)) return;
    } catch (error) {
      throw this.#explain(error, verb, key);
    }
    throw new RefusedError(
      `Cannot ${verb} ${this.url}/${shownKey(key)}: a symbolic link leads out of the store's folder. ` +
        "Put the file itself there",
    );
  }

  /** Whether the path, or what there is of it, lies in the folder with all links followed. */
  async #isInside(path: string): Promise<boolean> {
    let root: string | undefined;
    for (let at = path;; at = dirname(at)) {
      try {
        root ??= await Deno.realPath(this.#root);
        const real = await Deno.realPath(at);
        return real === root || real.startsWith(root.endsWith("/") ? root : `${root}/`);
      } catch (error) {
        const isMissing = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory;
        if (!isMissing) throw error;
        // Nothing there yet: neither is a link.
        if (at === this.#root || root === undefined) return true;
      }
    }
  }

  /** Runs `work` on the key's file; undefined if there is none. */
  async #on<T>(verb: string, key: string, work: (path: string) => Promise<T>): Promise<T | undefined> {
    const path = this.#path(verb, key);
    await this.#checkInside(path, verb, key);
    try {
      return await work(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return undefined;
      if (error instanceof Deno.errors.IsADirectory) return undefined;
      throw this.#explain(error, verb, key);
    }
  }

  #explain(error: unknown, verb: string, key: string, signal?: AbortSignal): unknown {
    if (signal?.aborted) return signal.reason;
    if (error instanceof RefusedError) return error;
    const what = `Cannot ${verb} ${this.url}/${shownKey(key)}`;
    const options = { cause: error };
    if (error instanceof TooManyBytes) {
      return new TooLargeError(`${what}: ${error.message}, and no more is read`, options);
    }
    if (error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable) {
      return new RefusedError(
        `${what}: permission denied. Check who owns the folder, and --allow-read, --allow-write`,
        {
          cause: error,
        },
      );
    }
    if (error instanceof Deno.errors.NotADirectory || error instanceof Deno.errors.AlreadyExists) {
      return new RefusedError(`${what}: a part of the key is an object itself`, options);
    }
    if (error instanceof Deno.errors.IsADirectory) {
      return new RefusedError(`${what}: other objects lie below this key`, options);
    }
    if (!(error instanceof Error) || !("code" in error)) return error;
    return new UnavailableError(`${what}: ${errorMessage(error)}`, options);
  }

  /** Removes what crashed writes left; once a process, before its first write. */
  async #removeStale(folder = this.#root): Promise<void> {
    try {
      for await (const { name, isDirectory } of Deno.readDir(folder)) {
        const writtenAt = TEMPORARY.exec(name)?.[1];
        if (isDirectory) await this.#removeStale(`${folder}/${name}`);
        else if (writtenAt && Number(writtenAt) < Date.now() - STALE_MS) await Deno.remove(`${folder}/${name}`);
      }
    } catch {
      // Nothing there yet, or another process cleans at the same time.
    }
  }
}

async function writeWhole(
  path: string,
  body: string | Uint8Array | AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const file = await Deno.open(path, { write: true, createNew: true });
  try {
    if (typeof body === "string") await writeAll(file, new TextEncoder().encode(body));
    else if (body instanceof Uint8Array) await writeAll(file, body);
    else {
      for await (const chunk of body) {
        signal?.throwIfAborted();
        await writeAll(file, chunk);
      }
    }
    // Before the rename, or a power cut could leave the new name with no content.
    await file.syncData();
  } finally {
    file.close();
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length;) written += await file.write(bytes.subarray(written));
}

/** Percent-escapes what a file name cannot hold or what has a meaning here; letters of any script stay as they are. */
function escapeName(segment: string): string {
  // deno-lint-ignore no-control-regex
  const escaped = segment.replace(/[%~\\:*?"<>|\x00-\x1f\x7f]/g, percent);
  return new TextEncoder().encode(escaped).length <= LONGEST_NAME ? escaped : "x".repeat(LONGEST_NAME + 1);
}

function unescapeName(name: string): string {
  return name.replace(/%([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
}

function percent(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
}

function fromFileUrl(url: string): string {
  return decodeURIComponent(new URL(url).pathname);
}

/** UTF-8 keeps the order of code points; JavaScript's own comparison is by UTF-16 units, which surrogates upset. */
function compareBytes(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index++) {
    const [left, right] = [a.charCodeAt(index), b.charCodeAt(index)];
    if (left === right) continue;
    const surrogates = Number(left >= 0xd800 && left < 0xe000) - Number(right >= 0xd800 && right < 0xe000);
    // A unit of a surrogate pair stands for a code point above all that need one unit.
    return surrogates || left - right;
  }
  return a.length - b.length;
}
