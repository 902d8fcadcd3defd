/** k8s/kubeconfig.ts: kubeconfig files as kubectl reads them, and what is said of those that cannot be used. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { KubeClient } from "../../k8s/client.ts";
import { openKubeConfig } from "../../k8s/kubeconfig.ts";
import { FakeApi } from "../harness/fake_api.ts";
import { PROJECT } from "../harness/project.ts";

const DATA = new URL("../data/kubeconfig/", import.meta.url).pathname;
const PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

/** A folder of its own, with these files; a text `config` is the kubeconfig. */
class Folder implements AsyncDisposable {
  private constructor(readonly path: string) {}

  static async with(files: Readonly<Record<string, string>>): Promise<Folder> {
    const folder = new Folder(await Deno.makeTempDir({ prefix: "kubeconfig-" }));
    for (const [name, text] of Object.entries(files)) await folder.write(name, text);
    return folder;
  }

  async write(name: string, text: string): Promise<void> {
    const path = `${this.path}/${name}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await Deno.writeTextFile(path, text, { mode: 0o755 });
  }

  get config(): string {
    return `${this.path}/config`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}

/** One of the samples, which have no certificate of an authority; `words`: changes in its text. */
async function sample(name: string, ...words: [from: string, to: string][]): Promise<string> {
  const text = await Deno.readTextFile(`${DATA}${name}.yaml`);
  return words.reduce((text, [from, to]) => text.replace(from, to), text.replace("(base64 of the CA)", btoa(PEM)));
}

function config(cluster: unknown, user: unknown): string {
  return JSON.stringify({
    clusters: [{ name: "c", cluster }],
    users: [{ name: "u", user }],
    contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
    "current-context": "x",
  });
}

Deno.test("KubeClient takes several kubeconfigs as one, and what comes first wins", async () => {
  await using server = await FakeApi.start(() => undefined);
  const first = await server.kubeconfig({ name: "first", current: false });
  const second = await server.kubeconfig({ name: "second" });
  const kubeconfig = `${server.dir}/missing:${first}:${second}:${second}`;
  using client = await KubeClient.open({ kubeconfig });
  equal(client.namespace, "ns-second");
  using other = await KubeClient.open({ kubeconfig, context: "first" });
  equal(other.namespace, "ns-first");
  using third = await KubeClient.open({ kubeconfig, namespace: "mine" });
  equal(third.namespace, "mine");
});

Deno.test("KubeClient.open() says what is wrong with a kubeconfig", async () => {
  await using server = await FakeApi.start(() => undefined);
  const write = async (text: string) => {
    await Deno.writeTextFile(`${server.dir}/bad`, text);
    return `${server.dir}/bad`;
  };
  const good = JSON.parse(await Deno.readTextFile(await server.kubeconfig()));
  const https = structuredClone(good);
  https.clusters[0].cluster.server = "https://127.0.0.1:1";
  const cases: [text: string, words: RegExp][] = [
    ["{", /Cannot read the kubeconfig .*bad: /],
    [JSON.stringify({ ...good, "current-context": "" }), /no current context; set KUBE_CONTEXT/],
    [JSON.stringify({ ...good, clusters: [] }), /its context "here" names no cluster that it has/],
    [JSON.stringify(https), /insecure-skip-tls-verify.*give its certificate-authority/],
  ];
  for (const [text, words] of cases) await rejects(KubeClient.open({ kubeconfig: await write(text) }), words);
});

Deno.test("a field that is empty is none: tls-server-name, proxy-url", async () => {
  await using folder = await Folder.with({ config: await sample("emptysni") });
  const target = await openKubeConfig({ kubeconfig: folder.config });
  deepEqual([target.server, target.namespace, target.proxyUrl], ["https://127.0.0.1:28643", "lab", undefined]);
  deepEqual(await target.credentials(), { ca: PEM, cert: "", key: "", headers: { authorization: "Bearer abc" } });
});

Deno.test("empty texts of a user are none: the token counts, not the empty file", async () => {
  const user = {
    token: "abc",
    tokenFile: "",
    "client-certificate": "",
    "client-key-data": "",
    username: "",
    exec: null,
  };
  await using folder = await Folder.with({
    config: config({ server: "http://127.0.0.1:1", "certificate-authority": "" }, user),
  });
  const { headers } = await (await openKubeConfig({ kubeconfig: folder.config })).credentials();
  deepEqual(headers, { authorization: "Bearer abc" });
});

const PRINT = '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"t-%s"}}';

Deno.test("a relative command counts from the kubeconfig's folder, and gets its arguments and variables", async () => {
  const script = `#!/bin/sh\nprintf '${PRINT}' "$*-$ENV_A"\n`;
  await using folder = await Folder.with({ config: await sample("execrel"), "bin/token.sh": script });
  const { headers } = await (await openKubeConfig({ kubeconfig: folder.config })).credentials();
  deepEqual(headers, { authorization: "Bearer t-get-token --region eu-west-1-one" });
});

