/**
 * Conditions of rows (the column `when`), in CEL (https://cel.dev) over what a message says. Compiles and evaluates;
 * must not know rows nor where the values come from. Imported only where a table has conditions: the library takes
 * 160 ms to load.
 *
 * A condition is logic (`&&`, `||`, `!`, `?:`) over single tests. A test that cannot be made, since a field is missing
 * or of another type, is false. Macros that loop are refused, so that the work is bounded by the condition's own length;
 * `matches` is RE2's, which takes linear time.
 */
import { celEnv, type CelInput, parse, plan } from "@bufbuild/cel";

import { nearest } from "../util/nearest.ts";
import { safeWords } from "../util/errors.ts";

/** What a condition may look at. Numbers of JSON that are whole are CEL's int, others double. */
export interface ConditionValues {
  /** The payload as parsed JSON, else as text. */
  readonly payload?: unknown;
  readonly topic: string;
  /** The payload that began the chain, parsed likewise. */
  readonly input?: unknown;
  readonly item?: unknown;
  /** The result of the run whose end the message is. */
  readonly result?: unknown;
}

export interface Verdict {
  readonly passed: boolean;
  /** The fields that the condition looks at with their values, for people: `payload.size is 12, payload.kind is missing`. */
  readonly because: string;
}

export interface Condition {
  readonly text: string;
  /** It is to be asked for each item of a row with `for_each`. */
  readonly looksAtItem: boolean;
  evaluate(values: ConditionValues): Verdict;
}

type Expr = ReturnType<typeof parse>["expr"];

const ROOTS = ["payload", "topic", "input", "item", "result"];
/** Nodes of a condition's tree: far more than anybody writes in a cell. */
const MAX_NODES = 500;
/** Brackets within brackets: the parser calls itself for each. */
const MAX_DEPTH = 32;
/** Fields named in `because`, and characters of each value. */
const MAX_FIELDS = 8;
const MAX_VALUE = 60;
/** Characters of a fault. */
const MAX_FAULT = 200;

type Bindings = Record<string, CelInput>;
/** One test: its value over the bindings, false where it cannot be had. */
type Test = (bindings: Bindings) => boolean;

/** A condition, or what is wrong with it as a clause to follow a colon. */
export function compileCondition(text: string): Condition | { readonly fault: string } {
  if (depthOf(text) > MAX_DEPTH) {
    return { fault: `its brackets are nested more than ${MAX_DEPTH} deep; make it simpler` };
  }
  let expr: Expr;
  try {
    expr = parse(text).expr;
  } catch (error) {
    return {
      fault: `it is not CEL: ${firstLine(error)}; write for instance payload.size > 1000 && payload.kind == "raw"`,
    };
  }
  const nodes = [...walk(expr, MAX_NODES)];
  if (nodes.length > MAX_NODES) return { fault: `it has more than ${MAX_NODES} parts; make it shorter` };
  const fault = nodes.map(faultOf).find((found) => found !== undefined);
  if (fault !== undefined) return { fault };
  const paths = fieldsOf(nodes);
  try {
    const test = logicOf(expr);
    return {
      text,
      looksAtItem: nodes.some(({ exprKind }) => exprKind.case === "identExpr" && exprKind.value.name === "item"),
      evaluate(values) {
        const because = paths.map((path) => `${nameOf(path)} ${said(valueAt(values, path))}`).join(", ");
        return { passed: test(bindingsOf(values)), because };
      },
    };
  } catch (error) {
    return { fault: `it cannot be used: ${firstLine(error)}` };
  }
}

/** Most brackets that are open at a time; those in quotes count too. */
function depthOf(text: string): number {
  let [depth, most] = [0, 0];
  for (const char of text) {
    if ("([{".includes(char)) most = Math.max(most, ++depth);
    else if (")]}".includes(char)) depth--;
  }
  return most;
}

// ---------------------------------------------------------------- logic over tests

function logicOf(expr: Expr): Test {
  if (expr.exprKind.case === "callExpr") {
    const { function: name, args } = expr.exprKind.value;
    const of = (at: number) => logicOf(args[at]!);
    if (name === "_&&_") return both(of(0), of(1));
    if (name === "_||_") return either(of(0), of(1));
    if (name === "!_") return not(of(0));
    if (name === "_?_:_") return choose(of(0), of(1), of(2));
  }
  const evaluate = plan(celEnv(), expr);
  return (bindings) => {
    try {
      // An error is a value too; only true is true.
      return evaluate(bindings) === true;
    } catch {
      return false;
    }
  };
}

const both = (a: Test, b: Test): Test => (bindings) => a(bindings) && b(bindings);
const either = (a: Test, b: Test): Test => (bindings) => a(bindings) || b(bindings);
const not = (a: Test): Test => (bindings) => !a(bindings);
const choose = (a: Test, b: Test, c: Test): Test => (bindings) => a(bindings) ? b(bindings) : c(bindings);

