/**
 * What an import has to say of a manifest: what could not be carried, what to look at, what is the service's own affair.
 * Owns the shape and the words around it. Must not show values of variables: they may be secrets. Pure.
 */
import { redact } from "../../util/redact.ts";
import { cut, cutMessage } from "../problem.ts";

/** Something of a manifest that neither row nor template says as it stood there. */
export interface Finding {
  /** `error`: it could not be carried. `warning`: to be looked at before the row is used. `note`: nothing to do. */
  readonly severity: "error" | "warning" | "note";
  /** File, and document where it has several: `jobs.yaml, document 2`. */
  readonly source: string;
  /** Kind and name of the object; absent: it is about the file. */
  readonly object?: string;
  /** Where it stood in the object: `spec.template.spec.hostname`. */
  readonly path?: string;
  /** What stood there, cut and without secrets. */
  readonly value?: string;
  /** Why it is not carried as it is and what to do, as clauses. */
  readonly message: string;
}

/** A finding as one line for people. */
export function describeFinding({ severity, source, object, path, value, message }: Finding): string {
  // Names and keys of a manifest are of any length.
  const where = path === undefined ? undefined : cut(path) + (value === undefined ? "" : ` = ${value}`);
  const place = [cut(source), object === undefined ? undefined : cut(object), where];
  return `${severity}: ${place.filter((part) => part !== undefined).join(", ")}: ${cutMessage(message)}`;
}

const SECRET_NAME =
  /(^|[^A-Za-z])(PASS(W(OR)?D|PHRASE)?|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIALS?|AUTH)([^A-Za-z]|$)/i;

/** Whether a variable or field of that name usually holds a secret. */
export function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name.replace(/([a-z])([A-Z])/g, "$1_$2"));
}

/** The value at a path for people: short, on one line; undefined: it is none of theirs, or has many parts. */
export function shown(path: string, value: unknown): string | undefined {
  if (typeof value === "object" || isSecretName(path) || /annotations|env/i.test(path)) return undefined;
  return cut(redact(String(value)).replaceAll(/\s+/g, " "));
}

/** Says something of a field; `value` is shown, so it must be none of a variable. */
export type ReportFinding = (severity: Finding["severity"], path: string, message: string, value?: unknown) => void;
