/** Three pages of the real program with real runs, on a phone, by Lighthouse. Speed is `deno task look`'s business. */
import { deepEqual } from "node:assert/strict";
import { needs } from "../harness/needs.ts";
import { audit, startBrowser } from "./lighthouse.ts";
import { showPipeline } from "./pages.ts";

Deno.test({
  name: "Lighthouse finds the pages accessible and well made",
  ignore: !await needs("chromium", "lighthouse"),
  async fn() {
    await using shown = await showPipeline();
    await using browser = await startBrowser();
    const low: string[] = [];
    for (const name of ["overview", "run", "log"]) {
      const { scores, findings } = await audit(shown.url + shown.paths[name], { port: browser.port, form: "phone" });
      for (const category of ["accessibility", "best-practices"]) {
        if (!((scores[category] ?? 0) >= 95)) low.push(`${name}: ${category} ${scores[category]} (${findings})`);
      }
    }
    deepEqual(low, []);
  },
});
