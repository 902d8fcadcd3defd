/**
 * What the frame of all pages says of who looks at them, and of what they have just done. Pure functions of the visitor.
 */
import { signInHref, theVisitor } from "./visitor.ts";

/** In the frame: who is signed in and how to sign out, or how to sign in. */
export function Who() {
  const { mayAct, name, path } = theVisitor();
  if (mayAct === "never") return <span class="muted">{name === undefined ? "Read-only" : `${name}, read-only`}</span>;
  if (mayAct === "yes") {
    return (
      <form method="post" action="/sign-out" aria-label="Sign out">
        {name === undefined ? <span class="anon">Signed in</span> : <span class="name" title={name}>{name}</span>}
        <button type="submit">Sign out</button>
      </form>
    );
  }
  return (
    <>
      {name !== undefined && <span class="name" title={name}>{name}</span>}
      <a href={signInHref(path.startsWith("/sign-") ? "/" : path)}>Sign in</a>
    </>
  );
}

/** What a page's address may say was done; nothing else is shown of it. */
const DONE: Readonly<Record<string, string>> = {
  run: "The run was started; this is it.",
  rerun: "It was run again; this is the new run.",
  cancel: "The run is being cancelled.",
  "sign-out": "You are signed out.",
};

/** In the frame: what was just done. It stays until one leaves the page. */
export function Done() {
  const { done } = theVisitor();
  const words = done !== undefined && Object.hasOwn(DONE, done) ? DONE[done] : undefined;
  return words === undefined ? null : <p id="done" class="done" role="status">{words}</p>;
}
