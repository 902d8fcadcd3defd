/** May write the table. */
import { ok } from "node:assert/strict";
import { type Cells, csv } from "../harness/table.ts";
import { type Attack, type Bed, PREFIX } from "./bed.ts";
import { checkOrders } from "./publisher.ts";

const ACTOR = "editor of the table";

/** Puts the table, looks at what is said of it, and puts a good one again. */
async function tryTable(bed: Bed, table: readonly Cells[] | string | Uint8Array): Promise<Record<string, unknown>> {
  const from = bed.ear.heard.length;
  try {
    const answer = await bed.table(table);
    await bed.sendNormal();
    await bed.normalRan();
    for (const { topic, text } of bed.ear.heard.slice(from)) {
      ok(text.length < 2e6, `${text.length} characters on ${topic.slice(0, 80)}`);
      checkOrders(topic, text);
    }
    checkOrders("log", await bed.service.log());
    return answer;
  } finally {
    await bed.table([]);
  }
}

function row(cells: Cells): Cells {
  return { job_name: "bad", mqtt_topic: "lab/bad", image: "busybox:lab", command: "true", ...cells };
}

export const EDITOR: readonly Attack[] = [
  {
    actor: ACTOR,
    name: "cells of 1 MB in each column",
    bound: "good rows run",
    large: true,
    short: true,
    turnMs: 250,
    async run(bed) {
      const columns = ["job_name", "mqtt_topic", "image", "command", "cpu_request", "memory_limit", "gpu", "when"];
      const parts = ["x", "://a@", "\x1b[2J", "'", "$(", "{payload.", "../"];
      const rows = columns.map((column, n) => row({ [column]: parts[n % parts.length]!.repeat(1e6 / 6) }));
      await tryTable(bed, rows);
      return `${rows.length} cells`;
    },
  },
  {
    actor: ACTOR,
    name: "names that are paths, topics, images and commands with escapes",
    bound: "named with line and column; nothing at another place",
    short: true,
    async run(bed) {
      const names = ["../x", "a/b", "a#", "+", "\x1b[2Jx", "\u202ex", "__proto__", "constructor", "..", "x\ud800"];
      const rows = [
        ...names.map((name, n) => row({ job_name: name, mqtt_topic: `lab/bad/${n}` })),
        ...["\x1b]0;x\x07", "a b", "evil.io/x:\u202ey", "$(date)", "../x", "http://x/y"].map((image, n) =>
          row({ job_name: `image-${n}`, image })
        ),
        ...["\x1b[2J", "$share/g/#", `${PREFIX}/request/run`, `${PREFIX}/#`, "#", "a\u0000b"].map((mqtt_topic, n) =>
          row({ job_name: `topic-${n}`, mqtt_topic })
        ),
        row({ job_name: "command", command: "sh -c '\x1b[2J\x07'" }),
      ];
      const answer = await tryTable(bed, csv([row({ job_name: "normal", mqtt_topic: "lab/normal" }), ...rows]));
      return `${rows.length} rows, ${JSON.stringify(answer).length} characters of answer`;
    },
  },
  {
    actor: ACTOR,
    name: "a table of 143 MB",
    bound: "refused, the old one stays",
    large: true,
    async run(bed) {
      const line = `x,lab/x,busybox:lab,${"y".repeat(1_000)}\n`;
      const answer = await tryTable(bed, "job_name,mqtt_topic,image,command\n" + line.repeat(143_000));
      const said = JSON.stringify(answer);
      ok(/too large|MiB|bytes/i.test(said), said.slice(0, 300));
      return "refused by its size";
    },
  },
  {
    actor: ACTOR,
    name: "100,000 bad rows",
    bound: "good rows run, words stay bounded",
    large: true,
    // Read in one piece; see docs/limits.
    turnMs: null,
    async run(bed) {
      const answer = await tryTable(
        bed,
        Array.from({ length: 100_000 }, (_, n) => row({ job_name: `a/${n}`, gpu: "x" })),
      );
      return `${JSON.stringify(answer).length} characters of answer`;
    },
  },
];
