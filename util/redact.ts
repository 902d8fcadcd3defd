/**
 * What nobody may see, and its removal from text: registered secrets in the forms in which they travel, and what looks
 * like a credential. Each step is linear in the text's length, for anybody may write the text (see
 * tests/project/regex_test.ts). Knows no output: the log, errors.ts and the command line ask it.
 */
import { Buffer } from "node:buffer";

/** A shorter secret would blot out half of the log. */
const SHORTEST_SECRET = 4;
/** An encoded form that is shorter occurs by chance. */
const SHORTEST_FORM = 6;
/** Secrets that are renewed come again and again; the oldest of them are forgotten. */
const MOST_SECRETS = 500;

/** Forms by secret, in the order of registering. */
let registered = new Map<string, readonly string[]>();
/** All forms, longer ones first: one secret may be part of another. */
let forms: readonly string[] = [];

/**
 * From now on this value is `***` wherever redact sees it: as it is, within JSON, in URLs, as base64 and as hexadecimal
 * digits. Values of less than 4 characters are not hidden.
 */
export function registerSecret(value: string): void {
  const kept = registered.get(value);
  registered.delete(value);
  registered.set(value, kept ?? formsOf(value));
  if (kept) return;
  for (const [oldest] of registered) {
    if (registered.size <= MOST_SECRETS) break;
    registered.delete(oldest);
  }
  forms = [...new Set([...registered.values()].flat())].sort((a, b) => b.length - a.length);
}

/** Forgets all registered secrets; for tests. */
export function forgetSecrets(): void {
  registered = new Map();
  forms = [];
}

/** The ways in which a secret may stand in a text. */
function formsOf(value: string): string[] {
  const escaped = (text: string) => JSON.stringify(text).slice(1, -1);
  const plain = [value, value.trim()];
  // Of a key in PEM a single line may be told as well.
  if (value.includes("-----BEGIN ")) plain.push(...value.split(/\r?\n/).filter((line) => /^[\w+/=]{16,}$/.test(line)));
  const encoded = plain.slice(0, 2).flatMap((text) => {
    const bytes = Buffer.from(text);
    const inUrls = [
      encodeURIComponent(text.toWellFormed()),
      encodeURI(text.toWellFormed()),
      new URLSearchParams([["", text]]).toString().slice(1),
      userinfo(text),
    ];
    const lower = inUrls.map((form) => form.replace(/%[\dA-F]{2}/g, (code) => code.toLowerCase()));
    const once = escaped(text);
    return [
      once,
      escaped(once),
      once.replaceAll("/", "\\/"),
      ...inUrls,
      ...lower,
      ...base64Forms(bytes),
      bytes.toString("hex"),
      bytes.toString("hex").toUpperCase(),
    ].filter((form) => form.length >= SHORTEST_FORM || form === text);
  });
  return [...plain, ...encoded].filter((form) => form.length >= SHORTEST_SECRET);
}

function userinfo(text: string): string {
  const url = new URL("x://h");
  url.password = text;
  return url.password;
}

/**
 * Base64 and base64url of the bytes, whole, and as they stand in the midst of something longer (`user:password` of a
 * header): what comes before moves them by 0, 1 or 2 bytes; characters that hold bits of the neighbours are left out.
 */
function base64Forms(bytes: Uint8Array): string[] {
  const within = [0, 1, 2].map((offset) => {
    const text = Buffer.concat([new Uint8Array(offset), bytes]).toString("base64");
    return text.slice(Math.ceil(offset * 8 / 6), Math.floor((offset + bytes.length) * 8 / 6));
  });
  const whole = Buffer.from(bytes).toString("base64");
  return [whole, whole.replace(/={1,2}$/, ""), ...within].flatMap((text) => {
    return [text, text.replaceAll("+", "-").replaceAll("/", "_")];
  });
}

// ---------------------------------------------------------------- text

/** The text without registered secrets, and without what looks like a credential: in URLs, headers, tokens, keys. */
export function redact(text: string): string {
  let clean = text;
  for (const form of forms) clean = clean.replaceAll(form, "***");
  return withoutUserinfo(clean)
    .replace(/(X-Amz-(?:Signature|Credential|Security-Token)=)[^&\s"']+/gi, "$1***")
    .replace(SECRET_QUERY, "$1***")
    .replace(/\b(Bearer|Basic)[ \t]{1,9}[\w.~+/=-]{4,}/gi, "$1 ***")
    .replace(JSON_WEB_TOKEN, "***")
    .replace(PRIVATE_KEY, "***");
}

/** `?token=…`, `&access_key=…` and their like. */
const SECRET_QUERY =
  /([?&][\w.-]{0,20}(?:token|passw(?:or)?d|secret|signature|credentials?|api[_-]?key|access[_-]?key|auth|jwt|sig)=)[^&\s"'#]+/gi;
/** RFC 7519; the header begins with `{"`. */
const JSON_WEB_TOKEN = /(?<![\w-])eyJ[\w-]{10,}\.[\w-]{10,}(?:\.[\w-]*)?/g;
const PRIVATE_KEY = /-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?/g;

const URL_END = /[\s"'`<>]/g;

/** Hides user and password of each URL, also of one that is not quite a URL: whose password has a `/`, `?` or `#`. */
function withoutUserinfo(text: string): string {
  let clean = "";
  let done = 0;
  for (let at = text.indexOf("://"); at >= 0; at = text.indexOf("://", done)) {
    const from = at + 3;
    clean += text.slice(done, from);
    URL_END.lastIndex = from;
    const end = URL_END.exec(text)?.index ?? text.length;
    // Within a token no further URL is looked for, so that each character is looked at once.
    const rest = text.slice(from, end);
    const secretEnd = userinfoEnd(rest);
    clean += secretEnd === 0 ? rest : `***${rest.slice(secretEnd)}`;
    done = end;
  }
  return clean + text.slice(done);
}

/** Where the host begins behind a user and a password, at its `@`; 0: there are none. */
function userinfoEnd(rest: string): number {
  const slash = rest.search(/[/?#]/);
  const authority = slash < 0 ? rest : rest.slice(0, slash);
  const at = authority.lastIndexOf("@");
  if (at >= 0) return at;
  // `user:pa/ss@host`: what follows the colon would be a port.
  const isHost = /^(?:\[[\da-f:.]*\]|[^:[\]]*)(?::\d{0,5})?$/i.test(authority);
  return isHost ? 0 : Math.max(0, rest.lastIndexOf("@"));
}

/** A URL as people may see it: without user, password and query; "" where it is none. */
export function publicUrl(text: string): string {
  const url = URL.parse(text);
  if (!url) return "";
  const path = url.pathname === "/" && !/\/$/.test(text) ? "" : url.pathname;
  return `${url.protocol}//${url.username || url.password ? "***@" : ""}${url.host}${path}${url.search ? "?***" : ""}`;
}
