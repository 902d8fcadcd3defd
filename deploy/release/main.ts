/**
 * Makes what a release consists of, in dist/release: a binary for each target, the bundle, a bill of materials, notes and
 * checksums. It publishes nothing; .github/workflows/release.yml calls it and publishes what lies there.
 * usage: deno task release [--dry-run] [--tag v1.2.3]
 *   --dry-run   what a tag would do: says what does not fit instead of stopping, and compiles for this machine only,
 *               with Deno itself in place of its runtime where DENORT_BIN does not name one
 */
import { bundle } from "../bundle.ts";
import { notesOf } from "./changelog.ts";
import { type Graph, type GraphPackage, sbom } from "./sbom.ts";

const NAME = "mqtt-job-listener";
const ROOT = new URL("../../", import.meta.url);
const OUT = "dist/release";
/** The bundle while its archives are made: no part of an older one beside it, as in the folder of `deno task bundle`. */
const BUNDLE = `${OUT}/${NAME}-deno`;
/** As `deno compile --target` names them, and for whom they are. */
const TARGETS = {
  "x86_64-unknown-linux-gnu": "Linux, x64",
  "aarch64-unknown-linux-gnu": "Linux, arm64",
  "x86_64-apple-darwin": "macOS, x64",
  "aarch64-apple-darwin": "macOS, arm64",
};

const read = (path: string) => Deno.readTextFile(new URL(path, ROOT));

