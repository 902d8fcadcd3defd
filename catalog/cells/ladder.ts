/**
 * The cells of memory, which may hold a ladder: `8Gi, 16Gi, 32Gi`, of which a run gets the first size, and the next one
 * after each time that it ran out of memory. Pure. When a rung is climbed is flows/retries.ts.
 */
import { isMore } from "../../util/quantities.ts";
import { cachedValue, type FurtherFields, type Kind, QUANTITY, quantity, type Report } from "../kinds.ts";

/** Rungs of one ladder. */
const MAX_RUNGS = 10;
const ONE = quantity("memory");
/** Sizes with blanks between them. */
const SIZES = /^\d{1,9}(\.\d{1,3})?[KMGTP]i?(\s{1,3}\d{1,9}(\.\d{1,3})?[KMGTP]i?){1,9}$/;

/** One size, or several that rise; then `field` of the row gets all of them. */
function ladder(field: "memoryLimits" | "memoryRequests"): Kind<string> {
  return {
    schema: { type: "string", pattern: `^$|^${QUANTITY}([,;\\s]+${QUANTITY})*$` },
    read(text, report, row) {
      const rungs = text.split(/[,;]/).map((rung) => rung.trim()).filter((rung) => rung !== "");
      // 1,5Gi is one size to who writes decimals so.
      if (/^\d+,\d+\s*[A-Za-z]*$/.test(text)) return ONE.read(text, report, row);
      if (rungs.length === 1 && SIZES.test(rungs[0]!)) {
        report.error(`several sizes need commas between them; write ${rungs[0]!.split(/\s+/).join(", ")}`);
        return undefined;
      }
      if (rungs.length < 2) return ONE.read(rungs[0] ?? text, report, row);
      return readRungs(rungs, report, row, field);
    },
  };
}

function readRungs(
  rungs: readonly string[],
  report: Report,
  row: FurtherFields,
  field: "memoryLimits" | "memoryRequests",
): string | undefined {
  if (rungs.length > MAX_RUNGS) {
    report.error(`the cell has ${rungs.length} sizes, ${MAX_RUNGS} are allowed`);
    return undefined;
  }
  const read = rungs.map((rung) => ONE.read(rung, report, row));
  for (const [at, rung] of rungs.entries()) {
    // What is no size was reported; nothing is a size that no run can have.
    if (at === 0 || read[at - 1] === undefined || read[at] === undefined) continue;
    if (isMore(cachedValue(rung) ?? 0, cachedValue(rungs[at - 1]!) ?? 0)) continue;
    report.error(`the sizes must rise, and ${rung} comes after ${rungs[at - 1]}; write the smaller one first`);
    return undefined;
  }
  if (read.includes(undefined)) {
    if (rungs.some((rung) => cachedValue(rung) === 0)) report.error("a run cannot have no memory; take the 0 out");
    return undefined;
  }
  row[field] = rungs;
  return rungs[0];
}

export const memoryLimit = ladder("memoryLimits");
export const memoryRequest = ladder("memoryRequests");
