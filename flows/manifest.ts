/**
 * What a group is made of, as `.groups/{group}.json` keeps it: row, message and items, so that a restart makes the same runs
 * of it. Whoever may write to the store may have written it: it is checked before it is believed. Pure.
 */
import * as z from "zod";
import type { Lineage, Row, RunSpec } from "../ports.ts";
import {
  inputHandedDown,
  isRoot,
  isRunNameOf,
  keyOfCause,
  payloadText,
  runNameFor,
  storedRow,
  traceContextIn,
} from "../run_spec.ts";
import { ORIGIN, runName } from "../records.ts";
import { compact } from "../util/compact.ts";

/** What is known of a group as long as it is open, without its items. */
export interface GroupHead {
  readonly group: string;
  readonly jobName: string;
  readonly topic: string;
  readonly messageHash: string;
  readonly root: string;
  readonly rootRun: string;
  readonly parentRun?: string;
  readonly chainDepth: number;
  readonly batch?: string;
  readonly requestedBy?: string;
  /** See `Lineage`. */
  readonly traceparent?: string;
  readonly tracestate?: string;
  readonly receivedAt: Date;
  readonly total: number;
  /** Payload that began the chain, where it is text and small. */
  readonly input?: string;
}

export interface Manifest extends GroupHead {
  readonly row: Row;
  /** Empty where it is in the store, see `isStored`. */
  readonly payload: Uint8Array;
  /** The payload is `.payloads/{group}`. */
  readonly isStored: boolean;
  /** JSON texts. */
  readonly items: readonly string[];
}

const stored = z.looseObject({
  ...ORIGIN,
  group: runName,
  row: z.record(z.string(), z.unknown()),
  payload_stored: z.literal(true).optional(),
  root: z.string().refine(isRoot),
  items: z.array(z.string().max(64 * 1024)).max(100_000),
});

/** Of the one run that the message would have been, which is named as the group. `isStored`: its payload is in the store. */
export function manifestOf(spec: RunSpec, items: readonly string[], { isStored }: { isStored: boolean }): Manifest {
  const { runName: group, row, message, messageHash, receivedAt } = spec;
  const { root, rootRun, parentRun, chainDepth, batch, requestedBy, traceparent, tracestate } = spec;
  return {
    group,
    jobName: row.jobName,
    row,
    topic: message.topic,
    payload: isStored ? new Uint8Array() : message.payload,
    isStored,
    messageHash,
    root,
    rootRun,
    chainDepth,
    receivedAt,
    total: items.length,
    items,
    ...compact({ parentRun, batch, requestedBy, traceparent, tracestate }),
    ...compact({ input: inputHandedDown(parentRun ?? null, payloadText(message.payload)) }),
  };
}

/** As the store keeps it. */
export function storedManifest(manifest: Manifest): z.input<typeof stored> {
  const { group, row, topic, payload, isStored, messageHash, root, rootRun, parentRun, chainDepth, batch } = manifest;
  const { traceparent, tracestate } = manifest;
  const text = payloadText(payload);
  return {
    group,
    row: { ...row },
    topic,
    payload: text ?? null,
    ...(text === undefined ? { payload_base64: payload.toBase64() } : {}),
    ...(isStored ? { payload_stored: true } : {}),
    message_hash: messageHash,
    root,
    root_run: rootRun,
    parent_run: parentRun ?? null,
    chain_depth: chainDepth,
    ...compact({ batch, requested_by: manifest.requestedBy, traceparent, tracestate }),
    received_at: manifest.receivedAt.toISOString(),
    items: [...manifest.items],
  };
}

/** The manifest of the group of that name; undefined: it is none. */
export function asManifest(value: unknown, name: string): Manifest | undefined {
  const read = stored.safeParse(value);
  if (!read.success) return undefined;
  const { data } = read;
  const row = storedRow(data.row);
  if (!row || data.group !== name || !isRunNameOf(name, row.jobName) || !data.items.every(isJson)) return undefined;
  const payload = data.payload === null
    ? Uint8Array.fromBase64(data.payload_base64 ?? "")
    : new TextEncoder().encode(data.payload);
  return {
    group: name,
    jobName: row.jobName,
    row,
    topic: data.topic,
    payload,
    isStored: data.payload_stored === true,
    messageHash: data.message_hash,
    root: data.root,
    rootRun: data.root_run,
    chainDepth: data.chain_depth,
    receivedAt: new Date(data.received_at),
    total: data.items.length,
    items: data.items,
    ...traceContextIn(data.traceparent, data.tracestate),
    ...compact({
      parentRun: data.parent_run ?? undefined,
      batch: data.batch,
      requestedBy: data.requested_by,
      input: inputHandedDown(data.parent_run, payloadText(payload)),
    }),
  };
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** The group without what only its items need. */
export function headOf(
  { row: _row, payload: _payload, isStored: _isStored, items: _items, ...head }: Manifest,
): GroupHead {
  return head;
}

/** Name of the run of an item: of its first attempt. */
export function itemRunName({ row, group }: Pick<Manifest, "row" | "group">, index: number): string {
  return runNameFor(row, { key: keyOfCause.item(group, index) });
}

/** The run of an item. `payloadLink`: where the payload is in the store. */
export function itemSpec(manifest: Manifest, index: number, payloadLink?: RunSpec["payloadLink"]): RunSpec {
  const { group, row, topic, payload, messageHash, receivedAt } = manifest;
  const { root, rootRun, parentRun, chainDepth, batch, requestedBy, traceparent, tracestate } = manifest;
  const lineage: Lineage = {
    root,
    rootRun,
    chainDepth,
    group,
    index,
    item: manifest.items[index]!,
    ...compact({ parentRun, batch, requestedBy, traceparent, tracestate }),
  };
  return {
    runName: itemRunName(manifest, index),
    row,
    message: { topic, payload },
    ...compact({ payloadLink }),
    messageHash,
    receivedAt,
    ...lineage,
  };
}
