/**
 * The runs that `explain` shows and `check --server` tries, those of items included. Starts none.
 */
import type { Config } from "../config.ts";
import type { Condition } from "../catalog.ts";
import { RefusedError, type Row, type RunSpec } from "../ports.ts";

/** Items that are shown; of the others the number is told. */
const MAX_SHOWN = 20;

/** What a message would start of a row. */
export interface Planned {
  readonly specs: readonly RunSpec[];
  /** Items of the group; absent: it is one run. */
  readonly total?: number;
}

/** `spec`: the one run of a row without for_each. Throws RefusedError where the message has no items. */
export async function plannedRuns(spec: RunSpec, config: Config, condition: Condition | undefined): Promise<Planned> {
  if (spec.row.forEach === undefined) return { specs: [spec] };
  const { foreignObjects } = await import("../adapters.ts");
  const { itemsOf } = await import("../flows/items.ts");
  const { itemSpec, manifestOf } = await import("../flows/manifest.ts");
  const { list } = foreignObjects(config.s3);
  const { maxItems, topicPrefix } = config;
  const items = await itemsOf(spec, { list, maxItems, topicPrefix, condition });
  const manifest = manifestOf(spec, items, { isStored: spec.payloadLink !== undefined });
  const specs = items.slice(0, MAX_SHOWN).map((_, index) => ({
    ...itemSpec(manifest, index, spec.payloadLink),
    message: spec.message,
  }));
  return { specs, total: items.length };
}

/** A run of the row for trying out its Job: of an item, where the row has such. */
export async function sampleOf(spec: RunSpec): Promise<RunSpec> {
  if (spec.row.forEach === undefined) return spec;
  const { sampleItem } = await import("../run_spec.ts");
  return { ...spec, group: spec.runName, index: 0, item: sampleItem(spec.row) };
}

/** The run that the listener would make of the message. */
export async function runSpec(row: Row, message: RunSpec["message"], config: Config, root?: string): Promise<RunSpec> {
  const { originOf } = await import("../listener.ts");
  const { payloadFits, runNameFor, shortHash } = await import("../run_spec.ts");
  const { keyOf } = await import("../listener/work.ts");
  const { isJoinTopic } = await import("../topics.ts");
  const origin = originOf(message, config.topicPrefix);
  const { rootRun, chainDepth } = origin;
  const given = keyOf(row, { origin, delivery: message });
  const key = given instanceof RefusedError ? undefined : given;
  const messageHash = shortHash([crypto.randomUUID()]);
  const runName = runNameFor(row, { key: key ?? messageHash });
  const object = `${config.runs.url}/.payloads/${messageHash}`;
  const stored = !payloadFits(message.payload);
  const parentRun = origin.parentRun ?? (isJoinTopic(config.topicPrefix, message.topic) ? runName : undefined);
  return {
    runName,
    row,
    message,
    ...(stored ? { payloadLink: { object, url: `${object}?a-link-made-at-the-start` } } : {}),
    messageHash,
    ...(parentRun === undefined ? {} : { parentRun }),
    root: origin.root ?? root ?? messageHash,
    rootRun: rootRun ?? runName,
    chainDepth,
    receivedAt: new Date(),
  };
}
