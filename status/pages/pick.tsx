/**
 * Picking runs of a list, to cancel or run again several at once: a box at each and the buttons below them, for who has
 * signed in. Pure functions of their input and of the visitor.
 */
import type { Child } from "hono/jsx";
import { isSignedIn } from "./forms.tsx";
import { short } from "./parts.tsx";
import { signInHref, theVisitor } from "./visitor.ts";

/** The box of a run, or of a group, in a list within `PickForm`. */
export function PickBox({ runName }: { runName: string }) {
  if (!isSignedIn()) return null;
  return (
    <label class="pick">
      <input type="checkbox" name="run_name" value={runName} />
      <span class="vh">Pick {short(runName)}</span>
    </label>
  );
}

/** A list of runs with what can be done to those that are picked. `rerun`: some of them have ended. */
export function PickForm({ of, rerun = true, children }: { of: string; rerun?: boolean; children: Child }) {
  const { mayAct, path } = theVisitor();
  if (mayAct === "never") return <div>{children}</div>;
  if (mayAct !== "yes") {
    return (
      <div>
        {children}
        <p class="small">
          <a href={signInHref(path)}>Sign in to {rerun ? "cancel or run again" : "cancel"} several</a>
        </p>
      </div>
    );
  }
  return (
    <form class="picks" method="post" action="/actions/cancel-many" aria-label={`Pick of ${of}`}>
      <input type="hidden" name="do" value="check" />
      {children}
      <p class="line">
        <button type="button" class="pick-all">Pick all shown</button>
        <button type="submit">Cancel picked…</button>
        {rerun && <button type="submit" formaction="/actions/rerun-many">Run picked again…</button>}
      </p>
    </form>
  );
}