Deno.test("a command with provideClusterInfo is told of the cluster", async () => {
  const script = `#!/bin/sh\nprintf '%s' "$KUBERNETES_EXEC_INFO" > "$(dirname "$0")/told"\nprintf '${PRINT}' x\n`;
  const text = await sample("xinfo", ["WORK/k/conf/bin/info.sh", "./info.sh"]);
  await using folder = await Folder.with({ config: text, "info.sh": script });
  await (await openKubeConfig({ kubeconfig: folder.config })).credentials();
  deepEqual(JSON.parse(await Deno.readTextFile(`${folder.path}/told`)), {
    kind: "ExecCredential",
    apiVersion: "client.authentication.k8s.io/v1",
    spec: {
      interactive: false,
      cluster: { server: "https://127.0.0.1:28643", "certificate-authority-data": btoa(PEM) },
    },
  });
});

Deno.test("a command that is not there is named, with the hint how to install it", async () => {
  const text = await sample("xinfo", ["WORK/k/conf/bin/info.sh", "no-such-plugin"]);
  await using folder = await Folder.with({ config: text });
  const { credentials } = await openKubeConfig({ kubeconfig: folder.config });
  await rejects(credentials(), /the command no-such-plugin is not there; see https:\/\/example.invalid\/install/);
});

Deno.test("what a command printed wrongly is never shown, and its complaint is", async (t) => {
  const cases: [name: string, script: string, words: RegExp][] = [
    ["no JSON", "printf 'SECRET not json'", /printed no credential: it is not JSON/],
    ["another kind", `printf '{"kind":"Secret","token":"SECRET"}'`, /its kind is not ExecCredential/],
    ["no token", `printf '{"kind":"ExecCredential","status":{"SECRET":1}}'`, /neither a token nor a certificate/],
    ["a failure", "printf '\\033[31mplease log in\\033[0m' >&2; printf SECRET; exit 7", /exit code 7: please log in$/],
    ["very much", "head -c 3000000 /dev/zero", /ended with exit code/],
    ["an old version", `printf '{"apiVersion":"x/v1alpha1","kind":"ExecCredential"}'`, /its apiVersion is not/],
  ];
  for (const [name, script, words] of cases) {
    await t.step(name, async () => {
      await using folder = await Folder.with({
        config: await sample("execrel"),
        "bin/token.sh": `#!/bin/sh\n${script}\n`,
      });
      const { credentials } = await openKubeConfig({ kubeconfig: folder.config });
      await rejects(credentials(), (error: Error) => {
        match(error.message, words);
        ok(!error.message.includes("SECRET") && !error.message.includes("\x1b"), error.message);
        return true;
      });
    });
  }
});

Deno.test("a command's token is kept until it ends", async () => {
  const credential = (until: string) =>
    `{"kind":"ExecCredential","status":{"token":"%s","expirationTimestamp":"${until}"}}`;
  const script = (until: string) =>
    `#!/bin/sh\necho x >> "$0.calls"\nprintf '${credential(until)}' "$(wc -l < "$0.calls")"\n`;
  const far = new Date(Date.now() + 3_600_000).toISOString();
  await using folder = await Folder.with({ config: await sample("execrel"), "bin/token.sh": script(far) });
  const { credentials } = await openKubeConfig({ kubeconfig: folder.config });
  const shown = async () => (await credentials()).headers["authorization"];
  deepEqual([await shown(), await shown()], ["Bearer 1", "Bearer 1"]);
  await folder.write("bin/token.sh", script("2020-01-01T00:00:00Z"));
  const { credentials: again } = await openKubeConfig({ kubeconfig: folder.config });
  await again();
  match(String((await again()).headers["authorization"]), /^Bearer [34]$/);
});

