import { deepEqual, doesNotMatch, equal, match } from "node:assert/strict";
import { TokenCheck } from "../../status/token.ts";
import { setupLog } from "../../util/log.ts";

Deno.test("TokenCheck answers a wrong token after the right one that came later", async () => {
  const check = new TokenCheck({ token: "the right one", delayMs: 50 });
  const order: string[] = [];
  const wrong = check.check("the wrong one", "10.0.0.1").then((answer) => void order.push(answer));
  order.push(await check.check("the right one", "10.0.0.1"));
  await wrong;
  deepEqual(order, ["right", "wrong"]);
});

Deno.test("TokenCheck does not look at more tokens of a visitor who has sent wrong ones, but at another's", async () => {
  let wrong = 0;
  const check = new TokenCheck({ token: "the right one", delayMs: 20, onWrong: () => void wrong++ });
  const answers = Array.from({ length: 10 }, (_, at) => check.check(`guess ${at}`, "10.0.0.1"));
  const same = check.check("the right one", "10.0.0.1");
  const other = check.check("the right one", "10.0.0.2");
  equal(await other, "right");
  equal(await same, "busy");
  const seen = await Promise.all(answers);
  deepEqual([seen.filter((one) => one === "wrong").length, seen.filter((one) => one === "busy").length], [4, 6]);
  equal(wrong, 4);
  equal(await check.check("the right one", "10.0.0.1"), "right");
});

Deno.test("TokenCheck says in the log from where a wrong token came, not what it was", async () => {
  const lines: string[] = [];
  setupLog({ level: "info", format: "text", write: (line) => void lines.push(line) });
  const check = new TokenCheck({ token: "the right one", delayMs: 1 });
  for (let at = 0; at < 5; at++) await check.check("hunter2", "10.9.8.7");
  setupLog({ level: "info", format: "text" });
  equal(lines.length, 1);
  match(lines[0]!, /Wrong token on the page from 10\.9\.8\.7/);
  doesNotMatch(lines[0]!, /hunter2|right one/);
});
