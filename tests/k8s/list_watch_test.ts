/** k8s/list_watch.ts against an API server that misbehaves as told; a real one is in k8s_test.ts. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { KubeClient } from "../../k8s/client.ts";
import { ListWatch, type ListWatchOptions, type WatchedObject } from "../../k8s/list_watch.ts";
import { type Answer, FakeApi, isWatch } from "../harness/fake_api.ts";
import { eventually, pause } from "../harness/wait.ts";

interface Thing extends WatchedObject {
  readonly note?: string;
}

function thing(name: string, resourceVersion: string, note?: string): Thing {
  return { metadata: { name, resourceVersion }, ...(note === undefined ? {} : { note }) };
}

function list(items: readonly Thing[], resourceVersion: string, more: Record<string, string> = {}): Response {
  return Response.json({ items, metadata: { resourceVersion, ...more } });
}

function line(type: string, object: unknown): string {
  return JSON.stringify({ type, object }) + "\n";
}

/** A watch's stream of these chunks, which stays open. */
function open(...chunks: string[]): Response {
  const bytes = chunks.map((chunk) => new TextEncoder().encode(chunk));
  return new Response(new ReadableStream({ start: (controller) => bytes.forEach((one) => controller.enqueue(one)) }));
}

/** A list and watch on the server; `told` has what it tells. */
async function watching(
  answer: Answer,
  work: (the: { told: string[]; troubles: string[]; server: FakeApi }) => Promise<void>,
  options: Pick<ListWatchOptions<Thing>, "silenceMs" | "relistMs" | "maxBackoffMs"> = {},
): Promise<void> {
  await using server = await FakeApi.start(answer);
  using client = await KubeClient.open({ kubeconfig: await server.kubeconfig() });
  const told: string[] = [];
  const troubles: string[] = [];
  const stop = new AbortController();
  const running = new ListWatch<Thing>({
    client,
    path: "/things",
    labelSelector: "a=b",
    kind: "things",
    tagOf: ({ note }) => note ?? "",
    onObject: ({ metadata, note = "" }) => void told.push(`${metadata?.name}@${metadata?.resourceVersion}${note}`),
    onGone: (name, tag, last) => void told.push(`-${name}${tag}${last ? "" : "?"}`),
    onListed: () => void told.push("listed"),
    onTrouble: (reason) => void troubles.push(reason),
    maxBackoffMs: 20,
    ...options,
  }).run(stop.signal);
  try {
    await work({ told, troubles, server });
  } finally {
    stop.abort();
    await running;
  }
}

// ---------------------------------------------------------------- list

Deno.test("ListWatch reads all pages before it watches, from the list's version", async () => {
  const answer: Answer = (url) => {
    if (isWatch(url)) return open();
    const token = url.searchParams.get("continue");
    if (token === null) return list([thing("a", "1")], "9", { continue: "two" });
    return token === "two" ? list([thing("b", "2")], "9") : undefined;
  };
  await watching(answer, async ({ told, server }) => {
    await eventually(() => server.watchedFrom.length === 1);
    deepEqual(told, ["a@1", "b@2", "listed"]);
    deepEqual(server.watchedFrom, ["9"]);
    ok(server.requests.every(({ searchParams }) => searchParams.get("labelSelector") === "a=b"));
    ok(server.requests.every((url) => isWatch(url) || Number(url.searchParams.get("limit")) <= 500));
  });
});

Deno.test("ListWatch begins a list anew whose next page has expired", async () => {
  let expired = false;
  const answer: Answer = (url) => {
    if (isWatch(url)) return open();
    if (url.searchParams.get("continue") === null) return list([thing("a", "1")], "9", { continue: "two" });
    if (expired) return list([thing("b", "2")], "10");
    expired = true;
    return new Response("{}", { status: 410 });
  };
  await watching(answer, async ({ told, troubles }) => {
    await eventually(() => told.includes("listed"));
    // What has been told once and has not changed is not told again.
    deepEqual(told, ["a@1", "b@2", "listed"]);
    deepEqual(troubles, []);
  });
});

