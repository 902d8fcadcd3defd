/**
 * What a cell can be: each kind reads the text of a cell and says what it may hold, for people and as JSON Schema.
 * Pure. A kind knows one cell only; what cells of a row must be together is row.ts.
 */
import { parseResource } from "./cells/resources.ts";
import { topicDoubt } from "./cells/topic.ts";
import { imageFault } from "./cells/image.ts";
import { commandDoubts, commandFault } from "./cells/command_doubts.ts";
import { parseCommand } from "./cells/command.ts";
import type { Enabled, RunAs } from "../ports.ts";
import { MAX_JOB_NAME } from "../run_spec.ts";
import { filterFault } from "../topics.ts";
import { compact } from "../util/compact.ts";
import { quantityAdvice, quantityValue, type Resource } from "../util/quantities.ts";

/** Takes what is wrong with a cell, as a clause to follow column and value: what is wrong, and what would be right. */
export interface Report {
  /** The row is left out. */
  error(message: string): void;
  warn(message: string): void;
}

/** Fields of a row that a cell fills besides its column's own. */
export interface FurtherFields {
  gpuResource?: string;
  memoryLimits?: readonly string[];
  memoryRequests?: readonly string[];
}

export interface Kind<T = unknown> {
  /**
   * The value of a cell that is not empty and has no blanks around it. undefined: none is set, or the cell is wrong;
   * then it was reported. `row`: for a further field that the same cell fills.
   */
  read(text: string, report: Report, row: FurtherFields): T | undefined;
  /** JSON Schema of the cell, without its description and examples. */
  readonly schema: Readonly<Record<string, unknown>>;
  /** Line breaks may stand in the cell. */
  readonly hasLines?: true;
}

/** Kubernetes' own bounds: int32, maxParallelismForIndexedJob. */
export const MAX_INT32 = 2_147_483_647;
export const MAX_PARALLELISM = 100_000;

