/**
 * Short hashes, of which names and roots are made. Pure.
 */
import { createHash } from "node:crypto";

/**
 * First characters of the SHA-256 of the parts, in the digits a-z and 2-7 (RFC 4648, base32), which may stand in every
 * name of Kubernetes. The parts are told apart: `["ab"]` and `["a", "b"]` have different hashes.
 */
export function shortHash(parts: readonly (string | Uint8Array)[], length = 12): string {
  const hash = createHash("sha256");
  for (const part of parts) {
    const bytes = typeof part === "string" ? new TextEncoder().encode(part) : part;
    hash.update(`${bytes.length}:`).update(bytes);
  }
  return base32(hash.digest()).slice(0, length);
}

/** 52 digits at most, for 32 bytes. */
function base32(bytes: Uint8Array): string {
  let digits = "";
  let [bits, count] = [0, 0];
  for (const byte of bytes) {
    bits = ((bits << 8) | byte) & 0xfff;
    for (count += 8; count >= 5; count -= 5) digits += "abcdefghijklmnopqrstuvwxyz234567"[(bits >> (count - 5)) & 31];
  }
  return digits;
}
