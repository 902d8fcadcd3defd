/**
 * What a row may name: Secrets, claims, accounts, images and their like, by the lists of the policy. Whoever edits the
 * table must not gain what the operator has not allowed, for a pod can read what it can name. Pure.
 */
import type { Row, Template } from "../ports.ts";
import { cut } from "./problem.ts";

/** Lists of names with globs (`*`: any text). */
export interface AllowLists {
  /** Absent: none. Of pull secrets too. */
  readonly secrets?: readonly string[];
  readonly configMaps?: readonly string[];
  readonly claims?: readonly string[];
  /** Absent: none. */
  readonly serviceAccounts?: readonly string[];
  readonly priorityClasses?: readonly string[];
  readonly queues?: readonly string[];
  /** Beginnings of image references, up to a `/`, `:` or `@`. */
  readonly images?: readonly string[];
  /** Beginnings of `output`. Absent: none. */
  readonly outputPrefixes?: readonly string[];
  readonly runtimeClasses?: readonly string[];
  readonly podTemplates?: readonly string[];
  /** Absent: a row may not say that it runs as user or group 0. */
  readonly runAsRoot?: boolean;
}

/** Key of a list in the policy file. */
type ListName = Exclude<keyof AllowLists, "runAsRoot">;

/** Lists that allow nothing where they are not there. */
const NONE_WITHOUT: ReadonlySet<ListName> = new Set(["secrets", "serviceAccounts", "outputPrefixes"]);

/** Fields of a row that may name something, beside its image. */
const FIELDS = [
  "env",
  "mounts",
  "imagePullSecret",
  "labels",
  "serviceAccount",
  "priorityClass",
  "queue",
  "runtimeClass",
  "podTemplate",
  "output",
  "runAs",
] as const satisfies readonly (keyof Row)[];

/** Something that a row names and a list must allow. */
interface Claim {
  readonly list: ListName;
  readonly column: string;
  readonly name: string;
  readonly what: string;
  /** A placeholder follows the name, so it may go on in any way. */
  readonly isOpen?: boolean;
}

/** What the lists do not allow: column, value and a clause that says which line to add. `file`: where. */
export function findForbidden(
  lists: AllowLists,
  row: Row,
  file: string,
): { readonly column: string; readonly value: string; readonly message: string }[] {
  // Most rows name nothing but their image.
  if (lists.images === undefined && FIELDS.every((field) => row[field] === undefined)) return [];
  const found = [...allClaims(row)].filter((claim) => !isAllowed(lists, claim)).map(({ list, column, name, what }) => {
    const key = list.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    const line = lists[list] === undefined ? `add the line ${key}: [${name}]` : `add ${name} to the list ${key}`;
    return { column, value: cut(name), message: `${what} "${cut(name)}" is not allowed; ${line} in ${file}` };
  });
  if (row.runAs && (row.runAs.user === 0 || row.runAs.group === 0) && !lists.runAsRoot) {
    const value = [row.runAs.user, row.runAs.group].filter((id) => id !== undefined).join(":");
    const message = `user and group 0 are not allowed; add the line run_as_root: true in ${file}`;
    found.push({ column: "run_as", value, message });
  }
  return found;
}

function* allClaims(row: Row): Generator<Claim> {
  yield { list: "images", column: "image", name: row.image, what: "the image" };
  for (const entry of row.env ?? []) {
    const from = entry.from === "all" ? entry.kind : entry.from;
    if (from === "secret") yield { ...SECRET, column: "env", name: objectOf(entry) };
    if (from === "config") yield { ...CONFIG, column: "env", name: objectOf(entry) };
  }
  for (const mount of row.mounts ?? []) {
    if (mount.from === "secret") yield { ...SECRET, column: "mounts", name: mount.object };
    if (mount.from === "config") yield { ...CONFIG, column: "mounts", name: mount.object };
    if (mount.from === "pvc") yield { list: "claims", column: "mounts", name: mount.object, what: "the claim" };
  }
  for (const name of row.imagePullSecret ?? []) yield { ...SECRET, column: "image_pull_secret", name };
  for (const { key, value } of row.labels ?? []) {
    // Kueue takes the priority from this label.
    if (key !== "kueue.x-k8s.io/priority-class") continue;
    yield { list: "priorityClasses", column: "labels", name: literal(value), what: "the priority class" };
  }
  const { serviceAccount, priorityClass, queue, runtimeClass, podTemplate, output } = row;
  if (output !== undefined) {
    const isOpen = output.some((piece) => typeof piece !== "string");
    yield {
      list: "outputPrefixes",
      column: "output",
      name: literal(output),
      what: "an output that begins with",
      isOpen,
    };
  }
  const named: readonly (readonly [ListName, string, string | undefined, string])[] = [
    ["serviceAccounts", "service_account", serviceAccount, "the service account"],
    ["priorityClasses", "priority_class", priorityClass, "the priority class"],
    ["queues", "queue", queue, "the queue"],
    ["runtimeClasses", "runtime_class", runtimeClass, "the runtime class"],
    ["podTemplates", "pod_template", podTemplate, "the pod template"],
  ];
  for (const [list, column, name, what] of named) {
    if (name !== undefined) yield { list, column, name, what };
  }
}

const SECRET = { list: "secrets", what: "the secret" } as const;
const CONFIG = { list: "configMaps", what: "the config map" } as const;

function objectOf(entry: NonNullable<Row["env"]>[number]): string {
  return "object" in entry ? entry.object : "";
}

/** The text before the first placeholder: what follows may be anything. */
function literal(template: Template): string {
  const end = template.findIndex((piece) => typeof piece !== "string");
  return template.slice(0, end === -1 ? undefined : end).join("");
}

function isAllowed(lists: AllowLists, { list, name, isOpen = false }: Claim): boolean {
  const allowed = lists[list];
  if (allowed === undefined) return !NONE_WITHOUT.has(list);
  if (list === "images") return allowed.some((entry) => startsAt(wholeImage(entry), wholeImage(name), /[/:@]/));
  if (list === "outputPrefixes") return allowed.some((entry) => startsAt(entry, isOpen ? `${name}{` : name, /\//));
  return allowed.some((entry) => fits(entry, name));
}

/** `busybox` is docker.io/library/busybox, `lab/x` docker.io/lab/x. */
function wholeImage(image: string): string {
  const slash = image.indexOf("/");
  if (slash === -1) return image === "*" ? image : `docker.io/library/${image}`;
  const host = image.slice(0, slash);
  return /[.:*]/.test(host) || host === "localhost" ? image : `docker.io/${image}`;
}

/** Whether `text` begins with `prefix` and a part of it ends there: docker.io/lab does not allow docker.io/lab-x. */
function startsAt(prefix: string, text: string, end: RegExp): boolean {
  if (prefix.includes("*")) return fits(prefix, text) || fits(`${prefix}*`, text) && /[/*]$/.test(prefix);
  if (!text.startsWith(prefix)) return false;
  return text.length === prefix.length || end.test(prefix.at(-1) ?? "") || end.test(text.charAt(prefix.length));
}

/** Whether the whole text fits a glob in which `*` stands for any text. Linear: the leftmost fit of each part is taken. */
function fits(glob: string, text: string): boolean {
  const [first = "", ...rest] = glob.split("*");
  const last = rest.pop();
  if (last === undefined) return text === glob;
  if (!text.startsWith(first)) return false;
  let at = first.length;
  for (const part of rest) {
    const found = text.indexOf(part, at);
    if (found === -1) return false;
    at = found + part.length;
  }
  return text.length - at >= last.length && text.endsWith(last);
}
