/**
 * Cases that mostly wait, played at once as the steps of one test. Owns no case: each brings parts of its own, or names
 * that no other one has.
 */

/**
 * Of steps that are played at once: Deno cannot tell what one has left open from what another one uses. Leaks are found
 * over the whole test.
 */
const SIDE_BY_SIDE = { sanitizeOps: false, sanitizeResources: false, sanitizeExit: false };

/** Plays all cases at once as steps of `t`; fails when one does, after all have ended. */
export async function steps(
  t: Deno.TestContext,
  cases: Readonly<Record<string, (t: Deno.TestContext) => Promise<void>>>,
): Promise<void> {
  await Promise.all(Object.entries(cases).map(([name, fn]) => t.step({ name, fn, ...SIDE_BY_SIDE })));
}

/** Plays the cases one after the other, as steps of a step that is played beside others; goes on after one that fails. */
export async function inTurn(t: Deno.TestContext, cases: Readonly<Record<string, () => Promise<void>>>): Promise<void> {
  for (const [name, fn] of Object.entries(cases)) await t.step({ name, fn, ...SIDE_BY_SIDE });
}

/** Registers a test of cases that are played at once. */
export function atOnce(
  name: string,
  cases: Readonly<Record<string, (t: Deno.TestContext) => Promise<void>>>,
  options: Omit<Deno.TestDefinition, "name" | "fn"> = {},
): void {
  Deno.test({ name, ...options, fn: (t) => steps(t, cases) });
}