export const jobName: Kind<string> = {
  schema: { type: "string", minLength: 1, maxLength: MAX_JOB_NAME, pattern: "^[^/+#\\u0000-\\u001f\\u007f]+$" },
  read(name, report) {
    const odd = /[/+#]/.exec(name);
    if (odd) {
      report.error(`a name cannot hold "${odd[0]}", for it becomes one level of an MQTT topic; write "-" instead`);
    } else if (name.length > MAX_JOB_NAME) {
      report.error(`the name has ${name.length} characters, ${MAX_JOB_NAME} are allowed`);
    } else {
      if (/^["'\u201c\u2018\u00ab]/.test(name)) {
        report.warn("the quote is part of the name; take it away if that is not meant");
      }
      return name;
    }
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
    const doubt = topic === "#" || topic === "+/#"
      ? "every message of the broker starts this row; name the topic if that is not meant"
      : topicDoubt(topic);
    if (doubt !== undefined) report.warn(doubt);
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
    const fault = commandFault(text) ?? ("fault" in parsed ? parsed.fault : undefined);
    if (fault !== undefined || "fault" in parsed) {
      report.error(`not a command: ${fault}`);
      return undefined;
    }
    for (const doubt of commandDoubts(parsed)) report.warn(doubt);
    return parsed.words.length === 0 ? undefined : parsed.words;
  },
};

/** A whole number; `empty`: what an empty cell stands for. */
export function count(least: number, most: number, empty = "none"): Kind<number> {
  const range = most === MAX_INT32 ? `of at least ${least}` : `from ${least} to ${most}`;
  return {
    schema: { type: ["integer", "string"], minimum: least, maximum: most, pattern: "^[0-9]*$" },
    read(text, report) {
      // Programs that keep empty cells as not-a-number write whole numbers as 1.0.
      const value = /^\d{1,15}(\.0{0,2})?$/.test(text) ? Number(text) : NaN;
      if (value >= least && value <= most) return value;
      report.error(`not a whole number ${range}; ${countAdvice(text) ?? `leave the cell empty for ${empty}`}`);
      return undefined;
    },
  };
}

/** What was meant by a number with marks of thousands or in another notation. */
function countAdvice(text: string): string | undefined {
  if (text.length > 40) return undefined;
  // 1.000 is one to some and a thousand to others.
  if (/^\d{1,3}\.000$/.test(text)) return `write ${Number.parseInt(text)} or ${text.replace(".", "")}`;
  if (/^\d{1,3}([.,'\u2019_ \u00a0\u202f]\d{3})+$/.test(text)) return `write ${text.replace(/\D/g, "")}`;
  if (/^\d{1,15},0+$/.test(text)) return `write ${text.split(",")[0]}`;
  const number = /^\d{1,3}(\.\d{1,6})?[eE]\+?\d{1,2}$/.test(text) ? Number(text) : NaN;
  return Number.isSafeInteger(number) ? `write ${number}` : undefined;
}

const WHOLE = count(0, MAX_INT32);

/** Seconds; 0 is none. */
export const seconds: Kind<number> = {
  ...WHOLE,
  read: (text, report, row) => WHOLE.read(text, report, row) || undefined,
};

/** Pattern of a quantity, for JSON Schema. */
export const QUANTITY = "[+]?([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]{1,3})?";

/** A Kubernetes quantity, as it was written; 0 is none. */
export function quantity(resource: Resource): Kind<string> {
  return {
    schema: { type: "string", pattern: `^$|^${QUANTITY}$` },
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
  const grouped = /^(\d{1,3})\.(000)([A-Za-z]*)$/.exec(text);
  if (grouped) {
    const [, whole = "", zeros = "", unit = ""] = grouped;
    report.warn(`${text} is ${whole}${unit}, not ${whole}${zeros}${unit}; write the one that is meant`);
  } else if (resource === "cpu") {
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

const PRODUCT = /^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;

/** GPU models, any of which is right: values of a node label. */
export const gpuProducts: Kind<readonly string[]> = {
  schema: { type: "string", pattern: "^$|^[A-Za-z0-9]([A-Za-z0-9 ,;._-]*[A-Za-z0-9])?$" },
  read(text, report) {
    const products = text.split(/[;,]/).map((product) => product.trim()).filter((product) => product !== "");
    for (const product of products) {
      if (PRODUCT.test(product)) continue;
      const plain = product.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 63);
      const hint = plain === "" ? "write it as the node label has it" : `write "${plain.replace(/[^A-Za-z0-9]$/, "")}"`;
      report.error(`not a value of the node label nvidia.com/gpu.product; ${hint}`);
      return undefined;
    }
    return products;
  },
};

/** A number of GPUs, or another resource with its number: `nvidia.com/mig-1g.10gb=1`. */
export const gpu: Kind<number> = {
  schema: {
    type: ["integer", "string"],
    minimum: 0,
    maximum: MAX_INT32,
    pattern: "^[0-9]*$|^[a-z0-9.-]+/[A-Za-z0-9._-]+=[0-9]+$",
  },
  read(text, report, row) {
    if (!text.includes("=")) return WHOLE.read(text, report, row);
    const found = parseResource(text);
    if ("fault" in found) {
      report.error(`the resource cannot be used: ${found.fault}`);
      return undefined;
    }
    if (!/^[1-9]\d{0,8}$/.test(found.quantity)) {
      report.error(`not a whole number of GPUs; write ${found.name}=1`);
      return undefined;
    }
    if (found.name !== "nvidia.com/gpu") row.gpuResource = found.name;
    return Number(found.quantity);
  },
};

/** One of some words, whatever their case. */
export function choice<const T extends string>(...choices: readonly T[]): Kind<T> {
  return {
    schema: { type: "string", enum: ["", ...choices] },
    read(text, report) {
      const found = choices.find((one) => one.toLowerCase() === text.toLowerCase());
      if (found === undefined) report.error(`write ${choices.slice(0, -1).join(", ")} or ${choices.at(-1)}`);
      return found;
    },
  };
}

function yesNo(text: string): boolean | undefined {
  if (/^(yes|true|on|1|y)$/i.test(text)) return true;
  return /^(no|false|off|0|n)$/i.test(text) ? false : undefined;
}

export const flag: Kind<boolean> = {
  schema: { type: ["boolean", "string"], pattern: "^(|[yY]es|[nN]o|true|True|false|False|on|off|0|1)$" },
  read(text, report) {
    const value = yesNo(text);
    if (value === undefined) report.error("write yes or no");
    return value;
  },
};

export const enabled: Kind<Enabled> = {
  schema: { type: ["boolean", "string"], pattern: "^(|[yY]es|[nN]o|[pP]aused|true|True|false|False|on|off|0|1)$" },
  read(text, report) {
    if (/^paused?$/i.test(text)) return "paused";
    const value = yesNo(text);
    if (value === undefined) report.error("write yes, no or paused");
    return value === undefined ? undefined : value ? "yes" : "no";
  },
};

/** A note for people, of at most 200 characters. */
export const note: Kind<string> = {
  schema: { type: "string", maxLength: 200 },
  read(text, report) {
    if (text.length <= 200) return text;
    report.error(`the cell has ${text.length} characters, 200 are allowed`);
    return undefined;
  },
};

export const runAs: Kind<RunAs> = {
  schema: { type: ["integer", "string"], pattern: "^$|^[0-9]+(:[0-9]+)?$" },
  read(text, report) {
    const match = /^(\d{1,10})(?::(\d{1,10}))?$/.exec(text);
    const [user, group] = [Number(match?.[1]), match?.[2] === undefined ? undefined : Number(match[2])];
    if (match && user <= MAX_INT32 && (group ?? 0) <= MAX_INT32) {
      return { user, ...compact({ group }) };
    }
    report.error("write the numbers of user and group, such as 1000 or 1000:100; the node does not know their names");
    return undefined;
  },
};

/** Longest condition, in characters: it is evaluated for each message. */
const MAX_WHEN = 2_000;

/** A condition in CEL, its typographic quotes made plain. That it can be evaluated is not checked here. */
export const when: Kind<string> = {
  schema: { type: "string", maxLength: MAX_WHEN },
  hasLines: true,
  read(text, report) {
    if (text.length <= MAX_WHEN) {
      return text.replace(/[\u201c\u201d\u201e\u00ab\u00bb]/g, '"').replace(/[\u2018\u2019\u201a]/g, "'");
    }
    report.error(`the condition has ${text.length} characters, ${MAX_WHEN} are allowed`);
    return undefined;
  },
};
