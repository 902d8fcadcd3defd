/**
 * Kinds of settings: each reads a text or says, as a clause that follows a colon, what would be right. A kind never
 * shows the value that it refuses, for it may be a secret. Pure.
 */
import { filterFault, topicFault } from "../topics.ts";
import { readBrokerUrl } from "../util/broker_url.ts";
import { durationMs } from "../util/duration.ts";
import { quantityAdvice, quantityValue } from "../util/quantities.ts";
import { oneLine, trimEnd } from "../util/text.ts";

/** What a text says, or what would be right, as a clause that follows a colon. */
export type Reading<T> = { readonly value: T } | { readonly fault: string };

/** A kind reads text. A plain function: as schemas of zod they took a tenth of the start of every command. */
export type Kind<T = unknown> = (text: string) => Reading<T>;

/** Where the service's own HTTP server listens; undefined: nowhere. */
export type Address = { readonly hostname: string; readonly port: number } | undefined;

/** `read`: undefined where the text is wrong. */
function kind<T>(read: (text: string) => T | undefined, advice: string | ((text: string) => string)): Kind<T> {
  return (text) => {
    const value = read(text);
    return value === undefined ? { fault: typeof advice === "string" ? advice : advice(text) } : { value };
  };
}

/** What is read by another kind, made into something else. */
function mapped<T, U>(inner: Kind<T>, map: (value: T) => U): Kind<U> {
  return (text) => {
    const read = inner(text);
    return "fault" in read ? read : { value: map(read.value) };
  };
}

export const text = kind((value) => value, "");

export const bool = kind((value) => {
  if (/^(true|yes|on|1)$/i.test(value)) return true;
  if (/^(false|no|off|0)$/i.test(value)) return false;
  return undefined;
}, "write true or false");

/** A whole number. */
export function integer(least: number, most: number = Number.MAX_SAFE_INTEGER): Kind<number> {
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`;
  return kind((value) => {
    const number = /^\d+$/.test(value) ? Number(value) : NaN;
    return number >= least && number <= most ? number : undefined;
  }, `write a whole number ${range}`);
}

/** In milliseconds. */
export function duration(least: string, most = "36500d"): Kind<number> {
  return kind((value) => {
    const ms = durationMs(value);
    return ms !== undefined && ms >= durationMs(least)! && ms <= durationMs(most)! ? ms : undefined;
  }, (value) => {
    if (durationMs(value) !== undefined) return `write a duration from ${least} to ${most}`;
    return /^\d+$/.test(value)
      ? `a duration needs a unit: write ${value}s or ${value}m`
      : "write a duration such as 500ms, 10s, 2m, 12h or 7d";
  });
}

/** In milliseconds; 0 for `off`. */
export function durationOrOff(least: string, most: string): Kind<number> {
  const other = duration(least, most);
  return (value) => {
    if (/^(off|no|false|0)$/i.test(value)) return { value: 0 };
    const read = other(value);
    return "fault" in read ? { fault: `${read.fault}, or off` } : read;
  };
}

/** In whole seconds, rounded up. */
export function seconds(least: string, most?: string): Kind<number> {
  return mapped(duration(least, most), (ms) => Math.ceil(ms / 1000));
}

/** In bytes. */
export function size(least: string, most = "8Ei"): Kind<number> {
  return kind((value) => {
    const bytes = quantityValue(value);
    return bytes !== undefined && Number.isInteger(bytes) && bytes >= quantityValue(least)! &&
        bytes <= quantityValue(most)!
      ? bytes
      : undefined;
  }, (value) => {
    const bytes = quantityValue(value);
    return bytes !== undefined
      ? `write a size of at least ${least}${most === "8Ei" ? "" : ` and at most ${most}`}`
      : quantityAdvice(value, "memory").replace("; leave the cell empty for none", "");
  });
}

/** One of some words, in any case. */
export function choice<const T extends string>(...choices: readonly T[]): Kind<T> {
  return kind(
    (value) => choices.find((one) => one === value.toLowerCase()),
    `write ${choices.slice(0, -1).join(", ")} or ${choices.at(-1)}`,
  );
}

/** As it was written; readBrokerUrl takes it apart. */
export const brokerUrl = kind((value) => "fault" in readBrokerUrl(value) ? undefined : value, (value) => {
  const read = readBrokerUrl(value);
  return "fault" in read ? read.fault : "";
});

/**
 * A URL of one of these schemes, as it was written. One whose password was not encoded is refused, for it would be
 * read as a part of the host or the path, and shown as such.
 */
export function url(...schemes: readonly string[]): Kind<string> {
  const advice = `write a URL that begins with ${schemes.map((scheme) => `${scheme}://`).join(" or ")}`;
  return kind(
    (value) => {
      const parsed = URL.parse(value);
      const isRight = parsed && parsed.hostname !== "" && schemes.includes(parsed.protocol.slice(0, -1));
      return isRight && userinfoFault(value) === undefined ? value : undefined;
    },
    (value) => userinfoFault(value) ?? advice,
  );
}

const webUrl = url("https", "http");

/** A page as people reach it, without slashes at its end. */
export const pageUrl: Kind<string> = mapped(webUrl, (value) => trimEnd(value, "/"));

/** What is wrong with the user and password of a URL; undefined: nothing, or there are none. */
function userinfoFault(value: string): string | undefined {
  const rest = value.slice(value.indexOf("://") + 3);
  const authority = rest.split(/[/?#]/, 1)[0]!;
  if (authority.includes("@")) {
    const { username, password } = URL.parse(value) ?? { username: "", password: "" };
    const isWrong = [username, password].some((part) => /%(?![\da-f]{2})/i.test(part));
    return isWrong || decoded(username) === undefined || decoded(password) === undefined
      ? "write a % in its user or password as %25"
      : undefined;
  }
  // `mqtt://user:1/2@broker` would be the host `user` and its port 1.
  return authority.includes(":") && !authority.startsWith("[") && rest.includes("@")
    ? "write / ? # @ in its password as %2F %3F %23 %40; an @ behind the host as %40"
    : undefined;
}

