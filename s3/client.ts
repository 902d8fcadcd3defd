/**
 * The AWS SDK's client for one store: which server, in which style, by which proxy, with which authorities, and with
 * credentials that are read anew when the server refuses them. Owns the connections. Makes no call of its own.
 */
import http from "node:http";
import https from "node:https";
import type { Readable } from "node:stream";
import { rootCertificates } from "node:tls";
import { S3Client, type S3ClientConfig } from "@aws-sdk/client-s3";
import { HttpProxyAgent, HttpsProxyAgent } from "hpagent";
import { compact } from "../util/compact.ts";
import { type CredentialOptions, findCredentials } from "./credentials.ts";
import { isBypassed } from "./no_proxy.ts";
import { cutAt } from "./streams.ts";

/** How to reach an S3 server. */
export interface S3ServerOptions extends CredentialOptions {
  /** Server other than AWS. Default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the profile's. */
  readonly endpoint?: string;
  /** Default: AWS_REGION or the profile's, else us-east-1. */
  readonly region?: string;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. Default: true where there is an endpoint. */
  readonly forcePathStyle?: boolean;
  /** PEM of authorities that are trusted beside the well-known ones. */
  readonly ca?: string;
  /** Proxies by scheme of the server, and which hosts are reached without (NO_PROXY). */
  readonly proxy?: { readonly http?: string; readonly https?: string; readonly except?: string };
  /** To open a connection. Default 5,000. */
  readonly connectTimeoutMs?: number;
  /** From the request to the head of the answer, and between two bytes. Default 60,000. */
  readonly requestTimeoutMs?: number;
  /** For one call with its tries and its answer, but not for an object that is read as a stream. Default 300,000. */
  readonly callTimeoutMs?: number;
  /** Tries of one call, network faults and 5xx being tried again. Default 3. */
  readonly attempts?: number;
}

const CONNECTIONS = 64;
/** Longest answer that is no object: a list of 1,000 keys has less than 3 MB. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
/** A refusal within so short a time after the last look at the credentials does not lead to another one. */
const LOOK_AGAIN_MS = 5_000;

/** A setting or a profile says what cannot be; the message is a clause that says what to write. */
export class WrongSetting extends Error {
  override name = "WrongSetting";
}

/** One client after the other: a new one where credentials have changed; the connections stay. */
export class S3Connection {
  readonly #options: S3ServerOptions;
  #client: Promise<S3Client> | undefined;
  #lookedAtMs = -Infinity;
  #renewal: Promise<boolean> | undefined;
  #endpoint: string | undefined;

  constructor(options: S3ServerOptions) {
    this.#options = options;
    this.#endpoint = options.endpoint;
  }

  /** Scheme and host of the server, for messages; undefined: AWS. */
  get endpoint(): string | undefined {
    return originOf(this.#endpoint);
  }

  /** Scheme and host of the proxy on the way there. */
  get proxy(): string | undefined {
    const { proxy } = this.#options;
    const url = URL.parse(this.#endpoint ?? "https://s3.amazonaws.com");
    if (!proxy || !url || isBypassed(url.hostname, proxy.except)) return undefined;
    return originOf(url.protocol === "http:" ? proxy.http : proxy.https);
  }

  /** The client to make a call with. */
  client(): Promise<S3Client> {
    return this.#client ??= this.#open().catch((error) => {
      this.#client = undefined;
      throw error;
    });
  }

