/** `deno task release`: what a tag would publish, and that the workflow publishes just that. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { createHash } from "node:crypto";
import { notesOf } from "../../deploy/release/changelog.ts";
import { reached, sbom } from "../../deploy/release/sbom.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { run } from "../harness/process.ts";
import { PROJECT, readProject } from "../harness/project.ts";

const CHANGELOG =
  `# Changelog\n\nWords.\n\n## 1.10.0 (2026-02-01)\n\n- New.\n\n## 1.1.0 (unreleased)\n\n### Fixed\n\n- Old.\n`;

Deno.test("the notes of a version are its part of the changelog, and of no other", () => {
  deepEqual(notesOf(CHANGELOG, "1.10.0"), { when: "2026-02-01", text: "- New.\n" });
  deepEqual(notesOf(CHANGELOG, "1.1.0"), { when: "unreleased", text: "### Fixed\n\n- Old.\n" });
  equal(notesOf(CHANGELOG, "1.1"), undefined);
});

const GRAPH = {
  modules: [{ kind: "esm" }, { kind: "npm", npmPackage: "@a/b@1.0.0" }],
  npmPackages: {
    "@a/b@1.0.0": { name: "@a/b", version: "1.0.0", dependencies: ["c@2.0.0_d@3.0.0"] },
    "c@2.0.0_d@3.0.0": { name: "c", version: "2.0.0", dependencies: ["@a/b@1.0.0"] },
    "of-tests@1.0.0": { name: "of-tests", version: "1.0.0", dependencies: [] },
  },
};

Deno.test("the bill of materials has what the program reaches, with its hashes, and nothing of the tests", () => {
  deepEqual(reached(GRAPH), ["@a/b@1.0.0", "c@2.0.0_d@3.0.0"]);
  const input = {
    version: "1.0.0",
    denoVersion: "2.9.6",
    graph: GRAPH,
    integrity: () => `sha512-${btoa("\x00\xff")}`,
    license: () => "MIT",
    created: new Date(0),
  };
  const { packages } = sbom(input) as { packages: Record<string, unknown>[] };
  deepEqual(packages.map(({ name }) => name), ["mqtt-job-listener", "deno", "@a/b", "c"]);
  deepEqual(packages[2]!["checksums"], [{ algorithm: "SHA512", checksumValue: "00ff" }]);
  match(JSON.stringify(packages[2]), /"pkg:npm\/%40a\/b@1\.0\.0"/);
  deepEqual(sbom(input), sbom(input));
});

Deno.test("a dry run makes what can be made here, and says what stands in the way of the rest", async (t) => {
  const said = await new Deno.Command(Deno.execPath(), {
    args: ["task", "release", "--dry-run"],
    cwd: PROJECT,
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder();
  ok(said.success, text.decode(said.stderr));
  const { version } = JSON.parse(await readProject("deno.json"));
  const out = "dist/release";

  await t.step("names have the version, one archive for each target and one of the bundle", () => {
    const targets = [...text.decode(said.stdout).matchAll(/^ {2}mqtt-job-listener-v(\S+?)-(\S+)\.tar\.gz /gm)];
    deepEqual(targets.map(([, of, target]) => [of, target]), [
      [version, "x86_64-unknown-linux-gnu"],
      [version, "aarch64-unknown-linux-gnu"],
      [version, "x86_64-apple-darwin"],
      [version, "aarch64-apple-darwin"],
      [version, "deno"],
    ]);
  });

  await t.step("an unreleased heading would stop the tag", async () => {
    const { when } = notesOf(await readProject("CHANGELOG.md"), version)!;
    equal(/Would stop: CHANGELOG\.md/.test(text.decode(said.stderr)), !/^\d{4}-\d\d-\d\d$/.test(when));
  });

  await t.step("each file has its checksum", async () => {
    const sums = (await readProject(`${out}/SHA256SUMS`)).trim().split("\n").map((line) =>
      line.split("  ") as [string, string]
    );
    const files = [...Deno.readDirSync(new URL(out, PROJECT))].map(({ name }) => name).filter((name) =>
      name.startsWith("mqtt-job-listener-")
    );
    deepEqual(sums.map(([, name]) => name).sort(), files.sort());
    for (const [sum, name] of sums) {
      const body = await Deno.readFile(new URL(`${out}/${name}`, PROJECT));
      equal(createHash("sha256").update(body).digest("hex"), sum, `the checksum of ${name}`);
    }
  });

  await t.step("the archive holds the program alone", async () => {
    const archive = `${PROJECT.pathname}${out}/mqtt-job-listener-v${version}-${Deno.build.target}.tar.gz`;
    equal(await run("tar", ["-tzf", archive]), "mqtt-job-listener\n");
  });

  await t.step("the bundle says the version", async () => {
    const dir = await scratchFolder("release");
    try {
      await run("tar", ["-C", dir, "-xzf", `${PROJECT.pathname}${out}/mqtt-job-listener-v${version}-deno.tar.gz`]);
      const entry = `${dir}/mqtt-job-listener-deno/main.js`;
      match(await run(Deno.execPath(), ["run", "--allow-env", entry, "version"]), new RegExp(` ${version}\n$`));
    } finally {
      await removeFolder(dir);
    }
  });

  await t.step("the bill of materials fits together: ids, references, each dependency of deno.json's", async () => {
    const document = JSON.parse(await readProject(`${out}/mqtt-job-listener-v${version}.spdx.json`));
    const ids: string[] = document.packages.map(({ SPDXID }: { SPDXID: string }) => SPDXID);
    equal(new Set(ids).size, ids.length);
    for (const id of ids) match(id, /^SPDXRef-[A-Za-z0-9.-]+$/);
    const known = new Set([...ids, "SPDXRef-DOCUMENT"]);
    for (const { spdxElementId, relatedSpdxElement } of document.relationships) {
      ok(known.has(spdxElementId) && known.has(relatedSpdxElement), `${spdxElementId} → ${relatedSpdxElement}`);
    }
    const names: string[] = document.packages.map(({ name }: { name: string }) => name);
    for (const name of ["mqtt", "@aws-sdk/client-s3", "hono", "zod"]) ok(names.includes(name), name);
    for (const name of ["playwright-core", "axe-core", "fast-check"]) ok(!names.includes(name), name);
  });
});

Deno.test("a tag that is not the version of deno.json is no release", async () => {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "release", "--tag", "v99.0.0"],
    cwd: PROJECT,
  }).output();
  equal(code, 1);
  match(new TextDecoder().decode(stderr), /Cannot release: the tag is v99\.0\.0, deno\.json says /);
});

Deno.test("the workflow publishes what the task makes, and makes nothing itself", async () => {
  const text = await readProject(".github/workflows/release.yml");
  match(text, /run: deno task release --tag "\$GITHUB_REF_NAME"/);
  match(text, /--notes-file dist\/release\/notes\.md/);
  match(text, /dist\/release\/mqtt-job-listener-\* dist\/release\/SHA256SUMS/);
  ok(!/sha256sum|deno task compile|awk|tar -C/.test(text));
});
