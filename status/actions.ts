/**
 * The actions of the page: run, cancel, repeat, for who has signed in or sends the token. Programs send it as a bearer
 * and get JSON; people get the page of the run, or their form again with what is wrong. Must not know how an action is
 * carried out.
 */
import type { Context, Hono } from "hono";
import { rowNamed } from "../catalog.ts";
import { RefusedError, type Row, UnavailableError } from "../ports.ts";
import { inputFault, isRunName } from "../run_spec.ts";
import { errorMessage } from "../util/errors.ts";
import { getLogger } from "../util/log.ts";
import { answerPage, isJsonPath, type Page } from "./answers.ts";
import { type BatchActions, sendReplay, sendSheet } from "./batch_actions.ts";
import { FieldError, type Fields, FormError, isSameOrigin, NOT_FROM_HERE, type Sent } from "./forms.ts";
import type { Env } from "./gate.ts";
import type { Looking } from "./look.ts";
import { actionPage, type OneAction } from "./pages/action.tsx";
import type { FormFault, Resent } from "./pages/forms.tsx";
import { messagePage } from "./pages/parts.tsx";
import { FIELD_PREFIX } from "./pages/run_forms.tsx";
import { type ManyAction, type PickedActions, pickedForm, sendPicked } from "./picked_actions.ts";
import { openSession, type SignInParts } from "./sign_in.ts";
import { TOKEN_FAULTS, type TokenCheck } from "./token.ts";
import type { StatusView } from "./view.ts";

/** What a token allows. Answers hold the run's name. RangeError: no such row or run. */
export interface StatusActions extends BatchActions, PickedActions {
  run(jobName: string, payload: string, options: { readonly requestedBy: string }): Promise<{ run_name: string }>;
  cancel(runName: string, who: string): Promise<{ run_name: string }>;
  rerun(runName: string, who: string): Promise<{ run_name: string }>;
}

export interface ActionParts extends SignInParts {
  readonly actions: StatusActions;
  readonly looking: Pick<Looking, "view" | "signal">;
}

/** An action, and its form as it was sent. */
interface Action {
  carryOut(sent: Sent, who: string): Promise<{ run_name: string } | Page>;
  form(sent: Sent, resent: Resent): Promise<Page> | Page;
}

/** Adds the routes below `/actions/`. */
export function addActions(app: Hono<Env>, parts: ActionParts): void {
  const { actions, looking } = parts;
  const { view } = looking;
  const one = (name: OneAction, carryOut: Action["carryOut"]) => {
    const form: Action["form"] = ({ fields }, resent) => formOf(name, fields, { view, resent });
    app.post(`/actions/${name}`, (c) => new Answer(c, parts, { carryOut, form }).answer());
    // Where a reload and a sign-in lead; a link may say which row or run.
    app.get(`/actions/${name}`, (c) => {
      const { job_name = "", run_name = "" } = c.req.query();
      return answerPage(c, formOf(name, { job_name, run_name }, { view, resent: {} }));
    });
  };
  one("run", async ({ fields }, who) => {
    const [jobName, payload] = [wanted(fields, "job_name"), payloadOf(fields)];
    return await actions.run(jobName, payload, { requestedBy: who }).catch((error) => {
      throw byField(error, { row: rowNamed(view.table()?.rows, jobName), payload });
    });
  });
  one("each", ({ fields }, who) => {
    wanted(fields, "job_name");
    wanted(fields, "sheet");
    return sendSheet(actions, fields, who);
  });
  one("replay", ({ fields }, who) => {
    wanted(fields, "job_name");
    wanted(fields, "since");
    return sendReplay(actions, fields, who);
  });
  one("cancel", ({ fields }, who) => actions.cancel(runNameOf(fields), who));
  one("rerun", ({ fields }, who) => actions.rerun(runNameOf(fields), who));
  const many = (name: ManyAction) => {
    app.post(`/actions/${name}`, (c) =>
      new Answer(c, parts, {
        carryOut: (sent, who) => sendPicked(name, sent, { actions, looking, who }),
        form: (sent, resent) => pickedForm(name, sent, { looking, resent }),
      }).answer());
    app.get(`/actions/${name}`, (c) => c.redirect("/runs", 303));
  };
  many("cancel-many");
  many("rerun-many");
}

function formOf(
  action: OneAction,
  fields: Fields,
  { view, resent }: { readonly view: StatusView; readonly resent: Resent },
): Page {
  const table = view.table();
  // A form of the row's own was sent, or is to be shown.
  const row = fields["payload"] ? undefined : rowNamed(table?.rows, fields["job_name"] ?? "");
  return actionPage({ action, table, row: row?.inputs && row, ...resent, fields });
}

/** Programs send a bearer token and get JSON; the page's forms come with a session, or with the field `token`. */
class Answer {
  readonly #c: Context<Env>;
  readonly #parts: ActionParts;
  readonly #action: Action;
  readonly #bearer: string | undefined;
  readonly #isProgram: boolean;
  #sent: Sent | undefined;

  constructor(c: Context<Env>, parts: ActionParts, action: Action) {
    this.#c = c;
    this.#parts = parts;
    this.#action = action;
    this.#bearer = /^Bearer {1,9}(\S.*)$/i.exec(c.req.header("authorization") ?? "")?.[1];
    this.#isProgram = this.#bearer !== undefined || isJsonPath(c);
  }

