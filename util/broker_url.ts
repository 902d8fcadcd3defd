/**
 * Reads the URL of an MQTT broker. Owns which parts of it may be shown; must not put any part of a refused one into a
 * message, for a password may stand anywhere in it. Pure.
 */

/** A broker's URL and what was taken out of it. */
export interface BrokerUrl {
  /** For people: without credentials and query. */
  readonly url: string;
  /** Where to connect; of a websocket with its query, which may hold a token. */
  readonly address: string;
  readonly username?: string;
  readonly password?: string;
  /** Values that must not be shown. */
  readonly secrets: readonly string[];
}

const FORM = "write a URL that begins with mqtt:// or mqtts:// or ws:// or wss://, and a host";
const ENCODE =
  "a user or password in it that holds / # ? @ : or % must be percent-encoded (/ is %2F, # is %23, ? is %3F, " +
  "@ is %40, % is %25); MQTT_USERNAME and MQTT_PASSWORD take them as they are";

/** The URL's parts, or a clause that says what would be right. */
export function readBrokerUrl(text: string): BrokerUrl | { readonly fault: string } {
  const url = URL.parse(text);
  const websocket = url?.protocol === "ws:" || url?.protocol === "wss:";
  if (!url || url.hostname === "" || !(websocket || url.protocol === "mqtt:" || url.protocol === "mqtts:")) {
    return { fault: text.includes("@") && /^(mqtts?|wss?):\/\//i.test(text) ? ENCODE : FORM };
  }
  // `mqtt://user:12/34@host` is a URL of the host `user`.
  if (`${url.pathname}${url.search}${url.hash}`.includes("@")) return { fault: ENCODE };
  if (!websocket && /[^/]/.test(`${url.pathname}${url.search}${url.hash}`)) {
    return { fault: "leave out what follows the host and port: only ws:// and wss:// have a path" };
  }
  let username: string, password: string;
  try {
    [username, password] = [decodeURIComponent(url.username), decodeURIComponent(url.password)];
  } catch {
    return { fault: ENCODE };
  }
  const secrets = [password, url.password, ...url.searchParams.values(), url.search.slice(1)];
  url.username = url.password = url.hash = "";
  const address = url.href.replace(/\/$/, "");
  url.search = "";
  return {
    url: url.href.replace(/\/$/, ""),
    address,
    ...(username ? { username } : {}),
    ...(password ? { password } : {}),
    secrets: [...new Set(secrets)].filter((secret) => secret !== ""),
  };
}
