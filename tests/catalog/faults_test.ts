import { deepEqual, equal, match, ok } from "node:assert/strict";
import { describeProblem } from "../../catalog.ts";
import { MAX_TABLE_BYTES } from "../../catalog/csv.ts";
import { messages, PREFIX, read, rowWith } from "./kit.ts";

const fault = (name: string) => read(Deno.readFileSync(new URL(`../data/faults/${name}`, import.meta.url)));
const HEADER = "job_name,mqtt_topic,image,command\n";

/** All that is said of a table of one row with this cell, as `error: …` and `warning: …`. */
function said(column: string, value: string): string {
  const table = rowWith({ [column]: value });
  return table.problems.map((problem) => `${problem.severity}: ${describeProblem(problem)}`).join("\n");
}

// ---------------------------------------------------------------- quotes

Deno.test("blanks around quotes do not count", () => {
  const table = fault("space_after_quote.csv");
  deepEqual(messages(table), []);
  deepEqual(table.rows.map((row) => [row.jobName, row.mqttTopic, row.command]), [
    ["alpha", "lab/a", ["echo", "one", "two"]],
    ["beta", "lab/b", ["sh", "-c", "echo hi"]],
    ["gamma", "lab/c", ["sh", "-c", "echo one, two"]],
  ]);
});

Deno.test('a quote after a backslash is an error that says to write ""', () => {
  const table = fault("backslash_quotes.csv");
  deepEqual(table.rows.map((row) => row.jobName), ["gamma"]);
  const advice = 'a quote within a cell is doubled: write "" instead of \\"';
  deepEqual(messages(table), [
    `Line 2, command ""sh -c \\"echo hi\\""": ${advice}`,
    `Line 3, command ""sh -c \\"echo a": ${advice}`,
  ]);
});

Deno.test("a cell whose quotes close before its end is an error, not text", async (t) => {
  for (const cell of ['"a"b', '"a" "b"', '"a"b"', '""a"']) {
    await t.step(cell, () => {
      const table = read(`${HEADER}a,x,i,${cell}\nb,x,i,echo\n`);
      deepEqual(table.rows.map((row) => row.jobName), ["b"]);
      equal(table.problems.length, 1);
      match(messages(table)[0] ?? "", /^Line 2, command .*its quotes close before its end.*double each quote/);
    });
  }
});

Deno.test("quotes within a cell that does not begin with one are text", () => {
  deepEqual(read(`${HEADER}a,x,i,echo "a b" c\n`).rows[0]?.command, ["echo", "a b", "c"]);
  deepEqual(read(`${HEADER}a,x,i,"""my prog"" --x"\r\n`).rows[0]?.command, ["my prog", "--x"]);
});

// ---------------------------------------------------------------- lines

Deno.test("lines may end in CR, the last one otherwise", () => {
  deepEqual(fault("mac_cr_final_lf.csv").rows.map((row) => [row.line, row.jobName]), [[2, "alpha"], [3, "beta"]]);
  for (const text of ["a\rb\r\nc\r", "a\rb\rc", "a\nb\rc\r\n", "a\r\r\nb\r\r\nc\r\r\n"]) {
    const lines = text.replace(/[abc]/g, "$&,x,i");
    const header = "job_name,mqtt_topic,image";
    deepEqual(read(`${header}\r${lines}`).rows.map((row) => row.jobName), ["a", "b", "c"], JSON.stringify(text));
  }
});

Deno.test("a header may span lines, whatever parts its cells", () => {
  const table = fault("header_newline_semicolon.csv");
  deepEqual(table.rows.map((row) => [row.line, row.jobName, row.command]), [[4, "alpha", ["echo", "a"]]]);
  deepEqual(messages(table), []);
  for (const delimiter of [",", ";", "\t", "|"]) {
    const header = ['"Job\nname"', '"MQTT\r\ntopic"', "image"].join(delimiter);
    equal(read(`${header}\n${["a", "x", "i"].join(delimiter)}\n`).rows.length, 1, JSON.stringify(delimiter));
  }
});

