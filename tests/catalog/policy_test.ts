import { deepEqual, equal, match, throws } from "node:assert/strict";
import { checkRow, parsePolicy, type Policy } from "../../catalog/policy.ts";
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

Deno.test("parsePolicy() reads every rule that the shipped example names", () => {
  const text = Deno.readTextFileSync(new URL("../../deploy/policy.yaml", import.meta.url));
  const rules = text.replace(/^# (?=[a-z_]+: )/gm, "");
  const policy = parsePolicy(rules, "policy.yaml");
  deepEqual(policy.secrets, ["lab-s3", "registry-*"]);
  deepEqual(policy.outputPrefixes, ["s3://lab/results/"]);
  equal(policy.allowPrivileged, true);
  equal(Object.keys(policy).length, 20);
});

Deno.test("checkRow() allows no Secret, account or output that no list names", () => {
  const row: Row = {
    ...ROW,
    env: [
      { from: "secret", name: "A", object: "lab-s3", key: "k" },
      { from: "all", kind: "config", object: "settings" },
    ],
    mounts: [
      { from: "secret", object: "ssh", path: "/s" },
      { from: "pvc", object: "data", path: "/d", readOnly: false },
    ],
    imagePullSecret: ["registry"],
    serviceAccount: "admin",
    output: ["s3://lab/", { root: "payload", path: ["x"], source: "{payload.x}" }],
    runAs: { user: 0 },
  };
  deepEqual(checkRow({}, row).map(({ column, value, message }) => `${column} ${value}: ${message}`), [
    'env lab-s3: against the policy: the secret "lab-s3" is not allowed; add the line secrets: [lab-s3] in the file ' +
    "that POLICY_FILE names",
    'mounts ssh: against the policy: the secret "ssh" is not allowed; add the line secrets: [ssh] in the file that ' +
    "POLICY_FILE names",
    'image_pull_secret registry: against the policy: the secret "registry" is not allowed; add the line ' +
    "secrets: [registry] in the file that POLICY_FILE names",
    'output s3://lab/: against the policy: an output that begins with "s3://lab/" is not allowed; add the line ' +
    "output_prefixes: [s3://lab/] in the file that POLICY_FILE names",
    'service_account admin: against the policy: the service account "admin" is not allowed; add the line ' +
    "service_accounts: [admin] in the file that POLICY_FILE names",
    "run_as 0: against the policy: user and group 0 are not allowed; add the line run_as_root: true in the file that " +
    "POLICY_FILE names",
  ]);
});

Deno.test("checkRow() goes by the lists of the policy", async (t) => {
  const columns = (policy: Policy, row: Partial<Row>) =>
    checkRow({ file: "p.yaml", ...policy }, { ...ROW, ...row }).map(({ column }) => column);
  await t.step("a list that is there names where to add to it", () => {
    const [problem] = checkRow({ file: "/etc/p.yaml", secrets: ["a"] }, { ...ROW, imagePullSecret: ["b"] });
    match(problem?.message ?? "", /; add b to the list secrets in \/etc\/p\.yaml$/);
  });
  await t.step("globs", () => {
    const secrets = ["lab-*", "*-s3", "a*b*c"];
    for (const name of ["lab-", "lab-x", "x-s3", "abc", "a1b2c"]) {
      deepEqual(columns({ secrets }, { imagePullSecret: [name] }), []);
    }
    for (const name of ["lab", "xlab-x", "s3", "ac", "abcd", "acb"]) {
      deepEqual(columns({ secrets }, { imagePullSecret: [name] }), ["image_pull_secret"], name);
    }
  });
  await t.step("images by whole parts of their beginning", () => {
    const images = ["ghcr.io/lab", "python", "braingeneers/", "registry.example.org/*/public"];
    for (
      const image of [
        "ghcr.io/lab/x:1",
        "ghcr.io/lab@sha256:0",
        "python",
        "python:3.12",
        "docker.io/library/python:3",
        "braingeneers/x",
        "docker.io/braingeneers/x",
        "registry.example.org/a/public",
      ]
    ) deepEqual(columns({ images }, { image }), [], image);
    for (
      const image of ["ghcr.io/lab-x/y", "pythonx", "evil.org/python", "ghcr.io/labx", "registry.example.org/a/publicx"]
    ) deepEqual(columns({ images }, { image }), ["image"], image);
  });
  await t.step("outputs by whole folders, before the first placeholder", () => {
    const outputPrefixes = ["s3://lab/results"];
    const x = { root: "payload" as const, path: ["x"], source: "{payload.x}" };
    deepEqual(columns({ outputPrefixes }, { output: ["s3://lab/results/", x] }), []);
    deepEqual(columns({ outputPrefixes }, { output: ["s3://lab/results-x/", x] }), ["output"]);
    deepEqual(columns({ outputPrefixes }, { output: ["s3://lab/", x] }), ["output"]);
    deepEqual(columns({ outputPrefixes }, { output: ["s3://lab/results", x] }), ["output"]);
  });
  await t.step("classes, queues, claims and templates are free without a list, also by Kueue's label", () => {
    const row = {
      priorityClass: "high",
      queue: "q",
      runtimeClass: "r",
      podTemplate: "t",
      labels: [{ key: "kueue.x-k8s.io/priority-class", value: ["high"] }],
    };
    deepEqual(columns({}, row), []);
    const none = { priorityClasses: [], queues: [], runtimeClasses: [], podTemplates: [] };
    deepEqual(columns(none, row), ["labels", "priority_class", "queue", "runtime_class", "pod_template"]);
  });
});