/** undefined: it is not percent-encoded UTF-8. */
export function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** A place that a store can be made of: `s3://bucket/…`, a `file:` URL or a path; without trailing slashes. */
export const place = kind((value) => {
  if (/^s3:\/\/[^/]+/.test(value)) return trimEnd(value, "/");
  if (/^file:\/\/\//.test(value) || !/^[a-z][a-z0-9+.-]*:/i.test(value)) {
    return value.slice(0, 1) + trimEnd(value.slice(1), "/");
  }
  return undefined;
}, "write s3://bucket/path, file:///path or the path of a folder");

export const object = kind((value) => {
  const isPlace = !("fault" in place(value));
  return isPlace && !value.endsWith("/") && /^(?!s3:).+|^s3:\/\/[^/]+\/.+/.test(value) ? value : undefined;
}, "write the table's s3://bucket/path/jobs.csv, or the path of a file");

export const address: Kind<Address> = (value) => {
  if (/^(off|none|no|false)$/i.test(value)) return { value: undefined };
  const match = /^(?:(\[[0-9a-f:.]+\]|[^:\s[\]]*):)?(\d{1,5})$/i.exec(value);
  if (match && Number(match[2]) <= 65535) {
    const hostname = (match[1] ?? "127.0.0.1").replace(/^\[|\]$/g, "");
    return { value: { hostname: hostname === "" ? "0.0.0.0" : hostname, port: Number(match[2]) } };
  }
  return { fault: "write host:port such as 127.0.0.1:8080, :8080 for all addresses, or off" };
};

/** Names of hosts, without ports. */
export const hostNames = kind((value) => {
  const names = value.split(",").map((name) => name.trim()).filter((name) => name !== "");
  return names.every((name) => name.length <= 253 && /^[\w-]+(\.[\w-]+)*$/.test(name)) ? names : undefined;
}, "write names without scheme and port, with commas, such as jobs.lab.example,jobs.lab.svc.cluster.local");

/** Topic filters. */
export const filters = kind((value) => {
  const all = value.split(",").map((filter) => filter.trim()).filter((filter) => filter !== "");
  return all.length <= 20 && all.every((filter) => filterFault(filter) === undefined) ? all : undefined;
}, "write at most 20 topic filters, with commas, such as experiments/#,lab/+/done");

