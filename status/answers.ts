/**
 * Answers of HTTP that all handlers share: pages with their policy, and the headers that every answer bears.
 */
import type { Context } from "hono";
import { secureHeaders } from "hono/secure-headers";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { contentSecurityPolicy } from "./pages/assets.ts";

/** A page, with the policy that its own script and style need. */
export function answerPage(c: Context, text: string, status: ContentfulStatusCode = 200): Response {
  return c.html(text, status, { "content-security-policy": contentSecurityPolicy() });
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