Deno.test("sep= names any delimiter, a tab too", () => {
  for (const delimiter of ["\t", ";", ",", "|", ":", "^"]) {
    const text = `sep=${delimiter}\r\n${"job_name,mqtt_topic,image\r\na,x,i\r\n".replaceAll(",", delimiter)}`;
    deepEqual(read(text).rows.map((row) => [row.line, row.jobName]), [[3, "a"]], JSON.stringify(delimiter));
  }
  equal(read("sep=;;;\njob_name;mqtt_topic;image\na;x;i\n").rows.length, 1);
});

Deno.test("what another spreadsheet left at the end of each line is left out, and said", () => {
  const table = fault("trailing_semicolons.csv");
  deepEqual(table.rows.map((row) => row.command), [["echo", "hi"]]);
  match(messages(table)[0] ?? "", /^Line 1: the line ends in ";;;"/);
  const quoted = read('job_name,mqtt_topic,image,command;;;\r\na,l/a,b:1,"echo a, b";;;\r\nb,l/b,b:1,\r\n');
  deepEqual(quoted.rows.map((row) => row.command), [["echo", "a,", "b"], undefined]);
});

// ---------------------------------------------------------------- invisible characters

Deno.test("a character that nobody sees is named by its code point", async (t) => {
  const table = fault("invisible.csv");
  deepEqual(table.rows.map((row) => row.jobName), ["gamma"]);
  const points = table.problems.filter(({ severity }) => severity === "error").map(({ line, column, message }) =>
    `${line} ${column} ${/U\+[0-9A-F]+/.exec(message)?.[0]}`
  );
  deepEqual(points, [
    "2 mqtt_topic U+200B",
    "3 job_name U+200B",
    "5 mqtt_topic U+00AD",
    "6 mqtt_topic U+200E",
    "7 image U+200B",
    "8 command U+200B",
    "9 mqtt_topic U+00A0",
  ]);
  for (
    const [column, value, expected] of [
      ["job_name", "a\u2060b", /^error: .*U\+2060 \(a word joiner\) at character 2/],
      ["job_name", "\ufeffx\u202eb", /^error: .*U\+202E/],
      ["mqtt_topic", "lab/\u2066x", /^error: .*U\+2066/],
      ["mqtt_topic", "lab/a\ufeffb", /^error: .*U\+FEFF \(a byte order mark\)/],
      ["memory_limit", "8\u00a0Gi", /^error: .*U\+00A0 \(a no-break space\)/],
      ["cpu_limit", "2\u200b", /^error: .*U\+200B/],
      ["command", "echo\u00a0a", /^warning: .*U\+00A0/],
      ["command", "echo \u{e0041}a", /^error: .*U\+E0041/],
      ["image", "a\tb", /^error: .*U\+0009 \(a tab\)/],
    ] as const
  ) await t.step(`${column} ${JSON.stringify(value)}`, () => match(said(column, value), expected));
  await t.step("joiners of other scripts and emoji, and wide blanks, are meant", () => {
    for (const name of ["👩‍🔬 run", "می‌خواهم", "日本　job"]) equal(said("job_name", name), "");
  });
});

Deno.test("a header with an invisible character is understood, and said", () => {
  const table = read("\ufeffjob_name\u200b,mqtt\u00a0topic,\u200eimage\na,x,i\n");
  equal(table.rows.length, 1);
  deepEqual(table.problems.map(({ severity, column }) => [severity, column]), [
    ["warning", "job_name"],
    ["warning", "mqtt_topic"],
    ["warning", "image"],
  ]);
  match(
    messages(table)[0] ?? "",
    /U\+200B \(a zero width space\) at character 9 of this cell, which is read as job_name/,
  );
});

// ---------------------------------------------------------------- numbers

