/**
 * What the forms that act are made of: the form itself, for who has signed in, or the way to sign in; and fields that
 * keep what was typed and say what is wrong with it. Pure functions of their input and of the visitor.
 */
import type { Child } from "hono/jsx";
import type { Fields } from "../forms.ts";
import { short } from "./parts.tsx";
import { signInHref, theVisitor } from "./visitor.ts";

/** Why it was not done. */
export interface FormFault {
  /** The field that must be mended; absent: none alone. */
  readonly field?: string;
  readonly message: string;
}

/** How a form is shown again that was sent and refused. */
export interface Resent {
  readonly fields?: Fields | undefined;
  readonly fault?: FormFault | undefined;
  /** Who sent it has not signed in (any more): it is sent again with the token, and nothing that was typed is lost. */
  readonly withToken?: boolean | undefined;
}

/** Whether forms are shown to who looks at the page. */
export function isSignedIn(): boolean {
  return theVisitor().mayAct === "yes";
}

export interface ActionFormInput extends Resent {
  readonly action: string;
  /** What it is for, after "Sign in to": `run this row`. */
  readonly what: string;
  /** Name for those who do not see it. */
  readonly label: string;
  readonly buttons: Child;
  readonly children?: Child;
  /** Its parts stand one below the other. */
  readonly tall?: boolean | undefined;
}

/** A form that acts; for who has not signed in, the way there; nothing where nobody may act. */
export function ActionForm({ action, what, label, buttons, children, withToken, fault, tall }: ActionFormInput) {
  const { mayAct, path } = theVisitor();
  if (mayAct === "never") return null;
  const wantsToken = mayAct !== "yes" && withToken === true;
  if (mayAct !== "yes" && !wantsToken) {
    return (
      <p class="sign-in">
        <a href={signInHref(path)}>Sign in to {what}</a>
      </p>
    );
  }
  return (
    <form method="post" action={action} aria-label={label} class={tall ? "tall" : undefined}>
      {children}
      {wantsToken && (
        <>
          <TokenField id="again-token" fault={fault} />
          <input type="hidden" name="sign_in" value="yes" />
        </>
      )}
      <div class="buttons">{buttons}</div>
    </form>
  );
}

/** A label, its field, and what is wrong with what stands in it. */
export function Field(
  { id, name, label, fault, children }: {
    id: string;
    name: string;
    label: string;
    fault?: FormFault | undefined;
    children: Child;
  },
) {
  return (
    <div>
      <label for={id}>{label}</label>
      {children}
      {fault?.field === name && <p id={`${id}-fault`} class="fault" role="alert">{short(fault.message, 1_000)}</p>}
    </div>
  );
}

/** Where the token is written, by hand or by the browser. */
export function TokenField(
  { id, fault, autofocus }: { id: string; fault: FormFault | undefined; autofocus?: boolean },
) {
  return (
    <Field id={id} name="token" label="Token" fault={fault}>
      <input
        id={id}
        name="token"
        type="password"
        required
        autofocus={autofocus}
        autocomplete="current-password"
        {...faultMarks(id, "token", fault)}
      />
    </Field>
  );
}

/** What the field itself says of a fault of its own. */
export function faultMarks(id: string, name: string, fault: FormFault | undefined): Record<string, string> {
  return fault?.field === name ? { "aria-invalid": "true", "aria-describedby": `${id}-fault` } : {};
}
