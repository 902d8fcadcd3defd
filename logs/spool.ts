/**
 * Output on its way to the store: how much of it may be held, in memory and on a disk, by all runs together. Must not
 * know whose output it is. What is on disk has no name there: it is gone when the process is, whatever ends that.
 */
import { onAbort } from "../util/abort.ts";
import { errorMessage } from "../util/errors.ts";
import { Semaphore } from "../util/semaphore.ts";

export interface SpoolSettings {
  /** Bytes in memory from which on reading waits. */
  readonly memoryBytes: number;
  /** Where what the store does not take in time is kept meanwhile; absent: in memory only. */
  readonly disk?: {
    readonly folder: string;
    readonly bytes: number;
  };
}

/**
 * Output is copied into blocks of up to so many bytes: the cluster sends a log line by line, and each line comes in a
 * network buffer of 64 KiB that a view of it would keep alive.
 */
const BLOCK_BYTES = 64 * 1024;
const REST_MS = 60_000;
/** A file on disk takes pieces until it has so much. */
const FILE_BYTES = 64 * 1024 * 1024;
/** Pieces under way to the store at a time, over all runs. */
const UPLOADS = 4;

export class Spool {
  readonly #settings: SpoolSettings;
  readonly #onTrouble: (why: string) => void;
  readonly #waiting = new Set<() => void>();
  readonly uploads = new Semaphore(UPLOADS);
  #memory = 0;
  #disk = 0;
  /** After a failure the disk is left alone for a while: it may be full. */
  #restUntilMs = 0;
  #isTold = false;
  #file: SpoolFile | undefined;

  /** `onTrouble` is told, once, that the disk cannot be used. */
  constructor(settings: SpoolSettings, onTrouble: (why: string) => void = () => {}) {
    this.#settings = settings;
    this.#onTrouble = onTrouble;
  }

  /** Bytes held now. */
  get held(): { readonly memory: number; readonly disk: number } {
    return { memory: this.#memory, disk: this.#disk };
  }

  /** Half of the memory is in use: what is held by one is to go to the store early, or to the disk. */
  get isPressed(): boolean {
    return this.#memory > this.#settings.memoryBytes / 2;
  }

  get isFull(): boolean {
    return this.#memory >= this.#settings.memoryBytes;
  }

  /** Counts bytes that are in memory from now on; negative: that are no more. */
  count(bytes: number): void {
    this.#memory += bytes;
    if (bytes < 0) this.#wake();
  }

  /** Resolves when less is held than before, or `signal` aborts. */
  changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#waiting.delete(done);
        leave();
        resolve();
      };
      this.#waiting.add(done);
      const leave = onAbort(signal, done);
    });
  }

  /** Moves a piece to the disk; undefined: there is no room, or no disk. The caller counts the memory. */
  async park(blocks: readonly Uint8Array[], bytes: number): Promise<Parked | undefined> {
    const { disk } = this.#settings;
    if (!disk || Date.now() < this.#restUntilMs || this.#disk + bytes > disk.bytes) return undefined;
    this.#disk += bytes;
    // One file for the pieces of all runs, and another when it is large: a descriptor for each piece would be too many.
    if (!this.#file || this.#file.isRetired || this.#file.bytes >= Math.min(FILE_BYTES, disk.bytes / 4)) {
      this.#file?.retire();
      this.#file = new SpoolFile(disk.folder, (freed) => {
        this.#disk -= freed;
        this.#wake();
      });
    }
    const file = this.#file;
    try {
      return await file.append(blocks, bytes);
    } catch (error) {
      file.retire();
      this.#rest(disk.folder, errorMessage(error));
      return undefined;
    }
  }

  #rest(folder: string, why: string): void {
    this.#restUntilMs = Date.now() + REST_MS;
    if (this.#isTold) return;
    this.#isTold = true;
    this.#onTrouble(
      `Output that waits for the store is held in memory only, for ${folder} cannot be used: ${why}; ` +
        "make SPOOL_DIR a folder that the service may write to, or give it more room",
    );
  }

  #wake(): void {
    for (const done of [...this.#waiting]) done();
  }
}