  /**
   * After a refusal of what `used` signed with: true if there are other credentials now, and the call may be repeated.
   */
  async renew(used: S3Client): Promise<boolean> {
    if (await this.client() !== used) return true;
    return await (this.#renewal ??= this.#look(used).finally(() => this.#renewal = undefined));
  }

  async #look(used: S3Client): Promise<boolean> {
    if (performance.now() - this.#lookedAtMs < LOOK_AGAIN_MS) return false;
    this.#lookedAtMs = performance.now();
    try {
      const before = await used.config.credentials();
      const now = await findCredentials(this.#options, { callerClientConfig: used.config });
      const isSame = before.accessKeyId === now.accessKeyId && before.secretAccessKey === now.secretAccessKey &&
        before.sessionToken === now.sessionToken;
      if (isSame) return false;
    } catch {
      // There are none at the moment; the refusal says more.
      return false;
    }
    this.#client = Promise.resolve(this.#make(used.config));
    return true;
  }

  async #open(): Promise<S3Client> {
    const first = this.#make({});
    // What the SDK reads from environment and profile: it takes the endpoint, and leaves the style to us.
    const { serviceConfiguredEndpoint } = first.config as { serviceConfiguredEndpoint?: () => Promise<string> };
    this.#endpoint ??= await serviceConfiguredEndpoint?.().catch(() => "");
    if (this.#endpoint !== undefined && !/^https?:$/.test(URL.parse(this.#endpoint)?.protocol ?? "")) {
      throw new WrongSetting(
        "the endpoint is no URL of http or https. Write http://host:port or https://host into AWS_ENDPOINT_URL, " +
          "AWS_ENDPOINT_URL_S3 or the profile's endpoint_url",
      );
    }
    const region = await first.config.region().catch((error: Error) => {
      // Servers other than AWS take any region, but a request cannot be signed without one.
      if (/Region is missing/.test(error.message)) return "us-east-1";
      throw new WrongSetting("the region is no name of one. Check AWS_REGION and the profile's region");
    });
    return this.#make({ requestHandler: first.config.requestHandler, region });
  }

  #make({ requestHandler, region }: Pick<S3ClientConfig, "requestHandler" | "region">): S3Client {
    const { endpoint, forcePathStyle = this.#endpoint !== undefined, attempts = 3, profile } = this.#options;
    const client = new S3Client({
      ...compact({ endpoint, region: region ?? this.#options.region, profile }),
      credentials: (asker) => findCredentials(this.#options, asker),
      forcePathStyle,
      maxAttempts: attempts,
      // Ceph and older servers know nothing of the trailing checksums that the SDK sends by default.
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
      requestHandler: requestHandler ?? this.#transport(),
    });
    boundAnswers(client);
    return client;
  }

  #transport(): NonNullable<S3ClientConfig["requestHandler"]> {
    const { connectTimeoutMs = 5_000, requestTimeoutMs = 60_000, ca, proxy } = this.#options;
    const usual = compact({
      keepAlive: true,
      maxSockets: CONNECTIONS,
      ca: ca === undefined ? undefined : [...rootCertificates, ca],
    });
    return {
      connectionTimeout: connectTimeoutMs,
      requestTimeout: requestTimeoutMs,
      throwOnRequestTimeout: true,
      socketTimeout: requestTimeoutMs,
      httpAgent: proxy?.http === undefined
        ? new http.Agent(usual)
        : new HttpAgent({ ...usual, proxy: proxy.http }, proxy.except),
      httpsAgent: proxy?.https === undefined
        ? new https.Agent(usual)
        : new HttpsAgent({ ...usual, proxy: proxy.https }, proxy.except),
    };
  }
}

type Middleware = Parameters<S3Client["middlewareStack"]["addRelativeTo"]>[0];

/** What a middleware beside the deserializer sees of a call. */
interface RawAnswer {
  readonly response: { readonly statusCode: number; body?: Readable };
}

/** No answer but an object may be large: lists and errors are read whole before anybody can look at them. */
function boundAnswers(client: S3Client): void {
  const bound = (next: (args: unknown) => Promise<RawAnswer>, { commandName }: { commandName?: string }) =>
  async (
    args: unknown,
  ) => {
    const out = await next(args);
    const { response } = out;
    const isObject = commandName === "GetObjectCommand" && response.statusCode < 300;
    if (!isObject && response.body) response.body = cutAt(response.body, MAX_ANSWER_BYTES);
    return out;
  };
  const place = { name: "boundAnswers", relation: "after", toMiddleware: "deserializerMiddleware" } as const;
  client.middlewareStack.addRelativeTo(bound as Middleware, place);
}

// ---------------------------------------------------------------- proxies

type AgentOptions = ConstructorParameters<typeof HttpsProxyAgent>[0];
type Connect = typeof https.Agent.prototype.createConnection;

/** By the proxy, but for hosts that are excepted. */
class HttpsAgent extends HttpsProxyAgent {
  constructor(options: AgentOptions, readonly except: string | undefined) {
    super(options);
  }

  override createConnection(...[options, done]: Parameters<Connect>): ReturnType<Connect> {
    return isBypassed(String(options.host), this.except)
      ? https.Agent.prototype.createConnection.call(this, options, done)
      : super.createConnection(options, done);
  }
}

/** By the proxy, but for hosts that are excepted. */
class HttpAgent extends HttpProxyAgent {
  constructor(options: AgentOptions, readonly except: string | undefined) {
    super(options);
  }

  override createConnection(...[options, done]: Parameters<Connect>): ReturnType<Connect> {
    return isBypassed(String(options.host), this.except)
      ? http.Agent.prototype.createConnection.call(this, options, done)
      : super.createConnection(options, done);
  }
}

/** `https://user:password@host:1/x` → `https://host:1`. */
function originOf(url: string | undefined): string | undefined {
  if (url === undefined) return undefined;
  const parsed = URL.parse(url);
  return parsed ? `${parsed.protocol}//${parsed.host}` : "the S3 server";
}