  async answer(): Promise<Response> {
    const { check, publicUrl, visitors } = this.#parts;
    const { raw } = this.#c.req;
    if (!check) return await this.#refuse(403, { message: "The page is read-only: set STATUS_TOKEN to act by it." });
    try {
      if (this.#bearer !== undefined) {
        // Before the body: who has no token costs nothing.
        const refusal = await this.#tokenRefusal(check, this.#bearer);
        if (refusal) return refusal;
      } else if (!isSameOrigin(raw, publicUrl)) {
        return await this.#refuse(403, { message: NOT_FROM_HERE });
      }
      const isKnown = this.#bearer !== undefined || this.#c.get("visitor").mayAct === "yes";
      const stranger = isKnown ? undefined : this.#address;
      this.#sent = await this.#parts.forms.read(raw, { stranger, isProgram: this.#isProgram });
      if (!isKnown) {
        const refusal = await this.#tokenRefusal(check, this.#sent.token);
        if (refusal) return refusal;
        // A form that was sent again after its session had ended.
        if (this.#sent.fields["sign_in"] !== undefined) openSession(this.#c, visitors);
      }
      return await this.#carryOut(this.#sent, visitors.whoAsks(raw.headers));
    } catch (error) {
      if (error instanceof FormError) return await this.#refuse(error.status, { message: error.message });
      if (error instanceof FieldError) return await this.#refuse(400, error);
      // What the proxy calls the user, too.
      if (error instanceof RangeError) return await this.#refuse(400, { message: error.message });
      throw error;
    }
  }

  get #address(): string {
    return this.#c.env?.visitor ?? "";
  }

  async #tokenRefusal(check: TokenCheck, given: string): Promise<Response | undefined> {
    if (given === "") {
      return await this.#refuse(401, { field: "token", message: "You are not signed in (any more): write the token." });
    }
    const found = await check.check(given, this.#address);
    if (found === "right") return undefined;
    return await this.#refuse(found === "wrong" ? 401 : 429, { field: "token", message: TOKEN_FAULTS[found] });
  }

  async #carryOut(sent: Sent, who: string): Promise<Response> {
    const { path } = this.#c.req;
    const log = getLogger("status");
    try {
      const answer = await this.#action.carryOut(sent, who);
      if ("html" in answer) {
        log.info("Action {path} by {requested_by}", { path, requested_by: who });
        return this.#isProgram ? this.#c.json(answer.data) : answerPage(this.#c, answer);
      }
      const { run_name: run } = answer;
      log.info("Action {path} by {requested_by}", { path, requested_by: who, run });
      if (this.#isProgram) return this.#c.json(answer);
      const done = /[^/]+$/.exec(path)?.[0];
      return this.#c.redirect(`/runs/${encodeURIComponent(run)}?done=${done}`, 303);
    } catch (error) {
      const fault: FormFault = error instanceof FieldError ? error : { message: errorMessage(error) };
      if (error instanceof FieldError) return await this.#refuse(error.status, fault);
      if (error instanceof RangeError) return await this.#refuse(404, fault);
      if (error instanceof RefusedError) return await this.#refuse(409, fault);
      if (error instanceof UnavailableError) return await this.#refuse(503, fault);
      const run = sent.fields["run_name"];
      log.error("Cannot carry out {path}", { path, error, ...(run === undefined ? {} : { run }) });
      return await this.#refuse(500, { message: "It could not be done; the service's log says why." });
    }
  }

  /** People get their form again, with all that they have typed. */
  async #refuse(
    status: 400 | 401 | 403 | 404 | 409 | 413 | 429 | 500 | 503,
    { field, message }: FormFault,
  ): Promise<Response> {
    const fault = field === undefined ? { message } : { field, message };
    if (this.#isProgram) {
      return this.#c.json({ error: message, ...(field === undefined ? {} : { field }) }, status);
    }
    const page = this.#sent
      ? await this.#action.form(this.#sent, { fault, withToken: true })
      : messagePage({ title: "Not done", message });
    return answerPage(this.#c, page, status);
  }
}

function wanted(fields: Fields, name: string): string {
  const value = fields[name];
  if (!value) throw new FieldError(name, `The field ${name} is empty: fill it in.`);
  return value;
}

/** The payload as it was given, or the JSON object of the fields that a row's form has; an empty one is left out. */
function payloadOf(fields: Fields): string {
  const given = Object.entries(fields).filter(([name, value]) => name.startsWith(FIELD_PREFIX) && value !== "");
  if (given.length === 0) return fields.payload ?? "";
  return JSON.stringify(Object.fromEntries(given.map(([name, value]) => [name.slice(FIELD_PREFIX.length), value])));
}

/** Why a row was not run, by the field of the form that is to be mended. */
function byField(error: unknown, { row, payload }: { row: Row | undefined; payload: string }): unknown {
  if (error instanceof RangeError && !row) return new FieldError("job_name", error.message, 404);
  if (!(error instanceof RefusedError) || !row) return error;
  const fault = inputFault(row, { topic: "", payload: new TextEncoder().encode(payload) });
  return fault ? new FieldError(FIELD_PREFIX + fault.field, error.message, 409) : error;
}

function runNameOf(fields: Fields): string {
  const name = wanted(fields, "run_name");
  if (!isRunName(name)) throw new FieldError("run_name", `The field run_name is "${name}", which is no name of a run.`);
  return name;
}
