/**
 * The fields that a message must or may have (the column `inputs`): what a message lacks, and what stands for it. Pure.
 */
import type { Message, Row } from "../ports.ts";
import { cut } from "../util/text.ts";
import { MAX_PARSED_BYTES, payloadText } from "./payload_text.ts";

/** Why a message does not fit a row, for programs and for people. */
export interface InputFault {
  readonly reason: "InputMissing" | "InputRefused";
  /** A clause to follow a colon. */
  readonly message: string;
  /** The first field that is missing or wrong. */
  readonly field: string;
  /** The value that is none of the choices, cut. */
  readonly value?: string;
}

/** Names and choices that a sentence shows. */
const MAX_SHOWN = 10;

/** What is wrong with a message for the row's inputs; undefined: it fits. */
export function inputFault({ inputs = [] }: Pick<Row, "inputs">, { payload }: Message): InputFault | undefined {
  const wanted = inputs.filter(({ required, choices }) => required || choices);
  if (wanted.length === 0) return undefined;
  const object = payload.length > MAX_PARSED_BYTES ? undefined : objectOf(payload);
  const missing = wanted.filter(({ name, required }) => required && fieldOf(object, name) === undefined);
  if (missing.length > 0) {
    const names = missing.map(({ name }) => `"${name}"`);
    const example = JSON.stringify(Object.fromEntries(missing.slice(0, 3).map(({ name }) => [name, "…"])));
    const why = payload.length > MAX_PARSED_BYTES
      ? `it has ${payload.length} bytes, and fields are read up to ${MAX_PARSED_BYTES}`
      : object === undefined
      ? "its payload is no JSON object"
      : `send ${example}`;
    const fields = `${names.length === 1 ? "field" : "fields"} ${listed(names)}`;
    const message = `the message has no ${fields}, which the row needs (inputs); ${why}`;
    return { reason: "InputMissing", field: missing[0]!.name, message };
  }
  for (const { name, choices } of wanted) {
    const value = fieldOf(object, name);
    if (!choices || value === undefined || choices.includes(textOf(value))) continue;
    const given = cut(textOf(value), 120);
    const message = `the message's field "${name}" is "${given}"; it must be ${listed(choices, " or ")} (inputs)`;
    return { reason: "InputRefused", field: name, message, value: given };
  }
  return undefined;
}

/** What stands for a field that a message does not have; undefined: nothing does. */
export function inputPreset(inputs: Row["inputs"], name: string | number | undefined): string | undefined {
  return inputs?.find((input) => input.name === name)?.preset;
}

/** undefined: there is none, or it is null. */
function fieldOf(object: Readonly<Record<string, unknown>> | undefined, name: string): unknown {
  return object && Object.hasOwn(object, name) ? object[name] ?? undefined : undefined;
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value.toWellFormed() : JSON.stringify(value);
}

function listed(words: readonly string[], and = ", "): string {
  const shown = words.slice(0, MAX_SHOWN);
  const rest = words.length - shown.length;
  return rest > 0
    ? `${shown.join(", ")} and ${rest} more`
    : [shown.slice(0, -1).join(", "), shown.at(-1)].filter(Boolean).join(and);
}

function objectOf(payload: Uint8Array): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(payloadText(payload) ?? "");
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? value as Record<string, unknown>
      : undefined;
  } catch {
    return undefined;
  }
}
