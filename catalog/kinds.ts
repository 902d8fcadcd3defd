/**
 * What a cell can be: each kind reads the text of a cell and says what it may hold, for people and as JSON Schema.
 * Pure. A kind knows one cell only; what cells of a row must be together is row.ts.
 */
import { imageFault } from "./cells/image.ts";
import { parseCommand } from "./cells/command.ts";
import { cut } from "./problem.ts";
import { filterFault } from "../topics.ts";
import { quantityAdvice, quantityValue, type Resource } from "../util/quantities.ts";

/** Takes what is wrong with a cell, as a clause to follow column and value: what is wrong, and what would be right. */
export interface Report {
  /** The row is left out. */
  error(message: string): void;
  warn(message: string): void;
}

export interface Kind<T = unknown> {
  /**
   * The value of a cell that is not empty and has no blanks around it. undefined: none is set, or the cell is wrong;
   * then it was reported.
   */
  read(text: string, report: Report): T | undefined;
  /** JSON Schema of the cell, without its description and examples. */
  readonly schema: Readonly<Record<string, unknown>>;
  /** Line breaks may stand in the cell. */
  readonly hasLines?: true;
}

/** Kubernetes' own bounds: int32, maxParallelismForIndexedJob. */
export const MAX_INT32 = 2_147_483_647;
export const MAX_PARALLELISM = 100_000;

const MAX_NAME = 200;

export const jobName: Kind<string> = {
  schema: { type: "string", minLength: 1, maxLength: MAX_NAME, pattern: "^[^/+#\\u0000-\\u001f\\u007f]+$" },
  hasLines: true,
  read(name, report) {
    // deno-lint-ignore no-control-regex
    const odd = /[/+#\0-\x1f\x7f]/.exec(name);
    if (odd) {
      const what = /[/+#]/.test(odd[0]) ? `"${odd[0]}"` : odd[0] === "\n" ? "a line break" : "a control character";
      report.error(`a name cannot hold ${what}, for it becomes one level of an MQTT topic; write "-" instead`);
    } else if (name.length > MAX_NAME) {
      report.error(`the name has ${name.length} characters, ${MAX_NAME} are allowed`);
    } else return name;
    return undefined;
  },
};

export const topicFilter: Kind<string> = {
  schema: { type: "string", minLength: 1 },
  read(topic, report) {
    const fault = filterFault(topic);
    if (fault !== undefined) {
      report.error(`not an MQTT topic: ${fault}`);
      return undefined;
    }
    if (topic === "#" || topic === "+/#") {
      report.warn("every message of the broker starts this row; name the topic if that is not meant");
    }
    return topic;
  },
};

export const image: Kind<string> = {
  schema: { type: "string", minLength: 1 },
  read(text, report) {
    const fault = text.length > 1000 ? `it has ${text.length} characters` : imageFault(text);
    if (fault === undefined) return text;
    report.error(`not an image reference: ${fault}`);
    return undefined;
  },
};

export const command: Kind<readonly string[]> = {
  schema: { type: "string" },
  hasLines: true,
  read(text, report) {
    const parsed = parseCommand(text);
    if ("fault" in parsed) {
      report.error(`not a command: ${parsed.fault}`);
      return undefined;
    }
    const [operator] = parsed.operators;
    if (operator !== undefined) {
      report.warn(
        `"${cut(operator)}" is passed on as it is, for no shell runs the command; for a shell write sh -c '…'`,
      );
    }
    return parsed.words.length === 0 ? undefined : parsed.words;
  },
};

/** A whole number; `empty`: what an empty cell stands for. */
export function count(least: number, most: number, empty: "none" | "1" = "none"): Kind<number> {
  const range = most === MAX_INT32 ? `of at least ${least}` : `from ${least} to ${most}`;
  return {
    schema: { type: ["integer", "string"], minimum: least, maximum: most, pattern: "^[0-9]*$" },
    read(text, report) {
      // Programs that keep empty cells as not-a-number write whole numbers as 1.0.
      const value = /^\d+(\.0*)?$/.test(text) ? Number(text) : NaN;
      if (value >= least && value <= most) return value;
      report.error(`not a whole number ${range}; leave the cell empty for ${empty}`);
      return undefined;
    },
  };
}

/** Seconds; 0 is none. */
export const seconds: Kind<number> = {
  ...count(0, MAX_INT32),
  read: (text, report) => count(0, MAX_INT32).read(text, report) || undefined,
};

const QUANTITY = "^$|^[+]?([0-9]+\\.?[0-9]*|\\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]{1,3})?$";

/** A Kubernetes quantity, as it was written; 0 is none. */
export function quantity(resource: Resource): Kind<string> {
  return {
    schema: { type: "string", pattern: QUANTITY },
    read(text, report) {
      const value = cachedValue(text);
      if (value === 0) return undefined;
      if (value === undefined || value < 0) {
        report.error(`not a Kubernetes quantity: ${quantityAdvice(text, resource)}`);
      } else if (!(value < 2 ** 63)) report.error("more than Kubernetes can count; write less");
      else {
        warnOfOddSize(text, value, resource, report);
        return text;
      }
      return undefined;
    },
  };
}

function warnOfOddSize(text: string, value: number, resource: Resource, report: Report): void {
  if (resource === "cpu") {
    if (value >= 1000) report.warn(`${value} cores; thousandths of a core are written "500m"`);
  } else if (value < 2 ** 20) {
    const number = /^[\d.]+/.exec(text)?.[0] ?? "4";
    const unit = text.endsWith("m") ? "Mi" : "Gi";
    report.warn(
      `only ${value} bytes, for a size without Ki, Mi or Gi is bytes; did you mean "${number}${unit}"?`,
    );
  }
}

/** A table of many rows has few different quantities. */
const values = new Map<string, number>();

/** What a quantity is worth, see quantityValue. */
export function cachedValue(text: string): number | undefined {
  const known = values.get(text);
  if (known !== undefined) return known;
  const value = quantityValue(text);
  if (value === undefined) return undefined;
  if (values.size >= 1000) values.clear();
  values.set(text, value);
  return value;
}

export const mountPath: Kind<string> = {
  schema: { type: "string", pattern: "^$|^/[^:]+$" },
  read(path, report) {
    const clean = /\/(\/|$)/.test(path) ? path.replace(/\/+/g, "/").replace(/(.)\/$/, "$1") : path;
    if (!path.startsWith("/")) report.error(`not an absolute path; write "/${path}"`);
    else if (path.includes(":")) report.error(`Kubernetes allows no ":" in the path; take it out`);
    else if (path.split("/").includes("..")) report.error(`the path has ".."; write it without`);
    else if (["/", "/proc", "/sys", "/dev"].includes(clean)) {
      report.error(`nothing can be mounted over ${clean}; use a folder such as /tmp or /data`);
    } else return clean;
    return undefined;
  },
};

export const gpuProduct: Kind<string> = {
  schema: { type: "string", maxLength: 63, pattern: "^$|^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$" },
  read(product, report) {
    if (product.length <= 63 && /^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(product)) return product;
    const plain = product.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, "").slice(0, 63);
    const hint = plain === "" ? "write it as the node label has it" : `write "${plain}"`;
    report.error(`not a value of the node label nvidia.com/gpu.product; ${hint}`);
    return undefined;
  },
};
