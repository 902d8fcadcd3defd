/**
 * The actions of the page: run, cancel, repeat, for whoever has the token. Programs send it as a bearer and get JSON;
 * forms send it as a field and are led to the run. Must not know how an action is carried out.
 */
import type { Context, Hono } from "hono";
import { RefusedError, UnavailableError } from "../ports.ts";
import { isRunName } from "../run_spec.ts";
import { getLogger } from "../util/log.ts";
import { compact } from "../util/compact.ts";
import { chunksOf, joinBytes } from "../util/streams.ts";
import { answerPage, type Page } from "./answers.ts";
import { type BatchActions, sendReplay, sendSheet } from "./batch_actions.ts";
import { Counts, type Env, type GateOptions, MAX_BODY_BYTES } from "./gate.ts";
import { FIELD_PREFIX } from "./pages/run_forms.tsx";
import { messagePage } from "./pages/parts.tsx";
import { TokenCheck } from "./token.ts";

/** What a token allows. Answers hold the run's name. RangeError: no such row or run. */
export interface StatusActions extends BatchActions {
  run(jobName: string, payload: string): Promise<{ run_name: string }>;
  cancel(runName: string, who: string): Promise<{ run_name: string }>;
  rerun(runName: string): Promise<{ run_name: string }>;
}

export interface ActionOptions {
  readonly actions: StatusActions;
  /** Absent: nobody may act. */
  readonly token?: string;
  readonly publicUrl?: string;
}

/** Forms that are read at a time before their token is known, of all visitors and of one. */
const MOST_FORMS = { all: 16, ofVisitor: 4 };
/** Fields of a form. The page's have three, and one for each input of a row. */
const MAX_FIELDS = 64;

type Fields = Readonly<Record<string, string>>;
type CarryOut = (fields: Fields) => Promise<{ run_name: string } | Page>;

/** Adds the routes below `/actions/`. */
export function addActions(app: Hono<Env>, options: ActionOptions & GateOptions): void {
  const { actions, token, onRefusal } = options;
  const check = token === undefined
    ? undefined
    : new TokenCheck({ token, ...compact({ onWrong: onRefusal && (() => onRefusal("token")) }) });
  const forms = new Counts(MOST_FORMS);
  const act = (path: string, carryOut: CarryOut) =>
    app.post(path, (c) => new Answer(c, options, { check, forms }).answer(carryOut));
  act("/actions/run", (fields) => actions.run(wanted(fields, "job_name"), payloadOf(fields)));
  act("/actions/each", (fields) => {
    wanted(fields, "job_name");
    wanted(fields, "sheet");
    return sendSheet(actions, fields);
  });
  act("/actions/replay", (fields) => {
    wanted(fields, "job_name");
    wanted(fields, "since");
    return sendReplay(actions, fields);
  });
  act("/actions/cancel", (fields) => actions.cancel(runNameOf(fields), "the status page"));
  act("/actions/rerun", (fields) => actions.rerun(runNameOf(fields)));
}

/** Programs send a bearer token and get JSON; the page's forms send the field `token` and are led to the run. */
class Answer {
  readonly #c: Context<Env>;
  readonly #options: ActionOptions;
  readonly #check: TokenCheck | undefined;
  readonly #forms: Counts;
  readonly #bearer: string | undefined;

  constructor(
    c: Context<Env>,
    options: ActionOptions,
    { check, forms }: { check: TokenCheck | undefined; forms: Counts },
  ) {
    this.#c = c;
    this.#options = options;
    this.#check = check;
    this.#forms = forms;
    this.#bearer = /^Bearer {1,9}(\S.*)$/i.exec(c.req.header("authorization") ?? "")?.[1];
  }

