/** What every adapter of the ObjectStore port must do, on a real store. */
import { deepEqual, equal, match, notEqual, ok, rejects } from "node:assert/strict";
import { LOG_TYPE } from "../../logs/segments.ts";
import { type ObjectInfo, type ObjectStore, RefusedError, type StoredObject, TooLargeError } from "../../ports.ts";
import { pause } from "../harness/wait.ts";

export interface StoreFixture extends AsyncDisposable {
  /** A store of its own for each call, empty, at a root that nobody else uses. */
  store(name: string): ObjectStore;
}

/** Registers the suite; the fixture is made once for all of it. */
export function storeConformance(
  name: string,
  start: () => Promise<StoreFixture>,
  { ignore = false }: { ignore?: boolean } = {},
): void {
  Deno.test({
    name: `ObjectStore: ${name}`,
    ignore,
    async fn(t) {
      await using fixture = await start();
      let number = 0;
      for (const [title, body] of STORE_CASES) {
        const store = fixture.store(`case-${++number}`);
        await t.step(title, async () => await body(store));
      }
    },
  });
}

/** What is asked of a store, case by case; each gets an empty one. */
export const STORE_CASES: readonly (readonly [title: string, body: (store: ObjectStore) => Promise<void>])[] = [
  ["get() returns what was put, with an ETag and a time", async (store) => {
    const bytes = Uint8Array.from([0, 255, 10, 13, 128]);
    await store.put("a.bin", bytes);
    const object = await store.get("a.bin");
    ok(object !== undefined && object !== "unchanged");
    deepEqual(new Uint8Array(object.body), bytes);
    notEqual(object.etag, "");
    ok(Math.abs(object.modifiedAt!.getTime() - Date.now()) < 60_000);
  }],

  ["what is not there is undefined", async (store) => {
    equal(await store.get("missing"), undefined);
    equal(await store.get("missing/too"), undefined);
    equal(await store.read("missing"), undefined);
    equal(await store.exists("missing"), false);
    await store.put("there", "x");
    equal(await store.get("there/not"), undefined);
    equal(await store.exists("there"), true);
  }],

  ["an empty object is an object", async (store) => {
    await store.put("empty", "");
    const object = await store.get("empty");
    ok(object !== undefined && object !== "unchanged");
    equal(object.body.length, 0);
    equal(await textOf(await store.read("empty")), "");
  }],

  ["get() with the ETag says unchanged until the content changes", async (store) => {
    await store.put("table.csv", "a,b\n1,2\n");
    const first = await store.get("table.csv");
    ok(first !== undefined && first !== "unchanged");
    equal(await store.get("table.csv", { ifNoneMatch: first.etag }), "unchanged");
    // The same size within the same second.
    await store.put("table.csv", "a,b\n1,3\n");
    const second = await store.get("table.csv", { ifNoneMatch: first.etag });
    ok(second !== undefined && second !== "unchanged");
    equal(new TextDecoder().decode(second.body), "a,b\n1,3\n");
  }],

  ["put() replaces what is there", async (store) => {
    await store.put("x", "one");
    await store.put("x", "two");
    equal(await read(store, "x"), "two");
  }],

  ["putIfAbsent() leaves what is there, and of several at once one wins", async (store) => {
    equal(await store.putIfAbsent("mark", "one"), true);
    equal(await store.putIfAbsent("mark", "two"), false);
    equal(await read(store, "mark"), "one");
    for (let round = 0; round < 5; round++) {
      const writers = ["a", "b", "c", "d"];
      const won = await Promise.all(writers.map((writer) => store.putIfAbsent(`race-${round}`, writer)));
      equal(won.filter(Boolean).length, 1, JSON.stringify(won));
      equal(await read(store, `race-${round}`), writers[won.indexOf(true)]);
    }
  }],

  ["a small stream is stored", async (store) => {
    await store.put("small", chunksOf(10, 100));
    equal((await read(store, "small"))!.length, 1_000);
    await store.put("none", chunksOf(0, 0));
    equal(await read(store, "none"), "");
  }],

  ["a stream of 20 MB is stored whole", async (store) => {
    const chunk = 100_000;
    async function* source() {
      for (let n = 0; n < 200; n++) yield await Promise.resolve(new Uint8Array(chunk).fill(n));
    }
    await store.put("log.txt", source(), { contentType: LOG_TYPE });
    const object = await store.get("log.txt");
    ok(object !== undefined && object !== "unchanged");
    equal(object.body.length, 200 * chunk);
    ok([0, 1, 80, 199].every((n) => object.body[n * chunk] === n && object.body[n * chunk + chunk - 1] === n));
  }],

  ["what a stream yields is copied before the next is asked for", async (store) => {
    async function* source(times: number) {
      const shared = new Uint8Array(100_000);
      for (let n = 0; n < times; n++) yield await Promise.resolve(shared.fill(n));
      shared.fill(255);
    }
    for (const [key, times] of [["short", 3], ["long", 200]] as const) {
      await store.put(key, source(times));
      const object = await store.get(key);
      ok(object !== undefined && object !== "unchanged");
      equal(object.body.length, times * 100_000);
      for (let n = 0; n < times; n++) {
        deepEqual([object.body[n * 100_000], object.body[n * 100_000 + 99_999]], [n, n], `${key}, chunk ${n}`);
      }
    }
  }],

  ["a stream that fails leaves no object, and its error comes through", async (store) => {
    for (const chunks of [1, 200]) {
      await rejects(store.put(`broken-${chunks}`, failingAfter(chunks)), /^Error: the pod is gone$/);
      equal(await store.exists(`broken-${chunks}`), false);
    }
    deepEqual(await keysOf(store.list("")), []);
  }],

  ["a put() that is aborted leaves no object", async (store) => {
    const stop = new AbortController();
    async function* source() {
      for (let n = 0; n < 120; n++) yield new Uint8Array(100_000);
      stop.abort(new Error("enough"));
      yield new Uint8Array(1);
      // A source that goes on for a while though nobody wants it any more.
      await pause(50);
      yield new Uint8Array(1);
    }
    await rejects(store.put("aborted", source(), { signal: stop.signal }), /enough/);
    equal(await store.exists("aborted"), false);
    await rejects(store.get("x", { signal: stop.signal }), /enough/);
  }],

  ["an object that is replaced by a stream which fails stays as it was", async (store) => {
    await store.put("kept", "old");
    await rejects(store.put("kept", failingAfter(100)), /the pod is gone/);
    equal(await read(store, "kept"), "old");
  }],

  ["read() streams the whole, or so many bytes of its end", async (store) => {
    await store.put("text", "0123456789");
    equal(await textOf(await store.read("text")), "0123456789");
    equal(await textOf(await store.read("text", { tail: 3 })), "789");
    equal(await textOf(await store.read("text", { tail: 10 })), "0123456789");
    equal(await textOf(await store.read("text", { tail: 11 })), "0123456789");
    await store.put("empty", "");
    equal(await textOf(await store.read("empty", { tail: 3 })), "");
    equal(await store.read("missing", { tail: 3 }), undefined);
  }],

  ["readPart() gives so many bytes from a place on, and the size of the whole", async (store) => {
    await store.put("text", "0123456789");
    const part = async (from: number, length: number, key = "text") => {
      const found = await store.readPart(key, { from, length });
      return found && [new TextDecoder().decode(found.bytes), found.size];
    };
    deepEqual(await part(0, 3), ["012", 10]);
    deepEqual(await part(3, 4), ["3456", 10]);
    deepEqual(await part(9, 1), ["9", 10]);
    deepEqual(await part(7, 100), ["789", 10]);
    deepEqual(await part(0, 100), ["0123456789", 10]);
    deepEqual(await part(10, 5), ["", 10]);
    deepEqual(await part(11, 5), ["", 10]);
    await store.put("empty", "");
    deepEqual(await part(0, 5, "empty"), ["", 0]);
    deepEqual(await part(2, 5, "empty"), ["", 0]);
    equal(await part(0, 5, "missing"), undefined);
    const large = Uint8Array.from({ length: 3_000_000 }, (_, at) => at % 251);
    await store.put("large", large);
    const found = await store.readPart("large", { from: 1_234_567, length: 1_000_000 });
    equal(found!.size, large.length);
    deepEqual(new Uint8Array(found!.bytes), large.subarray(1_234_567, 2_234_567));
  }],

  ["a read() can be left early", async (store) => {
    await store.put("large", new Uint8Array(5_000_000));
    const stream = await store.read("large");
    const reader = stream!.getReader();
    ok(((await reader.read()).value?.length ?? 0) > 0);
    await reader.cancel();
    equal(await store.exists("large"), true);
  }],

  ["keys may hold any letters", async (store) => {
    const keys = [
      "über/größe.txt",
      "日本/🧬.csv",
      "a b/c+d=e&f.txt",
      "100%/x~y",
      "quote'\"/back\\slash",
      "colon:star*",
    ];
    for (const key of keys) {
      await store.put(key, key);
      equal(await read(store, key), key);
    }
    deepEqual((await keysOf(store.list(""))).sort(), [...keys].sort());
  }],

  ["list() gives keys below a prefix in the order of their bytes, with sizes, after a key", async (store) => {
    const keys = ["b/2", "a.txt", "a/1", "a/10", "a/b/c", "z", "\u{ff5e}", "\u{1f9ec}"];
    for (const key of keys) await store.put(key, key);
    const sorted = ["a.txt", "a/1", "a/10", "a/b/c", "b/2", "z", "\u{ff5e}", "\u{1f9ec}"];
    deepEqual(await keysOf(store.list("")), sorted);
    deepEqual(await keysOf(store.list("a/")), ["a/1", "a/10", "a/b/c"]);
    deepEqual(await keysOf(store.list("a/1")), ["a/1", "a/10"]);
    deepEqual(await keysOf(store.list("", { after: "a/1" })), sorted.slice(2));
    deepEqual(await keysOf(store.list("", { after: "a/0" })), sorted.slice(1));
    deepEqual(await keysOf(store.list("a/", { after: "a/b/c" })), []);
    deepEqual(await keysOf(store.list("nothing/")), []);
    for await (const { key, size, modifiedAt } of store.list("a/")) {
      equal(size, key.length);
      ok(Math.abs(modifiedAt.getTime() - Date.now()) < 60_000);
    }
  }],

  ["list() goes on over pages of 1,000", async (store) => {
    const numbers = Array.from({ length: 1_050 }, (_, n) => String(n).padStart(5, "0"));
    for (let at = 0; at < numbers.length; at += 50) {
      await Promise.all(numbers.slice(at, at + 50).map((number) => store.put(`runs/${number}`, "")));
    }
    deepEqual(await keysOf(store.list("runs/")), numbers.map((number) => `runs/${number}`));
  }],

  ["a key that leads elsewhere, or that no store may have, is refused by each call", async (store) => {
    const keys = [
      ...["../x", "a/../../x", "..", ".", "a/./b", "/etc/passwd", "a//b", "a/", ""],
      ...["a\\..\\x", "a\0b", "a\nb", "\ud800", "x".repeat(2_000), "y/".repeat(600) + "x"],
    ];
    const calls: ((key: string) => Promise<unknown>)[] = [
      (key) => store.get(key),
      (key) => store.read(key),
      (key) => store.readPart(key, { from: 0, length: 1 }),
      (key) => store.exists(key),
      (key) => store.put(key, "x"),
      (key) => store.delete(key),
      (key) => store.link(key, { expiresSeconds: 60 }),
      (key) => Array.fromAsync(store.list(`${key}/`)),
    ];
    for (const key of keys) {
      for (const call of calls) {
        await rejects(call(key), (error: Error) => {
          ok(error instanceof RefusedError, `${JSON.stringify(key.slice(0, 20))}: ${error}`);
          ok(/the key cannot be used, for it/.test(error.message) && error.message.length < 400, error.message);
          // deno-lint-ignore no-control-regex
          ok(!/[\x00-\x1f]/.test(error.message), error.message);
          return true;
        });
      }
    }
    deepEqual(await keysOf(store.list("")), []);
  }],

  ["get() reads up to maxBytes, and refuses what has more with its name and the bound", async (store) => {
    await store.put("table.csv", "0123456789");
    equal((await store.get("table.csv", { maxBytes: 10 }) as StoredObject).body.length, 10);
    await rejects(store.get("table.csv", { maxBytes: 9 }), (error: Error) => {
      ok(error instanceof TooLargeError);
      equal(error.message, `Cannot read ${store.url}/table.csv: it has more than 9 bytes, and no more is read`);
      return true;
    });
  }],

  ["delete() removes, and is success for what is not there", async (store) => {
    await store.put("a/b", "x");
    await store.delete("a/b");
    equal(await store.exists("a/b"), false);
    await store.delete("a/b");
    await store.delete("never/was");
  }],

  ["link() gives a URL that plain GET can fetch", async (store) => {
    await store.put("payload & more.bin", "the payload");
    const url = await store.link("payload & more.bin", { expiresSeconds: 60 });
    const answer = await fetch(url);
    equal(await answer.text(), "the payload");
  }],

  ["the root's URL has no trailing slash", (store) => {
    match(store.url, /^[a-z0-9]+:\/\/.*[^/]$/);
    return Promise.resolve();
  }],
];

async function read(store: ObjectStore, key: string): Promise<string | undefined> {
  const object = await store.get(key);
  return object === undefined || object === "unchanged" ? undefined : new TextDecoder().decode(object.body);
}

async function textOf(stream: ReadableStream<Uint8Array> | undefined): Promise<string> {
  return await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).text();
}

async function* failingAfter(chunks: number): AsyncGenerator<Uint8Array> {
  yield* chunksOf(chunks, 100_000);
  throw new Error("the pod is gone");
}

async function* chunksOf(count: number, bytes: number): AsyncGenerator<Uint8Array> {
  for (let n = 0; n < count; n++) yield await Promise.resolve(new Uint8Array(bytes).fill(65));
}

async function keysOf(objects: AsyncIterable<ObjectInfo>): Promise<string[]> {
  return (await Array.fromAsync(objects)).map(({ key }) => key);
}