Deno.test("a count with marks of thousands is an error that says the number", async (t) => {
  deepEqual(messages(fault("thousands.csv")).map((text) => text.replace(/not a whole number .*; /, "")), [
    'Line 2, parallelism "1.000": write 1 or 1000',
    'Line 2, active_deadline_seconds "10.000": write 10 or 10000',
    'Line 3, active_deadline_seconds "3.600": write 3600',
    'Line 4, active_deadline_seconds "3,600": write 3600',
  ]);
  for (
    const [value, advice] of [
      ["1'000", "write 1000"],
      ["1 000", "write 1000"],
      ["1_000", "write 1000"],
      ["1.234.567", "write 1234567"],
      ["1,0", "write 1"],
      ["1e3", "write 1000"],
      ["1.5", "leave the cell empty for none"],
      ["many", "leave the cell empty for none"],
    ] as const
  ) await t.step(value, () => ok(said("backoff_limit", value).endsWith(`; ${advice}`), said("backoff_limit", value)));
  for (const value of ["1", "1.", "1.0", "1.00"]) equal(rowWith({ backoff_limit: value }).rows[0]?.backoffLimit, 1);
  match(said("memory_limit", "8.000Gi"), /^warning: .*8\.000Gi is 8Gi, not 8000Gi/);
});

Deno.test("what programs write for an empty or broken cell is an error", () => {
  for (const value of ["None", "nan", "NULL", "#NAME?", "#REF!", "#N/A", "#VALUE!", "#DIV/0!"]) {
    for (const column of ["command", "cpu_limit", "gpu", "mqtt_topic", "image", "disk_mount"]) {
      match(said(column, value), /^error: .*write for an empty or broken cell; empty the cell/, `${column} ${value}`);
    }
  }
});

// ---------------------------------------------------------------- topics and commands

