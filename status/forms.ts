/**
 * What a form or a program sends to act: read within bounds, and whether a browser sent it from one of our own pages.
 * Must not know what is done with it, nor who may.
 */
import { MAX_PICKED } from "../control.ts";
import { chunksOf, joinBytes } from "../util/streams.ts";
import { Counts, MAX_BODY_BYTES } from "./gate.ts";

/** What was sent. */
export interface Sent {
  /** By names; of one that was sent twice the last. The token is not among them. */
  readonly fields: Fields;
  /** All of `run_name` (of a form) or `run_names` (of JSON). */
  readonly runNames: readonly string[];
  /** Of a form that signs in; "" if there is none. */
  readonly token: string;
}

/** By the names of a form's fields. */
export type Fields = Readonly<Record<string, string>>;

/** Forms of strangers that are read at a time, of all and of one. */
const MOST_FORMS = { all: 16, ofVisitor: 4 };
/** Fields of a form: of a row's inputs, or of runs that were picked, and a few more. */
const MAX_FIELDS = MAX_PICKED + 64;

/** Told where `isSameOrigin` is not so. */
export const NOT_FROM_HERE = "The form was not sent from this page: open the page and try again.";

/** A field that is not given or not right; `status`: what HTTP says of it. */
export class FieldError extends Error {
  override name = "FieldError";
  constructor(readonly field: string, message: string, readonly status: 400 | 404 | 409 = 400) {
    super(message);
  }
}

/** Why what was sent is not read. */
export class FormError extends Error {
  override name = "FormError";
  constructor(readonly status: 400 | 413 | 503, message: string) {
    super(message);
  }
}

export class FormReader {
  readonly #counts = new Counts(MOST_FORMS);

  /** Throws FormError. `isProgram`: JSON may be sent as well. `stranger`: who sends it without being known to be allowed to. */
  async read(
    request: Request,
    { stranger, isProgram }: { stranger: string | undefined; isProgram: boolean },
  ): Promise<Sent> {
    const leave = stranger === undefined ? () => {} : this.#counts.enter(stranger);
    if (!leave) throw new FormError(503, "Too many forms are being sent: try again soon.");
    try {
      return sentIn(await readText(request), request.headers.get("content-type") ?? "", isProgram);
    } catch (error) {
      if (error instanceof FormError) throw error;
      throw new FormError(400, "The fields cannot be read: send a form, or as a program a JSON object of strings.");
    } finally {
      leave();
    }
  }
}

function sentIn(text: string, type: string, isProgram: boolean): Sent {
  if (isProgram && /^application\/json\b/i.test(type)) return sentInJson(JSON.parse(text));
  if (!/^application\/x-www-form-urlencoded\b/i.test(type)) throw new TypeError("Neither a form nor JSON");
  if (text.split("&", MAX_FIELDS + 1).length > MAX_FIELDS) throw new TypeError("Too many fields");
  const params = new URLSearchParams(text);
  const { token = "", ...fields } = Object.fromEntries(params);
  return { fields, runNames: params.getAll("run_name"), token };
}

function sentInJson(body: unknown): Sent {
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw new TypeError("Not an object");
  const { run_names: runNames = [], token, ...rest } = body as Record<string, unknown>;
  if (!Array.isArray(runNames) || !runNames.every((name) => typeof name === "string")) {
    throw new TypeError("run_names is no list of strings");
  }
  const fields: Record<string, string> = {};
  for (const [name, value] of Object.entries(rest)) {
    if (typeof value !== "string") throw new TypeError(`${name} is not a string`);
    fields[name] = value;
  }
  return { fields, runNames, token: typeof token === "string" ? token : "" };
}

/** A body that does not say its size is counted as it comes. */
async function readText(request: Request): Promise<string> {
  if (!request.body) return "";
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunksOf(request.body)) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw new FormError(413, `Too large: at most ${MAX_BODY_BYTES} bytes.`);
    chunks.push(chunk);
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(joinBytes(chunks));
}

/** Whether a browser says that one of our own pages sent this. A request that says nothing did not come from there. */
export function isSameOrigin({ headers }: Request, publicUrl: string | undefined): boolean {
  // Not hono's csrf(), which lets through what one of the two allows: here Origin counts only where the other is missing.
  const site = headers.get("sec-fetch-site");
  if (site !== null) return site === "same-origin";
  const origin = URL.parse(headers.get("origin") ?? "");
  if (!origin) return false;
  return origin.host === URL.parse(`http://${headers.get("host")}`)?.host ||
    (publicUrl !== undefined && origin.host === URL.parse(publicUrl)?.host);
}
