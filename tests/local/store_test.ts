/** LocalStore: the conformance suite, and what is a folder's own. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { LocalStore } from "../../local/store.ts";
import { RefusedError } from "../../ports.ts";
import { storeConformance } from "../conformance/store.ts";
import { says } from "../harness/says.ts";

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

Deno.test("a symbolic link that leads out of the folder is not followed", async () => {
  await withFolder(async (_, outside) => {
    await withFolder(async (store, folder) => {
      await Deno.mkdir(`${outside}/logs`);
      await Deno.writeTextFile(`${outside}/logs/secret.txt`, "not ours");
      await Deno.symlink(`${outside}/logs/secret.txt`, `${folder}/file.txt`);
      await Deno.symlink(`${outside}/logs`, `${folder}/dir`);
      await Deno.symlink("../..", `${folder}/up`);
      await store.put("real/x", "x");
      await Deno.symlink("real/x", `${folder}/within`);
      await Deno.symlink(".", `${folder}/circle`);
      for (const key of ["file.txt", "dir/secret.txt", "up/etc/passwd"]) {
        const calls = [
          () => store.get(key),
          () => store.read(key),
          () => store.exists(key),
          () => store.link(key, { expiresSeconds: 1 }),
        ];
        for (const call of calls) {
          await rejects(call(), says(RefusedError, /a symbolic link leads out of the store's folder/));
        }
      }
      await rejects(store.put("dir/new/x", "x"), says(RefusedError, /^Cannot write .*a symbolic link leads out/));
      await rejects(store.delete("dir/secret.txt"), says(RefusedError, /^Cannot delete .*a symbolic link leads out/));
      await rejects(
        Array.fromAsync(store.list("dir/")),
        says(RefusedError, /^Cannot list .*a symbolic link leads out/),
      );
      deepEqual([...Deno.readDirSync(`${outside}/logs`)].map(({ name }) => name), ["secret.txt"]);
      // Links within are fine, and a circle ends.
      equal(await new Response(await store.read("within") as ReadableStream<Uint8Array<ArrayBuffer>>).text(), "x");
      deepEqual((await Array.fromAsync(store.list(""))).map(({ key }) => key), ["real/x", "within"]);
      // A link in the place of an object is replaced, not written through.
      await store.put("file.txt", "ours");
      equal(await Deno.readTextFile(`${outside}/logs/secret.txt`), "not ours");
    });
  });
});

Deno.test("a folder that is itself a link, and names that only look like ways out, work", async () => {
  await withFolder(async (_, folder) => {
    await Deno.mkdir(`${folder}/real`);
    await Deno.symlink(`${folder}/real`, `${folder}/link`);
    const store = new LocalStore(`${folder}/link`);
    for (const key of ["..data/jobs.csv", "%2E%2E/x", "a%2Fb", "...", "a..b"]) {
      await store.put(key, key);
      const found = await store.get(key);
      ok(found !== undefined && found !== "unchanged");
      equal(new TextDecoder().decode(found.body), key);
    }
    deepEqual((await Array.fromAsync(store.list(""))).map(({ key }) => key), [
      ...["%2E%2E/x", "...", "..data/jobs.csv", "a%2Fb", "a..b"],
    ]);
    // Names that no key has, made by hand.
    await Deno.mkdir(`${folder}/real/%2E%2E`);
    await Deno.writeTextFile(`${folder}/real/%2E%2E/y`, "");
    equal((await Array.fromAsync(store.list(""))).length, 5);
  });
});

Deno.test("what is no regular file is no object, and nobody waits for it", {
  ignore: Deno.build.os === "windows",
}, async () => {
  await withFolder(async (store, folder) => {
    await new Deno.Command("mkfifo", { args: [`${folder}/pipe`] }).output();
    equal(await store.get("pipe"), undefined);
    equal(await store.read("pipe"), undefined);
    equal(await store.exists("pipe"), false);
    deepEqual(await Array.fromAsync(store.list("")), []);
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
