import { deepEqual, equal, match, throws } from "node:assert/strict";
import { checkRow, parsePolicy } from "../../catalog/policy.ts";
import type { Row } from "../../ports.ts";
import { parseTable } from "../../catalog.ts";

const ROW: Row = { line: 2, jobName: "a", mqttTopic: "x", image: "i", gpu: 0, parallelism: 1, backoffLimit: 0 };

Deno.test("parsePolicy() reads the shipped example", () => {
  deepEqual(parsePolicy(Deno.readTextFileSync(new URL("../../deploy/policy.yaml", import.meta.url))), {
    limitsWithinPercentOfRequests: 20,
    maxJobs: 400,
    bannedCommands: ["sleep", "tail -f"],
  });
});

Deno.test("parsePolicy() takes an empty file as no rules", () => {
  deepEqual(parsePolicy("# nothing\n"), {});
});

Deno.test("parsePolicy() names key and value of what is wrong", async (t) => {
  for (
    const [text, expected] of [
      ["max_jobs: many", /max_jobs must be a whole number of at least 1, not "many"/],
      ["max_jobs: 0", /max_jobs must be at least 1, not 0/],
      ["max_job: 4", /unknown key max_job, did you mean max_jobs\?/],
      ["limits_within_percent_of_requests: -1", /limits_within_percent_of_requests must be at least 0, not -1/],
      ["banned_commands: sleep", /banned_commands must be a list.*not "sleep"/],
      ["banned_commands: [sleep, 3]", /banned_commands\.1 must be text.*not 3/],
      ["- a", /must be a list of lines such as max_jobs: 400/],
      ["max_jobs: 1\nmax_jobs: 2", /line 2: .*unique/],
      ["a: [", /Cannot read the policy, line 1/],
    ] as const
  ) await t.step(text, () => throws(() => parsePolicy(text), { name: "TypeError", message: expected }));
});

Deno.test("checkRow() compares limits with requests", async (t) => {
  const policy = { limitsWithinPercentOfRequests: 20 };
  const columns = (row: Partial<Row>) => checkRow(policy, { ...ROW, ...row }).map((problem) => problem.column);
  await t.step("exactly 20 % is right", () => {
    deepEqual(columns({ cpuRequest: "1", cpuLimit: "1200m", memoryRequest: "10Gi", memoryLimit: "12Gi" }), []);
  });
  await t.step("more is not", () => {
    deepEqual(
      columns({
        cpuRequest: "1",
        cpuLimit: "1.21",
        memoryRequest: "1Gi",
        memoryLimit: "2Gi",
        diskRequest: "1Gi",
        diskLimit: "2Gi",
      }),
      [
        "cpu_limit",
        "memory_limit",
        "disk_limit",
      ],
    );
  });
  await t.step("a request needs a limit, a limit no request", () => {
    deepEqual(columns({ cpuRequest: "1", memoryLimit: "1Gi" }), ["cpu_limit"]);
  });
});

Deno.test("checkRow() finds a banned command wherever a shell would", async (t) => {
  const policy = { bannedCommands: ["sleep", "tail -f"] };
  const banned = (...command: string[]) => checkRow(policy, { ...ROW, command }).length;
  for (
    const command of [
      ["sleep", "infinity"],
      ["/bin/sleep", "1"],
      ["sh", "-c", "echo a;sleep 5"],
      ["bash", "-c", "x=$(sleep 1)"],
      ["tail", "-f", "/dev/null"],
      ["sh", "-c", "tail  -f /dev/null"],
    ]
  ) await t.step(command.join(" "), () => equal(banned(...command), 1));
  await t.step("other words are right", () => equal(banned("sh", "-c", "tail -n 3 sleepy.txt; nosleep"), 0));
});

Deno.test("checkRow() checks GPUs and parallelism", () => {
  const policy = { maxGpu: 2, gpuProducts: ["NVIDIA-A10"], maxParallelism: 3 };
  const messages = checkRow(policy, { ...ROW, gpu: 3, gpuProduct: ["NVIDIA-A100"], parallelism: 4 });
  deepEqual(messages.map(({ column, value }) => [column, value]), [
    ["gpu", "3"],
    ["gpu_product", "NVIDIA-A100"],
    ["parallelism", "4"],
  ]);
  match(messages[1]?.message ?? "", /name one of NVIDIA-A10/);
  deepEqual(checkRow(policy, { ...ROW, gpu: 2, gpuProduct: ["NVIDIA-A10"], parallelism: 3 }), []);
  deepEqual(checkRow(policy, ROW), []);
});

Deno.test("parseTable() leaves out rows that the policy refuses", () => {
  const policy = parsePolicy("banned_commands: [sleep]");
  const table = parseTable("job_name,mqtt_topic,image,command\na,x,i,sleep 3\nb,x,i,true\n", {
    topicPrefix: "p",
    check: (row) => checkRow(policy, row),
  });
  deepEqual(table.rows.map((row) => row.jobName), ["b"]);
  equal(table.problems[0]?.line, 2);
  equal(table.problems[0]?.column, "command");
});

Deno.test("parsePolicy() says so where an alias leads nowhere, or to far too much", () => {
  const bomb = [
    "a0: &a0 [x]",
    ...Array.from({ length: 12 }, (_, at) => `a${at + 1}: &a${at + 1} [*a${at}, *a${at}, *a${at}]`),
  ];
  for (const text of ["max_jobs: *a\n", bomb.join("\n")]) {
    throws(() => parsePolicy(text), /^TypeError: Cannot read the policy: its YAML aliases/);
  }
});
