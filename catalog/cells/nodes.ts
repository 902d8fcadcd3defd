/**
 * The cells about nodes: `node_selector` and `node_preference` in kubectl's notation for selectors, `tolerations` in that
 * of kubectl taint. Pure.
 */
import type { NodeRule, Toleration } from "../../ports.ts";
import { type Fault, listOf } from "./entries.ts";
import { labelKeyFault, labelValueFault } from "./names.ts";
import { compact } from "../../util/compact.ts";

/** Parts at commas, semicolons and line breaks, but not within `( )`. */
function splitRules(text: string): string[] {
  const rules: string[] = [];
  let [rule, isWithin] = ["", false];
  for (const char of text) {
    if (char === "(") isWithin = true;
    if (char === ")") isWithin = false;
    if (/[,;\n]/.test(char) && !isWithin) {
      rules.push(rule);
      rule = "";
    } else rule += char;
  }
  return [...rules, rule].map((part) => part.trim()).filter((part) => part !== "");
}

export const nodeRules = listOf<NodeRule>(readRule, { split: splitRules });

const NOTATION = "write key=value, key!=value, key in (a,b), key notin (a,b), key, !key or key>11";

function readRule(text: string): NodeRule | Fault {
  const set = /^(\S{1,400}) {1,9}(in|notin) {0,9}\(([^()]{0,4000})\)$/i.exec(text);
  if (set) {
    const [, key = "", word = "", list = ""] = set;
    const values = list.split(",").map((value) => value.trim());
    return checked({ key, operator: word.toLowerCase() === "in" ? "In" : "NotIn", values });
  }
  const compared = /^([^\s=!<>()]{1,400}) {0,9}(==|=|!=|>|<) {0,9}([^\s=!<>()]{0,400})$/.exec(text);
  if (compared) {
    const [, key = "", sign = "", value = ""] = compared;
    const operator = sign === "!=" ? "NotIn" : sign === ">" ? "Gt" : sign === "<" ? "Lt" : "In";
    if (/[<>]/.test(sign) && !/^\d{1,15}$/.test(value)) {
      return { fault: `"${value}" after "${sign}" must be a whole number` };
    }
    return checked({ key, operator, values: [value] });
  }
  const exists = /^(!?) {0,9}([^\s=!<>()]{1,400})$/.exec(text);
  if (exists) {
    if ((exists[2] ?? "").includes(":")) return { fault: `${NOTATION}; "=" stands between key and value` };
    return checked({ key: exists[2] ?? "", operator: exists[1] ? "DoesNotExist" : "Exists", values: [] });
  }
  return { fault: NOTATION };
}

function checked(rule: NodeRule): NodeRule | Fault {
  const values = rule.values.map(labelValueFault).find((fault) => fault !== undefined);
  const fault = labelKeyFault(rule.key) ?? values;
  return fault === undefined ? rule : { fault };
}

/** The rule as a cell has it; "" for an operator that is none. */
export function nodeRuleText({ key, operator, values }: NodeRule): string {
  const [value = ""] = values;
  switch (operator) {
    case "Exists":
      return key;
    case "DoesNotExist":
      return `!${key}`;
    case "Gt":
      return `${key}>${value}`;
    case "Lt":
      return `${key}<${value}`;
    case "In":
      return values.length === 1 ? `${key}=${value}` : `${key} in (${values.join(",")})`;
    case "NotIn":
      return values.length === 1 ? `${key}!=${value}` : `${key} notin (${values.join(",")})`;
    default:
      // No operator of Kubernetes': the text reads back to nothing.
      return "";
  }
}

const EFFECTS = ["NoSchedule", "PreferNoSchedule", "NoExecute"] as const;

export const tolerations = listOf<Toleration>(readToleration, {
  unique: ({ key = "", value = "", effect = "" }) => `${key}=${value}:${effect}`,
  split: (text) => text.split(/[;,\n]/).map((part) => part.trim()).filter((part) => part !== ""),
});

function readToleration(text: string): Toleration | Fault {
  const colon = text.indexOf(":");
  const taint = (colon === -1 ? text : text.slice(0, colon)).trim();
  const word = colon === -1 ? undefined : text.slice(colon + 1).trim();
  const effect = EFFECTS.find((one) => one.toLowerCase() === word?.toLowerCase());
  if (word !== undefined && effect === undefined) {
    return { fault: `"${word}" is no effect; write ${EFFECTS.join(", ")}, or leave it out for all` };
  }
  const withEffect = effect === undefined ? {} : { effect };
  if (taint === "*") return withEffect;
  const equals = taint.indexOf("=");
  const key = equals === -1 ? taint : taint.slice(0, equals).trim();
  const value = equals === -1 ? undefined : taint.slice(equals + 1).trim();
  const fault = labelKeyFault(key) ?? (value === undefined ? undefined : labelValueFault(value));
  if (fault !== undefined) {
    return { fault: key === "" ? 'write key, key=value, key:NoSchedule or "*" for every taint' : fault };
  }
  return { key, ...compact({ value }), ...withEffect };
}
