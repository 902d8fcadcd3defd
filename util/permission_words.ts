/**
 * What Deno says of a file that its permissions keep the program from, in words that name a folder which would do. Asks
 * Deno for no permission, only which there are.
 */

/** Those of the start task of deno.json, of the image and of the compiled binary, in which a setting's file may lie. */
const FOLDERS = ["/etc/mqtt-job-listener", "/run/secrets", "/etc/ssl/certs", "/var/lib/mqtt-job-listener"];

/** Undefined: these are other words. */
export function permissionWords(said: string): string | undefined {
  const [, kind, path] =
    /^Requires (read|write) access to "([^"]*)", run again with the --allow-\w+ flag$/.exec(said) ??
      [];
  if (kind === undefined || path === undefined) return undefined;
  const name = kind as "read" | "write";
  const open = FOLDERS.filter((path) => Deno.permissions.querySync({ name, path }).state === "granted");
  const folder = path.slice(0, Math.max(1, path.lastIndexOf("/")));
  const where = open.length === 0 ? "" : `put it into ${open.join(" or ")}, or `;
  return `this program may not ${name} there: ${where}start it with --allow-${name}=${folder}`;
}