async function run(command: string, args: string[], env: Record<string, string> = {}): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args, env, cwd: ROOT }).output();
  if (!success) throw new Error(`${command} ${args.join(" ")} failed: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

/** What must fit before there is a release. */
async function problems(version: string, tag: string): Promise<string[]> {
  const said: string[] = [];
  if (tag !== `v${version}`) said.push(`the tag is ${tag}, deno.json says ${version}: it must be v${version}`);
  const notes = notesOf(await read("CHANGELOG.md"), version);
  if (notes === undefined) said.push(`CHANGELOG.md has no heading "## ${version} (date)"`);
  else if (!/^\d{4}-\d\d-\d\d$/.test(notes.when)) {
    said.push(`CHANGELOG.md says "${notes.when}" of ${version}: write the date, as in "## ${version} (2026-01-31)"`);
  } else if (notes.text.trim() === "") said.push(`CHANGELOG.md says nothing of ${version}`);
  for (const path of ["Dockerfile", "deploy/docker-compose.yml", "deploy/kustomization.yaml"]) {
    if (!(await read(path)).includes(version)) said.push(`${path} does not name ${version}`);
  }
  return said;
}

/**
 * Compiles for one target with the flags of `deno task compile`, but for the folders of a home: whoever builds would write
 * his own into it.
 */
async function compile(target: string, output: string, env: Record<string, string>): Promise<void> {
  const { tasks } = JSON.parse(await read("deno.json"));
  const flags = /deno compile (.*) --output /.exec(tasks.compile.command)?.[1]?.replaceAll(/,\$HOME\/[^,\s]+/g, "");
  if (flags === undefined || flags.includes("$")) {
    throw new Error("Cannot read the flags of the task compile in deno.json");
  }
  await run(
    Deno.execPath(),
    ["compile", "--quiet", "--target", target, ...flags.split(" "), "--output", output, `${BUNDLE}/main.js`],
    env,
  );
}

async function materials(version: string): Promise<string> {
  const graph: Graph & { npmPackages: Record<string, GraphPackage & { localPath?: string }> } = JSON.parse(
    await run(Deno.execPath(), ["info", "--json", "main.ts"]),
  );
  const lock: { npm: Record<string, { integrity?: string }> } = JSON.parse(await read("deno.lock"));
  const licenses = new Map<string, string>();
  for (const [id, { localPath }] of Object.entries(graph.npmPackages)) {
    const text = localPath && await Deno.readTextFile(`${localPath}/package.json`).catch(() => "");
    const license: unknown = text ? JSON.parse(text).license : undefined;
    if (typeof license === "string") licenses.set(id, license);
  }
  // Of the commit, so that the same commit gives the same file.
  const created = new Date(Number(await run("git", ["log", "-1", "--format=%ct"])) * 1000);
  const document = sbom({
    version,
    denoVersion: Deno.version.deno,
    graph,
    integrity: (id) => lock.npm[id]?.integrity,
    license: (id) => licenses.get(id),
    created,
  });
  return `${JSON.stringify(document, null, 2)}\n`;
}

async function sha256(path: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", await Deno.readFile(new URL(path, ROOT)));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function main(args: readonly string[]): Promise<number> {
  const dry = args.includes("--dry-run");
  const { version } = JSON.parse(await read("deno.json"));
  const tag = args.includes("--tag") ? args[args.indexOf("--tag") + 1] ?? "" : `v${version}`;
  const unfit = await problems(version, tag);
  for (const one of unfit) console.error(`${dry ? "Would stop" : "Cannot release"}: ${one}`);
  if (unfit.length > 0 && !dry) return 1;

  await Deno.remove(new URL(OUT, ROOT), { recursive: true }).catch(() => {});
  await Deno.mkdir(new URL(OUT, ROOT), { recursive: true });
  await bundle(BUNDLE);
  const files: { name: string; what: string; made: boolean }[] = [];
  for (const [target, what] of Object.entries(TARGETS)) {
    const name = `${NAME}-v${version}-${target}.tar.gz`;
    const made = !dry || target === Deno.build.target;
    files.push({ name, what: `binary, ${what}`, made });
    if (!made) continue;
    const env = dry ? { DENORT_BIN: Deno.env.get("DENORT_BIN") ?? await Deno.realPath(Deno.execPath()) } : {};
    await compile(target, `${OUT}/binary/${NAME}`, env);
    await run("tar", ["-C", `${OUT}/binary`, "-czf", `${OUT}/${name}`, NAME]);
    await Deno.remove(new URL(`${OUT}/binary`, ROOT), { recursive: true });
  }
  const parts = `${NAME}-v${version}-deno.tar.gz`;
  await run("tar", ["-C", OUT, "-czf", `${OUT}/${parts}`, `${NAME}-deno`]);
  await Deno.remove(new URL(BUNDLE, ROOT), { recursive: true });
  const bill = `${NAME}-v${version}.spdx.json`;
  await Deno.writeTextFile(new URL(`${OUT}/${bill}`, ROOT), await materials(version));
  files.push({ name: parts, what: "bundle, for deno run", made: true });
  files.push({ name: bill, what: "bill of materials, SPDX 2.3", made: true });

  const sums = new Map<string, string>();
  for (const { name, made } of files) if (made) sums.set(name, await sha256(`${OUT}/${name}`));
  const lines = [...sums].map(([name, sum]) => `${sum}  ${name}\n`);
  await Deno.writeTextFile(new URL(`${OUT}/SHA256SUMS`, ROOT), lines.join(""));
  const notes = notesOf(await read("CHANGELOG.md"), version)?.text ?? "";
  await Deno.writeTextFile(new URL(`${OUT}/notes.md`, ROOT), notes);

  console.log(`${tag}: ${notes.trim().split("\n").length} lines of notes; in ${OUT}:`);
  for (const { name, what } of files) {
    const sum = sums.get(name);
    console.log(`  ${name}  ${what}  ${sum === undefined ? "(made by the workflow)" : `sha256:${sum.slice(0, 16)}…`}`);
  }
  console.log("  SHA256SUMS  checksums of the files above\n  notes.md  of CHANGELOG.md, not uploaded");
  console.log(
    `And, by the workflow: image ghcr.io/OWNER/REPOSITORY:${tag} for linux/amd64 and linux/arm64, by digest,`,
  );
  console.log("  with its own bill of materials; provenance of the binaries and of the image.");
  if (dry) {
    console.log("Nothing was published. The binary above has a stand-in for Deno's runtime unless DENORT_BIN is set.");
  }
  return 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
