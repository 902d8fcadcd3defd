/**
 * The words of the core and the three ports it stands on: Broker, ObjectStore and Cluster (with its Lease).
 * Owns shapes only: no behaviour, no SDK types. Adapters (mqtt.ts, s3.ts, k8s.ts, local/) implement these;
 * the core (catalog, listener, runs, completion, logs, …) knows nothing else of the outside.
 */

// ---------------------------------------------------------------- the table

import type { Row } from "./catalog/columns.ts";

// Its fields follow from the table of columns; what they hold beyond texts and numbers is ports/row.ts.
export type { Row };
export type * from "./ports/row.ts";
export type * from "./ports/run.ts";
export type * from "./ports/events.ts";

// ---------------------------------------------------------------- a message

/** What an MQTT message says, without its delivery. */
export interface Message {
  readonly topic: string;
  readonly payload: Uint8Array;
}

/**
 * One delivery of a message. It stays the broker's until `done` is called; PUBACKs leave in the order of receipt. What
 * must be known before a PUBACK leaves is written before `done` is called.
 */
export interface Delivery extends Message {
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  /** The broker says that it may have sent this before. */
  readonly dup: boolean;
  /**
   * Packet identifier; absent with QoS 0. A redelivery within the session should have the same one [MQTT-4.4.0-1], and a
   * broker may give it to another message as soon as it is acknowledged: it identifies nothing by itself.
   */
  readonly packetId?: number;
  /**
   * The filters (as given to `subscribe`) for which this copy was sent. A broker may send one copy per overlapping
   * subscription [MQTT-3.3.4-2]; only rows with one of these filters may run for this copy.
   * Absent: the broker does not tell (MQTT 3.1.1), every row that matches may run.
   */
  readonly filters?: readonly string[];
  /** MQTT 5 user property `idempotency-key`. */
  readonly idempotencyKey?: string;
  /** Where the sender wants the answer, and what it knows it by (MQTT 5). */
  readonly responseTopic?: string;
  readonly correlationData?: Uint8Array;
  /** MQTT 5 user properties `traceparent` and `tracestate`, where they are a trace context. */
  readonly traceparent?: string;
  readonly tracestate?: string;
  /**
   * The message is dealt with for good: acknowledge it, when all before it are. Calling it again, or after the connection
   * ended, does nothing.
   */
  done(): void;
}

// ---------------------------------------------------------------- Broker

export interface BrokerEvents {
  /** Called at each connect, before any delivery of that connection. `sessionPresent`: the broker kept our session. */
  onConnect(info: { sessionPresent: boolean }): void;
  /** Called for each message, in the order of receipt. Must return at once; the work goes on elsewhere. */
  onDelivery(delivery: Delivery): void;
  /**
   * The connection was lost or refused; the adapter goes on trying. `reason` is a sentence for people. `planned`: the
   * adapter left by itself, and nothing is wrong.
   */
  onDisconnect(reason: string, how?: { readonly planned?: boolean }): void;
  /**
   * Another service uses this one's session, told once for each such. `mustGo`: it is the older one, and the adapter has
   * closed. `reason` is a sentence for people.
   */
  onRival?(reason: string, how: { readonly mustGo: boolean }): void;
}

export interface PublishOptions {
  /** Default 1. */
  readonly qos?: 0 | 1;
  readonly retain?: boolean;
  /** MQTT 5 user properties; left out where the connection speaks MQTT 3.1.1, as are the two next ones. */
  readonly properties?: Readonly<Record<string, string>>;
  readonly contentType?: string;
  readonly correlationData?: Uint8Array;
  readonly signal?: AbortSignal;
}

/** A client of one MQTT broker with one lasting session. */
export interface Broker {
  /** Broker URL without credentials, for messages to people. */
  readonly url: string;
  /** Starts connecting and keeps on until `close`. Resolves at the first CONNACK; rejects only if `signal` aborts. */
  connect(events: BrokerEvents, signal?: AbortSignal): Promise<void>;
  readonly connected: boolean;
  /** Filters that are wanted and have no subscription, since the broker refused them, with its reason in words. */
  readonly refused: ReadonlyMap<string, string>;
  /**
   * Makes the set of subscriptions (QoS 1) equal to `filters` by difference, and keeps it over reconnects.
   * Resolves when the broker granted the new ones; rejects with RefusedError naming filters that it refused
   * (the others stay, those are tried again), and waits for a connection where there is none.
   */
  subscribe(filters: ReadonlySet<string>, signal?: AbortSignal): Promise<void>;
  /**
   * Resolves when the broker acknowledged (QoS 1) or the bytes were written (QoS 0); over a reconnect it goes on trying.
   * Rejects with TooLargeError where the broker takes no such size, with another RefusedError where it refuses it.
   */
  publish(
    topic: string,
    payload: string | Uint8Array,
    options?: PublishOptions,
  ): Promise<void>;
  /** Ends the connection in order and connects anew at once; the session stays. Nothing where there is no connection. */
  reconnect(): void;
  /** No further deliveries are handed over; those not `done` come again in the next session. */
  pause(): void;
  /** Publishes the farewell (the will's topic, `offline`) and closes; the session stays with the broker. */
  close(): Promise<void>;
}

// ---------------------------------------------------------------- ObjectStore

export interface StoredObject {
  readonly body: Uint8Array;
  readonly etag: string;
  readonly modifiedAt?: Date;
}

