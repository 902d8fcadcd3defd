import { deepEqual, ok } from "node:assert/strict";
import { COMMANDS } from "../../cli/commands.ts";

Deno.test("no flag takes a value in one command and none in another, for flags may stand before their command", () => {
  const kinds = new Map<string, Set<boolean>>();
  for (const { flags } of Object.values(COMMANDS)) {
    for (const [flag, { value }] of Object.entries(flags)) {
      kinds.set(flag, (kinds.get(flag) ?? new Set()).add(value !== undefined));
    }
  }
  deepEqual([...kinds].filter(([, some]) => some.size > 1).map(([flag]) => flag), []);
});

Deno.test("each command prints JSON", () => {
  for (const [name, { flags }] of Object.entries(COMMANDS)) ok(flags["json"], name);
});
