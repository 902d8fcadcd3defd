/**
 * Stands in for the images that the Dockerfile and the compose file name, under their very names, made of this machine's
 * programs: no registry is asked. Each has what the files rely on (paths, users, entry points) and nothing else.
 */
import { commandPath, denortPath, toolPath } from "../harness/cache.ts";
import { run } from "../harness/process.ts";
import type { Engine } from "./engine.ts";

const CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt";

/** Makes all of them. `names`: what the files call them, of which one must fit each stand-in. */
export async function importBases(engine: Engine, names: readonly string[]): Promise<void> {
  const named = (part: string) =>
    names.find((name) => name.includes(part)) ?? fail(`no image of the files has ${part} in its name`);
  const unknown = names.filter((name) => !/busybox|denoland\/deno|distroless|mosquitto|versitygw/.test(name));
  if (unknown.length > 0) fail(`${unknown.join(", ")} has no stand-in`);
  const root = (name: string) => new Root(`${engine.dir}/bases/${name}`);

  const busybox = root("busybox");
  await busybox.addShell();
  await engine.import(busybox.dir, named("busybox"), ["ENV PATH=/bin", 'CMD ["sh"]']);

  const deno = root("deno");
  await deno.addShell();
  await deno.addProgram(await denoBinary(), "/usr/bin/deno");
  await deno.addProgram(await denortPath(), "/usr/local/bin/denort");
  await engine.import(deno.dir, named("denoland/deno"), [
    "ENV PATH=/usr/local/bin:/usr/bin:/bin",
    "ENV DENO_DIR=/deno-dir",
    // What Deno fetches from where its own list of authorities does not reach.
    `ENV DENO_CERT=${CERTIFICATES}`,
    "ENV DENORT_BIN=/usr/local/bin/denort",
  ]);

  const distroless = root("distroless");
  // The runtime that tests/image/denort becomes, and the libraries that an image for C programs has.
  await distroless.addProgram(await denoBinary(), "/usr/local/lib/deno");
  await distroless.add(CERTIFICATES);
  await distroless.addUsers({ root: 0, nonroot: 65532 });
  await distroless.addFolder("/home/nonroot", 65532, 0o700);
  await distroless.addFolder("/tmp", 0, 0o1777);
  await engine.import(distroless.dir, named("distroless"), [
    "ENV PATH=/usr/local/bin:/usr/bin:/bin",
    `ENV SSL_CERT_FILE=${CERTIFICATES}`,
    "USER 65532",
    "WORKDIR /home/nonroot",
  ]);

  const mosquitto = root("mosquitto");
  await mosquitto.addShell();
  await mosquitto.addUsers({ root: 0, mosquitto: 1883 });
  for (const program of ["mosquitto", "mosquitto_sub"]) {
    await mosquitto.addProgram(commandPath(program)!, `/usr/bin/${program}`);
  }
  for (const folder of ["config", "data", "log"]) await mosquitto.addFolder(`/mosquitto/${folder}`, 1883, 0o755);
  await engine.import(mosquitto.dir, named("mosquitto"), [
    "ENV PATH=/usr/bin:/bin",
    'VOLUME ["/mosquitto/data", "/mosquitto/log"]',
    'CMD ["/usr/bin/mosquitto", "-c", "/mosquitto/config/mosquitto.conf"]',
  ]);

  const store = root("versitygw");
  await store.addProgram(toolPath("versitygw")!, "/usr/local/bin/versitygw");
  await store.addFolder("/tmp", 0, 0o1777);
  await engine.import(store.dir, named("versitygw"), ['ENTRYPOINT ["/usr/local/bin/versitygw"]']);
}

/** The folder that becomes an image. */
class Root {
  constructor(readonly dir: string) {}

  /** A static busybox with all its commands, certificates, /tmp. */
  async addShell(): Promise<void> {
    await this.add(commandPath("busybox")!, "/bin/busybox");
    const commands = (await run(commandPath("busybox")!, ["--list"])).trim().split("\n");
    for (const command of commands) {
      if (command !== "busybox") await Deno.symlink("busybox", `${this.dir}/bin/${command}`);
    }
    await this.addUsers({ root: 0 });
    await this.add(CERTIFICATES);
    await this.addFolder("/tmp", 0, 0o1777);
  }

  /** A program with the libraries that it is linked to, at the paths where they are here. */
  async addProgram(from: string, to: string): Promise<void> {
    await this.add(from, to);
    // "not a dynamic executable" of a static one is said with exit code 1.
    const linked = await run("ldd", [from]).catch(() => "");
    for (const [library] of linked.matchAll(/\/\S+/g)) await this.add(library);
  }

  async add(from: string, to = from): Promise<void> {
    await Deno.mkdir(this.dir + to.replace(/\/[^/]*$/, ""), { recursive: true });
    await Deno.copyFile(from, this.dir + to);
  }

  async addUsers(users: Record<string, number>): Promise<void> {
    await Deno.mkdir(`${this.dir}/etc`, { recursive: true });
    const lines = (form: (name: string, id: number) => string) =>
      Object.entries(users).map(([name, id]) => `${form(name, id)}\n`).join("");
    await Deno.writeTextFile(`${this.dir}/etc/passwd`, lines((name, id) => `${name}:x:${id}:${id}::/:/sbin/nologin`));
    await Deno.writeTextFile(`${this.dir}/etc/group`, lines((name, id) => `${name}:x:${id}:`));
  }

  async addFolder(path: string, owner: number, mode: number): Promise<void> {
    await Deno.mkdir(this.dir + path, { recursive: true });
    await Deno.chown(this.dir + path, owner, owner);
    await Deno.chmod(this.dir + path, mode);
  }
}

/** The program itself: what is in PATH may be a script of a package that starts it. */
async function denoBinary(): Promise<string> {
  return await Deno.realPath(Deno.execPath());
}

function fail(why: string): never {
  throw new Error(`Cannot make the base images: ${why}`);
}
