/** The S3 servers of the compatibility suites: how each is started and what is known of it. */
import { cacheFolder, commandPath, isFile, toolPath } from "../harness/cache.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { accepts, freePort } from "../harness/ports.ts";
import { spawn, type SpawnOptions } from "../harness/process.ts";
import { CEPH_VERSION, hasCeph, startCeph } from "./ceph.ts";

/** s3rver takes no other. */
const ACCESS_KEY = "S3RVER";
const SECRET_KEY = "S3RVER";
export const BUCKET = "lab";
/** Of servers that know virtual-host style: what stands behind the bucket. */
export const DNS_NAME = "s3.lab.test";

export interface CompatStore {
  /** As it is called on the command line. */
  readonly id: string;
  readonly name: string;
  readonly version: string;
  readonly setting: string;
  /** Cases of the conformance suite that it does not pass, and why that does no harm. */
  readonly known: Readonly<Record<string, string>>;
  /** Whether it serves buckets as host names. */
  readonly hasVirtualHosts?: boolean;
  readonly credentials: { readonly accessKey: string; readonly secretKey: string };
  /** What is missing to start it; undefined: nothing. */
  missing(): string | undefined;
  start(dir: string, port: number): Promise<AsyncDisposable & { readonly port: number }>;
}

const ORDER = "list() gives keys below a prefix in the order of their bytes, with sizes, after a key";
const PAGES = "list() goes on over pages of 1,000";
const LETTERS = "keys may hold any letters";
const ABSENT = "putIfAbsent() leaves what is there, and of several at once one wins";
const ABOVE = "what is not there is undefined";
const PART = "readPart() gives so many bytes from a place on, and the size of the whole";
const IGNORES_CONDITION =
  "It takes no notice of `If-None-Match` at a PUT: of several writers at once all succeed. One " +
  "service is one writer; replicas are not.";
const WRONG_ORDER = "It lists by folders instead of bytes; runs' names have none, so that records are found.";
const NO_BACKSLASH = "No backslash in keys; no key of the service has one.";
const PATH_STYLE = "`AWS_ENDPOINT_URL`";

/** Versions of what tests/install.sh puts into the cache; it has the same. */
const VERSIONS = { moto_server: "5.2.5", rclone: "1.75.2", weed: "4.48", s3proxy: "2.6.0" } as const;
const S3RVER_VERSION = "3.7.1";

type Command = Omit<SpawnOptions, "name" | "dir" | "ready">;
type Credentials = CompatStore["credentials"];

const CREDENTIALS: Credentials = { accessKey: ACCESS_KEY, secretKey: SECRET_KEY };
/** MinIO takes no secret of less than eight letters. */
const LONG_SECRET: Credentials = { accessKey: "minio", secretKey: "the-secret-key" };

/** A server of one process. */
function ofProcess(
  id: string,
  { command, ...rest }: Omit<CompatStore, "id" | "start" | "credentials"> & {
    readonly credentials?: Credentials;
    command(dir: string, port: number): Promise<Command> | Command;
  },
): CompatStore {
  return {
    id,
    credentials: CREDENTIALS,
    ...rest,
    async start(dir, port) {
      await Deno.mkdir(`${dir}/data`);
      const options = await command(`${dir}/data`, port);
      const process = await spawn({ ...options, name: id, dir, ready: () => accepts(port) });
      return { port, [Symbol.asyncDispose]: () => process[Symbol.asyncDispose]() };
    },
  };
}

function program(name: Exclude<keyof typeof VERSIONS, "s3proxy">): string {
  return `${cacheFolder()}/${name}-${VERSIONS[name]}/bin/${name}`;
}

function without(path: string): string | undefined {
  return isFile(path) ? undefined : "run tests/install.sh stores as root";
}

