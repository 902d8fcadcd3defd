/**
 * Packs the two images of a test node from the machine's static busybox, as one docker archive: no registry needed.
 * Owns the archive's layout (docker image spec v1.2, ustar); knows nothing of containerd.
 */

/** The image for Jobs: busybox with all its applets. */
export const BUSYBOX_IMAGE = "docker.io/library/busybox:lab";
/** The image that holds a pod's namespaces; containerd is told to use it. */
export const PAUSE_IMAGE = "registry.k8s.io/pause:3.10";

const PAUSE_SCRIPT = "trap exit TERM INT; while :; do sleep 3600 & wait; done";
const BLOCK = 512;

interface Entry {
  name: string;
  mode: number;
  body?: Uint8Array;
  /** A folder, or a symbolic link to this name; else a file. */
  folder?: true;
  linkTo?: string;
}

/** The archive that `ctr images import` takes. `busybox`: path of a statically linked busybox. */
export async function packImages(busybox: string): Promise<Uint8Array> {
  const layer = tar([
    { name: "bin/", mode: 0o755, folder: true },
    { name: "etc/", mode: 0o755, folder: true },
    { name: "tmp/", mode: 0o1777, folder: true },
    { name: "bin/busybox", mode: 0o755, body: await Deno.readFile(busybox) },
    ...(await applets(busybox)).map((applet) => ({ name: `bin/${applet}`, mode: 0o777, linkTo: "busybox" })),
  ]);
  const layerDigest = await sha256(layer);
  const layerFile = `${layerDigest}/layer.tar`;
  const entries: Entry[] = [{ name: layerFile, mode: 0o644, body: layer }];
  const manifest = [];
  for (const [tag, command] of [[BUSYBOX_IMAGE, ["/bin/sh"]], [PAUSE_IMAGE, ["/bin/sh", "-c", PAUSE_SCRIPT]]]) {
    const config = json({
      architecture: Deno.build.arch === "aarch64" ? "arm64" : "amd64",
      os: "linux",
      config: { Cmd: command, Env: ["PATH=/bin"] },
      rootfs: { type: "layers", diff_ids: [`sha256:${layerDigest}`] },
    });
    const configFile = `${await sha256(config)}.json`;
    entries.push({ name: configFile, mode: 0o644, body: config });
    manifest.push({ Config: configFile, RepoTags: [tag], Layers: [layerFile] });
  }
  return tar([...entries, { name: "manifest.json", mode: 0o644, body: json(manifest) }]);
}

async function applets(busybox: string): Promise<string[]> {
  const { stdout } = await new Deno.Command(busybox, { args: ["--list"] }).output();
  return new TextDecoder().decode(stdout).trim().split("\n").filter((applet) => applet !== "busybox");
}

function tar(entries: Entry[]): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  for (const entry of entries) {
    const body = entry.body ?? new Uint8Array();
    parts.push(header(entry, body.length), body, new Uint8Array((BLOCK - body.length % BLOCK) % BLOCK));
  }
  // Two empty blocks end an archive.
  parts.push(new Uint8Array(2 * BLOCK));
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** A ustar header (POSIX.1-1988): fixed fields, numbers in octal text; the checksum counts itself as blanks. */
function header({ name, mode, folder, linkTo }: Entry, size: number): Uint8Array {
  const block = new Uint8Array(BLOCK);
  const put = (text: string, at: number) => block.set(new TextEncoder().encode(text), at);
  const octal = (value: number, digits: number) => value.toString(8).padStart(digits, "0");
  put(name, 0);
  put(octal(mode, 7), 100);
  put(octal(0, 7), 108);
  put(octal(0, 7), 116);
  put(octal(size, 11), 124);
  put(octal(0, 11), 136);
  put(" ".repeat(8), 148);
  put(folder ? "5" : linkTo === undefined ? "0" : "2", 156);
  put(linkTo ?? "", 157);
  put("ustar\u000000", 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(`${octal(sum, 6)}\u0000 `, 148);
  return block;
}

function json(value: unknown): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify(value));
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
