/**
 * Why a fetch had no answer, in plain words: what Deno says is for who knows TLS by heart, and holds the URL, perhaps with
 * a password. Pure.
 */

/** Part of Deno's text, in lower case, and what it means for who has to mend it. */
const MEANINGS: readonly (readonly [part: string, words: string])[] = [
  ["dns error", "its host name is not known"],
  ["failed to lookup address", "its host name is not known"],
  ["connection refused", "nothing listens there"],
  ["no route to host", "there is no way to that address"],
  ["network is unreachable", "there is no way to that address"],
  [
    "unknownissuer",
    "its certificate is signed by an authority that is not among those given; a CA is missing or wrong",
  ],
  ["badsignature", "its certificate is signed by another authority than the one given; the CA is wrong"],
  ["causedasendentity", "its certificate is that of an authority, not of a server"],
  ["not valid for name", "its certificate is for other names than this one"],
  ["notvalidforname", "its certificate is for other names than this one"],
  ["certificate expired", "its certificate has expired"],
  ["not valid yet", "its certificate is not valid yet; compare the clocks"],
  ["invalid peer certificate", "its certificate is not accepted"],
  ["fatal alert", "it refuses the TLS connection; it may want another client certificate"],
  ["invalidcontenttype", "it does not speak TLS; write http://, or another port"],
  ["invalid http version", "it does not speak plain HTTP; write https://, or another port"],
  ["tls handshake eof", "it closed the connection within the TLS handshake"],
  ["connection reset", "the connection was reset"],
  ["connection closed before", "the connection was closed before an answer came"],
];

/** Plain words for the message of a failed fetch, with Deno's own behind them; undefined: it is no such message. */
export function fetchWords(message: string): string | undefined {
  if (!message.startsWith("error sending request")) return undefined;
  // error sending request for url (https://…): client error (Connect): tcp connect error: …
  const at = message.indexOf("client error (");
  const detail = at < 0
    ? "the request could not be sent"
    : message.slice(message.indexOf(")", at) + 1).replace(/^: /, "");
  const lower = detail.toLowerCase();
  const known = MEANINGS.find(([part]) => lower.includes(part));
  return known ? `${known[1]} (${detail})` : detail;
}