// ---------------------------------------------------------------- the tree

/** The nodes of the tree, the root first; goes on for one beyond `most`. */
function* walk(expr: Expr, most: number): Generator<Expr> {
  const open = [expr];
  for (let node = open.pop(); node !== undefined && most >= 0; node = open.pop(), most--) {
    yield node;
    open.push(...childrenOf(node).reverse());
  }
}

function childrenOf({ exprKind }: Expr): Expr[] {
  switch (exprKind.case) {
    case "selectExpr":
      return exprKind.value.operand ? [exprKind.value.operand] : [];
    case "callExpr":
      return [...exprKind.value.target ? [exprKind.value.target] : [], ...exprKind.value.args];
    case "listExpr":
      return exprKind.value.elements;
    case "structExpr":
      return exprKind.value.entries.flatMap(({ keyKind, value }) => [
        ...(keyKind.case === "mapKey" ? [keyKind.value] : []),
        ...(value ? [value] : []),
      ]);
    default:
      return [];
  }
}

function faultOf({ exprKind }: Expr): string | undefined {
  if (exprKind.case === "comprehensionExpr") {
    return "all, exists, exists_one, map and filter go through lists, which a condition may not; use for_each, or test " +
      "single fields";
  }
  if (exprKind.case !== "identExpr" || ROOTS.includes(exprKind.value.name)) return undefined;
  const { name } = exprKind.value;
  const near = nearest(name, ROOTS);
  return `there is no "${name}"; ` +
    (near === undefined
      ? `write payload.${name} for a field of the payload, or "${name}" for text`
      : `did you mean "${near}"?`);
}

/** Steps from a root to a field: `["payload", "a", 0]`. */
type Path = readonly (string | number)[];

/** The fields that the condition looks at; of `payload.a.b` not `payload.a` besides. */
function fieldsOf(nodes: readonly Expr[]): Path[] {
  const paths = new Map(nodes.flatMap((node) => {
    const path = pathOf(node);
    return path ? [[nameOf(path), path] as const] : [];
  }));
  const isPartOf = (short: Path, long: Path) =>
    short.length < long.length && short.every((step, at) => step === long[at]);
  return [...paths.values()].filter((path, _, all) => !all.some((other) => isPartOf(path, other))).slice(0, MAX_FIELDS);
}

/** undefined: the node is no field, or its steps are known only when it is evaluated. */
function pathOf({ exprKind }: Expr): Path | undefined {
  if (exprKind.case === "identExpr") return [exprKind.value.name];
  if (exprKind.case === "selectExpr") {
    const path = exprKind.value.operand && pathOf(exprKind.value.operand);
    return path && [...path, exprKind.value.field];
  }
  if (exprKind.case !== "callExpr" || exprKind.value.function !== "_[_]") return undefined;
  const [operand, index] = exprKind.value.args;
  const path = pathOf(operand!);
  const constant = index!.exprKind.case === "constExpr" ? index!.exprKind.value.constantKind : undefined;
  if (!path || (constant?.case !== "stringValue" && constant?.case !== "int64Value")) return undefined;
  return [...path, constant.case === "int64Value" ? Number(constant.value) : constant.value];
}

function nameOf([root, ...steps]: Path): string {
  const parts = steps.map((step) => {
    return typeof step === "string" && /^\w+$/.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`;
  });
  return [root, ...parts].join("");
}

function valueAt(values: ConditionValues, path: Path): unknown {
  return path.reduce<unknown>((value, step) => {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, step)) return undefined;
    return (value as Record<string | number, unknown>)[step];
  }, values);
}

// ---------------------------------------------------------------- values

function bindingsOf(values: ConditionValues): Bindings {
  const bindings: Bindings = { topic: values.topic };
  for (const root of ["payload", "input", "item", "result"] as const) {
    bindings[root] = values[root] === undefined ? null : celOf(values[root]);
  }
  return bindings;
}

/** JSON with whole numbers as int; CEL compares int and double with each other. */
function celOf(value: unknown): CelInput {
  if (typeof value === "number") return Number.isSafeInteger(value) ? BigInt(value) : value;
  if (Array.isArray(value)) return value.map(celOf);
  if (typeof value !== "object" || value === null) return value as CelInput;
  return new Map(Object.entries(value).map(([name, one]) => [name, celOf(one)]));
}

function said(value: unknown): string {
  if (value === undefined) return "is missing";
  const text = JSON.stringify(value);
  return `is ${text.length > MAX_VALUE ? `${text.slice(0, MAX_VALUE).toWellFormed()}…` : text}`;
}

function firstLine(error: unknown): string {
  return safeWords((error instanceof Error ? error.message : String(error)).split("\n", 1)[0]!, MAX_FAULT);
}
