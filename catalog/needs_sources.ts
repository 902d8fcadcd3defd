/**
 * Rows that need two others which no one message leads to: they wait for ever. Pure; done in steps. In doubt it says
 * nothing.
 */
import type { Row } from "../ports.ts";
import { endOf, isUnderPrefix, overlap } from "../topics.ts";

/** A row that needs two others which nothing starts together. */
export interface ApartNeed {
  readonly row: Row;
  readonly one: string;
  readonly other: string;
}

/** What starts a row in the end: filters of messages from outside, rows with a schedule. undefined: it could be anything. */
type Sources = ReadonlySet<string> | undefined;

/** Rows before each other that are followed, sources of one row, and pairs that are compared in all. */
const MAX_DEPTH = 100;
const MAX_SOURCES = 50;
const MAX_PAIRS = 200_000;
/** Before the name of a row that its schedule starts: no filter begins so. */
const BY_SCHEDULE = "schedule of \0";

/** Yields now and then. One pair is told of each row. */
export function* findApartNeeds(topicPrefix: string, rows: readonly Row[]): Generator<void, ApartNeed[]> {
  const named = new Map(rows.map((row) => [row.jobName, row]));
  const known = new Map<Row, Sources>();
  let pairs = 0;
  const found: ApartNeed[] = [];
  for (const [at, row] of rows.entries()) {
    if (at % 4096 === 0) yield;
    if (row.needs === undefined || row.enabled === "no") continue;
    const sources = row.needs.map((name) => ({ name, sources: sourcesOf(named.get(name), 0) }));
    pairs += sources.length ** 2;
    if (pairs > MAX_PAIRS) break;
    const apart = firstApart(sources);
    if (apart) found.push({ row, ...apart });
  }
  return found;

  function sourcesOf(row: Row | undefined, depth: number): Sources {
    if (!row || row.enabled === "no" || depth > MAX_DEPTH) return undefined;
    if (known.has(row)) return known.get(row);
    // Of a circle nothing is known before all of it is.
    known.set(row, undefined);
    const sources = union([
      ofTopic(row, depth),
      row.schedule === undefined ? new Set<string>() : new Set([BY_SCHEDULE + row.jobName]),
      ...(row.needs ?? []).map((name) => sourcesOf(named.get(name), depth + 1)),
    ]);
    known.set(row, sources);
    return sources;
  }

  function ofTopic({ mqttTopic }: Row, depth: number): Sources {
    if (mqttTopic === "") return new Set();
    if (!isUnderPrefix(topicPrefix, mqttTopic)) return new Set([mqttTopic]);
    const end = endOf(topicPrefix, mqttTopic);
    return end && sourcesOf(named.get(end.jobName), depth + 1);
  }
}

function union(all: readonly Sources[]): Sources {
  const sources = new Set<string>();
  for (const some of all) {
    if (some === undefined) return undefined;
    for (const source of some) sources.add(source);
  }
  return sources.size > MAX_SOURCES ? undefined : sources;
}

function firstApart(
  needs: readonly { readonly name: string; readonly sources: Sources }[],
): { readonly one: string; readonly other: string } | undefined {
  for (const [at, { name: one, sources }] of needs.entries()) {
    for (const { name: other, sources: others } of needs.slice(at + 1)) {
      if (!sources?.size || !others?.size) continue;
      if (![...sources].some((a) => [...others].some((b) => a === b || meet(a, b)))) return { one, other };
    }
  }
  return undefined;
}

function meet(a: string, b: string): boolean {
  return !a.startsWith(BY_SCHEDULE) && !b.startsWith(BY_SCHEDULE) && overlap(a, b);
}