Deno.test("each topic that cannot be meant gets a word of what to write", () => {
  const table = fault("topics.csv");
  const of = (name: string) =>
    table.problems.filter(({ line }) => line === Number(name.slice(1)) + 2)
      .map(({ severity, message }) => `${severity}: ${message}`).join("\n");
  for (
    const [name, expected] of [
      ["t0", /^warning: "\*" is no wildcard in MQTT; write "\+" for one level/],
      ["t1", /^warning: nothing is filled in here; write "\+"/],
      ["t2", /^warning: .*write "lab\/x"$/],
      ["t3", /^warning: a blank beside the slash/],
      ["t4", /^warning: it has an empty level/],
      ["t5", /^warning: .*"\/lab\/x" and "lab\/x" are two topics/],
      ["t6", /^warning: .*"lab\/x\/" and "lab\/x" are two topics/],
      ["t7", /^warning: "\?" has no meaning/],
      ["t8", /^warning: levels are parted by "\/", not by a backslash/],
      ["t9", /^error: .*"#" must stand alone/],
      ["t10", /^warning: a row has one topic.*write several rows/],
      ["t11", /^warning: a row has one topic.*write several rows/],
      ["t12", /^warning: a blank is part of the topic/],
      ["t13", /^warning: the quote " is part of the topic/],
      ["t14", /^error: .*shared subscriptions/],
      ["t15", /^warning: .*is not filled in; write "\+"/],
      ["t16", /^warning: line 2 writes "lab", and topics tell capital letters apart/],
      ["t17", /^error: .*"#" must stand alone/],
      ["t18", /^warning: "\*" is no wildcard/],
      ["t19", /^$/],
      ["t20", /must begin with "services\/mqtt_job_listener\/job_complete\/t0"/],
      ["t21", /must begin with "services\/mqtt_job_listener\/job_complete\/t0"/],
      ["t22", /^warning: the row waits for the job "T0", which no row has; did you mean "t0"\?/],
      ["t23", /^warning: the row never runs: .*did you mean "job_complete" instead of "job_completed"\?/],
    ] as const
  ) match(of(name), expected, name);
  for (const topic of ["a/b", "a b", "a/+/c", "+/b/#", "$SYS/x", "Räume/1", "v1.2/x", "a.b/c"]) {
    equal(said("mqtt_topic", topic), "", topic);
  }
});

Deno.test("each command that cannot be meant gets a word of what to write", () => {
  const table = fault("commands.csv");
  const of = (name: string) =>
    table.problems.filter(({ line }) => line === Number(name.slice(1)) + 2)
      .map(({ severity, message }) => `${severity}: ${message}`).join("\n");
  for (
    const [name, expected] of [
      ["c0", /^error: .*a list in brackets is not read; write sh -c 'echo hi'$/],
      ["c1", /^warning: the quotes make one word/],
      ["c2", /^warning: "`date`" is passed on.*sh -c/],
      ["c3", /^warning: "\*\.txt" is passed on/],
      ["c4", /^warning: "FOO=1" is taken for the program; write env FOO=1/],
      ["c5", /^warning: ">out\.txt" is passed on/],
      ["c6", /^warning: "2>\/dev\/null" is passed on/],
      ["c7", /^warning: "a\.py\|tee" is passed on/],
      ["c8", /^warning: "a&&make" is passed on/],
      ["c9", /^warning: "cd" is a word of a shell/],
      ["c10", /^warning: "&" is passed on/],
      ["c11", /^error: .*JSON is not read/],
      ["c12", /^warning: sh runs "echo" alone/],
      ["c13", /^warning: "&&" is passed on/],
      ["c14", /^warning: "~\/run\.sh" is passed on/],
      ["c15", /^warning: sh runs "echo one" alone/],
      ["c16", /^warning: "#" and what follows/],
      ["c17", /^warning: "\$\{X:-1\}" is passed on/],
      ["c18", /^warning: "\$1" is passed on/],
      ["c19", /^warning: "\$\$" is passed on/],
      ["c20", /^error: .*write python run\.py$/],
      ["c21", /^warning: "powershell\.exe" is a program of Windows/],
      ["c22", /^warning: "-x=\$HOME" is passed on/],
    ] as const
  ) match(of(name), expected, name);
});

Deno.test("a word processor's quotes in args are doubted, and a quoted one is meant", () => {
  match(said("args", "--name “{payload.a}”"), /"“\{payload\.a\}”" has a quote of a word processor/);
  equal(said("args", "--name '“{payload.a}”'"), "");
});

Deno.test("other commands that cannot be meant", async (t) => {
  for (
    const [command, expected] of [
      ["sh -c “echo hi”", /has a quote of a word processor/],
      ["python run.py –fast", /begins with a dash of a word processor; write - or --/],
      ["python run.py —fast", /begins with a dash/],
      ["RUN make", /^error: .*leave out "RUN"/],
      ['["sh", "-c", "it\'s"]', /write sh -c 'it'\\''s'/],
      ["[sh, -c]", /^error: .*a list in brackets/],
      ["echo a;b", /"a;b" is passed on/],
      ["cat <in", /"<in" is passed on/],
      ["export A=1", /"export" is a word of a shell/],
      ["ls file?.txt", /no shell looks for files/],
      ["C:\\run.exe", /program of Windows/],
      ["=A1&B1", /is taken for the program|is passed on/],
    ] as const
  ) await t.step(command, () => match(said("command", command), expected));
  for (
    const command of [
      `sh -c 'echo "$1"; cd /x && ls *.txt | wc > out' - a`,
      "python run.py --n=3 -x a=b --glob '*.txt' \"a|b\" a\\;b",
      "/bin/bash run.sh ~user x~ a#b",
      `sh -c 'exec "$@"' - env A=1 cmd`,
      "sh -c 'echo hi' -",
    ]
  ) await t.step(command, () => equal(said("command", command), ""));
});

// ---------------------------------------------------------------- sizes

Deno.test("sizes of a table are bounded, and the bound is named", async (t) => {
  await t.step("bytes", () => {
    const table = read(new Uint8Array(MAX_TABLE_BYTES + 1).fill(97));
    match(table.refusal?.message ?? "", /the file has 17 MiB, 16 are allowed/);
  });
  await t.step("rows", () => {
    const table = read("job_name,mqtt_topic,image\n" + "a,x,i\n".repeat(200_001));
    match(table.refusal?.message ?? "", /the table has more than 200000 rows/);
    ok(table.problems.length <= 20_001);
  });
  await t.step("columns", () => {
    match(
      read(`job_name,mqtt_topic,image${",x".repeat(1_000)}\n`).refusal?.message ?? "",
      /1003 cells, 1000 are allowed/,
    );
  });
  await t.step("a cell", () => {
    match(said("command", "x".repeat(32_769)), /^error: .*has 32769 characters, 32768 are allowed/);
  });
  await t.step("a file without line breaks", () => {
    ok(read("a".repeat(1_000_000)).refusal);
    ok(read('"' + "a".repeat(1_000_000)).refusal);
  });
});

Deno.test("the time that a cell takes grows as its length does", async (t) => {
  const units = [
    " ",
    "\t",
    "/",
    "-",
    "'",
    '"',
    "\\",
    "{",
    "{a",
    "{payload",
    "{payload.a",
    "$(",
    "`",
    "*",
    "a.",
    "1,",
    "1.000",
    "0",
    "*/",
    "\u200b",
    ":",
    "@",
    "_",
    "=",
    ";",
    "[",
    "a=b;",
    "\r",
  ];
  const columns = [
    "job_name",
    "mqtt_topic",
    "image",
    "command",
    "cpu_limit",
    "gpu",
    "gpu_product",
    "disk_mount",
    "parallelism",
    "args",
    "env",
    "mounts",
    "node_selector",
    "tolerations",
    "labels",
    "resources",
  ];
  const measure = (column: string, value: string) => {
    let best = Infinity;
    for (let run = 0; run < 3; run++) {
      const begun = performance.now();
      rowWith({ [column]: value });
      best = Math.min(best, performance.now() - begun);
    }
    return best;
  };
  for (const column of columns) {
    await t.step(column, () => {
      for (const unit of units) {
        const text = (length: number) => unit.repeat(Math.ceil(length / unit.length)).slice(0, length - 1) + "!";
        // 8 times as long: linear takes 8 times as long, quadratic 64 times. Of less nobody notices. A machine that is
        // busy may be slow once, but not each time.
        let [short, long] = [0, 0];
        for (let attempt = 0; attempt < 10; attempt++) {
          [short, long] = [measure(column, text(4_000)), measure(column, text(32_000))];
          if (long < 20 || long < short * 30) break;
        }
        ok(long < 20 || long < short * 30, `${column} ${JSON.stringify(unit)}: ${short} ms, then ${long} ms`);
      }
    });
  }
});

Deno.test("a chain to a row that was left out for an invisible character is said", () => {
  match(messages(read(`${HEADER}b\u200b,x,i,\nc,${PREFIX}/job_complete/b,i,\n`)).join("\n"), /waits for the job "b"/);
});

Deno.test("cells that contradict each other are told", () => {
  const table = read(
    "job_name,mqtt_topic,image,parallelism,completions,resources,mounts,disk_mount,command,args\n" +
      "a,x,i,3,2,,,,,\nb,x,i,,,hugepages-2Mi=4Mi,,,,\nc,x,i,,,,scratch:/tmp,/tmp,,\nd,x,i,,,,,,sh -c,'ls {payload.x}'\n",
  );
  deepEqual(table.rows, []);
  deepEqual(
    table.problems.map(({ line, column }) => [line, column]),
    [
      [2, "completions"],
      [3, "resources"],
      [4, "mounts"],
      [5, "args"],
    ],
  );
});