const CHANNELS_ADVICE = "write name=URL for each channel, parted by line breaks or `;`, as in " +
  "imaging=https://hooks.example/a";

/** URLs of webhooks by the names of their channels. */
export const channels: Kind<ReadonlyMap<string, string>> = kind((value) => {
  const entries = value.split(/[\n;]/).map((entry) => entry.trim()).filter((entry) => entry !== "");
  const made = new Map<string, string>();
  for (const entry of entries) {
    const [name = "", address = ""] = [entry.split("=", 1)[0]!.trim(), entry.slice(entry.indexOf("=") + 1).trim()];
    const isNew = /^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/.test(name) && !made.has(name);
    if (!isNew || !entry.includes("=") || "fault" in webUrl(address)) return undefined;
    made.set(name, address);
  }
  return made;
}, `${CHANNELS_ADVICE}; names are of small letters, digits, - and ., and each once`);

/** Headers as OpenTelemetry's variables have them (https://opentelemetry.io/docs/specs/otel/protocol/exporter/). */
export const otlpHeaders: Kind<Readonly<Record<string, string>>> = kind((value) => {
  const made: Record<string, string> = {};
  for (const entry of value.split(",").map((one) => one.trim()).filter((one) => one !== "")) {
    const equals = entry.indexOf("=");
    const [name, text] = [entry.slice(0, equals).trim(), decoded(entry.slice(equals + 1).trim())];
    if (equals < 0 || !/^[\w!#$%&'*+.^`|~-]+$/.test(name) || text === undefined) return undefined;
    // No line break: what follows it would be a header of its own.
    if (!/^[\x20-\x7e\x80-\xff]+$/.test(text)) return undefined;
    made[name] = text;
  }
  return made;
}, "write name=value for each header, parted by commas, as in api-key=secret");

export const topicPrefix = kind((value) => {
  const prefix = value.replace(/\/$/, "");
  return topicFault(prefix) === undefined && !prefix.startsWith("$") && !prefix.startsWith("/") ? prefix : undefined;
}, "write a topic without wildcards, not beginning with / or $, such as services/mqtt_job_listener");

export const clientId = kind(
  (value) => new TextEncoder().encode(value).length <= 65535 && !value.includes("\0") ? value : undefined,
  "write a shorter name",
);

/** A name that can be shown, of 1 to 200 characters; undefined: it is none. */
export function readName(value: string): string | undefined {
  const name = value.trim();
  return name !== "" && name.length <= 200 && name.isWellFormed() && oneLine(name) === name ? name : undefined;
}

export const personName = kind(readName, "write 1 to 200 characters, without control characters; or off");

/** What a header says that has a meaning of its own must not be taken for a name. */
const HEADERS_OF_HTTP = /^(authorization|connection|content-.*|cookie|host|origin|referer|sec-.*|transfer-encoding)$/i;

export const userHeader = kind(
  (value) => /^[A-Za-z0-9-]{1,64}$/.test(value) && !HEADERS_OF_HTTP.test(value) ? value : undefined,
  "write the name of a header that the proxy sets, such as X-Forwarded-User",
);

export const label = kind(
  (value) => /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/.test(value) ? value : undefined,
  "write at most 63 letters, digits, -, _ and ., with a letter or digit at both ends",
);

export const dnsLabel = kind(
  (value) => /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(value) ? value : undefined,
  "write at most 63 of a-z, 0-9 and -, with a letter or digit at both ends",
);

export const version: Kind<5 | 4> = kind((value) => {
  if (/^5(\.0)?$/.test(value)) return 5;
  return /^(4|3\.1\.1)$/.test(value) ? 4 : undefined;
}, "write 5, or 4 for MQTT 3.1.1");

/** Of the log. */
type Level = "trace" | "debug" | "info" | "warning" | "error" | "fatal";

export const level: Kind<Level> = mapped(
  choice("trace", "debug", "info", "warning", "warn", "error", "fatal"),
  (name) => name === "warn" ? "warning" : name,
);
