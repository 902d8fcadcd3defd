/**
 * Why a connection to a broker ended and what to do about it, in sentences for people. Pure; never holds a password.
 */
import { LARGEST_PROPERTIES, type TooLarge } from "./packet_limit.ts";

/** Why a connection ended. */
export type EndKind =
  | "refetch"
  | "renewed"
  | "lost"
  | "takeover"
  | "refused"
  | "credentials"
  | "version"
  | "no retain"
  | "tls"
  | "unanswered";

/** The end of a connection. */
export interface End {
  readonly kind: EndKind;
  readonly code?: number | string;
  /** The other side's own words. */
  readonly words?: string;
}

/** What the sentences name of a connection. */
interface Connection {
  readonly url: string;
  readonly clientId: string;
  readonly username?: string;
  readonly protocolVersion: 5 | 4;
  readonly maxWaiting: number;
  readonly maxWaitingBytes: number;
}

/** A subscription that is not what was asked for. */
export function qosZeroWords(filter: string): string {
  return `Broker granted only QoS 0 for "${filter}": its messages are lost while this service is away`;
}

/** A broker that keeps no retained messages. */
export function noRetainWords(): string {
  return "The broker keeps no retained messages: state, info and table are heard only by who is connected when they are " +
    "published";
}

/** A session that the broker keeps for less long than it was asked to, in seconds. */
export function sessionCutWords(kept: number, asked: number): string {
  return `The broker keeps the session for ${kept} s without this service, not ${asked} s as MQTT_SESSION_EXPIRY asks: ` +
    `messages are lost when the service is away for longer`;
}

/** A message that came though it, or what it has of properties, is larger than what is taken. */
export function tooLargeWords({ topic, bytes, properties }: TooLarge, limit: number): string {
  const what = properties === undefined ? `${bytes} bytes` : `${properties} bytes of properties`;
  const most = properties === undefined ? `${limit} bytes` : `${LARGEST_PROPERTIES} bytes of them`;
  const setting = properties === undefined ? " (MQTT_MAX_PACKET_SIZE)" : "";
  return `A message of ${what} on "${cut(topic)}" started nothing: at most ${most} are taken${setting}`;
}

/** Filters without a subscription: which, the broker's reasons, and who can mend it. */
export function refusedFilterWords(
  refused: ReadonlyMap<string, number>,
  { clientId, username }: Pick<Connection, "clientId" | "username">,
): string {
  const who = username ? `user "${username}"` : `client id "${clientId}"`;
  const shown = [...refused].slice(0, 10).map(([filter, code]) => `"${cut(filter)}" (${reasonCode(code)})`).join(", ");
  const more = refused.size > 10 ? ` and ${refused.size - 10} more` : "";
  const codes = new Set(refused.values());
  const advice = [0x8f, 0x9e, 0xa2].some((code) => codes.has(code))
    ? "this broker does not take such a filter: write another topic into the table"
    : codes.has(0x97)
    ? "the broker's quota is used up: ask for more, or write fewer topics into the table"
    : codes.has(0x91)
    ? "no matter of rights; the service goes on trying"
    : `ask its administrator to allow ${who} to read there`;
  return `Broker refused the subscription to ${shown}${more}: ${advice}`;
}

/** The broker's own words in an acknowledgement's properties, to follow a colon or a reason. */
export function sayings(
  properties: { readonly reasonString?: string; readonly serverReference?: string } | undefined,
): string {
  const { reasonString, serverReference } = properties ?? {};
  const words = reasonString ? ` (the broker says: ${cut(reasonString)})` : "";
  return serverReference ? `${words} (it names another server for MQTT_URL: ${cut(serverReference)})` : words;
}

/** Foreign text of any length, short enough for a sentence and without what would not be seen in it. */
function cut(text: string): string {
  const short = text.length > 200 ? `${text.slice(0, 200)}…` : text;
  return short.toWellFormed().replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "�");
}

/** What is known beside the end itself of why a connection ended. */
interface Circumstances {
  /** Connections in a row that ended soon. */
  readonly shortLived: number;
  /** The largest message that was under way, unless it was small. */
  readonly large?: { readonly topic: string; readonly bytes: number } | undefined;
}

