/**
 * A process beside the service that does the same with less: started with an order in a file, ready when it says so.
 * Knows nothing of what it does.
 */
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { type ManagedProcess, spawn } from "../harness/process.ts";

export interface HelperProcess extends AsyncDisposable {
  readonly pid: number;
  /** The last lines that it has printed, 20 unless said otherwise. */
  logTail(lines?: number): Promise<string>;
}

/** Runs `command args… FILE`, where the file holds the order as JSON, until it prints `ready`. Disposing it ends it. */
export async function startHelper(
  { name, command, args, order }: {
    readonly name: string;
    readonly command: string;
    readonly args: readonly string[];
    readonly order: unknown;
  },
): Promise<HelperProcess> {
  const dir = await scratchFolder(name);
  const file = `${dir}/order.json`;
  const stop = async (process?: ManagedProcess) => {
    await process?.kill9();
    await removeFolder(dir);
  };
  try {
    await Deno.writeTextFile(file, JSON.stringify(order));
    const process = await spawn({
      name,
      command,
      args: [...args, file],
      dir,
      ready: async () => /^ready$/m.test(await Deno.readTextFile(`${dir}/${name}.log`)),
      readyTimeoutMs: 60_000,
    });
    return { pid: process.pid, logTail: (lines) => process.logTail(lines), [Symbol.asyncDispose]: () => stop(process) };
  } catch (error) {
    await stop();
    throw error;
  }
}
