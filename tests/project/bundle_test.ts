/** What `deno task bundle` makes, by itself: nothing of the project's sources is beside it. */
import { deepEqual, equal, match } from "node:assert/strict";
import { bundle } from "../../deploy/bundle.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { PROJECT } from "../harness/project.ts";
import { HttpProxy } from "../harness/proxy.ts";

const TABLE = new URL("tests/data/jobs-lab-2023-08.csv", PROJECT).pathname;

/** Output of a command of the bundle in a folder; it must end with 0. */
async function say(dir: string, args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-config", "--no-lock", "-A", `${dir}/main.js`, ...args],
    env: { CATALOG_URL: TABLE, RUNS_URL: `${dir}/runs`, LOGS_URL: `${dir}/logs`, NO_COLOR: "1", ...env },
  }).output();
  equal(code, 0, `${args}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

Deno.test("the bundle", async (t) => {
  const dir = await scratchFolder("bundle");
  try {
    await bundle(dir);
    const parts = await Array.fromAsync(Deno.readDir(dir), async ({ name }): Promise<[string, string]> => [
      name,
      await Deno.readTextFile(`${dir}/${name}`),
    ]);

    await t.step("is ASCII: with one other letter V8 keeps a whole part of it at two bytes each", () => {
      // Letters in strings are escaped when it is made; those in regular expressions must be so in the source.
      // deno-lint-ignore no-control-regex
      const found = parts.flatMap(([, text]) => [...text.matchAll(/.{0,40}[^\x00-\x7f].{0,20}/g)].map(([one]) => one));
      deepEqual(found, []);
    });

    await t.step("gives who loads a part late the names of that part", () => {
      const named = new Set(parts.filter(([, text]) => /\bexport\{/.test(text)).map(([name]) => name));
      const late = parts.flatMap((
        [, text],
      ) => [...text.matchAll(/import\("\.\/([^"]+)"\)(\.then\(part=>part\.def)?/g)]);
      deepEqual(late.filter(([, name, mended]) => !named.has(name!) && mended === undefined).map(([call]) => call), []);
      // Those of the AWS SDK for roles, SSO and sign-in.
      deepEqual(
        [...new Set(late.filter(([, , mended]) => mended).map(([, name]) => /^[a-z-]+(?=-)/.exec(name!)![0]))]
          .sort(),
        ["signin", "sso-oidc", "sts"],
      );
    });

    await t.step("has every command that needs no service", async () => {
      match(await say(dir, ["help"]), /explain/);
      match(await say(dir, ["version"]), /\d\.\d/);
      match(await say(dir, ["check", TABLE]), /5 good rows/);
      match(await say(dir, ["explain", "experiments/upload", "{}"]), /^kind: Job$/m);
      match(await say(dir, ["graph", TABLE]), /-->/);
      match(await say(dir, ["completions", "bash"]), /complete/);
    });

    await t.step("gets credentials by a web identity, as on EKS", async () => {
      const sts = (inner: string) =>
        `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">` +
        `<AssumeRoleWithWebIdentityResult>${inner}</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`;
      const granted = sts(
        "<Credentials><AccessKeyId>WEBKEY</AccessKeyId><SecretAccessKey>s</SecretAccessKey>" +
          `<SessionToken>t</SessionToken><Expiration>${new Date(Date.now() + 3_600_000).toISOString()}</Expiration>` +
          "</Credentials>",
      );
      const keys = new Set<string | undefined>();
      await using role = await HttpProxy.start({
        target: "http://127.0.0.1:1",
        hook: () => ({ status: 200, headers: { "content-type": "text/xml" }, body: granted }),
      });
      const body = await Deno.readTextFile(TABLE);
      await using store = await HttpProxy.start({
        target: "http://127.0.0.1:1",
        hook: ({ headers }) => {
          keys.add(/Credential=([^/]+)\//.exec(headers.get("authorization") ?? "")?.[1]);
          return { status: 200, headers: { etag: '"1"' }, body };
        },
      });
      await Deno.writeTextFile(`${dir}/token`, "jwt");
      const said = await say(dir, ["check", "s3://lab/jobs.csv"], {
        AWS_ENDPOINT_URL: store.url,
        AWS_ENDPOINT_URL_STS: role.url,
        AWS_REGION: "us-east-1",
        AWS_ROLE_ARN: "arn:aws:iam::123456789012:role/lab",
        AWS_WEB_IDENTITY_TOKEN_FILE: `${dir}/token`,
      });
      match(said, /5 good rows/);
      deepEqual([...keys], ["WEBKEY"]);
    });
  } finally {
    await removeFolder(dir);
  }
});
