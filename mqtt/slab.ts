/**
 * Payloads apart from the buffers that they came in. A packet's own bytes are mostly a view that keeps the socket's whole
 * buffer alive. Knows nothing of packets.
 */

/** Of a buffer for small payloads. */
const SLAB_BYTES = 32 * 1024;

/**
 * Copies of payloads. Small ones share a buffer, since one of its own costs 300 bytes each. Acknowledgements are in order,
 * so those of a buffer go together.
 */
export class Slab {
  #bytes = new Uint8Array(SLAB_BYTES);
  #used = 0;

  /** These bytes in memory that nobody else writes to; a large one that has its buffer for itself is not copied. */
  own(bytes: Uint8Array): Uint8Array {
    if (bytes.length > SLAB_BYTES / 8) {
      // Of a packet in several chunks MQTT.js has made a copy already.
      return bytes.length === bytes.buffer.byteLength ? new Uint8Array(bytes.buffer) : new Uint8Array(bytes);
    }
    if (this.#used + bytes.length > SLAB_BYTES) [this.#bytes, this.#used] = [new Uint8Array(SLAB_BYTES), 0];
    const copy = this.#bytes.subarray(this.#used, this.#used + bytes.length);
    copy.set(bytes);
    this.#used += bytes.length;
    return copy;
  }
}
