/** How S3 is reached: which server, in which style, with whose certificate, by which proxy. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { RefusedError, UnavailableError } from "../../ports.ts";
import { isBypassed } from "../../s3/no_proxy.ts";
import { S3Store } from "../../s3.ts";
import { useAws, useCredentials } from "../harness/aws_env.ts";
import { type Certificate, createAuthority } from "../harness/certs.ts";
import { ConnectProxy } from "../harness/connect_proxy.ts";
import { needs } from "../harness/needs.ts";
import { freePort } from "../harness/ports.ts";
import { HttpProxy } from "../harness/proxy.ts";
import { type S3Server, startS3 } from "../harness/s3.ts";
import { says } from "../harness/says.ts";

const ignore = !await needs("s3", "openssl");

interface TlsBed {
  readonly server: S3Server;
  readonly ca: string;
  /** Makes a certificate of the same authority. */
  issue(hosts: readonly string[]): Promise<Certificate>;
}

/** An S3 server with a certificate of a private authority for 127.0.0.1 and store.example. */
async function withTls(body: (bed: TlsBed) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const { ca, server: issue } = await createAuthority(dir);
    const certificate = await issue("s3", ["127.0.0.1", "store.example"]);
    await using server = await startS3({ tls: { certificate, ca } });
    using _credentials = useCredentials(server);
    await body({ server, ca, issue: (hosts) => issue("other", hosts) });
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

function contentOf(store: S3Store, key: string): Promise<string> {
  return store.get(key).then((found) => {
    ok(found !== undefined && found !== "unchanged");
    return new TextDecoder().decode(found.body);
  });
}

Deno.test({
  name: "a server with a certificate of a private authority is reached with that authority's file, and else it is said",
  ignore,
  fn: () =>
    withTls(async ({ server, ca }) => {
      const options = { url: "s3://braingeneers/x", endpoint: server.url, attempts: 1 };
      const store = new S3Store({ ...options, ca });
      await store.put("a", "over TLS");
      await store.put("large", new Uint8Array(9_000_000));
      equal(await contentOf(store, "a"), "over TLS");
      equal(await server.get("s3://braingeneers/x/a"), "over TLS");
      const words = /certificate of https:\/\/127.0.0.1:\d+ is signed by an authority that is not known.*AWS_CA_BUNDLE/;
      await rejects(new S3Store(options).get("a"), says(RefusedError, words));
    }),
});

Deno.test({
  name: "a certificate for another name, and a server without TLS, are told apart",
  ignore,
  async fn() {
    await withTls(async ({ server, ca }) => {
      const endpoint = server.url.replace("127.0.0.1", "localhost");
      const store = new S3Store({ url: "s3://braingeneers", endpoint, ca, attempts: 1 });
      await rejects(store.get("a"), says(RefusedError, /is for another name .*S3_PATH_STYLE/));
    });
    await using plain = await startS3();
    using _credentials = useCredentials(plain);
    const endpoint = plain.url.replace("http:", "https:");
    const store = new S3Store({ url: "s3://braingeneers", endpoint, attempts: 1 });
    await rejects(store.get("a"), says(RefusedError, /does not speak TLS. Write http:\/\/ in AWS_ENDPOINT_URL/));
  },
});

Deno.test({
  name: "a proxy is used for https and http, and not for the hosts that are excepted",
  ignore,
  fn: () =>
    withTls(async ({ server, ca }) => {
      await using proxy = await ConnectProxy.start({ target: server.port });
      const options = { url: "s3://braingeneers/p", ca, attempts: 1 };
      const by = { https: proxy.url, http: proxy.url };
      // A name that nobody but the proxy knows.
      const named = { ...options, endpoint: "https://store.example:444", proxy: by };
      const store = new S3Store(named);
      await store.put("a", "by the proxy");
      equal(await contentOf(store, "a"), "by the proxy");
      deepEqual([...new Set(proxy.asked)], ["store.example:444"]);

      await using plain = await startS3();
      await using second = await ConnectProxy.start();
      using _credentials = useCredentials(plain);
      const overHttp = { ...options, endpoint: plain.url, proxy: { http: second.url } };
      await new S3Store(overHttp).put("b", "x");
      deepEqual([...new Set(second.asked)], [new URL(plain.url).host]);
      second.asked.length = 0;
      await new S3Store({ ...overHttp, proxy: { http: second.url, except: "lab,127.0.0.0/8" } }).put("b", "y");
      deepEqual(second.asked, []);
    }),
});

Deno.test({
  name: "a proxy that refuses or is away is named, without its password",
  async fn() {
    using _credentials = useCredentials({ accessKey: "a", secretKey: "b" });
    await using proxy = await ConnectProxy.start();
    const read = (https: string) =>
      new S3Store({ url: "s3://lab", endpoint: "https://store.example", proxy: { https }, attempts: 1 }).get("x");
    const { host } = new URL(proxy.url);
    const through = (words: RegExp) => (error: Error) => {
      ok(error instanceof UnavailableError && words.test(error.message), error.message);
      ok(error.message.includes(`proxy http://${host}`) && !error.message.includes("secret"), error.message);
      return true;
    };
    proxy.refuseWith = 407;
    await rejects(read(`http://me:secret@${host}`), through(/does not let through to https:\/\/store.example \(407\)/));
    await proxy[Symbol.asyncDispose]();
    await rejects(read(`http://me:secret@${host}`), through(/refused. Check .*HTTPS_PROXY/));
  },
});

Deno.test("hosts are excepted from the proxy as NO_PROXY is commonly read", () => {
  const cases: [host: string, except: string | undefined, bypassed: boolean][] = [
    ["s3.lab.org", undefined, false],
    ["s3.lab.org", "", false],
    ["s3.lab.org", "*", true],
    ["s3.lab.org", "lab.org", true],
    ["s3.lab.org", " example.com , .lab.org ", true],
    ["s3.lab.org", "*.lab.org", true],
    ["s3.lab.org", "b.org", false],
    ["s3.lab.org", "S3.LAB.ORG:443", true],
    ["s3lab.org", "lab.org", false],
    ["10.1.2.3", "10.0.0.0/8", true],
    ["11.1.2.3", "10.0.0.0/8", false],
    ["10.1.2.3", "10.1.2.3", true],
    ["10.1.2.3", "10.1.2.3/33x", false],
    ["127.0.0.1", "0.0.0.0/0", true],
    ["[::1]", "::1", true],
  ];
  for (const [host, except, bypassed] of cases) equal(isBypassed(host, except), bypassed, `${host} ${except}`);
});

Deno.test({
  name: "an endpoint of the profile or of the SDK's variables means path style too",
  ignore,
  async fn() {
    await using server = await startS3();
    const dir = await Deno.makeTempDir();
    const keys = { AWS_ACCESS_KEY_ID: server.accessKey, AWS_SECRET_ACCESS_KEY: server.secretKey };
    const profile = [
      "[profile lab]",
      `endpoint_url = ${server.url}`,
      `aws_access_key_id = ${server.accessKey}`,
      `aws_secret_access_key = ${server.secretKey}`,
      "[profile services]",
      "services = here",
      `aws_access_key_id = ${server.accessKey}`,
      `aws_secret_access_key = ${server.secretKey}`,
      "[services here]",
      "s3 =",
      `  endpoint_url = ${server.url}`,
    ];
    await Deno.writeTextFile(`${dir}/config`, profile.join("\n"));
    try {
      for (
        const variables of [
          { ...keys, AWS_ENDPOINT_URL_S3: server.url, AWS_ENDPOINT_URL: "http://127.0.0.1:1" },
          { ...keys, AWS_ENDPOINT_URL: server.url },
          { AWS_CONFIG_FILE: `${dir}/config`, AWS_PROFILE: "lab" },
          { AWS_CONFIG_FILE: `${dir}/config`, AWS_PROFILE: "services" },
        ]
      ) {
        using _aws = useAws(variables);
        const store = new S3Store({ url: "s3://braingeneers/profile", attempts: 1 });
        await store.put("a", JSON.stringify(variables));
        equal(await contentOf(store, "a"), JSON.stringify(variables));
        await server.kill9();
        await rejects(store.get("a"), says(UnavailableError, new RegExp(`connection to ${server.url} refused`)));
        await server.start();
      }
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  },
});

Deno.test({
  name: "a bucket that stands before an unknown host name is said, with what was looked up and S3_PATH_STYLE",
  async fn() {
    using _credentials = useCredentials({ accessKey: "a", secretKey: "b" });
    const endpoint = `http://no-such-host.invalid:${freePort()}`;
    const store = new S3Store({ url: "s3://lab/x", endpoint, forcePathStyle: false, attempts: 1 });
    const words =
      /^Cannot read s3:\/\/lab\/x\/a: the host name lab.no-such-host.invalid is not known.*S3_PATH_STYLE=true/;
    await rejects(store.get("a"), says(UnavailableError, words));
  },
});

Deno.test("what a profile or a variable says wrongly is named", async () => {
  const dir = await Deno.makeTempDir();
  const keys = { AWS_ACCESS_KEY_ID: "A", AWS_SECRET_ACCESS_KEY: "b" };
  const endpoint = "http://127.0.0.1:1";
  const noUrl = /the endpoint is no URL.*AWS_ENDPOINT_URL_S3 or the profile's endpoint_url/;
  const cases: [config: string, variables: Record<string, string>, words: RegExp][] = [
    ["endpoint_url = s3.lab:9000", {}, noUrl],
    ["", { AWS_ENDPOINT_URL_S3: "localhost" }, noUrl],
    ["region = eu west", { AWS_ENDPOINT_URL: endpoint }, /the region is no name.*AWS_REGION/],
    [
      "",
      { AWS_ENDPOINT_URL: endpoint, AWS_ACCESS_KEY_ID: "A\n" },
      /a character that cannot be sent.*AWS_ACCESS_KEY_ID/,
    ],
    [
      "",
      { AWS_ENDPOINT_URL: endpoint, AWS_SESSION_TOKEN: "é\nx" },
      /a character that cannot be sent.*AWS_SESSION_TOKEN/,
    ],
  ];
  try {
    for (const [config, variables, words] of cases) {
      // A file of its own, for the SDK reads each once.
      const file = `${dir}/${crypto.randomUUID()}`;
      await Deno.writeTextFile(file, `[default]\n${config}\n`);
      using _aws = useAws({ ...keys, ...variables, AWS_CONFIG_FILE: file });
      await rejects(new S3Store({ url: "s3://lab/x", attempts: 1 }).get("a"), says(RefusedError, words));
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test({
  name: "a password in the endpoint's URL is not told",
  async fn() {
    using _credentials = useCredentials({ accessKey: "a", secretKey: "b" });
    const store = new S3Store({ url: "s3://lab", endpoint: `http://me:secret@127.0.0.1:${freePort()}`, attempts: 1 });
    await rejects(store.get("a"), (error: Error) => {
      ok(/connection to http:\/\/127.0.0.1:\d+ refused/.test(error.message), error.message);
      return true;
    });
  },
});

Deno.test({
  name: "something else than an S3 server is said to be so",
  async fn() {
    using _credentials = useCredentials({ accessKey: "a", secretKey: "b" });
    const html = ["<html><body><p>Console<br></body></html>", "<html><body>Console</body></html>"];
    const answers = html.flatMap((body) => [200, 404].map((status) => ({ status, body })));
    for (const answer of answers) {
      await using web = await HttpProxy.start({ target: "http://127.0.0.1:1", hook: () => answer });
      const store = new S3Store({ url: "s3://lab", endpoint: web.url, attempts: 1 });
      const words = new RegExp(`^Cannot list s3://lab/: ${web.url} does not answer as an S3 server does`);
      await rejects(Array.fromAsync(store.list("")), says(RefusedError, words));
      if (answer.status === 404) {
        await rejects(store.exists("a"), says(RefusedError, /does not answer as an S3 server/));
      }
    }
  },
});