Deno.test("ListWatch lists from time to time, tells only what changed, and finds what is gone", async () => {
  let lists = 0;
  const answer: Answer = (url) => {
    // Later than the next list is due.
    if (isWatch(url)) return new Promise((resolve) => setTimeout(() => resolve(new Response("")), 550));
    return lists++ === 0
      ? list([thing("a", "1"), thing("b", "2"), thing("c", "3", "!")], "3")
      : list([thing("a", "1"), thing("b", "4")], "4");
  };
  await watching(answer, async ({ told, troubles }) => {
    await eventually(() => told.filter((one) => one === "listed").length >= 2);
    deepEqual(told.slice(0, 7), ["a@1", "b@2", "c@3!", "listed", "b@4", "-c!?", "listed"]);
    deepEqual(troubles, []);
  }, { relistMs: 500 });
});

// ---------------------------------------------------------------- watch

Deno.test("ListWatch takes lines as they come in pieces, of megabytes too", async () => {
  const text = line("ADDED", thing("a", "1", "ä".repeat(1_000_000))) + line("DELETED", thing("a", "2"));
  const cuts = Array.from({ length: 40 }, (_, at) => text.slice(at * text.length / 40, (at + 1) * text.length / 40));
  await watching((url) => isWatch(url) ? open(...cuts) : list([], "0"), async ({ told }) => {
    await eventually(() => told.length === 3);
    deepEqual([told[0], told[1]!.length, told[2]!.slice(0, 3)], ["listed", 1_000_003, "-aä"]);
  });
});

Deno.test("ListWatch goes on from a bookmark after the server has ended the stream", async () => {
  let watches = 0;
  const answer: Answer = (url) => {
    if (!isWatch(url)) return list([], "5");
    return ++watches === 1 ? new Response(line("ADDED", thing("a", "6")) + line("BOOKMARK", thing("", "77"))) : open();
  };
  await watching(answer, async ({ told, troubles, server }) => {
    await eventually(() => server.watchedFrom.length === 2);
    deepEqual(server.watchedFrom, ["5", "77"]);
    deepEqual([told, troubles], [["listed", "a@6"], []]);
  });
});

Deno.test("ListWatch drops a line that is cut off, and goes on from the line before", async () => {
  let watches = 0;
  const answer: Answer = (url) => {
    if (!isWatch(url)) return list([], "5");
    const next = line("ADDED", thing("b", "7"));
    return ++watches === 1
      ? new Response(line("ADDED", thing("a", "6")) + next.slice(0, next.length / 2))
      : open(line("ADDED", thing("b", "7")));
  };
  await watching(answer, async ({ told, troubles, server }) => {
    await eventually(() => told.includes("b@7"));
    deepEqual(server.watchedFrom, ["5", "6"]);
    deepEqual([told, troubles], [["listed", "a@6", "b@7"], []]);
  });
});

Deno.test("ListWatch tells of lines that are not JSON, and steps over them by a list", async () => {
  const answer: Answer = (url) => isWatch(url) ? new Response("{]\n") : list([thing("a", "1")], "5");
  await watching(answer, async ({ told, troubles, server }) => {
    await eventually(() => server.lists >= 2);
    match(troubles[0]!, /The watch of things sent something that is not JSON/);
    // Once, not at each attempt.
    equal(troubles.length, 1);
    deepEqual(told.slice(0, 3), ["a@1", "listed", "listed"]);
  });
});

Deno.test("ListWatch tells of an error in the stream with the server's words", async () => {
  const failure = line("ERROR", { kind: "Status", code: 500, message: "etcdserver: leader changed" });
  const answer: Answer = (url) => isWatch(url) ? new Response(failure) : list([], "5");
  await watching(answer, async ({ troubles }) => {
    await eventually(() => troubles.length > 0);
    match(troubles[0]!, /etcdserver: leader changed/);
  });
});

Deno.test("ListWatch lists again after 410, as status or in the stream, and tells of no trouble", async () => {
  let watches = 0;
  const answer: Answer = (url) => {
    if (!isWatch(url)) return list([], String(5 + watches));
    watches++;
    if (watches === 1) return new Response(line("ADDED", thing("a", "6")) + line("ERROR", { code: 410 }));
    // An event in between, for two faults in a row are an outage.
    if (watches === 2) return new Response(line("ADDED", thing("b", "7")));
    return watches === 3 ? new Response("{}", { status: 410 }) : open();
  };
  await watching(answer, async ({ troubles, server }) => {
    await eventually(() => server.watchedFrom.length === 4);
    deepEqual([server.lists, troubles], [3, []]);
  });
});

