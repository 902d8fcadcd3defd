/**
 * A real S3 server (versitygw) on a free port of loopback over a scratch folder, with a small client for what tests put
 * in and look at. The client is not the service's adapter, so that a test never checks the adapter with itself.
 */
import { GetObjectCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import https from "node:https";
import { toolPath } from "./cache.ts";
import type { Certificate } from "./certs.ts";
import { removeFolder, scratchFolder } from "./folder.ts";
import { accepts, freePort } from "./ports.ts";
import { type ManagedProcess, spawn } from "./process.ts";
import { RestartableServer } from "./restartable.ts";

export interface S3Options {
  /** Default: one bucket, `braingeneers`. */
  buckets?: readonly string[];
  /** Default `test-secret-key`. */
  secretKey?: string;
  /** Serve https with this certificate. */
  tls?: { readonly certificate: Certificate; readonly ca: string };
}

/** Starts a server. Needs `needs("s3")`. */
export async function startS3(options: S3Options = {}): Promise<S3Server> {
  const dir = await scratchFolder("s3");
  try {
    const buckets = options.buckets ?? ["braingeneers"];
    for (const bucket of buckets) {
      await Deno.mkdir(`${dir}/data/${bucket}`, { recursive: true });
    }
    const server = new S3Server(dir, buckets, options);
    await server.start();
    return server;
  } catch (error) {
    await removeFolder(dir);
    throw error;
  }
}

/** A server that keeps its port and its objects over stop() and start(). Disposing it removes it. */
export class S3Server extends RestartableServer {
  readonly port: number = freePort();
  /** The endpoint, `http://127.0.0.1:PORT`; buckets in path style. */
  readonly url: string;
  readonly accessKey = "test-access-key";
  readonly secretKey: string;
  readonly tls: S3Options["tls"];
  readonly region = "us-east-1";
  /** Folder with one folder per bucket, and a file for each object. */
  readonly dataDir: string;
  readonly #client: S3TestClient;

  /** Use startS3. */
  constructor(dir: string, readonly buckets: readonly string[], { tls, secretKey = "test-secret-key" }: S3Options) {
    super(dir);
    this.tls = tls;
    this.secretKey = secretKey;
    this.dataDir = `${dir}/data`;
    this.url = `${tls ? "https" : "http"}://127.0.0.1:${this.port}`;
    this.#client = new S3TestClient(this.url, this);
  }

  protected override launch(): Promise<ManagedProcess> {
    return spawn({
      name: "versitygw",
      command: toolPath("versitygw") ?? "versitygw",
      args: [
        // As S3 and all but it do; it closes each connection after one request unless it is told so.
        "--keep-alive",
        ...["--port", `127.0.0.1:${this.port}`, "--region", this.region],
        ...(this.tls ? ["--cert", this.tls.certificate.certFile, "--key", this.tls.certificate.keyFile] : []),
        ...["posix", this.dataDir],
      ],
      env: { ROOT_ACCESS_KEY_ID: this.accessKey, ROOT_SECRET_ACCESS_KEY: this.secretKey },
      dir: this.dir,
      ready: () => accepts(this.port),
    });
  }

  /** A client by way of another URL, such as a proxy's. The caller destroys it. */
  clientAt(url: string): S3TestClient {
    return new S3TestClient(url, this);
  }

  /** See S3TestClient. */
  put(at: string, body: string | Uint8Array): Promise<string> {
    return this.#client.put(at, body);
  }

  /** See S3TestClient. */
  get(at: string): Promise<string | undefined> {
    return this.#client.get(at);
  }

  /** See S3TestClient. */
  list(at: string): Promise<string[]> {
    return this.#client.list(at);
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    this.#client.destroy();
    await super[Symbol.asyncDispose]();
  }
}

interface S3Access {
  readonly tls?: S3Options["tls"];
  readonly region: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

/** Puts, gets and lists objects named by `s3://bucket/key`. */
export class S3TestClient {
  readonly #client: S3Client;

  constructor(endpoint: string, { region, accessKey, secretKey, tls }: S3Access) {
    this.#client = new S3Client({
      endpoint,
      region,
      forcePathStyle: true,
      // A test wants to see the first failure.
      maxAttempts: 1,
      credentials: { accessKeyId: accessKey, secretAccessKey: secretKey },
      ...(tls ? { requestHandler: { httpsAgent: new https.Agent({ ca: tls.ca }) } } : {}),
    });
  }

  /** Puts an object; returns its ETag. `at`: `s3://bucket/key`. */
  async put(at: string, body: string | Uint8Array): Promise<string> {
    const { ETag } = await this.#client.send(new PutObjectCommand({ ...split(at), Body: body }));
    return ETag ?? "";
  }

  /** The object's text, or undefined when there is none. */
  async get(at: string): Promise<string | undefined> {
    try {
      const { Body } = await this.#client.send(new GetObjectCommand(split(at)));
      return await Body?.transformToString();
    } catch (error) {
      if ((error as Error).name === "NoSuchKey") return undefined;
      throw error;
    }
  }

  /** URLs of the objects below `at`, in order; at most 1000. */
  async list(at: string): Promise<string[]> {
    const { Bucket, Key } = split(at);
    const { Contents = [] } = await this.#client.send(new ListObjectsV2Command({ Bucket, Prefix: Key }));
    return Contents.map((object) => `s3://${Bucket}/${object.Key}`);
  }

  destroy(): void {
    this.#client.destroy();
  }
}

function split(at: string): { Bucket: string; Key: string } {
  const { protocol, hostname, pathname } = new URL(at);
  if (protocol !== "s3:") throw new Error(`Cannot use ${at}: it is no s3:// URL`);
  return { Bucket: hostname, Key: decodeURIComponent(pathname.slice(1)) };
}