/** Why a connection ended and what to do. */
export function describeEnd(end: End, options: Connection, circumstances: Circumstances): string {
  const { url, clientId, username } = options;
  const said = end.words ? `: ${end.words}` : "";
  switch (end.kind) {
    case "refetch":
      return `More messages waited than are held at once (${options.maxWaiting} messages, ` +
        `${options.maxWaitingBytes} bytes): connecting to ${url} again to fetch those left with the broker`;
    case "renewed":
      return `Connecting to ${url} a second time, once: so the service learns how this broker numbers messages that ` +
        "it sends again. Nothing is wrong, and nothing is lost";
    case "takeover":
      return `Broker ${url} closed the connection: another client connected with the client id "${clientId}". ` +
        `Stop the other instance, or give one of them another MQTT_CLIENT_ID`;
    case "credentials":
      return `Broker ${url} refused ${username ? `user "${username}"` : "the connection without a user"}${said}. ` +
        `Check MQTT_USERNAME and MQTT_PASSWORD`;
    case "version":
      return `Broker ${url} does not support MQTT ${options.protocolVersion === 5 ? "5" : "3.1.1"}: ` +
        `set MQTT_VERSION=${options.protocolVersion === 5 ? "4" : "5"}`;
    case "no retain":
      return `Broker ${url} keeps no retained messages${said}: connecting again without`;
    case "tls":
      return `No secure connection to ${url}${said}. ` +
        `Check MQTT_CA_FILE against the broker's certificate, and MQTT_CERT_FILE and MQTT_KEY_FILE if it asks for one`;
    case "unanswered":
      return `Broker ${url} closed the connection before it accepted it or did not answer${said}. ` +
        `${unansweredHint(options)}`;
    case "lost":
      return `Connection to ${url} was lost${said || ": the broker closed it"}${lossHint(clientId, circumstances)}`;
    case "refused":
      return refusedWords(end, url);
  }
}

/**
 * mosquitto 2.0 does not tell whom it throws out for a newcomer with the same client id, and brokers of MQTT 3.1.1 not
 * what is too large for them.
 */
function lossHint(clientId: string, { shortLived, large }: Circumstances): string {
  if (shortLived < 3) return "";
  const often = `. That happened ${shortLived} times in a row soon after connecting`;
  const rival = `does another instance use the client id "${clientId}"?`;
  if (large === undefined) return `${often}: ${rival}`;
  return `${often}, now while a message of ${large.bytes} bytes for "${cut(large.topic)}" was under way: ` +
    `does the broker take one of that size? If so, ${rival}`;
}

function unansweredHint({ url, protocolVersion }: Connection): string {
  const version = protocolVersion === 5 ? "If it only speaks MQTT 3.1.1, set MQTT_VERSION=4; " : "";
  const secure = /^(mqtts|wss):/.test(url);
  return version +
    (secure
      ? "check that this port speaks TLS, and MQTT_CERT_FILE and MQTT_KEY_FILE if it asks for a client certificate"
      : "check that this port speaks MQTT without TLS (mqtts:// is the secure one)");
}

function refusedWords({ code, words }: End, url: string): string {
  const cannot = `Cannot connect to broker ${url}`;
  switch (code) {
    case "ECONNREFUSED":
      return `${cannot}: connection refused. Check that the broker runs and that MQTT_URL has its host and port`;
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `${cannot}: its host name is not known (${words}). Check MQTT_URL`;
    case "ETIMEDOUT":
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return `${cannot}: the host does not answer (${words}). Check MQTT_URL and the network`;
    default:
      return `${cannot}: ${words ?? "no reason given"}`;
  }
}

/** The reason codes of MQTT 5 (section 2.4) that a person meets; SUBACK's 0x80 of MQTT 3.1.1 is among them. */
const REASON_CODES: Readonly<Record<number, string>> = {
  0x80: "no reason given",
  0x81: "malformed packet",
  0x82: "protocol error",
  0x83: "the broker's own rules",
  0x87: "not authorized",
  0x88: "server unavailable",
  0x89: "server busy",
  0x8b: "server shutting down",
  0x8d: "keep alive timeout",
  0x8e: "session taken over",
  0x8f: "invalid topic filter",
  0x90: "invalid topic name",
  0x91: "packet identifier in use",
  0x93: "receive maximum exceeded",
  0x95: "packet too large",
  0x96: "message rate too high",
  0x97: "quota exceeded",
  0x98: "administrative action",
  0x99: "invalid payload format",
  0x9a: "retained messages not supported",
  0x9b: "QoS not supported",
  0x9c: "use another server",
  0x9d: "server moved",
  0x9e: "shared subscriptions not supported",
  0xa1: "subscription identifiers not supported",
  0xa2: "wildcard subscriptions not supported",
};

/** A reason code in words. */
export function reasonCode(code: number): string {
  return REASON_CODES[code] ?? `reason code 0x${code.toString(16)}`;
}
