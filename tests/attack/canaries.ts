/**
 * A canary for each secret setting: a value that stands nowhere else, so that whatever shows it has told the secret. The
 * forms that are looked for are made here and not by the product, which would not see what it forgets.
 */
import { Buffer } from "node:buffer";
import { type Setting, SETTINGS } from "../../config/settings.ts";

export type Canaries = Readonly<Record<string, string>>;

/** By the setting's name. `webhook`: where the webhook listens; its canary is part of the path and of the query. */
export function makeCanaries({ webhook }: { webhook: string }): Canaries {
  const secrets = Object.entries<Setting>(SETTINGS).filter(([, { secret }]) => secret === true);
  return Object.fromEntries(secrets.map(([name], index) => {
    // Letters that change in JSON, URLs and base64; 0 to 2 letters more, so that base64 ends in each way.
    const before = { WEBHOOK_URL: "", NOTIFY_CHANNELS: "attacked=" }[name];
    const odd = before === undefined ? `+/=&%#?<"'` : "";
    const word = `cAnArY${name.replaceAll("_", "")}${odd}${"z".repeat(index % 3)}9Qx`;
    return [name, before === undefined ? word : `${before}${webhook}/hook/${word}?token=${word}`];
  }));
}

/** What tells the secret: of the webhook's URL the path, else the whole. */
function tellTale(value: string): string {
  const [url] = /https?:.*/.exec(value) ?? [];
  return url === undefined ? value : new URL(url).pathname.split("/").at(-1)!;
}

/** Each way in which a text is found written down. */
export function formsOf(value: string): string[] {
  const text = tellTale(value);
  const bytes = Buffer.from(text);
  const percent = [encodeURIComponent(text), encodeURI(text), new URLSearchParams({ x: text }).toString().slice(2)];
  const json = JSON.stringify(text).slice(1, -1);
  const html = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;").replaceAll("'", "&#39;");
  const base64 = [0, 1, 2].map((offset) => {
    const whole = Buffer.concat([Buffer.alloc(offset), bytes]).toString("base64");
    return whole.slice(Math.ceil(offset * 8 / 6), Math.floor((offset + bytes.length) * 8 / 6));
  });
  const forms = [
    ...[text, json, JSON.stringify(json).slice(1, -1), json.replaceAll("/", "\\/"), html],
    ...percent.flatMap((form) => [form, form.replace(/%../g, (code) => code.toLowerCase())]),
    ...base64.flatMap((form) => [form, form.replaceAll("+", "-").replaceAll("/", "_")]),
    ...[bytes.toString("hex"), bytes.toString("hex").toUpperCase()],
    // Whatever else is done to it: a piece of it that no encoding of text changes.
    text.slice(0, 16),
  ];
  return [...new Set(forms)];
}

/** Names of the settings whose secret stands in the text. */
export function found(text: string, canaries: Canaries): string[] {
  return Object.entries(canaries).filter(([, value]) => formsOf(value).some((form) => text.includes(form)))
    .map(([name]) => name);
}
