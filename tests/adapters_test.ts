import { deepEqual, equal, rejects } from "node:assert/strict";
import { pathToFileURL } from "node:url";
import { foreignObjects } from "../adapters.ts";

Deno.test("look() finds objects of a folder by path and by URL, and follows no way out of what is named", async () => {
  const dir = await Deno.makeTempDir({ prefix: "look-" });
  try {
    await Deno.writeTextFile(`${dir}/u 1.zip`, "result");
    const { look } = foreignObjects();
    equal(await look(`${dir}/u 1.zip`), true);
    equal(await look(`${dir}/u 2.zip`), false);
    equal(await look(`file://${dir}/u 1.zip`), true);
    equal(await look(pathToFileURL(`${dir}/none`).href), false);
    await rejects(look(`${dir}/../x`));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("list() gives the URLs of files of a folder whose URLs begin so, and follows no way out of what is named", async () => {
  const dir = await Deno.makeTempDir({ prefix: "list-" });
  const { list } = foreignObjects();
  const listed = async (begin: string) => await Array.fromAsync(list(begin));
  try {
    await Deno.mkdir(`${dir}/a/deep`, { recursive: true });
    for (const name of ["a/w2.h5", "a/w1.h5", "a/deep/w3.h5", "b.h5"]) await Deno.writeTextFile(`${dir}/${name}`, "");
    deepEqual(await listed(`file://${dir}/a/w`), [`file://${dir}/a/w1.h5`, `file://${dir}/a/w2.h5`]);
    deepEqual((await listed(`file://${dir}/a/`)).length, 3);
    deepEqual(await listed(`file://${dir}/none/`), []);
    await rejects(listed(`file://${dir}/a/../x`));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
