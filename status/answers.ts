/**
 * Answers of HTTP that all handlers share: pages with their policy, and the headers that every answer bears.
 */
import type { Context } from "hono";
import { secureHeaders } from "hono/secure-headers";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import type { Env } from "./gate.ts";
import { contentSecurityPolicy } from "./pages/assets.ts";
import { renderFor } from "./pages/visitor.ts";

/** What a page shows: for programs, and for people. */
export interface Page {
  /** Plain data with names as records have them. Dates become RFC 3339, maps objects, sets lists. */
  readonly data: unknown;
  html(): string;
}

const JSON_PATH = /\.json$/;

/** The path by which a request finds its handler: `/index.json` and `/runs/x.json` are the pages `/` and `/runs/x`. */
export function pathOf(request: Request): string {
  const { pathname } = new URL(request.url);
  return pathname.replace(JSON_PATH, "").replace(/^\/index$/, "/");
}

/** A page, with the policy that its own script and style need; or what it shows as JSON, where the path ends so. */
export function answerPage(c: Context, page: Page, status: ContentfulStatusCode = 200): Response {
  if (isJsonPath(c)) {
    return c.body(JSON.stringify(page.data, plain), status, { "content-type": "application/json" });
  }
  const visitor = (c as Context<Env>).get("visitor");
  const html = visitor ? renderFor(visitor, () => page.html()) : page.html();
  return c.html(html, status, { "content-security-policy": contentSecurityPolicy() });
}

/** Whether the answer shall be JSON. */
export function isJsonPath(c: Context): boolean {
  return JSON_PATH.test(new URL(c.req.url).pathname);
}

function plain(_name: string, value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value instanceof Set ? [...value] : value;
}

/** Sets on every answer, refusals too, what keeps a browser from using it in another way than it is meant. */
export const securityHeaders = secureHeaders({
  // What a handler sets itself stays: pages bring a policy of their own.
  overwrite: false,
  contentSecurityPolicy: { defaultSrc: ["'none'"], sandbox: [] },
  referrerPolicy: "same-origin",
  xFrameOptions: "DENY",
  // A proxy with TLS says it for its own name; this speaks plain HTTP.
  strictTransportSecurity: false,
  // For software that is long gone.
  xDownloadOptions: false,
  xPermittedCrossDomainPolicies: false,
  xXssProtection: false,
});
