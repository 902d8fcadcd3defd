import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import fc from "fast-check";
import { parseCommand } from "../../catalog/cells/command.ts";
import { commandDoubts } from "../../catalog/cells/command_doubts.ts";
import { findInvisible } from "../../catalog/invisible.ts";
import { parseTableInSlices, rowsFor } from "../../catalog.ts";
import { bytes, messages, OPTIONS, PREFIX, quoteCommand, read, rowWith } from "./kit.ts";

// ---------------------------------------------------------------- the lab's tables

for (const [file, count] of [["jobs-lab-2023-07.csv", 3], ["jobs-lab-2023-08.csv", 5]] as const) {
  Deno.test(`parseTable() runs every row of the lab's ${file} and finds its misspelt job`, () => {
    const table = read(Deno.readFileSync(new URL(`../data/${file}`, import.meta.url)));
    equal(table.rows.length, count);
    deepEqual(messages(table), [
      `Line 3, mqtt_topic "${PREFIX}/job_complete/hello-world-test": ` +
      'the row waits for the job "hello-world-test", which no row has; did you mean "hello-world-test-1"?',
    ]);
  });
}

Deno.test("parseTable() maps every column of a row", () => {
  const table = rowWith({
    command: `sh -c 'echo "$A b"' ""`,
    cpu_request: "0.5",
    cpu_limit: "1",
    memory_request: "500Mi",
    memory_limit: "1Gi",
    gpu: "2.0",
    gpu_product: "NVIDIA-A10",
    disk_request: "0",
    disk_limit: "20Gi",
    disk_mount: "/tmp/",
    parallelism: "3",
    backoff_limit: "1",
    active_deadline_seconds: "60",
  });
  deepEqual(table.rows, [{
    line: 2,
    jobName: "a",
    mqttTopic: "x/y",
    image: "busybox",
    command: ["sh", "-c", 'echo "$A b"', ""],
    cpuRequest: "0.5",
    cpuLimit: "1",
    memoryRequest: "500Mi",
    memoryLimit: "1Gi",
    gpu: 2,
    gpuProduct: ["NVIDIA-A10"],
    diskLimit: "20Gi",
    diskMount: "/tmp",
    parallelism: 3,
    backoffLimit: 1,
    activeDeadlineSeconds: 60,
  }]);
  deepEqual(table.problems, []);
});

Deno.test("parseTable() sets nothing for empty cells and zeros", () => {
  const table = rowWith({
    cpu_request: "0",
    cpu_limit: "",
    memory_limit: "0Gi",
    gpu: "0",
    disk_mount: "",
    parallelism: "",
  });
  deepEqual(table.rows, [
    { line: 2, jobName: "a", mqttTopic: "x/y", image: "busybox", gpu: 0, parallelism: 1, backoffLimit: 0 },
  ]);
});