/** A piece on disk. */
export interface Parked {
  read(): Promise<Uint8Array>;
  /** Once. */
  free(): void;
}

/** A file without a name that pieces are put into one behind the other; gone when all of them are free. */
class SpoolFile {
  readonly #folder: string;
  readonly #onGone: (bytes: number) => void;
  /** A file has one place where it is read or written. */
  readonly #turns = new Semaphore(1);
  #file: Deno.FsFile | undefined;
  /** Of pieces that were put in, free ones too. */
  bytes = 0;
  #pieces = 0;
  /** No more pieces may be put in. */
  isRetired = false;

  constructor(folder: string, onGone: (bytes: number) => void) {
    this.#folder = folder;
    this.#onGone = onGone;
  }

  async append(blocks: readonly Uint8Array[], bytes: number): Promise<Parked> {
    const offset = this.bytes;
    this.bytes += bytes;
    this.#pieces++;
    try {
      await this.#turns.take(async () => {
        this.#file ??= await openNameless(this.#folder);
        await this.#file.seek(offset, Deno.SeekMode.Start);
        for (const block of blocks) {
          for (let at = 0; at < block.length;) at += await this.#file.write(block.subarray(at));
        }
      }, undefined);
    } catch (error) {
      this.#free();
      throw error;
    }
    return { read: () => this.#turns.take(() => this.#read(offset, bytes), undefined), free: () => this.#free() };
  }

  /** It goes when those that are in it are free. */
  retire(): void {
    this.isRetired = true;
  }

  async #read(offset: number, bytes: number): Promise<Uint8Array> {
    const all = new Uint8Array(bytes);
    await this.#file!.seek(offset, Deno.SeekMode.Start);
    for (let at = 0; at < all.length;) {
      const count = await this.#file!.read(all.subarray(at));
      if (count === null) throw new Error("A piece of a log on disk is shorter than it was");
      at += count;
    }
    return all;
  }

  #free(): void {
    if (--this.#pieces > 0) return;
    this.isRetired = true;
    this.#file?.close();
    this.#file = undefined;
    this.#onGone(this.bytes);
    this.bytes = 0;
  }
}

async function openNameless(folder: string): Promise<Deno.FsFile> {
  await Deno.mkdir(folder, { recursive: true, mode: 0o700 });
  const path = `${folder}/${crypto.randomUUID()}`;
  const file = await Deno.open(path, { read: true, write: true, createNew: true, mode: 0o600 });
  // It stays as long as it is open.
  await Deno.remove(path);
  return file;
}

/** Bytes put one behind the other, in few blocks. */
export class Blocks {
  /** All but the last are full; of that, `#used` bytes are. */
  #blocks: Uint8Array[] = [];
  #used = 0;
  bytes = 0;

  append(text: Uint8Array): void {
    for (let at = 0; at < text.length;) {
      let block = this.#blocks.at(-1);
      if (!block || this.#used === block.length) {
        // Small at first: most logs are short, and there may be thousands at once.
        block = new Uint8Array(Math.min(BLOCK_BYTES, Math.max(1024, text.length - at, this.bytes)));
        this.#blocks.push(block);
        this.#used = 0;
      }
      const part = text.subarray(at, at + block.length - this.#used);
      block.set(part, this.#used);
      this.#used += part.length;
      this.bytes += part.length;
      at += part.length;
    }
  }

  all(): readonly Uint8Array[] {
    const last = this.#blocks.at(-1);
    return last ? [...this.#blocks.slice(0, -1), last.subarray(0, this.#used)] : [];
  }

  /** Gives all away and is empty. */
  takeAll(): readonly Uint8Array[] {
    const all = this.all();
    this.#blocks = [];
    this.#used = 0;
    this.bytes = 0;
    return all;
  }
}
