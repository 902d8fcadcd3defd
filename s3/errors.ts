/**
 * What a failure of S3 means in plain words, and which setting to look at; the server's own words are kept, cut and
 * without orders to a terminal. Must not show a URL's credentials.
 */
import { RefusedError, TooLargeError, UnavailableError } from "../ports.ts";
import { errorMessage } from "../util/errors.ts";
import { TooManyBytes } from "../util/streams.ts";
import { WrongSetting } from "./client.ts";
import { NoCredentials } from "./credentials.ts";
import { plainWords } from "./words.ts";

interface SdkError extends Error {
  readonly code?: string;
  /** The host that was looked up. */
  readonly hostname?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $response?: { readonly headers?: Readonly<Record<string, string>> };
}

/** Where a call went, for messages. */
export interface Place {
  readonly bucket: string;
  /** Scheme and host of the server; undefined: AWS. */
  readonly endpoint: string | undefined;
  /** Scheme and host of the proxy that was used. */
  readonly proxy: string | undefined;
}

/** HTTP status of the answer; undefined: there was none. */
export function statusOf(error: unknown): number | undefined {
  return (error as SdkError | undefined)?.$metadata?.httpStatusCode;
}

/** The object is not there. Not by the status 404, which also stands for a missing bucket or an unknown access key. */
export function isAbsent(error: unknown): boolean {
  return (error as SdkError).name === "NoSuchKey";
}

/** The server did not take the credentials, or what they allow: newer ones may do. */
export function isRefusal(error: unknown): boolean {
  const { name } = (error ?? {}) as SdkError;
  return statusOf(error) === 401 || statusOf(error) === 403 || EXPIRED.has(name) || NOT_ACCEPTED.has(name);
}

const EXPIRED = new Set(["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"]);
const NOT_ACCEPTED = new Set([
  "InvalidAccessKeyId",
  "XAdminUserNotFound", // versitygw's word for it
  "SignatureDoesNotMatch",
  "InvalidToken",
  "InvalidClientTokenId",
  "UnrecognizedClientException",
]);
const UNKNOWN_AUTHORITY = new Set([
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "CERT_UNTRUSTED",
]);

/** What an error of the SDK means and which variable to look at. `what`: `Cannot read s3://…`. */
export function explain(error: unknown, what: string, { bucket, endpoint, proxy }: Place): Error {
  const { name = "Error" } = (error ?? {}) as SdkError;
  const message = plainWords((error as SdkError | undefined)?.message ?? "");
  const status = statusOf(error);
  const where = endpoint ?? "the S3 server";
  // Without their cause, whose words are here as far as they may be shown.
  const refused = (why: string) => new RefusedError(`${what}: ${why}`);
  const unavailable = (why: string) => new UnavailableError(`${what}: ${why}`);
  if (error instanceof TooManyBytes) return new TooLargeError(`${what}: ${message}, and no more is read`);
  if (error instanceof WrongSetting) return refused(message);
  if (error instanceof NoCredentials) return explainCredentials(error, what);
  if (status === undefined) {
    const why = networkFault(error as SdkError, { bucket, endpoint, proxy });
    if (why !== undefined) return why.final ? refused(why.words) : unavailable(why.words);
  }
  switch (name) {
    case "NoSuchBucket":
      return refused(`there is no bucket "${bucket}" at ${where}. Check the URL's bucket and AWS_ENDPOINT_URL`);
    case "RequestTimeTooSkewed":
      return unavailable(`the clocks of this machine and of ${where} differ too much. Set this machine's clock`);
    case "InvalidObjectState":
      return refused("the object lies in an archive (Glacier). Restore it there");
    case "NotCapable": // Deno's permissions
      return refused(errorMessage(error));
    case "TimeoutError":
      return unavailable(`${where} did not answer in time. Check AWS_ENDPOINT_URL and the network`);
  }
  if (EXPIRED.has(name)) return unavailable("the credentials have expired. Renew them, or check AWS_SESSION_TOKEN");
  if (NOT_ACCEPTED.has(name)) {
    return refused(
      `${where} does not accept the credentials (${name}). ` +
        `Check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY`,
    );
  }
  if (status === 301 || status === 307 || name === "AuthorizationHeaderMalformed") {
    const region = regionIn(error as SdkError);
    const advice = region === undefined ? "Check AWS_REGION" : `Set AWS_REGION=${region}`;
    return refused(`bucket "${bucket}" belongs to another region. ${advice}, and check AWS_ENDPOINT_URL`);
  }
  // The SDK's words for a body that is no XML, or none of S3's: a web server, a load balancer, a console.
  if (/Deserialization error/.test(message) || status === 404 && /^(|UnknownError)$/.test(message)) {
    const answered = status === undefined ? "" : ` (${status})`;
    const why = `${where} does not answer as an S3 server does${answered}. Check AWS_ENDPOINT_URL`;
    return status !== undefined && status >= 500 ? unavailable(why) : refused(why);
  }
  if (status === 403 || status === 401) {
    return refused(
      `access denied by ${where} (${message || name}). ` +
        `Check that the credentials of AWS_PROFILE or AWS_ACCESS_KEY_ID may do this in bucket "${bucket}"; ` +
        `who may not list it is denied what is not there`,
    );
  }
  if (status === undefined || status >= 500 || status === 408 || status === 429) {
    return unavailable(`${where} cannot do it now (${status ? `${status} ` : ""}${message || name})`);
  }
  return refused(`${where} refused (${status} ${message || name})`);
}

