/**
 * Names as Kubernetes has them: of objects, labels, variables. Pure.
 * https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
 */
import type { Kind } from "../kinds.ts";
import { listOf, shortEntriesOf } from "./entries.ts";

const LABEL = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/;

/** What is wrong with the name of an object (a DNS subdomain) and what would be right; undefined: nothing. */
export function objectNameFault(name: string): string | undefined {
  if (name === "") return "give the object's name";
  if (name.length > 253) return `the name has ${name.length} characters, 253 are allowed`;
  if (name.split(".").every((part) => LABEL.test(part))) return undefined;
  const right = name.toLowerCase().replace(/[^a-z0-9.-]+/g, "-").split(".").map((part) => part.replace(/^-+|-+$/g, ""))
    .filter((part) => part !== "").join(".");
  const hint = right === "" ? "" : `; did you mean "${right}"?`;
  return `a name has a-z, 0-9, "-" and "." only, and begins and ends with a letter or digit${hint}`;
}

/** What is wrong with a key of a Secret or ConfigMap; undefined: nothing. */
export function dataKeyFault(key: string): string | undefined {
  if (/^[-._a-zA-Z0-9]{1,253}$/.test(key) && key !== "." && !key.startsWith("..")) return undefined;
  return `"${key}" is no key of a Secret or ConfigMap; it has letters, digits, "-", "_" and "." only`;
}

const VALUE = /^([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?$/;

/** What is wrong with the value of a label; undefined: nothing. */
export function labelValueFault(value: string): string | undefined {
  if (VALUE.test(value)) return undefined;
  return `"${value}" is no value of a label: at most 63 letters, digits, "-", "_" and ".", the first and the last of ` +
    "them a letter or digit";
}

/** What is wrong with the key of a label, annotation or taint (`app`, `example.org/app`); undefined: nothing. */
export function labelKeyFault(key: string): string | undefined {
  const slash = key.indexOf("/");
  const [prefix, name] = slash === -1 ? [undefined, key] : [key.slice(0, slash), key.slice(slash + 1)];
  if (prefix !== undefined && objectNameFault(prefix) !== undefined) {
    return `"${prefix}" before the "/" must be a domain such as example.org`;
  }
  if (name !== "" && VALUE.test(name)) return undefined;
  return `"${name}" is no key: at most 63 letters, digits, "-", "_" and ".", the first and the last of them a letter ` +
    "or digit";
}

/** The name of an object of the namespace or of the cluster. */
export const objectName: Kind<string> = {
  schema: { type: "string", maxLength: 253, pattern: "^$|^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$" },
  read(name, report) {
    const fault = objectNameFault(name);
    if (fault === undefined) return name;
    report.error(`not a name in Kubernetes: ${fault}`);
    return undefined;
  },
};

/** Names of objects, parted by `;` or `,`. */
export const objectNames: Kind<readonly string[]> = listOf<string>((name) => {
  const fault = objectNameFault(name);
  return fault === undefined ? name : { fault };
}, { split: shortEntriesOf });