Deno.test("ListWatch does not run wild when each stream ends at once", async () => {
  const answer: Answer = (url) => isWatch(url) ? new Response("") : list([], "5");
  await watching(answer, async ({ troubles, server }) => {
    await eventually(() => troubles.length > 0);
    match(troubles[0]!, /ended at once/);
    const before = server.requests.length;
    // A rate is the subject: a busy machine only makes fewer.
    await pause(500);
    ok(server.requests.length - before <= 8, `${server.requests.length - before} requests in 0.5 s`);
  }, { maxBackoffMs: 10_000 });
});

Deno.test("ListWatch goes on at once, however often a stream without events is cut that had lasted a while", async () => {
  // Longer than the second below which a stream counts as one that ended at once.
  const cut = () =>
    new Response(
      new ReadableStream({
        start: (controller) => void setTimeout(() => controller.error(new Error("cut")), 1_200),
      }),
    );
  const answer: Answer = (url) => isWatch(url) ? cut() : list([], "5");
  await watching(answer, async ({ troubles, server }) => {
    await eventually(() => server.watchedFrom.length >= 4);
    deepEqual([server.lists, troubles], [1, []]);
  }, { maxBackoffMs: 10_000 });
});

Deno.test("ListWatch tells of a missing right with what to do", async () => {
  const message = 'things is forbidden: User "x" cannot list resource "things"';
  const answer: Answer = () => Response.json({ kind: "Status", reason: "Forbidden", message }, { status: 403 });
  await watching(answer, async ({ troubles }) => {
    await eventually(() => troubles.length > 0);
    match(troubles[0]!, /Cannot list the things: .*cannot list resource.*deploy\/role\.yaml/);
  });
});

// ---------------------------------------------------------------- bounds

Deno.test("ListWatch breaks off a line that does not end, and steps over it by a list", async () => {
  const mebibyte = "x".repeat(1024 * 1024);
  const endless = () => {
    let chunks = 0;
    return new Response(
      new ReadableStream({
        pull(controller) {
          if (chunks++ > 200) controller.close();
          else controller.enqueue(new TextEncoder().encode(mebibyte));
        },
      }),
    );
  };
  await watching((url) => isWatch(url) ? endless() : list([thing("a", "1")], "5"), async ({ troubles, server }) => {
    await eventually(() => server.lists >= 2);
    match(troubles[0]!, /The watch of things broke off: a line of it is longer than 8388608 bytes/);
  });
});

Deno.test("ListWatch asks for smaller pages where one is too large", async () => {
  const note = "x".repeat(1024 * 1024);
  const all = Array.from({ length: 60 }, (_, at) => thing(`t${at}`, "1", note));
  const answer: Answer = (url) => {
    if (isWatch(url)) return open();
    const from = Number(url.searchParams.get("continue") ?? 0);
    const to = from + Number(url.searchParams.get("limit"));
    return list(all.slice(from, to), "9", to < all.length ? { continue: String(to) } : {});
  };
  await watching(answer, async ({ told, server }) => {
    await eventually(() => told.includes("listed"));
    equal(told.length, 61);
    ok(
      server.requests.filter((url) => !isWatch(url)).some(({ searchParams }) => Number(searchParams.get("limit")) < 30),
    );
  });
});

Deno.test("ListWatch takes nothing for an event or a list that is none", async (t) => {
  const cases: [string, Answer][] = [
    ["null as an event", (url) => isWatch(url) ? new Response("null\n") : list([], "5")],
    ["an event without an object", (url) => isWatch(url) ? new Response('{"type":"ADDED"}\n') : list([], "5")],
    ["null in a list", () => Response.json({ items: [null], metadata: {} })],
    ["a text for a list", () => Response.json({ items: "abc", metadata: {} })],
  ];
  for (const [name, answer] of cases) {
    await t.step(name, () =>
      watching(answer, async ({ told, troubles }) => {
        await eventually(() => troubles.length > 0);
        match(troubles[0]!, /not (whole )?JSON/);
        ok(told.every((one) => one === "listed"));
      }));
  }
});
