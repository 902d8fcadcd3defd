/**
 * Holds packets that are larger than a limit, or have properties without end, back from MQTT.js, which would keep each
 * whole in memory: of a PUBLISH its topic and packet identifier go on, the rest is thrown away as it comes. Brokers
 * without MQTT 5, and some with it, send whatever somebody published. Knows the fixed header (MQTT 5, 2.1.1) and how a
 * PUBLISH begins, nothing else.
 */
import { Buffer } from "node:buffer";
import { type Duplex, Transform, type TransformCallback } from "node:stream";
import { setImmediate } from "node:timers";
import type { MqttClient } from "mqtt";

/** A PUBLISH whose payload was thrown away. */
export interface TooLarge {
  readonly topic: string;
  /** Of the packet, without its fixed header. */
  readonly bytes: number;
  /** Bytes that its properties have, where they are what is too large. */
  readonly properties: number | undefined;
  /** undefined: QoS 0, nothing of it goes on. */
  readonly packetId: number | undefined;
}

const PUBLISH = 3;
/**
 * Bytes of properties, and of a packet that is no message. MQTT.js makes texts of all of them at once: of 32 MB, 2.6
 * million in 5 s, in which nothing else goes on. Hosted brokers take 8 to 64 KiB of a message's.
 */
export const LARGEST_PROPERTIES = 256 * 1024;
/**
 * Go on in a turn of the event loop: MQTT.js makes objects of all packets in a chunk before it handles the first, 16,000 of
 * the smallest, and handles them all before anything else has its turn.
 */
const PACKETS_AT_ONCE = 256;

export class PacketLimit extends Transform {
  readonly #limit: number;
  readonly #protocolVersion: 5 | 4;
  readonly #onTooLarge: (packet: TooLarge) => void;
  /** The beginning of a packet of which more is needed. */
  #begun: Buffer = Buffer.alloc(0);
  /** Bytes that belong to the packet in work, and whether they go on. */
  #left = 0;
  #drops = false;

  constructor(limit: number, protocolVersion: 5 | 4, onTooLarge: (packet: TooLarge) => void) {
    super();
    this.#limit = limit;
    this.#protocolVersion = protocolVersion;
    this.#onTooLarge = onTooLarge;
  }

  /** Puts a limit on each stream that the client opens: MQTT.js has no other way to see bytes before it keeps them. */
  static putOn(client: MqttClient, limitOf: () => PacketLimit): void {
    // A private member.
    const build = client["streamBuilder"];
    client["streamBuilder"] = (self: MqttClient) => PacketLimit.#before(build(self), limitOf());
  }

