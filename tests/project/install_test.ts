/** tests/install.sh takes released binaries where the network has them, and only with the right SHA-256. */
import { deepEqual, equal, match } from "node:assert/strict";
import { createHash } from "node:crypto";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { run } from "../harness/process.ts";
import { PROJECT, readProject } from "../harness/project.ts";

const PARTS = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"];
const ARCH = Deno.build.arch === "x86_64" ? "amd64" : "arm64";
const sha256 = (body: Uint8Array) => createHash("sha256").update(body).digest("hex");
const program = (name: string) => `#!/bin/sh\necho ${name} "$@"\n`;

/** The version of a module that tests/cluster/go.mod names. */
async function versionOf(module: string): Promise<string> {
  return new RegExp(`\\s${module} (v\\S+)`).exec(await readProject("tests/cluster/go.mod"))![1]!;
}

/** A folder as the release servers of Kubernetes and etcd have it. */
async function writeReleases(dir: string): Promise<void> {
  const binaries = `${dir}/${await versionOf("k8s.io/kubernetes")}/bin/linux/${ARCH}`;
  await Deno.mkdir(binaries, { recursive: true });
  for (const part of PARTS) {
    await Deno.writeTextFile(`${binaries}/${part}`, program(part));
    await Deno.writeTextFile(`${binaries}/${part}.sha256`, sha256(await Deno.readFile(`${binaries}/${part}`)));
  }
  const etcd = await versionOf("go.etcd.io/etcd/server/v3");
  const name = `etcd-${etcd}-linux-${ARCH}`;
  await Deno.mkdir(`${dir}/${etcd}/${name}`, { recursive: true });
  await Deno.writeTextFile(`${dir}/${etcd}/${name}/etcd`, program("etcd"), { mode: 0o755 });
  await run("tar", ["-C", `${dir}/${etcd}`, "-czf", `${dir}/${etcd}/${name}.tar.gz`, name]);
  const sum = sha256(await Deno.readFile(`${dir}/${etcd}/${name}.tar.gz`));
  await Deno.writeTextFile(`${dir}/${etcd}/SHA256SUMS`, `${"0".repeat(64)}  another.tar.gz\n${sum}  ${name}.tar.gz\n`);
}

/** Runs the script's builds against that folder, served on loopback; what Go would build is there, but the cluster. */
async function install(dir: string): Promise<{ success: boolean; said: string }> {
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async ({ url }) => {
    const body = await Deno.readFile(dir + new URL(url).pathname).catch(() => undefined);
    return new Response(body ?? null, { status: body ? 200 : 404 });
  });
  const cache = `${dir}/cache`;
  const script = await readProject("tests/install.sh");
  for (const tool of ["versitygw", "kwok"]) {
    const folder = `${cache}/${tool}-${new RegExp(`^${tool}_version=(\\S+)`, "m").exec(script)![1]}`;
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(`${folder}/${tool}`, program(tool), { mode: 0o755 });
  }
  const source = createHash("sha256").update(await readProject("tests/image/denort/main.go")).digest("hex").slice(
    0,
    16,
  );
  await Deno.mkdir(`${cache}/denort-${source}`, { recursive: true });
  await Deno.writeTextFile(`${cache}/denort-${source}/denort`, program("denort"), { mode: 0o755 });
  const releases = `http://127.0.0.1:${server.addr.port}`;
  const { success, stderr } = await new Deno.Command("bash", {
    args: [`${PROJECT.pathname}tests/install.sh`, "builds"],
    env: { MJL_CACHE: cache, MJL_KUBERNETES_RELEASES: releases, MJL_ETCD_RELEASES: releases, MJL_RELEASES: "" },
  }).output();
  return { success, said: new TextDecoder().decode(stderr) };
}

function clusterFolder(dir: string): string {
  const [folder] = [...Deno.readDirSync(`${dir}/cache`)].filter(({ name }) => name.startsWith("cluster-"));
  return `${dir}/cache/${folder!.name}`;
}

Deno.test("install.sh makes the test cluster of released binaries, called by their part's name", async () => {
  const dir = await scratchFolder("install");
  try {
    await writeReleases(dir);
    const { success, said } = await install(dir);
    equal(success, true, said);
    const cluster = `${clusterFolder(dir)}/cluster`;
    const answers = await Promise.all([...PARTS, "etcd"].map((part) => run(cluster, [part, "--flag=a b", "c"])));
    deepEqual(answers.map((answer) => answer.trim()), [...PARTS, "etcd"].map((part) => `${part} --flag=a b c`));
  } finally {
    await removeFolder(dir);
  }
});

Deno.test("install.sh takes no binary whose SHA-256 is another than the release says", async () => {
  const dir = await scratchFolder("install");
  try {
    await writeReleases(dir);
    const binary = `${dir}/${await versionOf("k8s.io/kubernetes")}/bin/linux/${ARCH}/kubelet`;
    await Deno.writeTextFile(binary, program("something else"));
    const { success, said } = await install(dir);
    equal(success, false);
    match(said, /kubelet has another SHA-256/);
    deepEqual(
      [...Deno.readDirSync(clusterFolder(dir))].map(({ name }) => name).filter((name) => /kubelet|cluster/.test(name)),
      [],
    );
  } finally {
    await removeFolder(dir);
  }
});
