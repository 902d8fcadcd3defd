/**
 * The page `/sign-in`. A pure function of its input and of the visitor.
 */
import type { Page } from "../answers.ts";
import { SESSION_MS } from "../session.ts";
import { type FormFault, TokenField } from "./forms.tsx";
import { frame, short } from "./parts.tsx";
import { theVisitor } from "./visitor.ts";

const HOUR_MS = 3600_000;

export interface SignInInput {
  /** Path that one is led to afterwards. */
  readonly next: string;
  /** What was wrong with the token. */
  readonly fault?: FormFault;
  /** The page as it must be asked for, where the browser would not keep the session of this address. */
  readonly elsewhere?: string;
}

/** Asks for the token; or says that there is none. */
export function signInPage({ next, fault, elsewhere }: SignInInput): Page {
  const html = () => {
    const { mayAct } = theVisitor();
    return frame({
      title: "Sign in",
      heading: "Sign in",
      children: (
        <section aria-label="Sign in" class="act">
          {mayAct === "never"
            ? <p>This page is read-only: whoever runs the service sets STATUS_TOKEN to act by it.</p>
            : (
              <>
                {elsewhere !== undefined && (
                  <p class="warn">
                    Browsers keep a sign-in by https only: open <a href={elsewhere}>{short(elsewhere)}</a>
                  </p>
                )}
                <p>
                  Who has the token may run rows, cancel runs and run them again. It is asked for once in{" "}
                  {SESSION_MS / HOUR_MS} hours.
                </p>
                {fault && fault.field === undefined && <p class="fault" role="alert">{short(fault.message)}</p>}
                <form method="post" action="/sign-in" aria-label="Sign in">
                  <input type="hidden" name="next" value={next} />
                  <TokenField id="sign-in-token" fault={fault} autofocus />
                  <div class="buttons">
                    <button type="submit" class="main">Sign in</button>
                  </div>
                </form>
              </>
            )}
        </section>
      ),
    });
  };
  return { data: { signed_in: false, ...(fault ? { error: fault.message } : {}) }, html };
}
