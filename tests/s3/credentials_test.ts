/** Credentials as people have them: profiles, SSO, commands, web identity, files that are written anew. */
import { createHash } from "node:crypto";
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { RefusedError, UnavailableError } from "../../ports.ts";
import { type S3Options, S3Store } from "../../s3.ts";
import { errorMessage } from "../../util/errors.ts";
import { useAws } from "../harness/aws_env.ts";
import { freePort } from "../harness/ports.ts";
import { HttpProxy } from "../harness/proxy.ts";
import { says } from "../harness/says.ts";

const XML = { "content-type": "application/xml" };

/** An S3 server that takes requests signed by one access key, and notes who else came. */
class KeyedServer implements AsyncDisposable {
  accepted = "";
  /** Code of the answer to others. */
  code = "InvalidAccessKeyId";
  status = 403;
  /** Access keys of the requests, in the order of arrival. */
  readonly seen: string[] = [];
  readonly tokens: (string | null)[] = [];
  private constructor(readonly proxy: HttpProxy) {}

  static async start(): Promise<KeyedServer> {
    const proxy = await HttpProxy.start({ target: "http://127.0.0.1:1" });
    const server = new KeyedServer(proxy);
    proxy.hook = ({ headers, path }) => {
      const key = /Credential=([^/]+)\//.exec(headers.get("authorization") ?? "")?.[1] ?? "";
      server.seen.push(key);
      server.tokens.push(headers.get("x-amz-security-token"));
      if (key !== server.accepted) {
        const body = `<Error><Code>${server.code}</Code><Message>No ${server.code}</Message></Error>`;
        return { status: server.status, headers: XML, body };
      }
      if (path.includes("uploads")) {
        const body = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>";
        return { status: 200, headers: XML, body };
      }
      if (path.includes("uploadId=") && !path.includes("partNumber=")) {
        return {
          status: 200,
          headers: XML,
          body: "<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>",
        };
      }
      return { status: 200, headers: { etag: '"1"' }, body: path.includes("uploadId") ? "" : "the object" };
    };
    return server;
  }

  store(options: Partial<S3Options> = {}): S3Store {
    return new S3Store({ url: "s3://lab/x", endpoint: this.proxy.url, region: "eu-west-1", attempts: 1, ...options });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.proxy[Symbol.asyncDispose]();
  }
}

