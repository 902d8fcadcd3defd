/**
 * OIDC logins of kubeconfigs (`auth-provider`): the id-token while it lasts, then a new one by the refresh-token. The
 * kubeconfig is not written; a new refresh-token is kept in memory. Must not put a token into a message.
 */
import { readBounded } from "./files.ts";
import { errorMessage } from "../util/errors.ts";
import { readAtMost } from "../util/streams.ts";

const TIMEOUT_MS = 15_000;
const MAX_ANSWER_BYTES = 1024 * 1024;
/** A token that ends while a call is under way is of no use. */
const EARLY_MS = 10_000;

/** Gives a token that has not ended. Throws an Error that says what a person must do. */
export function oidcToken(provider: unknown): () => Promise<string> {
  const { name, config } = provider as { name?: unknown; config?: unknown };
  if (name !== "oidc") {
    const known: Record<string, string> = {
      gcp: "use gke-gcloud-auth-plugin (gcloud container clusters get-credentials writes it)",
      azure: "use kubelogin (kubelogin convert-kubeconfig writes it)",
    };
    const advice = known[String(name)] ?? "use an exec command or a token";
    throw new Error(
      `Cannot use the kubeconfig: kubectl has no auth provider "${String(name).slice(0, 40)}" any more; ${advice}`,
    );
  }
  const fields = (typeof config === "object" && config !== null ? config : {}) as Record<string, unknown>;
  const text = (key: string) => typeof fields[key] === "string" ? fields[key] : "";
  let idToken = text("id-token");
  let refreshToken = text("refresh-token");
  return async () => {
    const endsAt = endOf(idToken);
    if (endsAt !== undefined && endsAt - EARLY_MS > Date.now()) return idToken;
    const ended = endsAt === undefined ? "is missing or is none" : `ended at ${new Date(endsAt).toISOString()}`;
    const fail = (why: string) => new Error(`the OIDC token (id-token) ${ended}, and ${why}; log in again`);
    const [issuer, clientId] = [text("idp-issuer-url"), text("client-id")];
    if (issuer === "" || clientId === "" || refreshToken === "") {
      throw fail("there is no refresh-token, client-id or idp-issuer-url to get a new one with");
    }
    const body = new URLSearchParams({ grant_type: "refresh_token", refresh_token: refreshToken, client_id: clientId });
    if (text("client-secret") !== "") body.set("client_secret", text("client-secret"));
    try {
      using http = Deno.createHttpClient({ caCerts: await authority(fields) });
      const discovery = await ask(http, `${issuer.replace(/\/{1,10}$/, "")}/.well-known/openid-configuration`);
      const endpoint = String(discovery["token_endpoint"] ?? "");
      const answer = await ask(http, endpoint, body);
      if (typeof answer["id_token"] !== "string") throw new Error("it gave no id_token");
      idToken = answer["id_token"];
      if (typeof answer["refresh_token"] === "string") refreshToken = answer["refresh_token"];
    } catch (error) {
      throw fail(`${URL.parse(issuer)?.host ?? "its issuer"} gives no new one: ${errorMessage(error)}`);
    }
    return idToken;
  };
}

/** When the token ends, in milliseconds since the epoch; undefined: it is none, or does not say. */
function endOf(token: string): number | undefined {
  try {
    const [, payload = ""] = token.split(".");
    const claims = JSON.parse(new TextDecoder().decode(Uint8Array.fromBase64(payload, { alphabet: "base64url" })));
    return typeof claims?.exp === "number" ? claims.exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

async function authority(fields: Record<string, unknown>): Promise<string[]> {
  const { "idp-certificate-authority-data": data, "idp-certificate-authority": path } = fields;
  if (typeof data === "string" && data !== "") return [new TextDecoder().decode(Uint8Array.fromBase64(data))];
  return typeof path === "string" && path !== "" ? [await readBounded(path)] : [];
}

async function ask(client: Deno.HttpClient, url: string, body?: URLSearchParams): Promise<Record<string, unknown>> {
  const method = body ? "POST" : "GET";
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const response = await fetch(url, { client, method, signal, redirect: "error", ...(body ? { body } : {}) });
  const bytes = response.body ? await readAtMost(response.body, MAX_ANSWER_BYTES, signal) : new Uint8Array();
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    // It may hold a token, so its words are not shown.
  }
  if (!response.ok) throw new Error(`it answered ${response.status}`);
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}
