/**
 * The actions of the page: run, cancel, repeat, for whoever has the token. Programs send it as a bearer and get JSON;
 * forms send it as a field and are led to the run. Must not know how an action is carried out.
 */
import type { Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { createHash, timingSafeEqual } from "node:crypto";
import { RefusedError, UnavailableError } from "../ports.ts";
import { isRunName } from "../run_spec.ts";
import { getLogger } from "../util/log.ts";
import { answerPage } from "./answers.ts";
import { messagePage } from "./pages/parts.tsx";

/** What a token allows. Answers hold the run's name. RangeError: no such row or run. */
export interface StatusActions {
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

const MAX_BODY_BYTES = 1024 * 1024;

type Fields = Readonly<Record<string, string>>;

/** Adds the routes below `/actions/`. */
export function addActions(app: Hono, options: ActionOptions): void {
  const { actions } = options;
  const limit = bodyLimit({
    maxSize: MAX_BODY_BYTES,
    onError: (c) => c.text(`Too large: at most ${MAX_BODY_BYTES} bytes\n`, 413),
  });
  const act = (path: string, carryOut: (fields: Fields) => Promise<{ run_name: string }>) =>
    app.post(path, limit, (c) => answerAction(c, options, carryOut));
  act("/actions/run", (fields) => actions.run(wanted(fields, "job_name"), fields.payload ?? ""));
  act("/actions/cancel", (fields) => actions.cancel(runNameOf(fields), "the status page"));
  act("/actions/rerun", (fields) => actions.rerun(runNameOf(fields)));
}

/** Programs send a bearer token and get JSON; the page's forms send the field `token` and are led to the run. */
async function answerAction(
  c: Context,
  options: ActionOptions,
  carryOut: (fields: Fields) => Promise<{ run_name: string }>,
): Promise<Response> {
  const bearer = /^Bearer {1,9}(\S+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
  const refuse = (status: 400 | 401 | 403 | 404 | 409 | 500 | 503, message: string) =>
    bearer === undefined
      ? answerPage(c, messagePage({ title: "Not done", message }), status)
      : c.json({ error: message }, status);
  if (options.token === undefined) return refuse(403, "The page is read-only: set STATUS_TOKEN to act by it.");
  if (bearer === undefined && !isSameOrigin(c.req.raw, options.publicUrl)) {
    return refuse(403, "The form was not sent from this page: open the page and try again.");
  }
  let fields: Fields;
  try {
    fields = await readFields(c);
  } catch (error) {
    if (error instanceof Error && error.name === "BodyLimitError") throw error;
    return refuse(400, "The fields cannot be read: send a form or a JSON object of strings.");
  }
  if (!sameSecret(bearer ?? fields.token ?? "", options.token)) return refuse(401, "The token is not the right one.");
  try {
    const answer = await carryOut(fields);
    getLogger("status").info("Action {path}", { path: c.req.path, run: answer.run_name });
    return bearer === undefined ? c.redirect(`/runs/${encodeURIComponent(answer.run_name)}`, 303) : c.json(answer);
  } catch (error) {
    if (error instanceof FieldError) return refuse(400, error.message);
    if (error instanceof RangeError) return refuse(404, error.message);
    if (error instanceof RefusedError) return refuse(409, error.message);
    if (error instanceof UnavailableError) return refuse(503, error.message);
    const about = fields["run_name"] === undefined ? {} : { run: fields["run_name"] };
    getLogger("status").error("Cannot carry out {path}", { path: c.req.path, error, ...about });
    return refuse(500, "It could not be done; the service's log says why.");
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

function runNameOf(fields: Fields): string {
  const name = wanted(fields, "run_name");
  if (!isRunName(name)) throw new FieldError(`The field run_name is "${name}", which is no name of a run.`);
  return name;
}

async function readFields(c: Context): Promise<Fields> {
  const isJson = /^application\/json\b/i.test(c.req.header("content-type") ?? "");
  const body: unknown = isJson ? await c.req.json() : Object.fromEntries(await c.req.formData());
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw new TypeError("Not an object");
  const fields: Record<string, string> = {};
  for (const [name, value] of Object.entries(body)) {
    if (typeof value !== "string") throw new TypeError(`${name} is not a string`);
    fields[name] = value;
  }
  return fields;
}

/** Whether a browser says that one of our own pages sent this. A request that says nothing did not come from there. */
function isSameOrigin(request: Request, publicUrl: string | undefined): boolean {
  const site = request.headers.get("sec-fetch-site");
  if (site !== null) return site === "same-origin";
  const origin = URL.parse(request.headers.get("origin") ?? "");
  if (!origin) return false;
  return origin.host === new URL(request.url).host ||
    (publicUrl !== undefined && origin.host === URL.parse(publicUrl)?.host);
}

/** Compares digests, so that the time taken tells nothing of the token. */
function sameSecret(given: string, token: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}
