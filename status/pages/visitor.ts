/**
 * Who looks at a page, as each part of it may ask. A page is made for one visitor at a time and in one go, so this
 * stands beside what pages are given, as a context of components does: no page has to hand it on.
 */

export interface Visitor {
  /** `never`: the page is read-only, for no token is set. */
  readonly mayAct: "never" | "after sign-in" | "yes";
  /** As a trusted proxy names them. */
  readonly name?: string;
  /** Path and query of the page, where sign-in leads back to. */
  readonly path: string;
  /** What has just been done, by its word in the page's address. */
  readonly done?: string;
}

const STRANGER: Visitor = { mayAct: "after sign-in", path: "/" };

let current = STRANGER;

/** Makes a page for that visitor. */
export function renderFor<T>(visitor: Visitor, make: () => T): T {
  const before = current;
  current = visitor;
  try {
    return make();
  } finally {
    current = before;
  }
}

/** Whom the page is being made for. */
export function theVisitor(): Visitor {
  return current;
}

/** Where one signs in to come back to the page. */
export function signInHref(path: string): string {
  return path === "/" ? "/sign-in" : `/sign-in?next=${encodeURIComponent(path)}`;
}
