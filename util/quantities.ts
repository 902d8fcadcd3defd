/**
 * Kubernetes quantities ("500m", "8Gi"): their grammar, their size, and what a person meant who wrote "8GB".
 * Pure. Grammar: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
 */

const GRAMMAR = /^([+-]?)(\d+(?:\.\d*)?|\.\d+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?\d{1,3})?$/;

/** Divisors are kept apart from factors: 700 / 1000 is exactly the double 0.7, 700 * 0.001 is not. */
const DIVISOR: ReadonlyMap<string, number> = new Map(Object.entries({ n: 1e9, u: 1e6, m: 1e3 }));
const FACTOR: ReadonlyMap<string, number> = new Map(Object.entries({
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
}));

/** What `text` is worth, in cores or bytes; undefined: it is no quantity. Negative values are let through. */
export function quantityValue(text: string): number | undefined {
  const match = GRAMMAR.exec(text);
  if (!match) return undefined;
  const [, sign, digits, suffix = ""] = match;
  const first = suffix.charAt(0);
  let value = Number(digits);
  const divisor = DIVISOR.get(suffix);
  const factor = FACTOR.get(suffix);
  if (divisor !== undefined) value /= divisor;
  else if (factor !== undefined) value *= factor;
  else if (first === "e" || first === "E") value = Number(`${digits}e${suffix.slice(1)}`);
  return sign === "-" ? -value : value;
}

/** Whether the value `a` of a quantity is more than `b`, beyond what rounding of doubles may cause. */
export function isMore(a: number, b: number): boolean {
  return a > b * (1 + 1e-12);
}

/** Bytes as a quantity: in the largest unit that holds them exactly. */
export function bytesQuantity(bytes: number): string {
  const unit = (["Gi", "Mi", "Ki"] as const).find((unit) => bytes % FACTOR.get(unit)! === 0);
  return unit === undefined ? String(bytes) : `${bytes / FACTOR.get(unit)!}${unit}`;
}

export type Resource = "cpu" | "memory" | "disk";

/** What would be right instead of `text`, which is no quantity of `resource`; a clause beginning with "write". */
export function quantityAdvice(text: string, resource: Resource): string {
  const guess = guessQuantity(text, resource);
  if (guess) return `write ${guess}`;
  return resource === "cpu"
    ? `write cores as 2, 0.5 or 500m; leave the cell empty for none`
    : `write a size as 500Mi or 8Gi; leave the cell empty for none`;
}

function guessQuantity(text: string, resource: Resource): string | undefined {
  const compact = text.replace(/\s+/g, "");
  const match = /^([+-]?)(\d*)(?:([.,])(\d+))?([a-zA-Z]*)$/.exec(compact);
  if (!match) return undefined;
  const [, sign, whole = "", , fraction, unit = ""] = match;
  if (whole === "" && fraction === undefined) return undefined;
  const number = fraction === undefined ? whole : `${whole || "0"}.${fraction}`;
  if (sign === "-") return `${number}${unit}, without the minus, or leave the cell empty for none`;
  if (resource === "cpu") return /^(m|c(ore|pu)?s?|v?cpus?|)$/i.test(unit) ? guessCpu(number, unit) : undefined;
  const letter = /^([kmgtpe])i?b?$/i.exec(unit)?.[1]?.toUpperCase();
  if (letter !== undefined) {
    const decimal = letter === "K" ? "k" : letter;
    if (/i/i.test(unit)) return `"${number}${letter}i"`;
    return `"${number}${letter}i" (powers of 1024) or "${number}${decimal}" (powers of 1000)`;
  }
  return /^(b|bytes?|)$/i.test(unit) ? `"${number}"` : undefined;
}

function guessCpu(number: string, unit: string): string {
  return unit.toLowerCase() === "m" ? `"${number}m"` : `"${number}"`;
}
