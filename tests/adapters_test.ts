import { equal, rejects } from "node:assert/strict";
import { pathToFileURL } from "node:url";
import { objectLook } from "../adapters.ts";

Deno.test("objectLook() finds objects of a folder by path and by URL, and follows no way out of what is named", async () => {
  const dir = await Deno.makeTempDir({ prefix: "look-" });
  try {
    await Deno.writeTextFile(`${dir}/u 1.zip`, "result");
    const look = objectLook();
    equal(await look(`${dir}/u 1.zip`), true);
    equal(await look(`${dir}/u 2.zip`), false);
    equal(await look(`file://${dir}/u 1.zip`), true);
    equal(await look(pathToFileURL(`${dir}/none`).href), false);
    await rejects(look(`${dir}/../x`));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
