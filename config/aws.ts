/**
 * What the settings say of S3: which server, whose authorities, by which proxy, and keys that stand in files. Also the
 * variables that the AWS SDK reads from the environment by itself. Opens nothing but the files that settings name.
 */
import { X509Certificate } from "node:crypto";
import type { S3ServerOptions } from "../s3/client.ts";
import { compact } from "../util/compact.ts";
import { errorMessage } from "../util/errors.ts";
import { decoded } from "./kinds.ts";
import { type ConfigInput, type Reader, shownPlace } from "./reader.ts";

type Env = ConfigInput["env"];

/** How S3 is reached; what is absent is left to the AWS SDK. */
export function s3Of(reader: Reader, { env, readTextFile }: ConfigInput): S3ServerOptions {
  return compact({
    endpoint: endpointOf(reader),
    region: reader.get("AWS_REGION"),
    profile: reader.get("AWS_PROFILE"),
    forcePathStyle: reader.get("S3_PATH_STYLE"),
    ca: authorityOf(reader, readTextFile),
    keys: keysOf(reader),
    files: awsFiles(env),
    proxy: proxyOf(reader, env),
  });
}

/** AWS_* variables that came by flag, file or another name, for the SDK's environment. */
export function awsEnvOf(reader: Reader): Record<string, string> {
  const moved: Record<string, string> = {};
  const names = [
    "AWS_ENDPOINT_URL",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
  ] as const;
  for (const name of names) {
    reader.get(name);
    const raw = reader.raw(name);
    if (raw?.moved) moved[name] = raw.text;
  }
  return moved;
}

/** That of S3 before that of all services, as the SDK has it; but a flag before a variable. */
function endpointOf(reader: Reader): string | undefined {
  const [own, general] = [reader.get("AWS_ENDPOINT_URL_S3"), reader.get("AWS_ENDPOINT_URL")];
  const isFlag = (name: "AWS_ENDPOINT_URL_S3" | "AWS_ENDPOINT_URL") => reader.raw(name)?.source.startsWith("--");
  if (isFlag("AWS_ENDPOINT_URL") && !isFlag("AWS_ENDPOINT_URL_S3")) return general;
  return own ?? general;
}

/**
 * The variable is set for all programs of many machines, also where no S3 is used: one that is no good is a warning, and
 * a fault as a flag.
 */
function authorityOf(reader: Reader, readTextFile: ConfigInput["readTextFile"]): string | undefined {
  const path = reader.get("AWS_CA_BUNDLE");
  const source = reader.raw("AWS_CA_BUNDLE")?.source ?? "AWS_CA_BUNDLE";
  if (path === undefined) return undefined;
  try {
    const pem = readTextFile(path);
    const certificates = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
    if (certificates.length === 0) throw new Error("the file is not PEM (-----BEGIN CERTIFICATE…)");
    for (const certificate of certificates) new X509Certificate(certificate);
    return pem;
  } catch (error) {
    const why = errorMessage(error);
    if (source.startsWith("--")) reader.fault(source, path, why);
    else reader.warnings.push(`${source} "${path}" is not used for S3: ${why}`);
    return undefined;
  }
}

/** Where one of the keys stands in a file, which may be written anew while the service runs. */
function keysOf(reader: Reader): S3ServerOptions["keys"] {
  // The SDK prefers a profile to keys.
  if (reader.raw("AWS_PROFILE")) return undefined;
  const held = (name: "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" | "AWS_SESSION_TOKEN") => {
    const raw = reader.raw(name);
    return raw && (raw.file === undefined ? { text: raw.text } : { file: raw.file });
  };
  const [accessKeyId, secretAccessKey] = [held("AWS_ACCESS_KEY_ID"), held("AWS_SECRET_ACCESS_KEY")];
  const sessionToken = held("AWS_SESSION_TOKEN");
  if (!accessKeyId || !secretAccessKey) return undefined;
  if (![accessKeyId, secretAccessKey, sessionToken].some((one) => one && "file" in one)) return undefined;
  return compact({ accessKeyId, secretAccessKey, sessionToken });
}

/** The files of the SDK's profiles; it takes one that it cannot read for an empty one. */
function awsFiles(env: Env): readonly string[] | undefined {
  const home = env["HOME"];
  const files = [
    env["AWS_SHARED_CREDENTIALS_FILE"] || (home && `${home}/.aws/credentials`),
    env["AWS_CONFIG_FILE"] || (home && `${home}/.aws/config`),
  ].filter((file) => file !== undefined && file !== "").map((file) => file!.replace(/^~\//, `${home}/`));
  return files.length > 0 ? files : undefined;
}

/** Proxies as Deno's fetch reads them, by which the API server and the webhook are reached. */
function proxyOf(reader: Reader, env: Env): S3ServerOptions["proxy"] {
  const look = (name: string) => env[name.toUpperCase()] || env[name];
  const url = (name: string) => {
    const text = look(name) || look("all_proxy");
    if (!text) return undefined;
    const parsed = URL.parse(/^\w+:\/\//.test(text) ? text : `http://${text}`);
    if (parsed?.password) reader.hide(decoded(parsed.password) ?? parsed.password);
    if (parsed && /^https?:$/.test(parsed.protocol)) return parsed.href;
    reader.warnings.push(
      `The proxy ${shownPlace(text)} is not used for S3, which is reached directly: write http://host:port`,
    );
    return undefined;
  };
  const [http, https] = [url("http_proxy"), url("https_proxy")];
  if (http === undefined && https === undefined) return undefined;
  return compact({ http, https, except: look("no_proxy") });
}
