/**
 * A Ceph cluster of one monitor, one OSD in memory and one RADOS gateway on loopback, as small as it can be: cephx, msgr v2,
 * pools of one copy. Owns its start. The programs are Debian's, unpacked into the cache by `tests/install.sh stores`.
 */
import { cacheFolder, commandPath, isFile } from "../harness/cache.ts";
import { accepts, freePort } from "../harness/ports.ts";
import { type ManagedProcess, run, spawn } from "../harness/process.ts";

export const CEPH_VERSION = "16.2.15";

/** Where the packages are unpacked. */
function root(): string {
  return `${cacheFolder()}/ceph-${CEPH_VERSION}`;
}

/** Whether its programs are here. */
export function hasCeph(): boolean {
  return isFile(`${root()}/usr/bin/radosgw`);
}

export interface CephOptions {
  /** Empty folder for its files. */
  readonly dir: string;
  readonly accessKey: string;
  readonly secretKey: string;
  /** The gateway's name in virtual-host style: a bucket stands before it. */
  readonly dnsName: string;
}

/** Starts all three; resolves when the gateway answers. */
export async function startCeph({ dir, accessKey, secretKey, dnsName }: CephOptions): Promise<Ceph> {
  const ceph = new Ceph(dir);
  try {
    await ceph.start(dnsName);
    await ceph.addUser(accessKey, secretKey);
    return ceph;
  } catch (error) {
    await ceph[Symbol.asyncDispose]();
    throw error;
  }
}

/** A running cluster. Disposing it ends its processes. */
export class Ceph implements AsyncDisposable {
  readonly port: number = freePort();
  readonly #monitorPort = freePort();
  readonly #processes: ManagedProcess[] = [];
  readonly #env: Record<string, string>;

  /** Use startCeph. */
  constructor(readonly dir: string) {
    const libraries = `${Deno.build.arch}-linux-gnu`;
    const folders = [`usr/lib/${libraries}`, `usr/lib/${libraries}/ceph`, `lib/${libraries}`];
    this.#env = {
      CEPH_CONF: `${dir}/ceph.conf`,
      LD_LIBRARY_PATH: folders.map((folder) => `${root()}/${folder}`).join(":"),
      PYTHONPATH: `${root()}/usr/lib/python3/dist-packages`,
    };
  }

  async start(dnsName: string): Promise<void> {
    const { dir } = this;
    const fsid = crypto.randomUUID();
    const osd = crypto.randomUUID();
    await Deno.writeTextFile(`${dir}/ceph.conf`, this.#conf(fsid, dnsName));
    const keys = `${dir}/mon.keyring`;
    await this.#run("ceph-authtool", "--create-keyring", keys, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *");
    const all = ["mon", "osd", "mgr"].flatMap((part) => ["--cap", part, "allow *"]);
    await this.#run("ceph-authtool", keys, "--gen-key", "-n", "client.admin", ...all);
    await Deno.copyFile(keys, `${dir}/keyring`);
    const place = `[v2:127.0.0.1:${this.#monitorPort}/0]`;
    await this.#run("monmaptool", "--create", "--addv", "a", place, "--fsid", fsid, `${dir}/monmap`);
    for (const folder of ["mon", "osd"]) await Deno.mkdir(`${dir}/${folder}`);
    await this.#run("ceph-mon", "--mkfs", "-i", "a", "--monmap", `${dir}/monmap`, "--keyring", keys);
    await this.#spawn("ceph-mon", ["-i", "a", "-f"], () => accepts(this.#monitorPort));
    await this.#run("ceph", "osd", "new", osd);
    await Deno.writeTextFile(
      `${dir}/osd/keyring`,
      await this.#run("ceph", "auth", "get-or-create", "osd.0", ...OSD_MAY),
    );
    await this.#run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd);
    const isUp = async () => /\b1 up\b/.test(await this.#run("ceph", "osd", "stat"));
    await this.#spawn("ceph-osd", ["-i", "0", "-f"], isUp);
    await this.#spawn("radosgw", ["-n", "client.admin", "-f"], () => accepts(this.port));
  }

  async addUser(accessKey: string, secretKey: string): Promise<void> {
    const who = ["--uid=lab", "--display-name=lab", `--access-key=${accessKey}`, `--secret-key=${secretKey}`];
    await this.#run("radosgw-admin", "-n", "client.admin", "user", "create", ...who);
  }

  async #run(program: string, ...args: string[]): Promise<string> {
    const path = `${root()}/usr/bin/${program}`;
    if (program !== "ceph") return await run(path, args, { env: this.#env });
    // What it imports is built for Debian's Python; another one may come first in PATH.
    const python = isFile("/usr/bin/python3") ? "/usr/bin/python3" : commandPath("python3") ?? "python3";
    return await run(python, [path, "--connect-timeout", "60", ...args], { env: this.#env });
  }

  async #spawn(program: string, args: readonly string[], ready: () => boolean | Promise<boolean>): Promise<void> {
    const command = `${root()}/usr/bin/${program}`;
    const options = { command, args, env: this.#env, dir: this.dir, ready, readyTimeoutMs: 240_000 };
    this.#processes.push(await spawn({ name: program, ...options }));
  }

  #conf(fsid: string, dnsName: string): string {
    const { dir } = this;
    const libraries = `${root()}/usr/lib/${Deno.build.arch}-linux-gnu`;
    return Object.entries({
      fsid,
      "mon host": `[v2:127.0.0.1:${this.#monitorPort}/0]`,
      "public addr": "127.0.0.1",
      "cluster addr": "127.0.0.1",
      "ms bind msgr1": "false",
      ...Object.fromEntries(["cluster", "service", "client"].map((part) => [`auth ${part} required`, "cephx"])),
      keyring: `${dir}/keyring`,
      "mon data": `${dir}/mon`,
      "osd data": `${dir}/osd`,
      "osd objectstore": "memstore",
      "memstore device bytes": String(4 * 2 ** 30),
      "osd class dir": `${libraries}/rados-classes`,
      "plugin dir": `${libraries}/ceph`,
      "erasure code dir": `${libraries}/ceph/erasure-code`,
      "run dir": dir,
      "admin socket": "",
      "log file": "",
      "log to stderr": "true",
      "osd pool default size": "1",
      "osd pool default min size": "1",
      "osd pool default pg num": "1",
      "osd pool default pg autoscale mode": "off",
      "osd crush chooseleaf type": "0",
      "mon max pg per osd": "1000",
      "mon allow pool size one": "true",
      "rgw frontends": `beast endpoint=127.0.0.1:${this.port}`,
      "rgw dns name": dnsName,
    }).reduce((text, [name, value]) => `${text}${name} = ${value}\n`, "[global]\n") +
      `[osd.0]\nkeyring = ${dir}/osd/keyring\n[mon.a]\nkeyring = ${dir}/mon.keyring\n`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.#processes.reverse()) await process.stop();
  }
}

const OSD_MAY = ["mon", "allow profile osd", "mgr", "allow profile osd", "osd", "allow *"];
