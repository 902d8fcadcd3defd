/**
 * The nearest known spelling of a misspelt name. Pure.
 */

/** Distance in single-character edits, given up above `most` (then `most + 1`). */
function editDistance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) > most) return most + 1;
  let above = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let row = 1; row <= a.length; row++) {
    const line = [row];
    let least = row;
    for (let at = 1; at <= b.length; at++) {
      const cost = a.charCodeAt(row - 1) === b.charCodeAt(at - 1) ? 0 : 1;
      const best = Math.min((above[at] ?? 0) + 1, (line[at - 1] ?? 0) + 1, (above[at - 1] ?? 0) + cost);
      line.push(best);
      if (best < least) least = best;
    }
    if (least > most) return most + 1;
    above = line;
  }
  return above[b.length] ?? most + 1;
}

/** Longest text that is compared, for the time grows as its square. */
const MAX_LENGTH = 300;

/** The candidate that `text` is most likely a misspelling of; undefined: none is near enough. First one wins a tie. */
export function nearest(text: string, candidates: Iterable<string>): string | undefined {
  if (text.length > MAX_LENGTH) return undefined;
  let best: string | undefined;
  let most = Math.max(2, Math.floor(text.length / 4));
  for (const candidate of candidates) {
    const distance = editDistance(text, candidate, most);
    // A name of which nothing is left is no misspelling.
    if (distance > most || distance >= Math.max(text.length, candidate.length)) continue;
    best = candidate;
    most = distance - 1;
    if (most < 0) break;
  }
  return best;
}
