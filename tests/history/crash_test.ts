/** Processes that are killed while they keep the history, alone and two at once: what is found then is what has a record. */
import { deepEqual, ok } from "node:assert/strict";
import { KeptHistory, type RunHistory } from "../../history.ts";
import { indexFile } from "../../history/open_index.ts";
import { LocalStore } from "../../local/store.ts";
import { RunRecords } from "../../records.ts";

/** Runs a keeper until it has said so many records, and kills it. */
async function runAndKill(folder: string, name: string, records: number): Promise<void> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", new URL("keeper.ts", import.meta.url).pathname, folder, name],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let said = 0;
  for await (const chunk of child.stdout) {
    said += chunk.filter((byte) => byte === 0x0a).length;
    if (said >= records) break;
  }
  child.kill("SIGKILL");
  await child.status;
}

async function namesIn(history: RunHistory): Promise<string[]> {
  return (await history.find({ everyItem: true, limit: 100_000 })).map(({ run_name }) => run_name).sort();
}

Deno.test("whenever processes are killed, what is found after a start is what has a record", async () => {
  const folder = await Deno.makeTempDir({ prefix: "mjl-history-" });
  try {
    for (const [round, records] of [1, 40, 7, 150].entries()) await runAndKill(folder, `alone-${round}`, records);
    // One has the file, the other memory, and both write segments and put them together.
    await Promise.all([runAndKill(folder, "one", 120), runAndKill(folder, "two", 90)]);
    const store = new LocalStore(`${folder}/runs`);
    const records = new RunRecords(store);
    const inStore = (await Array.fromAsync(records.list(), ({ runName }) => runName)).sort();
    ok(inStore.length >= 408, `${inStore.length} records`);
    const place = { folder: `${folder}/data` };
    const open = async (where: { place?: { folder: string } }) => {
      const stop = new AbortController();
      const history = new KeptHistory({ records, store, ...where, leads: () => false, onTrouble: () => {} });
      try {
        await history.load(stop.signal);
        return await namesIn(history);
      } finally {
        stop.abort();
        history.close();
      }
    };
    deepEqual(await open({ place }), inStore, "by the file that is there");
    deepEqual(await open({}), inStore, "by segments and records alone");
    await Deno.remove(indexFile(place.folder, store.url));
    deepEqual(await open({ place }), inStore, "by a file that is made anew");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test({
  name: "on a full disk the newest runs are kept in memory, and nothing ends",
  ignore: Deno.uid() !== 0 || !await mounts(),
  async fn() {
    const folder = await Deno.makeTempDir({ prefix: "mjl-history-" });
    const disk = `${folder}/disk`;
    await Deno.mkdir(disk);
    await command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk);
    const stop = new AbortController();
    const store = new LocalStore(`${folder}/runs`);
    const troubles: string[] = [];
    const history = new KeptHistory({
      records: new RunRecords(store),
      store,
      place: { folder: disk },
      leads: () => false,
      onTrouble: (sentence) => troubles.push(sentence),
    });
    try {
      await history.load(stop.signal);
      const { endAt } = await import("../conformance/history.ts");
      for (let second = 0; second < 3_000; second++) {
        history.emit({ type: "finished", record: endAt(second), completionMs: 1 });
        if (second % 100 === 0) await history.count({});
      }
      const [newest] = await history.find({ limit: 1 });
      deepEqual(newest?.run_name, "run-2999");
      ok(
        troubles.some((one) => /full; the newest runs are kept in memory until the next start/.test(one)),
        troubles.join(),
      );
    } finally {
      stop.abort();
      history.close();
      await command("umount", disk);
      await Deno.remove(folder, { recursive: true });
    }
  },
});

async function command(name: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(name, { args, stderr: "piped" }).output();
  if (!success) throw new Error(`${name} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}

/** Whether file systems can be mounted here. */
async function mounts(): Promise<boolean> {
  const folder = await Deno.makeTempDir({ prefix: "mjl-history-" });
  try {
    await command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder);
    await command("umount", folder);
    return true;
  } catch {
    return false;
  } finally {
    await Deno.remove(folder);
  }
}