function explainCredentials({ message, isAway }: NoCredentials, what: string): Error {
  const advice = "Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
  const why = message === "" ? `no credentials found. ${advice}` : `no credentials: ${ended(message)}`;
  return new (isAway ? UnavailableError : RefusedError)(`${what}: ${why}`);
}

/** With a full stop, so that another sentence can follow. */
function ended(text: string): string {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** Why there was no answer; undefined: it is no matter of the network. `final`: not mended by waiting. */
function networkFault(
  error: SdkError,
  { bucket, endpoint, proxy }: Place,
): { words: string; final: boolean } | undefined {
  const { code = "", message = "" } = error ?? {};
  const server = endpoint ?? "the S3 server";
  const where = proxy === undefined ? server : `${server} by the proxy ${proxy}`;
  const settings = proxy === undefined ? "AWS_ENDPOINT_URL" : "AWS_ENDPOINT_URL, HTTPS_PROXY, HTTP_PROXY and NO_PROXY";
  const words = plainWords(message);
  if (code === "ECONNREFUSED") {
    return { words: `connection to ${where} refused. Check that the store runs, and ${settings}`, final: false };
  }
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") {
    const host = plainWords(error.hostname ?? /\b(?:ENOTFOUND|EAI_AGAIN) (\S+)/.exec(message)?.[1] ?? server);
    const advice = host.startsWith(`${bucket}.`)
      ? `The bucket stands before the server's name: set S3_PATH_STYLE=true where it shall stand after it, or check ${settings}`
      : `Check ${settings}`;
    return { words: `the host name ${host} is not known. ${advice}`, final: false };
  }
  if (UNKNOWN_AUTHORITY.has(code) || /UnknownIssuer/.test(message)) {
    const why = `the certificate of ${where} is signed by an authority that is not known here (${words})`;
    return { words: `${why}. Set AWS_CA_BUNDLE to the PEM file of that authority`, final: true };
  }
  if (
    code === "CERT_HAS_EXPIRED" || code === "CERT_NOT_YET_VALID" || /certificate expired|NotValidYet/i.test(message)
  ) {
    return {
      words: `the certificate of ${where} is not valid now (${words}). Renew it there, or set this machine's clock`,
      final: true,
    };
  }
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID" || /NotValidForName/.test(message)) {
    return {
      words:
        `the certificate of ${where} is for another name (${words}). Check AWS_ENDPOINT_URL, and whether S3_PATH_STYLE ` +
        `should be true`,
      final: true,
    };
  }
  if (/wrong version number|InvalidContentType/.test(message)) {
    return { words: `${where} does not speak TLS. Write http:// in AWS_ENDPOINT_URL, or check the port`, final: true };
  }
  if (code === "ERR_INVALID_CHAR") {
    const why = "the credentials hold a character that cannot be sent, such as a line break";
    return { words: `${why}. Check AWS_ACCESS_KEY_ID, AWS_SESSION_TOKEN and their files`, final: true };
  }
  const answer = /^Bad response: (\d{3})$/.exec(message)?.[1]; // hpagent's words
  if (proxy !== undefined && answer !== undefined) {
    return {
      words: `the proxy ${proxy} does not let through to ${server} (${answer}). Check ${settings}`,
      final: false,
    };
  }
  return undefined;
}

/** The bucket's region, as AWS names it in a header or in its words. */
function regionIn(error: SdkError): string | undefined {
  const named = error.$response?.headers?.["x-amz-bucket-region"] ?? /expecting '([^']+)'/.exec(error.message)?.[1];
  return named !== undefined && /^[a-z0-9-]{1,40}$/.test(named) ? named : undefined;
}
