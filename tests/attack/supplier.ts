/** Delivers packages, base images and actions. What holds is files of the project, so they are looked at. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { readProject } from "../harness/project.ts";
import type { Attack } from "./bed.ts";

export const SUPPLIER: readonly Attack[] = [
  {
    actor: "supplier",
    name: "another version or content of a package",
    bound: "exact versions, a hash of each, a frozen lock, no install scripts",
    short: true,
    async run() {
      const config = JSON.parse(await readProject("deno.json"));
      const lock = JSON.parse(await readProject("deno.lock"));
      const loose = Object.values<string>(config.imports).filter((at) =>
        !/^npm:(@[^/]+\/)?[^@/]+@\d+\.\d+\.\d+$/.test(at)
      );
      deepEqual(loose, []);
      equal(config.lock.frozen, true);
      ok(!("allowScripts" in config), "packages may run scripts at installation");
      const packages = Object.entries<{ integrity?: string }>(lock.npm);
      deepEqual(packages.filter(([, { integrity }]) => !integrity?.startsWith("sha512-")).map(([name]) => name), []);
      return `${packages.length} packages by hash`;
    },
  },
];
