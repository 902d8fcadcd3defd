/**
 * Signing in and out by the page: the token opens a session, a sign-out ends it here as well. Must not know what a
 * session allows.
 */
import type { Context, Hono } from "hono";
import { compact } from "../util/compact.ts";
import { getLogger } from "../util/log.ts";
import { isLoopback } from "../util/loopback.ts";
import { answerPage, isJsonPath } from "./answers.ts";
import { FormError, type FormReader, isSameOrigin, NOT_FROM_HERE } from "./forms.ts";
import type { Env } from "./gate.ts";
import { messagePage } from "./pages/parts.tsx";
import { signInPage } from "./pages/sign_in.tsx";
import { TOKEN_FAULTS, type TokenCheck } from "./token.ts";
import type { Visitors } from "./visitors.ts";

export interface SignInParts {
  readonly visitors: Visitors;
  /** Absent: nobody may act. */
  readonly check: TokenCheck | undefined;
  readonly forms: FormReader;
  readonly publicUrl?: string | undefined;
}

/** Adds the routes `/sign-in` and `/sign-out`. */
export function addSignIn(app: Hono<Env>, parts: SignInParts): void {
  const { visitors } = parts;
  app.get("/sign-in", (c) => {
    const next = pathOfPage(c.req.query("next"));
    if (c.get("visitor").mayAct !== "yes") return answerPage(c, signInPage({ next, ...elsewhere(c, parts) }));
    return isJsonPath(c) ? c.json({ signed_in: true }) : c.redirect(next, 303);
  });
  app.post("/sign-in", (c) => signIn(c, parts));
  app.post("/sign-out", (c) => {
    if (!isSameOrigin(c.req.raw, parts.publicUrl)) return notFromHere(c);
    const isSignedIn = c.get("visitor").mayAct === "yes";
    c.header("set-cookie", visitors.sessions.end(c.req.raw.headers));
    if (isSignedIn) getLogger("status").info("Signed out on the page", who(c));
    return isJsonPath(c) ? c.json({ signed_in: false }) : c.redirect("/?done=sign-out", 303);
  });
}

async function signIn(c: Context<Env>, { visitors, check, forms, publicUrl }: SignInParts): Promise<Response> {
  if (!check) return answerPage(c, signInPage({ next: "/" }), 403);
  // Else a site could sign a browser in as somebody else, whose name would stand for what it does.
  if (!isSameOrigin(c.req.raw, publicUrl)) return notFromHere(c);
  const visitor = c.env?.visitor ?? "";
  try {
    const { fields, token } = await forms.read(c.req.raw, { stranger: visitor, isProgram: isJsonPath(c) });
    const next = pathOfPage(fields["next"]);
    const refuse = (status: 401 | 429, message: string) => {
      const fault = { field: "token", message };
      return answerPage(c, signInPage({ next, fault, ...elsewhere(c, { publicUrl }) }), status);
    };
    switch (token === "" ? "none" : await check.check(token, visitor)) {
      case "none":
        return refuse(401, "Write the token: whoever runs the service knows it (STATUS_TOKEN).");
      case "wrong":
        return refuse(401, TOKEN_FAULTS.wrong);
      case "busy":
        return refuse(429, TOKEN_FAULTS.busy);
      case "right":
        openSession(c, visitors);
        return isJsonPath(c) ? c.json({ signed_in: true }) : c.redirect(next, 303);
    }
  } catch (error) {
    if (error instanceof FormError) {
      return answerPage(c, messagePage({ title: "Not done", message: error.message }), error.status);
    }
    throw error;
  }
}

/** Ends what session the request has, and opens one that the answer's cookie is for. */
export function openSession(c: Context<Env>, { sessions }: Visitors): void {
  const visitor = c.get("visitor");
  sessions.end(c.req.raw.headers);
  c.header("set-cookie", sessions.open(visitor.name));
  c.set("visitor", { ...visitor, mayAct: "yes" });
  getLogger("status").info("Signed in on the page from {visitor}", { visitor: c.env?.visitor ?? "", ...who(c) });
}

function who(c: Context<Env>): { requested_by?: string } {
  return compact({ requested_by: c.get("visitor").name });
}

function notFromHere(c: Context<Env>): Response {
  return answerPage(c, messagePage({ title: "Not done", message: NOT_FROM_HERE }), 403);
}

/** Longest path that one is led back to. */
const LONGEST_NEXT = 2_000;

/** The path of a page of ours; `/` for all else: nobody is led elsewhere, nor to what is no page. */
export function pathOfPage(next: string | undefined): string {
  // A browser takes "\" for "/", and leaves tabs and line breaks out: both make "//elsewhere" of what begins otherwise.
  if (next === undefined || next.length > LONGEST_NEXT || !/^\/(?![/\\])[^\\\p{Cc}]*$/u.test(next)) return "/";
  const url = URL.parse(next, "http://page.invalid");
  if (url?.host !== "page.invalid" || /^\/(sign-in|sign-out)\b/.test(url.pathname)) return "/";
  // As the parser has it: "/.//elsewhere" is "//elsewhere" by then.
  const path = url.pathname + url.search;
  return path.startsWith("//") ? "/" : path;
}

/** The page by https, where it is asked for by another way, on which no browser would keep the session. */
function elsewhere(c: Context<Env>, { publicUrl }: Pick<SignInParts, "publicUrl">): { elsewhere?: string } {
  const page = URL.parse(publicUrl ?? "");
  const asked = URL.parse(`http://${c.req.header("host") ?? ""}`);
  if (page?.protocol !== "https:" || !asked || asked.host === page.host || isLoopback(asked.hostname)) return {};
  // Browsers send it where they trust the way; a proxy with TLS may ask us by another name.
  if (c.req.header("sec-fetch-site") !== undefined) return {};
  return { elsewhere: page.origin };
}