  /** Puts the limit between a stream and where MQTT.js pipes it to; the stream stays the same object. */
  static #before(stream: Duplex, limit: PacketLimit): Duplex {
    const pipe = stream.pipe.bind(stream);
    stream.pipe = <T extends NodeJS.WritableStream>(target: T): T => pipe(limit).pipe(target);
    limit.once("error", (error) => stream.destroy(error));
    return stream;
  }

  override _transform(chunk: Buffer, _: BufferEncoding, callback: TransformCallback): void {
    if (this.#drops && chunk.length <= this.#left) return this.#dropAll(chunk, callback);
    this.#work(this.#begun.length === 0 ? chunk : Buffer.concat([this.#begun, chunk]), callback);
  }

  /** Hands on what may go at a time; the rest when that is handled and everything else had its turn. */
  #work(data: Buffer, callback: TransformCallback): void {
    try {
      const at = this.#take(data);
      if (at === data.length) callback();
      else setImmediate(() => this.#work(data.subarray(at), callback));
    } catch (error) {
      callback(error as Error);
    }
  }

  /** A chunk of nothing but what is thrown away. */
  #dropAll(chunk: Buffer, callback: TransformCallback): void {
    this.#left -= chunk.length;
    this.#drops = this.#left > 0;
    // What a socket has read hardly makes V8 collect garbage: of 256 MB, 220 would wait for it.
    if (chunk.length === chunk.buffer.byteLength) (chunk.buffer as ArrayBuffer).transfer(0);
    callback();
  }

  /** Returns how many bytes it took. */
  #take(data: Buffer): number {
    this.#begun = Buffer.alloc(0);
    let from = 0; // what goes on as it is begins here
    let at = 0;
    let packets = 0;
    while (at < data.length) {
      if (this.#left > 0) {
        const count = Math.min(this.#left, data.length - at);
        this.#left -= count;
        at += count;
        if (this.#drops) from = at;
        if (this.#left > 0) break;
        this.#drops = false;
        continue;
      }
      const header = fixedHeader(data, at);
      const fits = header && this.#fits(data, at, header);
      if (fits) {
        if (++packets > PACKETS_AT_ONCE) {
          if (at > from) this.push(data.subarray(from, at));
          return at;
        }
        at += header.size;
        this.#left = header.length;
        continue;
      }
      if (at > from) this.push(data.subarray(from, at));
      const read = fits === undefined ? undefined : this.#shorten(data, at, header!);
      if (read === undefined) {
        this.#begun = Buffer.from(data.subarray(at));
        return data.length;
      }
      at += read;
      from = at;
      this.#left = header!.size + header!.length - read;
      this.#drops = this.#left > 0;
    }
    if (at > from) this.push(data.subarray(from, at));
    return data.length;
  }

  /** Whether the packet goes on as it is; undefined: more of it is needed to know. */
  #fits(data: Buffer, at: number, header: FixedHeader): boolean | undefined {
    if (header.length > this.#limit) return false;
    if (header.length <= LARGEST_PROPERTIES) return true;
    if (data[at]! >> 4 !== PUBLISH) return false;
    if (this.#protocolVersion !== 5) return true;
    const properties = propertiesOf(data, publishHead(data, at, header));
    return properties === undefined ? undefined : properties <= LARGEST_PROPERTIES;
  }

  /** Sends on what is left of a packet that is too large; returns the bytes of it that were read, undefined: too few. */
  #shorten(data: Buffer, at: number, header: FixedHeader): number | undefined {
    const { size, length } = header;
    const first = data[at]!;
    if (first >> 4 !== PUBLISH) {
      const limit = Math.min(this.#limit, LARGEST_PROPERTIES);
      throw new Error(`The broker sent a packet of ${length} bytes that is no message; the limit is ${limit}`);
    }
    const head = publishHead(data, at, header);
    if (head === undefined) return undefined;
    const { topicEnd, end } = head;
    const begin = at + size;
    const topic = data.toString("utf8", begin + 2, topicEnd);
    const packetId = end > topicEnd ? data.readUInt16BE(topicEnd) : undefined;
    const properties = length > this.#limit ? undefined : propertiesOf(data, head);
    this.#onTooLarge({ topic, bytes: length, properties, packetId });
    if (packetId !== undefined) {
      const rest = [data.subarray(begin, end), Buffer.alloc(this.#protocolVersion === 5 ? 1 : 0)];
      this.push(Buffer.concat([Buffer.from([first, ...varint(end - begin + rest[1]!.length)]), ...rest]));
    }
    return end - at;
  }
}

/** Where the topic of a PUBLISH ends, and its packet identifier, behind which the properties begin. */
interface PublishHead {
  readonly topicEnd: number;
  readonly end: number;
}

/** undefined: it is not whole yet. */
function publishHead(data: Buffer, at: number, { size }: FixedHeader): PublishHead | undefined {
  const begin = at + size;
  if (data.length < begin + 2) return undefined;
  const topicEnd = begin + 2 + data.readUInt16BE(begin);
  const qos = (data[at]! >> 1) & 3;
  const end = topicEnd + (qos > 0 ? 2 : 0);
  return data.length < end ? undefined : { topicEnd, end };
}

/** Bytes of the properties behind it; undefined: their length is not whole yet. */
function propertiesOf(data: Buffer, head: PublishHead | undefined): number | undefined {
  return head && varintAt(data, head.end)?.value;
}

interface FixedHeader {
  /** Bytes of the header itself. */
  readonly size: number;
  /** Bytes that follow it. */
  readonly length: number;
}

/** undefined: it is not whole yet. */
function fixedHeader(data: Buffer, at: number): FixedHeader | undefined {
  const length = varintAt(data, at + 1);
  return length && { size: 1 + length.size, length: length.value };
}

/** A Variable Byte Integer (MQTT 5, 1.5.5) and how many bytes it has; undefined: it is not whole yet. */
function varintAt(data: Buffer, at: number): { readonly value: number; readonly size: number } | undefined {
  let value = 0;
  for (let index = 0; index < 4; index++) {
    const byte = data[at + index];
    if (byte === undefined) return undefined;
    value += (byte & 127) * 128 ** index;
    if (byte < 128) return { value, size: index + 1 };
  }
  throw new Error("The broker sent a packet whose length is malformed");
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  do {
    bytes.push(value % 128 | (value >= 128 ? 128 : 0));
    value = Math.floor(value / 128);
  } while (value > 0);
  return bytes;
}
