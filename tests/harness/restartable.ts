/**
 * What the real servers of tests have in common: one process over a scratch folder that can be ended, also by force, and
 * started again with the same port and data. Knows nothing of what the server does.
 */
import { removeFolder } from "./folder.ts";
import type { ManagedProcess } from "./process.ts";

/** A server of one process. Disposing it ends it and removes its folder. */
export abstract class RestartableServer implements AsyncDisposable {
  #process: ManagedProcess | undefined;

  constructor(protected readonly dir: string) {}

  /** Starts the process; resolves when it accepts connections. */
  protected abstract launch(): Promise<ManagedProcess>;

  /** The process, to freeze it or read its log. */
  get process(): ManagedProcess {
    if (this.#process === undefined) throw new Error(`Cannot use ${this.constructor.name}: it is stopped`);
    return this.#process;
  }

  /** Starts it (again); resolves when it accepts connections. */
  async start(): Promise<void> {
    this.#process ??= await this.launch();
  }

  /** An orderly end: SIGTERM. */
  async stop(): Promise<void> {
    await this.#process?.stop();
    this.#process = undefined;
  }

  /** SIGKILL. */
  async kill9(): Promise<void> {
    await this.#process?.kill9();
    this.#process = undefined;
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await removeFolder(this.dir).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
  }
}
