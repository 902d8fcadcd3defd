/**
 * The operator's pod templates as they stand in POD_TEMPLATES, a YAML file or a folder of such: reads them again when they
 * have changed, and says why a row cannot use one. What a template may hold is pod_templates.ts.
 */
import type { Row } from "../ports.ts";
import { CONTAINER_NAME } from "../run_spec.ts";
import { errorMessage } from "../util/errors.ts";
import { readAtMost } from "../util/streams.ts";
import { DEFAULT_TEMPLATE, MAX_TEMPLATE_BYTES, parsePodTemplates, type PodTemplates } from "./pod_templates.ts";
import type { JsonMap } from "./strategic_merge.ts";

/** Files of a folder that are read. */
const MAX_FILES = 100;

const NO_TEMPLATES: PodTemplates = { byName: new Map(), faults: [] };

/** Templates that a row is laid over, `default` first; or why it cannot be, a sentence. */
export function templatesFor(
  row: Pick<Row, "podTemplate" | "command" | "args">,
  { byName, faults }: PodTemplates,
): readonly JsonMap[] | { readonly fault: string } {
  const names = [...new Set([DEFAULT_TEMPLATE, row.podTemplate ?? DEFAULT_TEMPLATE])];
  const found: JsonMap[] = [];
  for (const name of names) {
    const one = byName.get(name);
    if (one && "fault" in one) return { fault: `the pod template "${name}" cannot be used: ${one.fault}` };
    if (one) found.push(one.template);
    // It may stand in what could not be read.
    else if (faults.length > 0) return { fault: `${faults[0]}; it may hold the pod template "${name}"` };
    else if (name === row.podTemplate) {
      const known = [...byName.keys()].slice(0, 10).join(", ");
      return { fault: `there is no pod template "${name}"; ${known ? `there are ${known}` : "see POD_TEMPLATES"}` };
    }
  }
  if (row.command === undefined && row.args !== undefined && found.some(hasCommand)) {
    return {
      fault: "the pod template has a command of its own, for which args are not checked; write both into the row",
    };
  }
  return found;
}

function hasCommand({ spec }: JsonMap): boolean {
  const { containers = [] } = spec as { containers?: { name?: string; command?: unknown }[] };
  return containers.some(({ name, command }) => name === CONTAINER_NAME && command !== undefined);
}

export class TemplateFiles {
  readonly #path: string | undefined;
  readonly #allowPrivileged: boolean;
  #texts: string | undefined;
  #current = NO_TEMPLATES;

  /** Reads nothing before `refresh`. `path`: of a file or folder; undefined: there are none. */
  constructor(path: string | undefined, { allowPrivileged }: { readonly allowPrivileged: boolean }) {
    this.#path = path;
    this.#allowPrivileged = allowPrivileged;
  }

  /** As they were last read. */
  get current(): PodTemplates {
    return this.#current;
  }

  /** Reads them; whether they have changed. Never rejects: what cannot be read is a fault of the rows that need it. */
  async refresh(): Promise<boolean> {
    if (this.#path === undefined) return false;
    let files: Record<string, string> = {};
    let fault: string | undefined;
    try {
      files = await readFiles(this.#path);
    } catch (error) {
      fault = `Cannot read POD_TEMPLATES ${this.#path}: ${errorMessage(error)}`;
    }
    const texts = JSON.stringify([files, fault]);
    if (texts === this.#texts) return false;
    this.#texts = texts;
    this.#current = fault === undefined
      ? parsePodTemplates(files, { allowPrivileged: this.#allowPrivileged })
      : { byName: new Map(), faults: [fault] };
    return true;
  }

  /** Why a row cannot run, a sentence; undefined: it can. */
  faultOf(row: Row): string | undefined {
    const found = templatesFor(row, this.#current);
    return "fault" in found ? found.fault : undefined;
  }
}

/** By name, in the order of names. Links are followed: Kubernetes mounts ConfigMaps by them. */
async function readFiles(path: string): Promise<Record<string, string>> {
  if ((await Deno.stat(path)).isFile) return { [path]: await readText(path) };
  const names: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(path)) {
    if (!isDirectory && /^[^.].*\.ya?ml$/.test(name)) names.push(name);
    if (names.length > MAX_FILES) throw new RangeError(`it has more than ${MAX_FILES} files`);
  }
  const texts = await Promise.all(names.sort().map(async (name) => [name, await readText(`${path}/${name}`)] as const));
  return Object.fromEntries(texts);
}

async function readText(path: string): Promise<string> {
  if (!(await Deno.stat(path)).isFile) throw new TypeError(`${path} is no file`);
  return new TextDecoder().decode(await readAtMost((await Deno.open(path)).readable, MAX_TEMPLATE_BYTES));
}
