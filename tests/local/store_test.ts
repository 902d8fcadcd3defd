/** LocalStore: the conformance suite, and what is a folder's own. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { LocalStore } from "../../local/store.ts";
import { RefusedError } from "../../ports.ts";
import { storeConformance } from "../conformance/store.ts";

storeConformance("LocalStore", async () => {
  const folder = await Deno.makeTempDir();
  return {
    store: (name) => new LocalStore(`${folder}/${name}`),
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
});

/** Runs `body` with a store on a folder that is removed afterwards. */
async function withFolder(body: (store: LocalStore, folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(new LocalStore(folder), folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a key can never reach outside the folder", async () => {
  await withFolder(async (store) => {
    for (const key of ["../x", "a/../../x", "/etc/passwd", "a//b", ".", "a/./b", "", "a/"]) {
      await rejects(store.put(key, "x"), RefusedError, key);
      await rejects(store.get(key), RefusedError, key);
    }
  });
});

Deno.test("a key that no file name can hold is refused", async () => {
  await withFolder(async (store) => {
    await rejects(store.put("x".repeat(256), ""), RefusedError);
    await rejects(store.put("é".repeat(128), ""), RefusedError);
    await store.put("x".repeat(255), "");
  });
});

Deno.test("a file that a person edits by hand is seen as changed", async () => {
  await withFolder(async (store, folder) => {
    await Deno.writeTextFile(`${folder}/jobs.csv`, "aaaa");
    const first = await store.get("jobs.csv");
    ok(first !== undefined && first !== "unchanged");
    const { mtime } = await Deno.stat(`${folder}/jobs.csv`);
    await Deno.writeTextFile(`${folder}/jobs.csv`, "bbbb");
    await Deno.utime(`${folder}/jobs.csv`, mtime!, mtime!);
    const second = await store.get("jobs.csv", { ifNoneMatch: first.etag });
    ok(second !== undefined && second !== "unchanged");
  });
});

Deno.test("a write that crashed is invisible, and cleared away once it is old", async () => {
  await withFolder(async (store, folder) => {
    const [old, young] = [2, 0].map((days) => `~${Date.now() - days * 24 * 3600 * 1000}-${crypto.randomUUID()}`);
    await Deno.mkdir(`${folder}/logs`);
    for (const name of [old, young]) await Deno.writeTextFile(`${folder}/logs/${name}`, "half");
    deepEqual(await Array.fromAsync(store.list("")), []);
    await store.put("logs/x", "whole");
    deepEqual((await Array.fromAsync(store.list(""))).map(({ key }) => key), ["logs/x"]);
    const names = (await Array.fromAsync(Deno.readDir(`${folder}/logs`))).map(({ name }) => name).sort();
    deepEqual(names, ["x", young].sort());
  });
});

Deno.test("an object cannot have objects below its key", async () => {
  await withFolder(async (store) => {
    await store.put("a", "x");
    await rejects(store.put("a/b", "x"), (error: Error) => {
      ok(error instanceof RefusedError);
      ok(error.message.endsWith("a part of the key is an object itself"), error.message);
      return true;
    });
    await store.put("c/d", "x");
    await rejects(store.put("c", "x"), RefusedError);
    equal(await store.get("c"), undefined);
    await store.delete("c");
    equal(await store.exists("c/d"), true);
  });
});

Deno.test({
  name: "a folder that may not be written is said in plain words",
  permissions: { read: true, write: false },
  async fn() {
    const store = new LocalStore("/nowhere");
    await rejects(store.put("x", "y"), (error: Error) => {
      ok(error instanceof RefusedError);
      equal(
        error.message,
        "Cannot write file:///nowhere/x: permission denied. Check who owns the folder, and --allow-read, --allow-write",
      );
      return true;
    });
  },
});

Deno.test("a file: URL and a path name the same folder", async () => {
  await withFolder(async (store, folder) => {
    await store.put("x", "y");
    equal(new LocalStore(`file://${folder}`).url, store.url);
    equal(store.url, `file://${folder}`);
    equal(await new LocalStore(store.url).exists("x"), true);
  });
});
