/**
 * The permissions of Deno that the service cannot do without, asked for one by one at the start, so that a missing one
 * fails with its name and not in the middle of a run. Files are not among them: which ones are read depends on settings.
 */
const NEEDED: readonly { flag: string; descriptor: Deno.PermissionDescriptor; why: string }[] = [
  { flag: "--allow-net", descriptor: { name: "net" }, why: "broker, store, API server and page" },
  { flag: "--allow-env", descriptor: { name: "env" }, why: "settings" },
  { flag: "--allow-sys=osRelease", descriptor: { name: "sys", kind: "osRelease" }, why: "the AWS SDK's user agent" },
  { flag: "--allow-sys=homedir", descriptor: { name: "sys", kind: "homedir" }, why: "the AWS SDK's files" },
];

/**
 * Throws a sentence where rows' commands shall run on this machine and Deno may not do that: the start task of
 * deno.json gives no more than a cluster needs. `folder`: where the processes' files go.
 */
export function requireLocalPermissions(folder: string): void {
  const needed: Deno.PermissionDescriptor[] = [{ name: "run" }, { name: "write", path: folder }];
  if (needed.every((descriptor) => Deno.permissions.querySync(descriptor).state === "granted")) return;
  throw new Deno.errors.NotCapable(
    `Cannot start: CLUSTER=local runs commands on this machine and writes to ${folder}, for which Deno was not given ` +
      "--allow-run and --allow-write: start with `deno run -A main.ts start`, or see it with `deno task demo`",
  );
}

/** Throws a sentence where the demo may not start processes and write files, as in an image or a compiled binary. */
export function requireDemoPermissions(): void {
  const needed: Deno.PermissionDescriptor[] = [{ name: "run" }, { name: "write" }, { name: "read" }];
  if (needed.every((descriptor) => Deno.permissions.querySync(descriptor).state === "granted")) return;
  throw new Deno.errors.NotCapable(
    "Cannot run the demo here: it starts processes and writes files, which this program was built or started without " +
      "the right to; in a checkout of the repository run `deno task demo`",
  );
}

/** Throws a sentence that names each missing flag and what it is for. */
export function requirePermissions(): void {
  const missing = NEEDED.filter(({ descriptor }) => {
    const { state, partial } = Deno.permissions.querySync(descriptor);
    return state !== "granted" && !partial;
  });
  if (missing.length === 0) return;
  const list = missing.map(({ flag, why }) => `${flag} (for ${why})`).join(", ");
  throw new Deno.errors.NotCapable(`Cannot start: Deno was not given ${list}`);
}
