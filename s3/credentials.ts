/**
 * Credentials for S3: from files that settings name, else by the AWS SDK's chain, read anew each time that they are asked
 * for. Owns the sentence why there are none, in the SDK's own words. Must not show a secret nor hold one longer than the
 * SDK does.
 */

import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import { registerSecret } from "../util/redact.ts";
import { plainWords } from "./words.ts";

type Credentials = Awaited<ReturnType<ReturnType<typeof import("@aws-sdk/credential-provider-node").defaultProvider>>>;

/** A secret as text, or the file that holds it at the moment. */
export type Held = { readonly text: string } | { readonly file: string };

export interface CredentialOptions {
  /** Profile of the AWS files. Default: AWS_PROFILE. */
  readonly profile?: string;
  /** Instead of the SDK's chain; for keys of which one stands in a file. */
  readonly keys?: { readonly accessKeyId: Held; readonly secretAccessKey: Held; readonly sessionToken?: Held };
  /** The AWS files, to say which of them cannot be read: the SDK takes such a file for an empty one. */
  readonly files?: readonly string[];
}

/**
 * There are no credentials; the message is a clause that says why. It has no cause: the words of one may hold a command
 * with a secret.
 */
export class NoCredentials extends Error {
  override name = "NoCredentials";
  /** `isAway`: who gives them cannot be reached, or a file is not there now. */
  constructor(message: string, readonly isAway: boolean) {
    super(message);
  }
}

/** What the SDK gives a provider: the client that asks. */
interface Asker {
  readonly callerClientConfig?: { readonly requestHandler?: object };
}

/** Reads credentials anew. Throws NoCredentials. */
export async function findCredentials(
  { profile, keys, files = [] }: CredentialOptions,
  asker: Asker = {},
): Promise<Credentials> {
  if (keys) {
    return {
      accessKeyId: await textOf(keys.accessKeyId),
      secretAccessKey: await textOf(keys.secretAccessKey),
      ...(keys.sessionToken ? { sessionToken: await textOf(keys.sessionToken) } : {}),
    };
  }
  const said: string[] = [];
  try {
    const { defaultProvider } = await import("@aws-sdk/credential-provider-node");
    const requestHandler = asker.callerClientConfig?.requestHandler;
    const provide = defaultProvider({
      ...compact({ profile }),
      // STS and the SSO portal are reached as S3 is: by the same proxy, with the same authorities.
      ...(requestHandler === undefined ? {} : { clientConfig: { requestHandler } }),
      ignoreCache: true,
      logger: listenerTo(said),
    });
    // A SDK that is asked through S3 passes the client that asks; its types do not say so.
    return await (provide as (asker: Asker) => Promise<Credentials>)(asker);
  } catch (cause) {
    throw new NoCredentials(await sentence(cause, said, files), isAway(cause));
  }
}

async function textOf(held: Held): Promise<string> {
  if ("text" in held) return held.text;
  try {
    const text = (await Deno.readTextFile(held.file)).replace(/\r?\n$/, "");
    if (text === "") throw new Error("it is empty");
    registerSecret(text);
    return text;
  } catch (cause) {
    throw new NoCredentials(`the file ${held.file} cannot be used: ${plainWords(errorMessage(cause))}`, true);
  }
}

/** STS or a portal that is away comes back; all else waits for a person. The SDK gives some codes in words only. */
function isAway(error: unknown): boolean {
  const { code, $metadata, message } = error as {
    readonly code?: unknown;
    readonly $metadata?: { readonly httpStatusCode?: number };
    readonly message?: unknown;
  };
  return code !== undefined || ($metadata?.httpStatusCode ?? 0) >= 500 ||
    /\b(ECONN\w+|E\w+UNREACH|ETIMEDOUT|ENOTFOUND|EAI_AGAIN)\b/.test(String(message).slice(0, 1_000));
}

/** A logger of the SDK that keeps what each provider of the chain says why it gave nothing. */
function listenerTo(said: string[]) {
  const ignore = () => {};
  return {
    debug(line: unknown) {
      const words = /^@smithy\/property-provider (?:->|\(!\)) (.*)$/s.exec(String(line))?.[1];
      if (words !== undefined) said.push(words);
    },
    trace: ignore,
    info: ignore,
    warn: ignore,
    error: ignore,
  };
}

/** What a provider says that was not asked for. */
const BESIDE_THE_POINT =
  /^(AWS_PROFILE is set|AWS_EC2_METADATA|Unable to find environment|Skipping SSO|Web identity configuration not specified)|\[default\]|Profile default (could|was|did)|Instance Metadata|instance metadata|any providers/;

/** Why there are no credentials: what ended the chain, else the first thing that was said to the point. */
async function sentence(cause: unknown, said: readonly string[], files: readonly string[]): Promise<string> {
  for (const file of files) {
    const fault = await unreadable(file);
    if (fault !== undefined) return `${file} cannot be read: ${fault}`;
  }
  const telling = [...said, errorMessage(cause)].find((words) => !BESIDE_THE_POINT.test(words));
  if (telling === undefined) return "";
  if (/--allow-run/.test(telling)) {
    return `the profile's credential_process is a command, and Deno was not given --allow-run: ${plainWords(telling)}`;
  }
  if (/multi-factor/.test(telling)) {
    return `${plainWords(telling)} A service cannot type a code: use a profile without mfa_serial`;
  }
  // Not the command itself: it may hold a secret.
  const failed = /^Command failed: [^\n]*\n?(.*)$/s.exec(telling);
  if (failed) return `the profile's credential_process failed: ${plainWords(failed[1]!.trim()) || "it gave no reason"}`;
  return plainWords(telling);
}

async function unreadable(file: string): Promise<string | undefined> {
  try {
    (await Deno.open(file)).close();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    return plainWords(errorMessage(error));
  }
}
