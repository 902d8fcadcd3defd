import { deepEqual, equal, match, ok } from "node:assert/strict";
import { type ConnectionLimits, Connections, LIMITS, visitorOf } from "../../status/connections.ts";
import { type Handler, HttpServer } from "../../status/http_server.ts";
import { eventually } from "../harness/wait.ts";

const LOOPBACK = { hostname: "127.0.0.1", port: 0 };
const QUICK = { ...LIMITS, headMs: 100, bodyMs: 150, writeMs: 100, lingerMs: 50 };

async function withServer(
  handler: Handler,
  limits: ConnectionLimits,
  work: (port: number) => Promise<void>,
): Promise<void> {
  const server = new HttpServer(LOOPBACK, handler, limits);
  try {
    await work(server.port);
  } finally {
    await server.close();
  }
}

const hello: Handler = () => Promise.resolve(new Response("hello\n"));

/** Sends bytes and gives all that comes until the other side closes. */
async function talk(port: number, ...pieces: string[]): Promise<string> {
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  for (const piece of pieces) await conn.write(new TextEncoder().encode(piece));
  return await restOf(conn);
}

async function restOf(conn: Deno.Conn): Promise<string> {
  let text = "";
  const buffer = new Uint8Array(65_536);
  for (;;) {
    // A reset says the same as an end.
    const length = await conn.read(buffer).catch(() => null);
    if (length === null) return text;
    text += new TextDecoder().decode(buffer.subarray(0, length));
  }
}

Deno.test("a connection that sends nothing, or half of a request, is closed", async (t) => {
  const readAll: Handler = async (request) => new Response(await request.text());
  await withServer(readAll, QUICK, async (port) => {
    const cases: [string, string][] = [
      ["nothing", ""],
      ["half of a head", "GET / HTTP/1.1\r\nHost: local"],
      ["half of a body", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nhalf"],
      [
        "a chunk without an end",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
      ],
    ];
    for (const [name, bytes] of cases) await t.step(name, async () => equal(await talk(port, bytes), ""));
    await t.step("nothing after an answer", async () => {
      match(await talk(port, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"), /^HTTP\/1\.1 200[^]*hi/);
    });
  });
});

Deno.test("a visitor who does not take the answer is left, and its source hears of it", async () => {
  const gone = Promise.withResolvers<void>();
  const endless: Handler = () =>
    Promise.resolve(
      new Response(
        new ReadableStream({
          pull: (controller) => controller.enqueue(new Uint8Array(65_536)),
          cancel: () => gone.resolve(),
        }),
      ),
    );
  await withServer(endless, QUICK, async (port) => {
    using conn = await Deno.connect({ hostname: "127.0.0.1", port });
    await conn.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    await gone.promise;
  });
});

Deno.test("an answer arrives although its request's body was not read", async () => {
  const refuse: Handler = () => Promise.resolve(new Response("no\n", { status: 401 }));
  await withServer(refuse, QUICK, async (port) => {
    const head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000\r\n\r\n";
    match(await talk(port, head, "x".repeat(100_000)), /^HTTP\/1\.1 401[^]*connection: close[^]*no\n/i);
    // The rest of a body is no request.
    const smuggled = "GET /inner HTTP/1.1\r\nHost: localhost\r\n\r\n";
    equal((await talk(port, head, smuggled)).match(/HTTP\/1\.1/g)?.length, 1);
  });
});

Deno.test("a connection is used for one request after the other, not for hundreds at a time", async () => {
  await withServer(hello, QUICK, async (port) => {
    const request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    equal((await talk(port, request, request)).match(/200 OK/g)?.length, 2);
    const many = await talk(port, request.repeat(10_000));
    ok((many.match(/200 OK/g)?.length ?? 0) <= 4);
  });
});

Deno.test("a head without end or with too many lines is not kept", async () => {
  await withServer(hello, LIMITS, async (port) => {
    equal((await talk(port, "GET / HTTP/1.1\r\nHost: a\r\nX: ", "x".repeat(1_000_000))).includes("200"), false);
    equal((await talk(port, `GET /${"x".repeat(100_000)} HTTP/1.1\r\nHost: a\r\n\r\n`)).includes("200"), false);
  });
});

Deno.test("who has the most connections loses the oldest idle one; nobody is kept out", async () => {
  const limits = { ...LIMITS, all: 6, ofAddress: 4 };
  await using stack = new AsyncDisposableStack();
  const stream: Handler = (_, { streams, over }) => {
    streams();
    return Promise.resolve(
      new Response(
        new ReadableStream({
          start(controller) {
            controller.enqueue(new TextEncoder().encode("begin\n"));
            over.addEventListener("abort", () => controller.error(), { once: true });
          },
        }),
      ),
    );
  };
  // Both kinds of loopback, so that there are two visitors.
  const server = new HttpServer({ hostname: "::", port: 0 }, stream, limits);
  stack.defer(() => server.close());
  const connect = async (hostname: string) => {
    const conn = await Deno.connect({ hostname, port: server.port });
    stack.defer(() => {
      try {
        conn.close();
      } catch {
        // The test closed it.
      }
    });
    return conn;
  };
  const request = new TextEncoder().encode("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const begins = async (conn: Deno.Conn) => {
    const buffer = new Uint8Array(1_000);
    const length = await conn.read(buffer) ?? 0;
    match(new TextDecoder().decode(buffer.subarray(0, length)), /^HTTP\/1\.1 200/);
  };
  const streaming = await connect("127.0.0.1");
  await streaming.write(request);
  await begins(streaming);
  const idle = await connect("127.0.0.1");
  for (let at = 0; at < 20; at++) await connect("127.0.0.1");
  // The oldest idle ones went, the stream did not.
  equal(await idle.read(new Uint8Array(1)).catch(() => null), null);
  const last = await connect("127.0.0.1");
  await last.write(request);
  await begins(last);
  const other = await connect("::1");
  await other.write(request);
  await begins(other);
});

Deno.test("a listener that fails is started anew on the same port", async () => {
  const listen = Deno.listen;
  const listeners: Deno.TcpListener[] = [];
  Deno.listen = ((options: Deno.TcpListenOptions) => {
    const listener = listen(options);
    listeners.push(listener);
    return listener;
  }) as typeof Deno.listen;
  const seen: string[] = [];
  const connections = new Connections(LOOPBACK, (connection) => void seen.push(connection.visitor));
  try {
    const { port } = connections;
    listeners[0]!.close();
    await eventually(async () => {
      using _conn = await Deno.connect({ hostname: "127.0.0.1", port });
      return seen.length > 0;
    });
    deepEqual(seen[0], "127.0.0.1");
    equal(connections.port, port);
  } finally {
    Deno.listen = listen;
    await connections.stop();
    connections.destroy();
  }
});

Deno.test("visitorOf() takes the addresses that one visitor may choose from as one", () => {
  const cases: [string, string][] = [
    ["10.1.2.3", "10.1.2.3"],
    ["::ffff:10.1.2.3", "10.1.2.3"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:db8:1:2::6", "2001:db8:1:2::/64"],
    ["2001:db8::6", "2001:db8:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
  ];
  for (const [address, visitor] of cases) equal(visitorOf(address), visitor, address);
});