/** All of them, in the order of the table. */
export const COMPAT_STORES: readonly CompatStore[] = [
  ofProcess("versitygw", {
    name: "versitygw",
    version: "1.8.0",
    setting: PATH_STYLE,
    known: {},
    hasVirtualHosts: true,
    missing: () => toolPath("versitygw") === undefined ? "run tests/install.sh builds as root" : undefined,
    command: (dir, port) => ({
      command: toolPath("versitygw") ?? "versitygw",
      args: ["--port", `127.0.0.1:${port}`, "--region", "us-east-1", "--virtual-domain", DNS_NAME, "posix", dir],
      env: { ROOT_ACCESS_KEY_ID: ACCESS_KEY, ROOT_SECRET_ACCESS_KEY: SECRET_KEY },
    }),
  }),
  {
    id: "ceph",
    name: "Ceph RGW",
    version: CEPH_VERSION,
    setting: `${PATH_STYLE}, or \`rgw dns name\` and \`S3_PATH_STYLE=false\``,
    known: {},
    hasVirtualHosts: true,
    credentials: CREDENTIALS,
    missing: () => hasCeph() ? undefined : "run tests/install.sh stores as root",
    start: (dir) => startCeph({ dir, ...CREDENTIALS, dnsName: DNS_NAME }),
  },
  ofProcess("minio", {
    name: "MinIO",
    version: "of 12 February 2026",
    setting: `${PATH_STYLE}, or \`MINIO_DOMAIN\` and \`S3_PATH_STYLE=false\``,
    known: {},
    hasVirtualHosts: true,
    credentials: LONG_SECRET,
    missing: () => toolPath("minio") === undefined ? "run tests/install.sh stores as root" : undefined,
    command: (dir, port) => ({
      command: toolPath("minio") ?? "minio",
      args: ["server", "--quiet", "--address", `127.0.0.1:${port}`, dir],
      env: {
        MINIO_ROOT_USER: LONG_SECRET.accessKey,
        MINIO_ROOT_PASSWORD: LONG_SECRET.secretKey,
        MINIO_DOMAIN: DNS_NAME,
        MINIO_BROWSER: "off",
        MINIO_UPDATE: "off",
      },
      readyTimeoutMs: 120_000,
    }),
  }),
  ofProcess("seaweedfs", {
    name: "SeaweedFS",
    version: VERSIONS.weed,
    setting: PATH_STYLE,
    known: { [ORDER]: WRONG_ORDER, [LETTERS]: NO_BACKSLASH },
    missing: () => without(program("weed")),
    async command(dir, port) {
      const credentials = [{ accessKey: ACCESS_KEY, secretKey: SECRET_KEY }];
      const identities = [{ name: "lab", credentials, actions: ["Admin", "Read", "Write", "List", "Tagging"] }];
      await Deno.writeTextFile(`${dir}/s3.json`, JSON.stringify({ identities }));
      const own = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", `-dir=${dir}`, "-s3", `-s3.port=${port}`];
      const ports = ["master", "volume", "filer"].flatMap((part) => [`-${part}.port=${freePort()}`]);
      return {
        command: program("weed"),
        args: ["server", ...own, ...ports, `-s3.config=${dir}/s3.json`, "-volume.max=20"],
        readyTimeoutMs: 120_000,
      };
    },
  }),
  ofProcess("rclone", {
    name: "rclone serve s3",
    version: VERSIONS.rclone,
    setting: `${PATH_STYLE}; one service, no replicas`,
    known: { [ABSENT]: IGNORES_CONDITION },
    missing: () => without(program("rclone")),
    async command(dir, port) {
      await Deno.mkdir(`${dir}/${BUCKET}`);
      const options = ["--auth-key", `${ACCESS_KEY},${SECRET_KEY}`, "--addr", `127.0.0.1:${port}`];
      return { command: program("rclone"), args: ["serve", "s3", ...options, dir] };
    },
  }),
  ofProcess("s3proxy", {
    name: "s3proxy",
    version: VERSIONS.s3proxy,
    setting: PATH_STYLE,
    known: {
      [ABOVE]: "No key lies below another in its files; none of the service does.",
      [ABSENT]: IGNORES_CONDITION,
      [ORDER]: WRONG_ORDER,
    },
    missing: () => without(`${s3proxyFolder()}/s3proxy-${VERSIONS.s3proxy}.jar`),
    async command(dir, port) {
      await Deno.mkdir(`${dir}/files`);
      await Deno.writeTextFile(
        `${dir}/s3proxy.properties`,
        [
          `s3proxy.endpoint=http://127.0.0.1:${port}`,
          "s3proxy.authorization=aws-v2-or-v4",
          `s3proxy.identity=${ACCESS_KEY}`,
          `s3proxy.credential=${SECRET_KEY}`,
          "jclouds.provider=filesystem-nio2",
          "jclouds.identity=unused",
          "jclouds.credential=unused",
          `jclouds.filesystem.basedir=${dir}/files`,
          "",
        ].join("\n"),
      );
      // Else it says each step of each request.
      await Deno.writeTextFile(`${dir}/logback.xml`, LOGBACK);
      const jvm = ["-Xmx512m", `-Dlogback.configurationFile=${dir}/logback.xml`, "-cp", `${s3proxyFolder()}/*`];
      return {
        command: commandPath("java") ?? "java",
        args: [...jvm, "org.gaul.s3proxy.Main", "--properties", `${dir}/s3proxy.properties`],
        readyTimeoutMs: 120_000,
      };
    },
  }),
  ofProcess("moto", {
    name: "moto (for tests)",
    version: VERSIONS.moto_server,
    setting: PATH_STYLE,
    known: {},
    missing: () => without(program("moto_server")),
    command: (_, port) => ({
      // Its script's first line names the place where it was installed; the cache may have moved.
      command: program("moto_server").replace(/moto_server$/, "python"),
      args: ["-m", "moto.server", "-H", "127.0.0.1", "-p", `${port}`],
      readyTimeoutMs: 120_000,
    }),
  }),
  ofProcess("s3rver", {
    name: "s3rver (for tests)",
    version: S3RVER_VERSION,
    setting: PATH_STYLE,
    known: {
      [ORDER]: WRONG_ORDER,
      [PAGES]: "It fails at the second page of a list: a test server, not for use.",
      [ABSENT]: IGNORES_CONDITION,
      [PART]: "It breaks off when a part of an empty object is asked for.",
    },
    missing: () => undefined,
    command: (dir, port) => ({
      command: Deno.execPath(),
      args: [
        ...["run", "-A", "--no-lock", "--no-config", "--node-modules-dir=none", `npm:s3rver@${S3RVER_VERSION}`],
        ...["-d", dir, "-a", "127.0.0.1", "-p", `${port}`, "--configure-bucket", BUCKET],
      ],
      readyTimeoutMs: 120_000,
    }),
  }),
];

const LOGBACK = `<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%level %msg%n</pattern></encoder></appender>
  <root level="WARN"><appender-ref ref="out"/></root>
</configuration>
`;

function s3proxyFolder(): string {
  return `${cacheFolder()}/s3proxy-${VERSIONS.s3proxy}`;
}

/** Starts a store over a folder of its own, for as long as `body` takes. */
export async function withStore<T>(store: CompatStore, body: (port: number, dir: string) => Promise<T>): Promise<T> {
  const dir = await scratchFolder(`compat-${store.id}`);
  try {
    await using running = await store.start(dir, freePort());
    return await body(running.port, dir);
  } finally {
    await removeFolder(dir);
  }
}
