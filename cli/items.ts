/**
 * The runs of items that `explain` shows and `check --server` tries. Starts none.
 */
import type { Config } from "../config.ts";
import type { Condition } from "../catalog.ts";
import type { RunSpec } from "../ports.ts";

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
