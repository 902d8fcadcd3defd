/**
 * The last line of an output that is not blank, found while the output passes: nothing is read again for it. A carriage
 * return begins a line anew, as on a terminal. Copies a few hundred bytes a line.
 */

const MOST_BYTES = 1_000;
const NEWLINE = 0x0a;
const RETURN = 0x0d;
const BLANK = 0x20;

export class LastLine {
  readonly #line = new Uint8Array(MOST_BYTES);
  #bytes = 0;
  /** What comes next belongs to another line. */
  #isOver = true;

  /** The next bytes of the output, never beyond the end of a line. */
  take(text: Uint8Array): void {
    let content = text.at(-1) === NEWLINE ? text.subarray(0, -1) : text;
    if (content.at(-1) === RETURN) content = content.subarray(0, -1);
    const isEnd = content.length < text.length;
    const anew = content.lastIndexOf(RETURN) + 1;
    if (anew > 0) {
      content = content.subarray(anew);
      this.#isOver = true;
    }
    if (content.some((byte) => byte > BLANK)) {
      if (this.#isOver) this.#bytes = 0;
      this.#isOver = false;
      const more = content.subarray(0, MOST_BYTES - this.#bytes);
      this.#line.set(more, this.#bytes);
      this.#bytes += more.length;
    }
    if (isEnd) this.#isOver = true;
  }

  /** Cut after 1,000 bytes. */
  get text(): string {
    return new TextDecoder().decode(this.#line.subarray(0, this.#bytes)).trim();
  }
}
