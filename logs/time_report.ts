/**
 * What GNU time (`/usr/bin/time -v`) writes at a program's end: its largest resident set. Pure. Looked for while the output
 * passes, at the cost of two bytes a line.
 */

const TAB = 0x09;
const CAPITAL_M = 0x4d;
const LINE = /^\tMaximum resident set size \(kbytes\): (\d{1,12})\s*$/;

/** Bytes, where the line says so. */
export function residentBytesIn(line: Uint8Array): number | undefined {
  if (line[0] !== TAB || line[1] !== CAPITAL_M || line.length > 80) return undefined;
  const kibibytes = LINE.exec(new TextDecoder().decode(line))?.[1];
  return kibibytes === undefined ? undefined : Number(kibibytes) * 1_024;
}