  async answer(carryOut: CarryOut): Promise<Response> {
    if (!this.#check) return this.#refuse(403, "The page is read-only: set STATUS_TOKEN to act by it.");
    let fields: Fields;
    try {
      if (this.#bearer !== undefined) {
        // Before the body: who has no token costs nothing.
        const refusal = await this.#tokenRefusal(this.#check, this.#bearer);
        if (refusal) return refusal;
        fields = await readFields(this.#c.req.raw);
      } else {
        if (!isSameOrigin(this.#c.req.raw, this.#options.publicUrl)) {
          return this.#refuse(403, "The form was not sent from this page: open the page and try again.");
        }
        const leave = this.#forms.enter(this.#visitor);
        if (!leave) return this.#refuse(503, "Too many forms are being sent: try again soon.");
        try {
          fields = await readFields(this.#c.req.raw);
        } finally {
          leave();
        }
        const refusal = await this.#tokenRefusal(this.#check, fields.token ?? "");
        if (refusal) return refusal;
      }
    } catch (error) {
      if (error instanceof TooLargeError) return this.#refuse(413, error.message);
      return this.#refuse(
        400,
        "The fields cannot be read: send a form, or with a bearer token a JSON object of strings.",
      );
    }
    return await this.#carryOut(carryOut, fields);
  }

  get #visitor(): string {
    return this.#c.env?.visitor ?? "";
  }

  async #tokenRefusal(check: TokenCheck, given: string): Promise<Response | undefined> {
    switch (await check.check(given, this.#visitor)) {
      case "right":
        return undefined;
      case "wrong":
        return this.#refuse(401, "The token is not the right one.");
      case "busy":
        return this.#refuse(429, "Too many wrong tokens came from your address: try again in a moment.");
    }
  }

  async #carryOut(carryOut: CarryOut, fields: Fields): Promise<Response> {
    const { path } = this.#c.req;
    try {
      const answer = await carryOut(fields);
      if ("html" in answer) {
        getLogger("status").info("Action {path}", { path });
        return this.#bearer === undefined ? answerPage(this.#c, answer) : this.#c.json(answer.data);
      }
      getLogger("status").info("Action {path}", { path, run: answer.run_name });
      return this.#bearer === undefined
        ? this.#c.redirect(`/runs/${encodeURIComponent(answer.run_name)}`, 303)
        : this.#c.json(answer);
    } catch (error) {
      if (error instanceof FieldError) return this.#refuse(400, error.message);
      if (error instanceof RangeError) return this.#refuse(404, error.message);
      if (error instanceof RefusedError) return this.#refuse(409, error.message);
      if (error instanceof UnavailableError) return this.#refuse(503, error.message);
      const about = fields["run_name"] === undefined ? {} : { run: fields["run_name"] };
      getLogger("status").error("Cannot carry out {path}", { path, error, ...about });
      return this.#refuse(500, "It could not be done; the service's log says why.");
    }
  }

  #refuse(status: 400 | 401 | 403 | 404 | 409 | 413 | 429 | 500 | 503, message: string): Response {
    return this.#bearer === undefined
      ? answerPage(this.#c, messagePage({ title: "Not done", message }), status)
      : this.#c.json({ error: message }, status);
  }
}

/** A field of an action that is not given or not right. */
class FieldError extends Error {
  override name = "FieldError";
}

function wanted(fields: Fields, name: string): string {
  const value = fields[name];
  if (!value) throw new FieldError(`The field ${name} is empty: fill it in.`);
  return value;
}

/** The payload as it was given, or the JSON object of the fields that a row's form has; an empty one is left out. */
function payloadOf(fields: Fields): string {
  const given = Object.entries(fields).filter(([name, value]) => name.startsWith(FIELD_PREFIX) && value !== "");
  if (given.length === 0) return fields.payload ?? "";
  return JSON.stringify(Object.fromEntries(given.map(([name, value]) => [name.slice(FIELD_PREFIX.length), value])));
}

function runNameOf(fields: Fields): string {
  const name = wanted(fields, "run_name");
  if (!isRunName(name)) throw new FieldError(`The field run_name is "${name}", which is no name of a run.`);
  return name;
}

/** The body is larger than it may be. */
class TooLargeError extends Error {
  override name = "TooLargeError";
}

async function readFields(request: Request): Promise<Fields> {
  const text = await readText(request);
  const type = request.headers.get("content-type") ?? "";
  if (/^application\/json\b/i.test(type) && request.headers.has("authorization")) return fieldsOf(JSON.parse(text));
  if (!/^application\/x-www-form-urlencoded\b/i.test(type)) throw new TypeError("Neither a form nor JSON");
  if (text.split("&", MAX_FIELDS + 1).length > MAX_FIELDS) throw new TypeError("Too many fields");
  return Object.fromEntries(new URLSearchParams(text));
}

function fieldsOf(body: unknown): Fields {
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw new TypeError("Not an object");
  const fields: Record<string, string> = {};
  for (const [name, value] of Object.entries(body)) {
    if (typeof value !== "string") throw new TypeError(`${name} is not a string`);
    fields[name] = value;
  }
  return fields;
}

/** A body that does not say its size is counted as it comes. */
async function readText(request: Request): Promise<string> {
  if (!request.body) return "";
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunksOf(request.body)) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) throw new TooLargeError(`Too large: at most ${MAX_BODY_BYTES} bytes.`);
    chunks.push(chunk);
  }
  return new TextDecoder("utf-8", { fatal: true }).decode(joinBytes(chunks));
}

/** Whether a browser says that one of our own pages sent this. A request that says nothing did not come from there. */
function isSameOrigin({ headers }: Request, publicUrl: string | undefined): boolean {
  // Not hono's csrf(), which lets through what one of the two allows: here Origin counts only where the other is missing.
  const site = headers.get("sec-fetch-site");
  if (site !== null) return site === "same-origin";
  const origin = URL.parse(headers.get("origin") ?? "");
  if (!origin) return false;
  return origin.host === URL.parse(`http://${headers.get("host")}`)?.host ||
    (publicUrl !== undefined && origin.host === URL.parse(publicUrl)?.host);
}