Deno.test("an OIDC token that has ended is said in plain words, and renewed where that can be", async () => {
  const token = (exp: number) => `e30.${btoa(JSON.stringify({ exp })).replace(/=+$/, "")}.x`;
  await using folder = await Folder.with({ config: await sample("oidc") });
  const ended = await openKubeConfig({ kubeconfig: folder.config });
  await rejects(ended.credentials(), (error: Error) => {
    match(
      error.message,
      /^the OIDC token \(id-token\) ended at 1970-01-01T00:00:01.000Z, and 127.0.0.1:1 gives no new one: /,
    );
    match(error.message, /; log in again$/);
    return !error.message.includes("eyJ");
  });

  const asked: string[] = [];
  const fresh = token(Math.floor(Date.now() / 1000) + 3600);
  await using issuer = await FakeApi.start(async (url, request) => {
    if (url.pathname === "/.well-known/openid-configuration") {
      return Response.json({ token_endpoint: `${url.origin}/token` });
    }
    asked.push(await request.text());
    return Response.json({ id_token: fresh, refresh_token: "r2" });
  });
  await folder.write("config", await sample("oidc", ["https://127.0.0.1:1/", `${issuer.url}/`]));
  const renewed = await openKubeConfig({ kubeconfig: folder.config });
  deepEqual((await renewed.credentials()).headers, { authorization: `Bearer ${fresh}` });
  await renewed.credentials();
  deepEqual(asked, ["grant_type=refresh_token&refresh_token=r&client_id=k"]);

  const lasting = { "auth-provider": { name: "oidc", config: { "id-token": fresh } } };
  await folder.write("config", config({ server: "http://127.0.0.1:1" }, lasting));
  const good = await openKubeConfig({ kubeconfig: folder.config });
  deepEqual((await good.credentials()).headers, { authorization: `Bearer ${fresh}` });

  await folder.write("config", config({ server: "http://127.0.0.1:1" }, { "auth-provider": { name: "gcp" } }));
  await rejects(
    openKubeConfig({ kubeconfig: folder.config }),
    /no auth provider "gcp" any more; use gke-gcloud-auth-plugin/,
  );
});

Deno.test("a server without a scheme is https where TLS is spoken of", async (t) => {
  const cases: [cluster: Record<string, unknown>, server: string][] = [
    [{ server: "127.0.0.1:6443", "certificate-authority-data": btoa(PEM) }, "https://127.0.0.1:6443"],
    [{ server: "127.0.0.1:8001" }, "http://127.0.0.1:8001"],
    [{ server: "https://a.example/k8s/clusters/c-1/" }, "https://a.example/k8s/clusters/c-1"],
  ];
  for (const [cluster, server] of cases) {
    await t.step(server, async () => {
      await using folder = await Folder.with({ config: config(cluster, { token: "abc" }) });
      equal((await openKubeConfig({ kubeconfig: folder.config })).server, server);
    });
  }
});

