/**
 * Who may ask at all: looks at a request's head before any handler does.
 */
import { isLoopback } from "../util/loopback.ts";

export interface GateOptions {
  readonly listen: { readonly hostname: string };
  /** URL of the page as people have it; its host is accepted on a loopback address too. */
  readonly publicUrl?: string;
}

/**
 * Why a request is not answered under its name. A page on loopback is reachable by any site that a browser on this
 * machine visits, once that site's name is made to point here (DNS rebinding): only the names of loopback and that of
 * STATUS_URL are answered then.
 */
export function hostRefusal({ listen, publicUrl }: GateOptions, request: Request): string | undefined {
  if (!isLoopback(listen.hostname)) return undefined;
  const { hostname, host } = new URL(request.url);
  if (isLoopback(hostname)) return undefined;
  if (publicUrl !== undefined && URL.parse(publicUrl)?.host === host) return undefined;
  return `Not answered under the name ${host}: set STATUS_URL to the page's URL if a proxy serves it\n`;
}
