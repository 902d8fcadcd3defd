/**
 * The cell `inputs`: `uuid, file, params=default.json, mode=fast|slow`: fields that a message must or may have. Pure.
 */
import type { Input } from "../../ports.ts";
import { type Fault, listOf } from "./entries.ts";

export const inputs = listOf<Input>(readInput, {
  split: (text) => text.split(/[,;\n]/).map((part) => part.trim()).filter((part) => part !== ""),
  unique: ({ name }) => name,
});

function readInput(entry: string): Input | Fault {
  const equals = entry.indexOf("=");
  const name = (equals === -1 ? entry : entry.slice(0, equals)).trim();
  if (!/^[A-Za-z_][A-Za-z0-9_-]{0,127}$/.test(name)) {
    return {
      fault:
        `"${name}" is no name of a field: letters, digits, "_" and "-", no digit first; write uuid, params=default.json or mode=fast|slow`,
    };
  }
  if (equals === -1) return { name, required: true };
  const value = entry.slice(equals + 1).trim();
  const choices = value.split("|").map((choice) => choice.trim());
  if (choices.length === 1) return { name, required: false, preset: value };
  if (choices.includes("")) return { fault: 'a choice between "|" is empty; write mode=fast|slow' };
  if (new Set(choices).size < choices.length) return { fault: "a choice stands there twice" };
  // The first choice is taken where a message makes none.
  return { name, required: false, preset: choices[0]!, choices };
}