Deno.test("who starts it with a wrong kubeconfig gets one sentence, without what is in the file", async (t) => {
  const token = "SECRET-abcdef0123456789";
  const good = { server: "https://127.0.0.1:6443" };
  const cases: [name: string, text: string, words: RegExp][] = [
    ["tabs", `users:\n- name: u\n  user:\n\ttoken: ${token}\n`, /line 4, column 1 is not valid YAML \([A-Z_]+\)$/],
    ["an open quote", `users:\n- name: u\n  user: {token: "${token}}\n`, /line \d+, column \d+ is not valid YAML/],
    ["an open bracket", `token: {${token}: [`, /is not valid YAML/],
    ["the same key twice", `${token}: 1\n${token}: 2\n`, /is not valid YAML \(DUPLICATE_KEY\)/],
    ["a text", token, /it is not a kubeconfig$/],
    ["nothing", "", /it is empty$/],
    ["a list that is none", `clusters: ${token}`, /its field clusters is no list$/],
    ["an entry without a name", `users: [{user: {token: ${token}}}]`, /entry 1 of users has no name$/],
    ["an entry without fields", `users: [{name: u, user: ${token}}]`, /entry 1 of users has no fields below user$/],
    ["a number for a token", config(good, { token: 123 }), /the field token of a user is no text$/],
    ["no server", config({}, { token }), /Cannot use the cluster "c" of the kubeconfig: it has no server$/],
    ["no URL", config({ server: "https://a b" }, { token }), /its server is no URL$/],
    ["tls-server-name", config({ ...good, "tls-server-name": "other" }, { token }), /it has tls-server-name/],
    [
      "no base64",
      config({ ...good, "certificate-authority-data": `%${token}` }, {}),
      /certificate-authority-data is not base64$/,
    ],
    ["no PEM", config({ ...good, "certificate-authority-data": btoa(token) }, {}), /certificate-authority is not PEM/],
    [
      "a file elsewhere",
      config({ ...good, "certificate-authority": "/home/ada/.minikube/ca.crt" }, { token }),
      /the file \/home\/ada\/.minikube\/ca.crt that the kubeconfig names is not within reach; make one file of all: kubectl config view --raw --flatten$/,
    ],
    [
      "a token file elsewhere",
      config(good, { tokenFile: "gone" }),
      /gone that the kubeconfig names is not within reach/,
    ],
    [
      "an exec of old",
      config(good, { exec: { apiVersion: "client.authentication.k8s.io/v1alpha1", command: "x" } }),
      /its exec command x needs an apiVersion/,
    ],
    [
      "an exec for people",
      config(good, {
        exec: { apiVersion: "client.authentication.k8s.io/v1", command: "x", interactiveMode: "Always" },
      }),
      /wants to ask a person/,
    ],
  ];
  for (const [name, text, words] of cases) {
    await t.step(name, async () => {
      await using folder = await Folder.with({ config: text });
      await rejects(KubeClient.open({ kubeconfig: folder.config }), (error: Error) => {
        match(error.message, words);
        match(error.message, /^Cannot (read|use) the /);
        ok(!error.message.includes(token) && !error.message.includes("\n"), error.message);
        return true;
      });
    });
  }
  await t.step("a folder", async () => {
    await using folder = await Folder.with({ "config/x": "" });
    await rejects(
      KubeClient.open({ kubeconfig: folder.config }),
      /Cannot read the kubeconfig .*: it is a folder; Docker makes one/,
    );
  });
  await t.step("no file", async () => {
    await rejects(
      KubeClient.open({ kubeconfig: "/nowhere/config" }),
      /Cannot read the kubeconfig \/nowhere\/config: there is no such file; set KUBECONFIG/,
    );
  });
  await t.step("a file without an end", async () => {
    await rejects(
      KubeClient.open({ kubeconfig: "/dev/zero" }),
      /Cannot read the kubeconfig \/dev\/zero: it has more than 8 MiB/,
    );
  });
  await t.step("another context than it has", async () => {
    await using folder = await Folder.with({ config: config(good, { token }) });
    await rejects(
      KubeClient.open({ kubeconfig: folder.config, context: "y" }),
      /Cannot use the context "y": the kubeconfig has x; set KUBE_CONTEXT/,
    );
  });
  await t.step("a path outside of what may be read", async () => {
    await using folder = await Folder.with({ config: config(good, { token }) });
    const script = `import { KubeClient } from "${PROJECT}/k8s/client.ts";
      await KubeClient.open({ kubeconfig: Deno.args[0] }).catch((error) => console.log(error.message));`;
    const command = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-prompt",
        "--no-check",
        "--allow-env",
        "--allow-sys",
        `--allow-read=${PROJECT.pathname}`,
        "-",
        folder.config,
      ],
      stdin: "piped",
      stdout: "piped",
      cwd: PROJECT,
    }).spawn();
    const writer = command.stdin.getWriter();
    await writer.write(new TextEncoder().encode(script));
    await writer.close();
    const { stdout } = await command.output();
    match(
      new TextDecoder().decode(stdout),
      /^Cannot read the kubeconfig .*: this program may not read there: start it with --allow-read=\//,
    );
  });
});

Deno.test("in a pod its account is used, read again each time, and without client-node", async () => {
  await using folder = await Folder.with({ "ca.crt": PEM, token: "first\n", namespace: "lab\n" });
  const home = Deno.env.get("HOME");
  Deno.env.set("HOME", folder.path);
  try {
    const pod = { host: "10.0.0.1", port: "443", dir: folder.path };
    const target = await openKubeConfig({ pod });
    deepEqual([target.server, target.namespace], ["https://10.0.0.1:443", "lab"]);
    deepEqual((await target.credentials()).headers, { authorization: "Bearer first" });
    await folder.write("token", "second");
    deepEqual(await target.credentials(), { ca: PEM, cert: "", key: "", headers: { authorization: "Bearer second" } });
    equal((await openKubeConfig({ pod: { ...pod, host: "fd00::1" } })).server, "https://[fd00::1]:443");
    await Deno.remove(`${folder.path}/token`);
    await rejects(openKubeConfig({ pod }), /Cannot use this pod's account: .*automountServiceAccountToken: false/);
    await rejects(openKubeConfig({ pod, context: "x" }), /Cannot use the context "x"/);
    await rejects(
      openKubeConfig({}),
      /Cannot find a cluster: there is no ~\/.kube\/config and this is no pod of one; set KUBECONFIG/,
    );
  } finally {
    if (home === undefined) Deno.env.delete("HOME");
    else Deno.env.set("HOME", home);
  }
});