Deno.test("parseTable() names line, column, value and what would be right", async (t) => {
  for (
    const [column, value, expected] of [
      ["memory_limit", "8GB", /^Line 2, memory_limit "8GB": not a Kubernetes quantity: write "8Gi" .*"8G"/],
      ["memory_limit", "8gi", /write "8Gi"$/],
      ["memory_limit", "8 GiB", /write "8Gi"$/],
      ["memory_limit", "1,5Gi", /write "1.5Gi"$/],
      ["memory_request", "-1Gi", /write 1Gi, without the minus/],
      ["memory_request", "1e400", /more than Kubernetes can count/],
      ["memory_request", "10E", /more than Kubernetes can count/],
      ["memory_request", "lots", /write a size as 500Mi or 8Gi/],
      ["cpu_request", "0,5", /write "0.5"/],
      ["cpu_request", "2 cores", /write "2"/],
      ["cpu_limit", "500M i", /write cores as 2, 0.5 or 500m/],
      ["cpu_limit", "=cmd|' /C calc'!A0", /write cores as/],
      ["gpu", "one", /^Line 2, gpu "one": not a whole number of at least 0/],
      ["gpu", "1.5", /not a whole number/],
      ["parallelism", "0", /not a whole number from 1 to 100000; leave the cell empty for 1/],
      ["backoff_limit", "99999999999", /not a whole number/],
      ["active_deadline_seconds", "1h", /not a whole number/],
      ["disk_mount", "tmp", /not an absolute path; write "\/tmp"/],
      ["disk_mount", "/proc/", /nothing can be mounted over \/proc/],
      ["disk_mount", "/a:b", /no ":"/],
      ["disk_mount", "/a/../b", /has "\.\."/],
      ["gpu_product", "NVIDIA A10", /write "NVIDIA-A10"/],
      ["command", "echo 'a", /the quote ' at character 6 is not closed/],
      ["command", "echo \\", /ends in a backslash/],
      ["image", "Repo/Img:1", /lower case: "repo\/img"/],
      ["image", "img tag", /no blanks/],
      ["image", "img:", /give a tag after ":"/],
      ["image", "https://host/img", /leave out "https:\/\/"/],
      ["image", "img@latest", /must be a digest/],
      ["image", "host:port/img", /"host:port" is not a registry/],
      ["image", "", /^Line 2, image: the cell is empty/],
      ["mqtt_topic", "a/#/b", /not an MQTT topic: "#" must be the last level/],
      ["mqtt_topic", "$share/g/a", /shared subscriptions/],
      ["mqtt_topic", "", /the cell is empty; .*, or fill needs or schedule$/],
      ["mqtt_topic", "a\nb", /a line break at character 2; take it out/],
      ["job_name", "", /the cell is empty; give the row a name/],
      ["job_name", "a/b", /cannot hold "\/".*one level of an MQTT topic/],
      ["job_name", "a\nb", /a line break at character 2; take it out/],
      ["job_name", "x".repeat(201), /201 characters, 200 are allowed/],
    ] as const
  ) {
    await t.step(`${column} ${JSON.stringify(value.slice(0, 20))}`, () => {
      const table = rowWith({ [column]: value });
      deepEqual(table.rows, []);
      const [problem] = table.problems;
      equal(problem?.severity, "error");
      equal(problem?.column, column);
      match(messages(table)[0] ?? "", expected);
    });
  }
});

Deno.test("parseTable() accepts what Kubernetes and registries accept", async (t) => {
  for (
    const [column, value] of [
      ["memory_limit", "1e9"],
      ["memory_limit", "1.5Gi"],
      ["memory_limit", "123456789"],
      ["memory_limit", "+2Gi"],
      ["cpu_limit", "100m"],
      ["cpu_limit", ".5"],
      ["cpu_limit", "5."],
      ["image", "localhost:5000/a/b_c--d:v1.0-rc"],
      ["image", "Registry.Example.org/img"],
      ["image", `img@sha256:${"a".repeat(64)}`],
      ["job_name", "=cmd|'x'!A0"],
      ["job_name", "日本 job"],
      ["gpu", "1.0"],
    ] as const
  ) {
    await t.step(`${column} ${value.slice(0, 40)}`, () => {
      const table = rowWith({ [column]: value });
      deepEqual([table.rows.length, messages(table)], [1, []]);
    });
  }
});

Deno.test("parseTable() refuses a request above its limit, in whatever units", async (t) => {
  for (
    const [resource, request, limit, right] of [
      ["cpu", "1100m", "1", false],
      ["cpu", "700m", "0.7", true],
      ["memory", "1Gi", "1G", false],
      ["memory", "1G", "1Gi", true],
      ["disk", "10Gi", "0", true],
    ] as const
  ) {
    await t.step(`${resource} ${request} ${limit}`, () => {
      const table = rowWith({ [`${resource}_request`]: request, [`${resource}_limit`]: limit });
      equal(table.rows.length, right ? 1 : 0);
      if (!right) match(messages(table)[0] ?? "", /which Kubernetes refuses/);
    });
  }
});

Deno.test("parseTable() warns of what is right but hardly meant", async (t) => {
  for (
    const [column, value, expected] of [
      ["memory_limit", "4", /only 4 bytes.*did you mean "4Gi"\?/],
      ["memory_limit", "400m", /did you mean "400Mi"\?/],
      ["cpu_limit", "4000", /4000 cores/],
      ["command", "cat a | wc", /"\|" is passed on as it is/],
      ["command", "echo $HOME", /"\$HOME" is passed on/],
      ["gpu_product", "NVIDIA-A10", /but for no GPU/],
      ["mqtt_topic", "#", /every message of the broker/],
      ["mqtt_topic", `${PREFIX}/REFRESH`, /never runs/],
      ["mqtt_topic", `${PREFIX}/job_complete/a`, /starts itself for ever/],
      ["mqtt_topic", "services/+/job_complete/a", /must begin with "services\/mqtt_job_listener\/"/],
    ] as const
  ) {
    await t.step(`${column} ${value}`, () => {
      const table = rowWith({ [column]: value });
      equal(table.rows.length, 1);
      deepEqual(table.problems.map(({ severity, column }) => [severity, column]), [["warning", column]]);
      match(messages(table)[0] ?? "", expected);
    });
  }
});

Deno.test("parseTable() takes a condition for what ends a circle", () => {
  const circle = (when: string) =>
    read(`job_name,mqtt_topic,image,when
mail,${PREFIX}/job_failed/+,i,${when}
a,${PREFIX}/job_complete/b,i,${when}
b,${PREFIX}/job_complete/a,i,
`);
  equal(messages(circle("")).filter((message) => /for ever/.test(message)).length, 2);
  deepEqual(messages(circle("payload.chain_depth < 5")), []);
});

// ---------------------------------------------------------------- the file

Deno.test("parseTable() reads what spreadsheets write", async (t) => {
  const expected = read("job_name,mqtt_topic,image\na,x,i\nb,y,i\n").rows;
  for (
    const [name, text] of [
      ["BOM and CRLF", "\uFEFFjob_name,mqtt_topic,image\r\na,x,i\r\nb,y,i\r\n"],
      ["CR alone", "job_name,mqtt_topic,image\ra,x,i\rb,y,i\r"],
      ["no end of the last line", "job_name,mqtt_topic,image\na,x,i\nb,y,i"],
      ["semicolons", "job_name;mqtt_topic;image\na;x;i\nb;y;i\n"],
      ["tabs", "job_name\tmqtt_topic\timage\na\tx\ti\nb\ty\ti\n"],
      ["quotes and blanks", '"Job Name" , "MQTT-topic" ,IMAGE\n"a", "x",i \nb,"y","i"\n'.replace(/" ,/g, '",')],
      ["trailing empty lines and cells", "job_name,mqtt_topic,image,,\na,x,i,,\nb,y,i,,\n,,,,\n\n  \n"],
    ] as const
  ) {
    await t.step(name, () => {
      const table = read(bytes(text));
      deepEqual([table.rows, messages(table)], [expected, []]);
    });
  }
  await t.step("Excel's sep= line and leading empty lines only move the lines", () => {
    deepEqual(read("sep=;\r\n\r\njob_name;mqtt_topic;image\r\na;x;i\r\n").rows.map((row) => row.line), [4]);
  });
});

Deno.test("parseTable() counts lines over cells of several lines", () => {
  const table = read("job_name,mqtt_topic,image,command\na,x,i,\"sh -c 'one\ntwo'\"\n\nb,x,i,\nc,x,I,\n");
  deepEqual(table.rows.map((row) => [row.jobName, row.line]), [["a", 2], ["b", 5]]);
  deepEqual(table.rows[0]?.command, ["sh", "-c", "one\ntwo"]);
  equal(table.problems[0]?.line, 6);
});

Deno.test("parseTable() refuses a file of which nothing can be trusted", async (t) => {
  for (
    const [name, file, line, expected] of [
      ["empty", "", 1, /the file is empty/],
      ["blank", " \n\n", 1, /the file is empty/],
      ["no header", "a,x,i\n", 1, /no known column/],
      ["half a header", "job_name,mqtt_topic,image,cpu_re", 1, /ends within its header/],
      ["missing column", "job_name,image\na,i\n", 1, /the column mqtt_topic is missing/],
      ["misspelt column", "job_name,image,mqt_topic\na,i,x\n", 1, /misspell it as "mqt_topic"/],
      ["column twice", "job_name,image,mqtt_topic,Job Name\na,i,x,b\n", 1, /job_name twice/],
      ["unclosed quote", 'job_name,mqtt_topic,image\na,x,i\nb,"y,i\nc,z,i\n', 3, /never closed/],
      ["half a last line", "job_name,mqtt_topic,image\na,x,i\nb,y", 3, /2 cells of 3 .*half-written/],
      ["UTF-16", new Uint8Array([0xff, 0xfe, 0x61, 0]), 1, /UTF-16/],
      ["spreadsheet", new Uint8Array([0x50, 0x4b, 3, 4, 0, 0]), 1, /not CSV/],
      ["Latin-1", new Uint8Array([...bytes("job_name\n\uFFFD"), 0x6b, 0xe9, 0x0a]), 2, /byte 13 of the file \(0xE9\)/],
    ] as const
  ) {
    await t.step(name, () => {
      const table = read(file);
      deepEqual(table.rows, []);
      equal(table.refusal?.line, line);
      match(table.refusal?.message ?? "", expected);
      equal(table.problems.at(-1), table.refusal);
    });
  }
});

Deno.test("parseTable() accepts a table without rows, with a warning", () => {
  const table = read("job_name,mqtt_topic,image\n");
  equal(table.refusal, undefined);
  deepEqual(messages(table), ["Line 1: the table has no rows; nothing will run"]);
});

Deno.test("parseTable() ignores an unknown column and guesses what was meant", () => {
  const table = read("job_name,mqtt_topic,image,memory_limt,notes\na,x,i,8Gi,hello\n");
  equal(table.rows.length, 1);
  deepEqual(messages(table), [
    'Line 1, memory_limt: unknown column "memory_limt" is ignored; did you mean memory_limit?',
    'Line 1, notes: unknown column "notes" is ignored',
  ]);
});

Deno.test("parseTable() leaves out rows with too few or too many cells", () => {
  const table = read("job_name,mqtt_topic,image\na,x\nb,x,i,more\nc,x,i,\nd,x,i\n");
  deepEqual(table.rows.map((row) => row.jobName), ["c", "d"]);
  match(messages(table)[0] ?? "", /Line 2: the row has 2 cells, the header has 3/);
  match(messages(table).join("\n"), /Line 3: the row has 4 cells.*double quotes/);
  deepEqual(table.badRows.map((bad) => bad.jobName), ["a", "b"]);
});

Deno.test("parseTable() rejects a duplicate job_name on the later row", () => {
  const table = read("job_name,mqtt_topic,image\na,x,i\na,y,i\nA,z,i\n");
  deepEqual(table.rows.map((row) => row.mqttTopic), ["x", "z"]);
  deepEqual(table.problems.map(({ severity, line }) => [severity, line]), [["error", 3], ["warning", 4]]);
  match(messages(table)[0] ?? "", /line 2 has this job_name already/);
  match(messages(table)[1] ?? "", /names that begin alike in Kubernetes/);
});

Deno.test("parseTable() says that a row waits for one that has errors", () => {
  const table = read(`job_name,mqtt_topic,image\na,x,\nb,${PREFIX}/job_complete/a,i\n`);
  match(messages(table)[1] ?? "", /waits for the job "a", whose row \(line 2\) has errors/);
});

Deno.test("parseTable() reports a circle once, at its first row", () => {
  const table = read(`job_name,mqtt_topic,image\na,${PREFIX}/job_complete/b,i\nb,${PREFIX}/job_complete/a,i\n`);
  deepEqual(messages(table).map((text) => text.replace(/.*: /, "")), [
    'the rows "a", "b" start each other in a circle for ever; break the chain in one of them',
  ]);
});

// ---------------------------------------------------------------- properties

const cellText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.constantFrom("", '"', '""', ",", ";", "\n", "\r\n", "a", "8GB", "#", "$(", "=cmd", "job_name", "\0"),
);

Deno.test("parseTable() never throws, whatever the text", () => {
  const header = "job_name,mqtt_topic,image,command,cpu_request,cpu_limit,memory_limit,gpu,disk_mount\n";
  fc.assert(
    fc.property(fc.array(cellText, { maxLength: 40 }), fc.boolean(), (cells, hasHeader) => {
      const table = read((hasHeader ? header : "") + cells.join(","));
      ok(table.refusal === undefined || table.rows.length === 0);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("parseTable() never throws, whatever the bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (body) => {
    read(body);
    read(new Uint8Array([...bytes("job_name,mqtt_topic,image\n"), ...body]));
  }));
});

const goodRow = fc.record({
  job_name: fc.string({ unit: "grapheme", minLength: 1, maxLength: 20 }).filter((name) =>
    name.trim() === name && !/[/+#]/.test(name) && findInvisible(name) === undefined
  ),
  mqtt_topic: fc.constantFrom("a/b", "a/+", "+/b/#", "a b", 'q"uote', "c,omma"),
  image: fc.constantFrom("busybox", "r.io/a/b:c"),
  command: fc.array(fc.string({ unit: "grapheme", maxLength: 8 }), { maxLength: 4 }).map(quoteCommand).filter((text) =>
    text.trim() === text && findInvisible(text) === undefined
  ),
  cpu_limit: fc.constantFrom("", "0.5", "100m"),
  parallelism: fc.constantFrom("", "3"),
});

function toCsv(rows: readonly Record<string, string>[], quoteAll: boolean, delimiter = ","): string {
  const quote = (cell: string) => quoteAll || /[",;\n]|^\s|\s$/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
  const header = Object.keys(rows[0] ?? {});
  return [header, ...rows.map((row) => Object.values(row))].map((cells) => cells.map(quote).join(delimiter)).join(
    "\n",
  ) + "\n";
}

Deno.test("parseTable() gives back the rows that were written, quoted or not", () => {
  const rows = fc.uniqueArray(goodRow, { minLength: 1, maxLength: 8, selector: (row) => row.job_name });
  fc.assert(
    fc.property(rows, fc.constantFrom(",", ";"), (written, delimiter) => {
      for (const quoteAll of [true, false]) {
        const table = read(toCsv(written, quoteAll, delimiter));
        deepEqual(table.problems.filter(({ severity }) => severity === "error"), []);
        deepEqual(
          table.rows.map((
            row,
          ) => [row.jobName, row.mqttTopic, row.image, row.command ?? [], row.cpuLimit ?? "", row.parallelism]),
          written.map((row) => {
            const command = parseCommand(row.command);
            ok("words" in command);
            return [
              row.job_name,
              row.mqtt_topic,
              row.image,
              command.words,
              row.cpu_limit,
              Number(row.parallelism || 1),
            ];
          }),
        );
      }
    }),
    { numRuns: 300 },
  );
});

Deno.test("parseCommand() gives back the words that quoteCommand() wrote", () => {
  fc.assert(fc.property(fc.array(fc.string({ unit: "binary" })), (words) => {
    const command = parseCommand(quoteCommand(words));
    deepEqual("words" in command && command.words, words);
    deepEqual("words" in command && commandDoubts({ words: ["x", ...words], bare: ["x", ...command.bare] }), []);
  }));
});

Deno.test("parseTableInSlices() reads a large table as parseTable() does and lets timers run", async () => {
  const lines = ["job_name,mqtt_topic,image,command"];
  for (let at = 0; at < 20_000; at++) lines.push(`j${at},lab/+/${at},i,"echo ""a\n${at}"""`);
  const text = lines.join("\n") + "\n";
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  const sliced = await parseTableInSlices(text, OPTIONS);
  clearInterval(timer);
  ok(ticks > 3, `${ticks} ticks`);
  equal(sliced.rows.length, 20_000);
  deepEqual(sliced.rows, read(text).rows);
  equal(sliced.rows.at(-1)?.line, 40_000);
});

Deno.test("parseTableInSlices() stops with its signal", async () => {
  const text = "job_name,mqtt_topic,image\n" + Array.from({ length: 50_000 }, (_, at) => `j${at},x,i\n`).join("");
  await rejects(parseTableInSlices(text, OPTIONS, { signal: AbortSignal.abort(new Error("enough")) }), /enough/);
});

// ---------------------------------------------------------------- rowsFor

Deno.test("rowsFor() starts the rows of a topic in table order", () => {
  const table = read("job_name,mqtt_topic,image\na,x/+,i\nb,x/y,i\nc,z,i\nd,#,i\n");
  deepEqual(rowsFor(table, "x/y").map((row) => row.jobName), ["a", "b", "d"]);
  deepEqual(rowsFor(table, "x/y", ["x/y", "z"]).map((row) => row.jobName), ["b"]);
  deepEqual(rowsFor(table, "x/y", []), []);
  deepEqual(rowsFor(table, "$SYS/x").length, 0);
});

Deno.test("rowsFor() starts no row that is switched off, and nobody subscribes for it", () => {
  const table = read("job_name,mqtt_topic,image,enabled\na,x,i,no\nb,x,i,yes\nc,y,i,No\nd,z,i,\n");
  deepEqual(rowsFor(table, "x").map((row) => row.jobName), ["b"]);
  deepEqual(table.index.filters(), ["x", "z"]);
  deepEqual(table.rows.map((row) => row.jobName), ["a", "b", "c", "d"]);
  deepEqual(table.problems, []);
});

Deno.test("rowsFor() keeps the service's own messages to rows that name its prefix", () => {
  const table = read(
    `job_name,mqtt_topic,image\na,#,i\nb,services/+/job_complete/x,i\nc,${PREFIX}/job_complete/x,i\nd,${PREFIX}/#,i\n`,
  );
  const names = (topic: string) => rowsFor(table, topic).map((row) => row.jobName);
  deepEqual(names(`${PREFIX}/job_complete/x`), ["c", "d"]);
  deepEqual(names(`${PREFIX}/job_failed/x`), ["d"]);
  deepEqual(names(`${PREFIX}/REFRESH`), []);
  deepEqual(names(PREFIX), []);
  deepEqual(names(`${PREFIX}/job_complete/x/y`), []);
  deepEqual(names(`${PREFIX}x/job_complete/x`), ["a", "b"]);
});