export interface ObjectInfo {
  readonly key: string;
  readonly size: number;
  readonly modifiedAt: Date;
}

/** Bytes of an object, and how many it has in all. */
export interface ObjectPart {
  readonly bytes: Uint8Array;
  readonly size: number;
}

/** Largest object that `get` reads where its caller does not say: 64 MiB. */
export const MAX_GET_BYTES = 64 * 1024 * 1024;

/**
 * Objects under one root URL (`s3://bucket/prefix` or a folder). Keys are relative to it and use `/`; one with an empty,
 * "." or ".." part, a control character or more than 1,024 bytes is refused (RefusedError).
 */
export interface ObjectStore {
  /** Root without credentials and without a trailing slash: `${url}/${key}` is what people are told. */
  readonly url: string;
  /**
   * undefined: no such object. "unchanged": it still has the ETag `ifNoneMatch`. TooLargeError: it has more than
   * `maxBytes` (default MAX_GET_BYTES), of which no more is read.
   */
  get(
    key: string,
    options?: { ifNoneMatch?: string; maxBytes?: number; signal?: AbortSignal },
  ): Promise<StoredObject | "unchanged" | undefined>;
  /** The bytes as a stream, with `tail` (at least 1) only so many of the last; undefined: no such object. */
  read(
    key: string,
    options?: { tail?: number; signal?: AbortSignal },
  ): Promise<ReadableStream<Uint8Array> | undefined>;
  /**
   * `length` bytes (at least 1) from the one at `from` (0 is the first) on: fewer where the object ends, none beyond it.
   * undefined: no such object.
   */
  readPart(
    key: string,
    options: { from: number; length: number; signal?: AbortSignal },
  ): Promise<ObjectPart | undefined>;
  exists(key: string, options?: { signal?: AbortSignal }): Promise<boolean>;
  /**
   * Whole or not at all. A stream is sent in parts with flat memory (S3: multipart upload, aborted on failure). What it
   * yields is not looked at any more when the next is asked for: the source may use the same buffer again.
   */
  put(
    key: string,
    body: string | Uint8Array | AsyncIterable<Uint8Array>,
    options?: { contentType?: string; signal?: AbortSignal },
  ): Promise<void>;
  /**
   * Puts the object unless there is one; false: there is. Of several at once one wins, where the server knows
   * If-None-Match; with another one, those that look before the first has written all write.
   */
  putIfAbsent(
    key: string,
    body: string | Uint8Array,
    options?: { contentType?: string; signal?: AbortSignal },
  ): Promise<boolean>;
  /** Deleting what is not there is success. */
  delete(key: string, options?: { signal?: AbortSignal }): Promise<void>;
  /** In the order of keys (UTF-8 bytes), starting after `after`. */
  list(prefix: string, options?: { after?: string; signal?: AbortSignal }): AsyncIterable<ObjectInfo>;
  /** A URL that a container can fetch with plain GET for `expiresSeconds` (S3: presigned, at most 7 days). */
  link(key: string, options: { expiresSeconds: number }): Promise<string>;
}

/** Whether there is an object at a URL or path of anybody's, as the column `output` names it. Errors as of ObjectStore. */
export type ObjectLook = (url: string, options?: { signal?: AbortSignal }) => Promise<boolean>;

/**
 * URLs of the objects that anybody has below a URL that begins so (`s3://bucket/folder/ab`, or a `file:` URL), in the order
 * of their keys. As many as there are: who asks stops when he has seen enough. Errors as of ObjectStore.
 */
export type ObjectList = (begin: string, options?: { signal?: AbortSignal }) => AsyncIterable<string>;

// ---------------------------------------------------------------- errors that a caller tells apart

/** Refused for good: trying again changes nothing. The message holds the refuser's own words. */
export class RefusedError extends Error {
  override name = "RefusedError";
}

/** What a row's cell makes of a message cannot be used. */
export class CellError extends RefusedError {
  override name = "CellError";
  readonly column: string;
  /** What the message, or the cell, has; cut. */
  readonly value: string;
  constructor(message: string, { column, value, ...options }: ErrorOptions & { column: string; value: string }) {
    super(message, options);
    this.column = column;
    this.value = value;
  }
}

/** A publication is larger than its broker takes, or an object than is read of one. */
export class TooLargeError extends RefusedError {
  override name = "TooLargeError";
}

/** What a peer may ask us to wait at most, whatever it says: none may silence the service for years. */
const LONGEST_WAIT_MS = 10 * 60_000;

/** Not possible now: try again, after `retryAfterMs` where the peer said so. */
export class UnavailableError extends Error {
  override name = "UnavailableError";
  readonly retryAfterMs?: number;
  /** What a person has to do about it, a clause that the message holds; absent: it ends by itself. */
  readonly advice?: string;
  /** The peer has said that it did not do it; absent: it may have. */
  readonly isUndone?: true;
  constructor(
    message: string,
    options: ErrorOptions & { retryAfterMs?: number; advice?: string; isUndone?: true } = {},
  ) {
    super(message, options);
    if (options.isUndone) this.isUndone = true;
    if (options.advice !== undefined) this.advice = options.advice;
    if (options.retryAfterMs !== undefined) this.retryAfterMs = Math.min(options.retryAfterMs, LONGEST_WAIT_MS);
  }
}