async function withFolder(body: (dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await body(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function read(store: S3Store): Promise<string> {
  const found = await store.get("a");
  ok(found !== undefined && found !== "unchanged");
  return new TextDecoder().decode(found.body);
}

Deno.test("a profile that is missing, or wants a code, is said in the SDK's own words", () =>
  withFolder(async (dir) => {
    const config = [
      "[profile mfa]",
      "role_arn = arn:aws:iam::123456789012:role/lab",
      "source_profile = base",
      "mfa_serial = arn:aws:iam::123456789012:mfa/me",
      "[profile base]",
      "aws_access_key_id = A",
      "aws_secret_access_key = B",
    ];
    await Deno.writeTextFile(`${dir}/config`, config.join("\n"));
    await using server = await KeyedServer.start();
    const cases: [profile: string, words: RegExp][] = [
      [
        "nobody",
        /^Cannot read s3:\/\/lab\/x\/a: no credentials: Could not resolve credentials using profile: \[nobody\]/,
      ],
      ["mfa", /no credentials: Profile mfa requires multi-factor authentication.*without mfa_serial/],
    ];
    for (const [profile, words] of cases) {
      using _aws = useAws({ AWS_CONFIG_FILE: `${dir}/config`, AWS_PROFILE: profile });
      await rejects(server.store().get("a"), says(RefusedError, words));
      await rejects(server.store().put("a", ""), says(RefusedError, /^Cannot write .*no credentials/));
    }
    deepEqual(server.seen, []);
  }));

Deno.test("an SSO session is used while it lasts; that it is missing, ended or refused is said", () =>
  withFolder(async (dir) => {
    const startUrl = "https://lab.awsapps.com/start";
    const config = [
      "[profile sso]",
      `sso_start_url = ${startUrl}`,
      "sso_region = eu-west-1",
      "sso_account_id = 123456789012",
      "sso_role_name = reader",
    ];
    await Deno.writeTextFile(`${dir}/config`, config.join("\n"));
    let portalAnswer = { status: 200, headers: { "content-type": "application/json" }, body: "" };
    await using portal = await HttpProxy.start({ target: "http://127.0.0.1:1", hook: () => portalAnswer });
    await using server = await KeyedServer.start();
    server.accepted = "SSOKEY";
    using _aws = useAws({
      HOME: dir,
      AWS_CONFIG_FILE: `${dir}/config`,
      AWS_PROFILE: "sso",
      AWS_ENDPOINT_URL_SSO: portal.url,
    });
    await rejects(server.store().get("a"), says(RefusedError, /SSO session .* is invalid.*aws sso login/));

    const cache = `${dir}/.aws/sso/cache`;
    await Deno.mkdir(cache, { recursive: true });
    const login = (expiresAt: number) =>
      Deno.writeTextFile(
        `${cache}/${createHash("sha1").update(startUrl).digest("hex")}.json`,
        JSON.stringify({
          startUrl,
          region: "eu-west-1",
          accessToken: "t",
          expiresAt: new Date(expiresAt).toISOString(),
        }),
      );
    await login(Date.now() - 1_000);
    await rejects(server.store().get("a"), says(RefusedError, /SSO session .* has expired.*aws sso login/));

    await login(Date.now() + 3_600_000);
    const roleCredentials = {
      accessKeyId: "SSOKEY",
      secretAccessKey: "s",
      sessionToken: "the-token",
      expiration: Date.now() + 3_600_000,
    };
    portalAnswer = { ...portalAnswer, body: JSON.stringify({ roleCredentials }) };
    equal(await read(server.store()), "the object");
    deepEqual([server.seen.at(-1), server.tokens.at(-1)], ["SSOKEY", "the-token"]);
    match(portal.requests[0] ?? "", /^GET \/federation\/credentials/);

    portalAnswer = { ...portalAnswer, status: 403, body: JSON.stringify({ message: "No access to that account" }) };
    await rejects(server.store().get("a"), says(RefusedError, /no credentials: .*No access to that account/));
    Deno.env.set("AWS_ENDPOINT_URL_SSO", `http://127.0.0.1:${freePort()}`);
    await rejects(server.store().get("a"), says(UnavailableError, /no credentials: .*connect ECONNREFUSED/));
  }));

Deno.test("a credential_process is run, again when its credentials end, and what it says of a failure is told", () =>
  withFolder(async (dir) => {
    const script = async (lines: string[]) => {
      await Deno.writeTextFile(`${dir}/helper`, ["#!/bin/sh", `echo run >> ${dir}/runs`, ...lines].join("\n"));
      await Deno.chmod(`${dir}/helper`, 0o755);
    };
    const config = ["[profile process]", `credential_process = ${dir}/helper --token=hush`];
    await Deno.writeTextFile(`${dir}/config`, config.join("\n"));
    await using server = await KeyedServer.start();
    server.accepted = "PROCESSKEY";
    using _aws = useAws({ AWS_CONFIG_FILE: `${dir}/config`, AWS_PROFILE: "process" });
    const expiring = {
      Version: 1,
      AccessKeyId: "PROCESSKEY",
      SecretAccessKey: "s",
      Expiration: new Date(Date.now() + 60_000).toISOString(),
    };
    await script([`echo '${JSON.stringify(expiring)}'`]);
    const store = server.store();
    equal(await read(store), "the object");
    equal(await read(store), "the object");
    const runs = (await Deno.readTextFile(`${dir}/runs`)).split("\n").length - 1;
    ok(runs >= 2, `${runs} runs, though its credentials end in a minute`);

    await script(["echo 'the vault is sealed' >&2; exit 3"]);
    await rejects(server.store().get("a"), (error: Error) => {
      says(RefusedError, /no credentials: the profile's credential_process failed: the vault is sealed/)(error);
      ok(!errorMessage(error).includes("hush"), errorMessage(error));
      return true;
    });
    await script(["echo '{}'"]);
    await rejects(server.store().get("a"), says(RefusedError, /credential_process did not return Version 1/));
  }));

Deno.test({
  name: "that a credential_process may not be run, and a file not be read, is said as a matter of Deno's permissions",
  permissions: { run: false, read: true, write: true, env: true, net: true, sys: true },
  fn: () =>
    withFolder(async (dir) => {
      await Deno.writeTextFile(`${dir}/config`, "[profile process]\ncredential_process = /bin/true");
      using _aws = useAws({ AWS_CONFIG_FILE: `${dir}/config`, AWS_PROFILE: "process" });
      const store = new S3Store({ url: "s3://lab", endpoint: "http://127.0.0.1:1", attempts: 1 });
      await rejects(store.get("a"), says(RefusedError, /credential_process is a command.*--allow-run/));
    }),
});

Deno.test({
  name: "a file of the SDK's that may not be read is named",
  permissions: { read: false, env: true, net: true, sys: true },
  async fn() {
    using _aws = useAws({ AWS_SHARED_CREDENTIALS_FILE: "/run/aws/credentials", AWS_PROFILE: "lab" });
    const files = ["/run/aws/credentials"];
    const store = new S3Store({ url: "s3://lab", endpoint: "http://127.0.0.1:1", attempts: 1, files });
    const words = /no credentials: \/run\/aws\/credentials cannot be read: .*--allow-read/;
    await rejects(store.get("a"), says(RefusedError, words));
  },
});

Deno.test("a web identity's token is exchanged; a token that has ended is said in the words of STS", () =>
  withFolder(async (dir) => {
    const xml = (name: string, inner: string) =>
      `<${name} xmlns="https://sts.amazonaws.com/doc/2011-06-15/">${inner}</${name}>`;
    const granted = xml(
      "AssumeRoleWithWebIdentityResponse",
      "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>WEBKEY</AccessKeyId>" +
        "<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>" +
        `<Expiration>${new Date(Date.now() + 3_600_000).toISOString()}</Expiration></Credentials>` +
        "</AssumeRoleWithWebIdentityResult>",
    );
    const ended = xml(
      "ErrorResponse",
      "<Error><Type>Sender</Type><Code>ExpiredTokenException</Code><Message>Token expired: current date/time 1</Message></Error>",
    );
    let answer = { status: 200, headers: { "content-type": "text/xml" }, body: granted };
    await using sts = await HttpProxy.start({ target: "http://127.0.0.1:1", hook: () => answer });
    await using server = await KeyedServer.start();
    server.accepted = "WEBKEY";
    using _aws = useAws({
      AWS_ROLE_ARN: "arn:aws:iam::123456789012:role/lab",
      AWS_WEB_IDENTITY_TOKEN_FILE: `${dir}/token`,
      AWS_ENDPOINT_URL_STS: sts.url,
    });
    await rejects(server.store().get("a"), says(UnavailableError, /no credentials: .*token/));
    await Deno.writeTextFile(`${dir}/token`, "jwt");
    equal(await read(server.store()), "the object");
    answer = { ...answer, status: 400, body: ended };
    await rejects(server.store().get("a"), says(RefusedError, /no credentials: Token expired: current date/));
  }));

Deno.test("keys that are written anew into the SDK's file are read when the old ones are refused", () =>
  withFolder(async (dir) => {
    const write = (key: string) =>
      Deno.writeTextFile(`${dir}/credentials`, `[default]\naws_access_key_id=${key}\naws_secret_access_key=s\n`);
    await using server = await KeyedServer.start();
    using _aws = useAws({ AWS_SHARED_CREDENTIALS_FILE: `${dir}/credentials` });
    for (const [code, status] of [["InvalidAccessKeyId", 403], ["ExpiredToken", 400], ["AccessDenied", 403]] as const) {
      Object.assign(server, { code, status, accepted: "KEY1" });
      await write("KEY1");
      const store = server.store();
      equal(await read(store), "the object");
      server.accepted = "KEY2";
      await write("KEY2");
      server.seen.length = 0;
      deepEqual(await Promise.all([read(store), read(store), read(store)]), Array(3).fill("the object"));
      equal(await read(store), "the object");
      ok(server.seen.filter((key) => key === "KEY1").length <= 3, server.seen.join());
      equal(server.seen.at(-1), "KEY2");
    }
  }));

Deno.test("keys that stand in files of settings are read again as well, and refused ones are not asked for without end", () =>
  withFolder(async (dir) => {
    await using server = await KeyedServer.start();
    using _aws = useAws({ AWS_ACCESS_KEY_ID: "OLD", AWS_SECRET_ACCESS_KEY: "old" });
    const write = (key: string) => Deno.writeTextFile(`${dir}/id`, `${key}\n`);
    await write("FILEKEY1");
    const keys = { accessKeyId: { file: `${dir}/id` }, secretAccessKey: { text: "s" } };
    const store = server.store({ keys });
    server.accepted = "FILEKEY1";
    equal(await read(store), "the object");
    server.accepted = "FILEKEY2";
    await write("FILEKEY2");
    // Of an upload of several parts, the call that was refused is made again.
    async function* large() {
      for (let n = 0; n < 10; n++) yield await Promise.resolve(new Uint8Array(1_000_000));
    }
    await store.put("log.txt", large());
    equal(await read(store), "the object");

    server.accepted = "nobody";
    server.seen.length = 0;
    await rejects(store.get("a"), says(RefusedError, /does not accept the credentials \(InvalidAccessKeyId\)/));
    equal(server.seen.length, 1);
    await Deno.remove(`${dir}/id`);
    await rejects(
      server.store({ keys }).get("a"),
      says(UnavailableError, /no credentials: the file .*id cannot be used/),
    );
  }));

Deno.test("a portal of credentials that is away is not taken for the store", () =>
  withFolder(async (dir) => {
    await Deno.writeTextFile(`${dir}/token`, "jwt");
    await using server = await KeyedServer.start();
    using _aws = useAws({
      AWS_ROLE_ARN: "arn:aws:iam::123456789012:role/lab",
      AWS_WEB_IDENTITY_TOKEN_FILE: `${dir}/token`,
      AWS_ENDPOINT_URL_STS: `http://127.0.0.1:${freePort()}`,
    });
    await rejects(server.store().get("a"), says(UnavailableError, /no credentials: connect ECONNREFUSED/));
    deepEqual(server.seen, []);
  }));
