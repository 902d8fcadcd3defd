import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import {
  type Config,
  ConfigError,
  type ConfigInput,
  flagName,
  knownNames,
  loadConfig,
  parseArgs,
  publicConfig,
  renderHelp,
  renderSettings,
  splitObjectUrl,
} from "../config.ts";
import { SETTINGS } from "../config/settings.ts";

const PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

function load(
  env: Record<string, string> = {},
  args: ConfigInput["args"] = [],
  files: Record<string, string> = {},
): Config {
  const readTextFile = (path: string) => {
    const text = files[path];
    if (text === undefined) throw new Deno.errors.NotFound("No such file");
    return text;
  };
  return loadConfig({ env, args, readTextFile, random: () => "r4nd0m" });
}

function faultsOf(
  env: Record<string, string>,
  args: ConfigInput["args"] = [],
  files: Record<string, string> = {},
): readonly string[] {
  try {
    load(env, args, files);
  } catch (error) {
    ok(error instanceof ConfigError, String(error));
    return error.faults;
  }
  return [];
}

Deno.test("loadConfig() of nothing is the lab's setup", () => {
  const config = load();
  equal(config.mqtt.url, "mqtt://localhost:1883");
  equal(config.mqtt.clientId, "services-mqtt_job_listener");
  equal(config.mqtt.protocolVersion, 5);
  equal(config.mqtt.sessionExpirySeconds, 7 * 24 * 3600);
  equal(config.mqtt.maxWaitingBytes, 64 * 1024 * 1024);
  deepEqual({ ...config.catalog }, {
    url: "s3://braingeneers/services/jobs.csv",
    storeUrl: "s3://braingeneers/services",
    key: "jobs.csv",
    pollMs: 10_000,
  });
  equal(config.logs.url, "s3://braingeneers/services/mqtt_job_listener/logs");
  equal(config.runs.url, "s3://braingeneers/services/mqtt_job_listener/runs");
  deepEqual(config.status.listen, { hostname: "127.0.0.1", port: 8080 });
  equal(config.cluster.kind, "kubernetes");
  equal(config.cluster.instance, "services-mqtt_job_listener");
  equal(config.cluster.namespace, undefined);
  equal(config.grace.unschedulableMs, 15 * 60_000);
  equal(config.leader, undefined);
  equal(config.webhook, undefined);
  deepEqual(config.warnings, []);
});

Deno.test("loadConfig() freezes all of it", () => {
  const config = load();
  ok(Object.isFrozen(config) && Object.isFrozen(config.mqtt) && Object.isFrozen(config.warnings));
});

Deno.test("loadConfig() puts logs and records beside the table, wherever that is", async (t) => {
  const cases: [Record<string, string>, string][] = [
    [{ CATALOG_URL: "s3://b/jobs.csv" }, "s3://b/mqtt_job_listener"],
    [{ CATALOG_URL: "s3://b/services/mqtt_job_listener/jobs.csv" }, "s3://b/services/mqtt_job_listener"],
    [{ CATALOG_URL: "jobs.csv" }, "./mqtt_job_listener"],
    [{ CATALOG_URL: "/srv/jobs.csv" }, "/srv/mqtt_job_listener"],
    [{ CATALOG_URL: "/jobs.csv" }, "/mqtt_job_listener"],
    [{ CATALOG_URL: "file:///srv/jobs.csv" }, "file:///srv/mqtt_job_listener"],
    [{ TOPIC_PREFIX: "lab/two", CATALOG_URL: "s3://b/jobs.csv" }, "s3://b/two"],
  ];
  for (const [env, root] of cases) {
    await t.step(JSON.stringify(env), () => {
      const config = load(env);
      equal(config.logs.url, `${root}/logs`);
      equal(config.runs.url, `${root}/runs`);
    });
  }
});

Deno.test("splitObjectUrl() parts the folder from the name", () => {
  deepEqual(splitObjectUrl("s3://b/a/jobs.csv"), { storeUrl: "s3://b/a", key: "jobs.csv" });
  deepEqual(splitObjectUrl("jobs.csv"), { storeUrl: ".", key: "jobs.csv" });
});

Deno.test("loadConfig() takes a flag before the environment, and an empty variable for none", () => {
  const env = { MQTT_URL: "mqtt://env", NAMESPACE: "", LOG_LEVEL: "  " };
  const config = load(env, ["--mqtt-url=mqtts://flag:8883", "--catalog-poll", "2m", "--handle-retained"]);
  equal(config.mqtt.url, "mqtts://flag:8883");
  equal(config.catalog.pollMs, 120_000);
  equal(config.handleRetained, true);
  equal(config.cluster.namespace, undefined);
  equal(config.log.level, "info");
  equal(load({ HANDLE_RETAINED: "yes" }, ["--no-handle-retained"]).handleRetained, false);
});

Deno.test("every setting is also a flag", () => {
  for (const name of knownNames()) {
    const { settings, faults } = parseArgs([`--${flagName(name)}=x`]);
    deepEqual(faults, []);
    equal(settings.get(name), "x");
  }
});

Deno.test("every preset is right in itself", () => {
  deepEqual(faultsOf({}), []);
  for (const [name, setting] of Object.entries(SETTINGS)) {
    if ("preset" in setting) ok("value" in setting.kind(setting.preset), name);
    else ok("otherwise" in setting, `${name} does not say what happens without it`);
  }
});

Deno.test("loadConfig() reads values of each kind", async (t) => {
  const cases: [Record<string, string>, (config: Config) => unknown, unknown][] = [
    [{ CATALOG_POLL: "500ms" }, (c) => c.catalog.pollMs, 500],
    [{ CATALOG_POLL: "1h30m" }, (c) => c.catalog.pollMs, 5_400_000],
    [{ JOB_TTL: "2w" }, (c) => c.cluster.jobTtlSeconds, 14 * 86_400],
    [{ IMAGE_PULL_GRACE: "0" }, (c) => c.grace.imagePullMs, 0],
    [{ MAX_WAITING_BYTES: "128M" }, (c) => c.mqtt.maxWaitingBytes, 128_000_000],
    [{ LOG_MEMORY: "2097152" }, (c) => c.logs.memoryBytes, 2 * 1024 * 1024],
    [{ MQTT_VERSION: "3.1.1" }, (c) => c.mqtt.protocolVersion, 4],
    [{ MQTT_VERSION: "4" }, (c) => c.mqtt.protocolVersion, 4],
    [{ LOG_LEVEL: "WARN" }, (c) => c.log.level, "warning"],
    [{ STATUS_ADDR: "off" }, (c) => c.status.listen, undefined],
    [{ STATUS_ADDR: "[::1]:80" }, (c) => c.status.listen, { hostname: "::1", port: 80 }],
    [{ STATUS_ADDR: ":9000" }, (c) => c.status.listen, { hostname: "0.0.0.0", port: 9000 }],
    [{ STATUS_ADDR: "9000" }, (c) => c.status.listen, { hostname: "127.0.0.1", port: 9000 }],
    [{ STATUS_URL: "https://lab.example/jobs/" }, (c) => c.status.url, "https://lab.example/jobs"],
    [{ STATUS_USER_HEADER: "X-Forwarded-User" }, (c) => c.status.userHeader, "X-Forwarded-User"],
    [{ USER: "ada" }, (c) => c.requestedBy, "ada"],
    [{ USER: "ada\u001b[2J" }, (c) => c.requestedBy, undefined],
    [{ REQUESTED_BY: "Ada L.", USER: "ada" }, (c) => c.requestedBy, "Ada L."],
    [{ REQUESTED_BY: "off", USER: "ada" }, (c) => c.requestedBy, undefined],
    [{ STATUS_HOSTS: "a.example, b.svc.cluster.local" }, (c) => c.status.hosts, ["a.example", "b.svc.cluster.local"]],
    [{ TOPIC_PREFIX: "a/b/" }, (c) => c.topicPrefix, "a/b"],
    [{ LOGS_URL: "s3://b/logs/" }, (c) => c.logs.url, "s3://b/logs"],
    [{ S3_ENDPOINT: "http://127.0.0.1:9000" }, (c) => c.s3, { endpoint: "http://127.0.0.1:9000" }],
    [{ AWS_ENDPOINT_URL: "http://a:1", AWS_ENDPOINT_URL_S3: "http://b:2" }, (c) => c.s3.endpoint, "http://b:2"],
    [{ AWS_DEFAULT_REGION: "eu-west-2" }, (c) => c.s3.region, "eu-west-2"],
    [{ HTTPS_PROXY: "http://u:p@proxy:3128", no_proxy: "lab,10.0.0.0/8" }, (c) => c.s3.proxy, {
      https: "http://u:p@proxy:3128/",
      except: "lab,10.0.0.0/8",
    }],
    [{ ALL_PROXY: "proxy:3128" }, (c) => c.s3.proxy?.http, "http://proxy:3128/"],
    [{ ALL_PROXY: "socks5://proxy:1080" }, (c) => c.s3.proxy, undefined],
    [{ HOME: "/home/lab", AWS_CONFIG_FILE: "~/aws" }, (c) => c.s3.files, [
      "/home/lab/.aws/credentials",
      "/home/lab/aws",
    ]],
    [{ LEADER_ELECT: "true" }, (c) => c.leader, {
      leaseName: "mqtt-job-listener",
      times: { durationMs: 30_000, renewDeadlineMs: 20_000, retryMs: 2_000 },
    }],
    [{ LEADER_ELECT: "1", LEASE_DURATION: "2m", LEASE_RENEW_DEADLINE: "90s" }, (c) => c.leader?.times, {
      durationMs: 120_000,
      renewDeadlineMs: 90_000,
      retryMs: 2_000,
    }],
    // The Role in deploy/ allows one name, whatever else is set.
    [
      { LEADER_ELECT: "1", INSTANCE: "Lab_2", TOPIC_PREFIX: "a/b" },
      (c) => c.leader?.leaseName,
      "mqtt-job-listener",
    ],
    [{ HOSTNAME: "pod-1" }, (c) => c.replicaName, "pod-1-r4nd0m"],
  ];
  for (const [env, pick, expected] of cases) {
    await t.step(JSON.stringify(env), () => deepEqual(pick(load(env)), expected));
  }
});

Deno.test("loadConfig() names the variable, its value and what would be right", async (t) => {
  const cases: [Record<string, string>, string][] = [
    [{ CATALOG_POLL: "10" }, 'CATALOG_POLL "10": a duration needs a unit: write 10s or 10m'],
    [{ CATALOG_POLL: "soon" }, 'CATALOG_POLL "soon": write a duration such as 500ms, 10s, 2m, 12h or 7d'],
    [{ CATALOG_POLL: "1ms" }, 'CATALOG_POLL "1ms": write a duration from 100ms to 1d'],
    [{ LOG_MEMORY: "64MB" }, 'LOG_MEMORY "64MB": write "64Mi" (powers of 1024) or "64M" (powers of 1000)'],
    [{ LOG_MEMORY: "4Ki" }, 'LOG_MEMORY "4Ki": write a size of at least 1Mi'],
    [{ CLUSTER: "k8s" }, 'CLUSTER "k8s": write kubernetes or local'],
    [{ HANDLE_RETAINED: "maybe" }, 'HANDLE_RETAINED "maybe": write true or false'],
    [{ CREATE_CONCURRENCY: "0" }, 'CREATE_CONCURRENCY "0": write a whole number from 1 to 1000'],
    [{ MQTT_VERSION: "3" }, 'MQTT_VERSION "3": write 5, or 4 for MQTT 3.1.1'],
    [
      { CATALOG_URL: "https://x/jobs.csv" },
      `CATALOG_URL "https://x/jobs.csv": write the table's s3://bucket/path/jobs.csv, or the path of a file`,
    ],
    [
      { STATUS_USER_HEADER: "Authorization" },
      'STATUS_USER_HEADER "Authorization": write the name of a header that the proxy sets, such as X-Forwarded-User',
    ],
    [
      { STATUS_HOSTS: "https://a.example" },
      'STATUS_HOSTS "https://a.example": write names without scheme and port, with commas, such as ' +
      "jobs.lab.example,jobs.lab.svc.cluster.local",
    ],
    [
      { STATUS_ADDR: "localhost" },
      'STATUS_ADDR "localhost": write host:port such as 127.0.0.1:8080, :8080 for all addresses, or off',
    ],
  ];
  for (const [env, fault] of cases) {
    await t.step(fault, () => deepEqual(faultsOf(env), [fault]));
  }
});

Deno.test("loadConfig() tells all faults at once", () => {
  const env = { CATALOG_POLL: "x", LOG_LEVEL: "loud", TOPIC_PREFIX: "a/+/b", CATALOG_URL: "s3://b/", NAMESPACE: "A_B" };
  equal(faultsOf(env, ["--kube-qps=-1"]).length, 6);
  throws(() => load(env), /^ConfigError: Cannot start: 5 settings are wrong\n {2}TOPIC_PREFIX "a\/\+\/b": /);
});

Deno.test("a fault of a flag is told by the flag's name", () => {
  match(faultsOf({}, ["--log-level", "loud"])[0]!, /^--log-level "loud": write trace, /);
});

Deno.test("no message and no view shows a secret", () => {
  const env = {
    MQTT_URL: "mqtt://lab:hunter22@broker",
    MQTT_PASSWORD: "pass-word",
    STATUS_TOKEN: "to-ken",
    WEBHOOK_URL: "https://hooks.example/T0/s3cr3t",
    AWS_ACCESS_KEY_ID: "AKIA1",
    AWS_SECRET_ACCESS_KEY: "aws-s3cret",
  };
  const config = load(env);
  const secret = /hunter22|pass-word|to-ken|s3cr3t|aws-s3cret|AKIA1/;
  for (const view of [JSON.stringify(publicConfig(config)), JSON.stringify(config), Deno.inspect(config)]) {
    ok(!secret.test(view), view);
    match(view, /"?MQTT_URL"?: ?"mqtt:\/\/broker"/);
  }
  deepEqual(new Set(config.secrets), new Set(["hunter22", "pass-word", "to-ken", env.WEBHOOK_URL, "aws-s3cret"]));
  const faults = faultsOf({ ...env, MQTT_URL: "http://lab:hunter22@broker", WEBHOOK_URL: "s3cr3t" });
  deepEqual(faults, [
    "MQTT_URL: write a URL that begins with mqtt:// or mqtts:// or ws:// or wss://, and a host",
    "WEBHOOK_URL: write a URL that begins with https:// or http://",
  ]);
});

Deno.test("a refused value of a URL setting is never shown, nor is a query", async (t) => {
  const advice = "write / ? # @ in its password as %2F %3F %23 %40; an @ behind the host as %40";
  const cases: [string, string, string][] = [
    ["AWS_ENDPOINT_URL", "http://key:hush/hush@s3", advice],
    ["AWS_ENDPOINT_URL", "http://key:12?hush@s3", advice],
    ["AWS_ENDPOINT_URL", "http://key:12#hush@s3", advice],
    ["AWS_ENDPOINT_URL", "http://key:hush%@s3", "write a % in its user or password as %25"],
    ["AWS_ENDPOINT_URL", "http://key:hush%zz@s3", "write a % in its user or password as %25"],
    ["STATUS_URL", "http://key:hush%ff@s3", "write a % in its user or password as %25"],
    ["AWS_ENDPOINT_URL", "http://key:12/hush@s3", advice],
    ["AWS_ENDPOINT_URL", "hush", "write a URL that begins with https:// or http://"],
    ["STATUS_URL", "ftp://me:hush@page", "write a URL that begins with https:// or http://"],
  ];
  for (const [name, value, words] of cases) {
    await t.step(`${name} ${value}`, () => {
      const [fault = "", ...more] = faultsOf({ [name]: value });
      deepEqual([fault.startsWith(`${name}: `), fault.includes("hush"), more], [true, false, []], fault);
      ok(fault.endsWith(words) || fault.endsWith(advice), fault);
    });
  }
  const shown = publicConfig(load({ STATUS_URL: "https://me:hush@page/x?token=hush-hush" }));
  equal(shown["STATUS_URL"], "https://***@page/x?***");
});

Deno.test("a secret that is written where its file should be named is not shown", () => {
  const [fault] = faultsOf({ MQTT_PASSWORD_FILE: "hunter-22" });
  equal(fault, "MQTT_PASSWORD_FILE: cannot read the file: No such file");
});

Deno.test("secrets may come from files, without the last line end", () => {
  const env = { MQTT_USERNAME: "lab", MQTT_PASSWORD_FILE: "/s/mqtt", STATUS_TOKEN_FILE: "/s/token" };
  const config = load(env, ["--webhook-url-file=/s/hook"], {
    "/s/mqtt": " kept blank \n",
    "/s/token": "t0ken\r\n",
    "/s/hook": "https://hooks.example/x\n",
  });
  equal(config.mqtt.password, " kept blank ");
  equal(config.status.token, "t0ken");
  deepEqual(config.webhook, { url: "https://hooks.example/x", on: "failed" });
});

Deno.test("channels are read one a line or with ;, and no URL of them is shown", () => {
  const file = "imaging=https://hooks.example/a?x=1\n\n gpu = https://hooks.example/b \n";
  const { channels, secrets } = load({ NOTIFY_CHANNELS_FILE: "/s/channels" }, [], { "/s/channels": file });
  deepEqual([...channels], [["imaging", "https://hooks.example/a?x=1"], ["gpu", "https://hooks.example/b"]]);
  ok(secrets.includes("https://hooks.example/b"));
  deepEqual([...load({ NOTIFY_CHANNELS: "a=http://h/1;b=http://h/2;" }).channels.keys()], ["a", "b"]);
  for (
    const wrong of ["https://hooks.example/hush", "a=hush", "A=https://h/hush", "a=https://h/hush;a=https://h/2", "a"]
  ) {
    const [fault = "", ...more] = faultsOf({ NOTIFY_CHANNELS: wrong });
    match(fault, /^NOTIFY_CHANNELS: write name=URL for each channel, .* and each once$/);
    deepEqual([fault.includes("hush"), more], [false, []]);
  }
});

Deno.test("a secret's file that is absent or empty is a fault", () => {
  deepEqual(faultsOf({ MQTT_PASSWORD_FILE: "/s/none", STATUS_TOKEN_FILE: "/s/empty" }, [], { "/s/empty": "\n" }), [
    'MQTT_PASSWORD_FILE "/s/none": cannot read the file: No such file',
    'STATUS_TOKEN_FILE "/s/empty": the file is empty',
  ]);
});

Deno.test("an AWS_CA_BUNDLE of the machine that is no good is a warning, and a fault as a flag", () => {
  for (const file of ["/bad", "/cut", "/missing"]) {
    const files = { "/bad": "hello", "/cut": PEM };
    const { s3, warnings } = load({ AWS_CA_BUNDLE: file }, [], files);
    equal(s3.ca, undefined);
    match(warnings.join(), new RegExp(`^AWS_CA_BUNDLE "${file}" is not used for S3: .+`));
    equal(faultsOf({}, [`--aws-ca-bundle=${file}`], files).length, 1);
  }
});

Deno.test("AWS variables that the SDK cannot see by itself are handed over", () => {
  const config = load(
    { S3_ENDPOINT: "http://s3:9000", AWS_REGION: "eu-1", AWS_SECRET_ACCESS_KEY_FILE: "/s/aws" },
    ["--aws-access-key-id=AKIA1"],
    { "/s/aws": "xyz\n" },
  );
  deepEqual(config.awsEnv, {
    AWS_ENDPOINT_URL: "http://s3:9000",
    AWS_ACCESS_KEY_ID: "AKIA1",
    AWS_SECRET_ACCESS_KEY: "xyz",
  });
});

Deno.test("settings that need each other are checked together", async (t) => {
  const files = { "/c": PEM, "/k": PEM, "/bad": "hello" };
  const tls = { MQTT_URL: "mqtts://broker" };
  const cases: [Record<string, string>, string[]][] = [
    [{ ...tls, MQTT_CERT_FILE: "/c" }, ['MQTT_CERT_FILE "/c": set MQTT_KEY_FILE as well']],
    [{ ...tls, MQTT_KEY_FILE: "/k" }, ['MQTT_KEY_FILE "/k": set MQTT_CERT_FILE as well']],
    [{ ...tls, MQTT_CA_FILE: "/bad" }, ['MQTT_CA_FILE "/bad": the file is not PEM (-----BEGIN …)']],
    [{ ...tls, MQTT_CERT_FILE: "/c", MQTT_KEY_FILE: "/k" }, []],
    [{ AWS_ACCESS_KEY_ID: "A" }, ["AWS_ACCESS_KEY_ID: set AWS_SECRET_ACCESS_KEY as well"]],
    [{ KEEP_RUNS: "3d" }, [
      'KEEP_RUNS "3d": must be at least MQTT_SESSION_EXPIRY: as long as the broker may send a message again, its record ' +
      "is needed",
    ]],
    [{ KEEP_RUNS: "3d", MQTT_SESSION_EXPIRY: "2d" }, []],
    [{ AWS_SECRET_ACCESS_KEY: "A" }, ["AWS_SECRET_ACCESS_KEY: set AWS_ACCESS_KEY_ID as well"]],
    [{ LOGS_URL: "s3://b/x", RUNS_URL: "s3://b/x/" }, ['RUNS_URL "s3://b/x": give it another folder than LOGS_URL']],
    [{ LEADER_ELECT: "true", CLUSTER: "local" }, ['LEADER_ELECT "true": needs CLUSTER=kubernetes, for the lease']],
    [{ LEADER_ELECT: "true", LEASE_DURATION: "20s" }, [
      'LEASE_RENEW_DEADLINE "20s": must be less than LEASE_DURATION, so that a leader that is cut off stops in time',
    ]],
    [{ LEADER_ELECT: "true", LEASE_RENEW_DEADLINE: "5s", LEASE_RETRY_PERIOD: "3s" }, [
      'LEASE_RETRY_PERIOD "3s": must be at most half of LEASE_RENEW_DEADLINE, so that a renewal can be tried again',
    ]],
    [{ LEASE_DURATION: "20s" }, []],
    [
      { MQTT_VERSION: "4", MQTT_PASSWORD: "x" },
      ["MQTT_PASSWORD: set MQTT_USERNAME as well; MQTT 3.1.1 wants both"],
    ],
  ];
  for (const [env, faults] of cases) {
    await t.step(JSON.stringify(env), () => deepEqual(faultsOf(env, [], files), faults));
  }
});

Deno.test("what is probably not meant is a warning", async (t) => {
  const cases: [Record<string, string>, RegExp][] = [
    [{ MQTT_URI: "mqtt://x" }, /^MQTT_URI is set but not used: did you mean MQTT_URL\?$/],
    [{ MQTT_PASSWROD: "x" }, /^MQTT_PASSWROD is set but not used: did you mean MQTT_PASSWORD\?$/],
    [{ STATUS_ADDR: "0.0.0.0:80" }, /^STATUS_ADDR 0\.0\.0\.0:80 is not loopback alone/],
    [{ STATUS_TOKEN: "hunter2" }, /^STATUS_TOKEN has 7 characters: it can be guessed by trying; take at least 16/],
    [{ WEBHOOK_ON: "all" }, /^WEBHOOK_ON is not used: WEBHOOK_URL is not set$/],
    [{ MQTT_CA_FILE: "/ca" }, /^MQTT_CA_FILE is not used: MQTT_URL is not encrypted$/],
    [{ MAX_WAITING_MESSAGES: "5", MQTT_RECEIVE_MAXIMUM: "9" }, /^MQTT_RECEIVE_MAXIMUM 9 is more than /],
  ];
  for (const [env, warning] of cases) {
    await t.step(Object.keys(env).join(), () => {
      const { warnings } = load(env, [], { "/ca": PEM });
      equal(warnings.length, 1);
      match(warnings[0]!, warning);
    });
  }
});

Deno.test("other programs' variables are no warnings", () => {
  const env = {
    MQTT_SERVICE_HOST: "10.0.0.1",
    MQTT_PORT: "tcp://10.0.0.1:1883",
    MQTT_PORT_1883_TCP: "tcp://10.0.0.1:1883",
    KUBERNETES_SERVICE_HOST: "10.0.0.1",
    PATH: "/bin",
    AWS_EC2_METADATA_DISABLED: "true",
    LOGNAME: "root",
  };
  deepEqual(load(env).warnings, []);
});

Deno.test("an unknown flag or argument is a fault with the nearest name", () => {
  deepEqual(faultsOf({}, ["--mqtt-ulr=x", "--mqtt-user", "--nonsense-here=1"]), [
    "--mqtt-ulr: there is no such flag; did you mean --mqtt-url?",
    "--mqtt-user: there is no such flag; did you mean --mqtt-username?",
    "--nonsense-here: there is no such flag; see --help",
  ]);
  deepEqual(faultsOf({}, ["extra"]), ['"extra": no such argument is expected; see --help']);
  deepEqual(faultsOf({}, ["--namespace"]), ["--namespace: give a value after it"]);
});

Deno.test("parseArgs() parts a command's own flags from settings and positionals", () => {
  const args = parseArgs(
    ["logs", "run-1", "-f", "--json", "--since=1h", "--namespace", "lab", "--", "--not-a-flag"],
    { f: "switch", json: "switch", since: "value" },
  );
  deepEqual(args.positionals, ["logs", "run-1", "--not-a-flag"]);
  deepEqual([...args.own], [["f", true], ["json", true], ["since", "1h"]]);
  equal(load({}, args).cluster.namespace, "lab");
  deepEqual(parseArgs(["--json=1"], { json: "switch" }).faults, ["--json: it takes no value"]);
});

Deno.test("loadConfig() reads the policy's text", () => {
  const config = load({ POLICY_FILE: "/p.yaml" }, [], { "/p.yaml": "max_jobs: 4\n" });
  deepEqual(config.policy, { file: "/p.yaml", text: "max_jobs: 4\n" });
  deepEqual(faultsOf({ POLICY_FILE: "/none" }), ['POLICY_FILE "/none": cannot read the file: No such file']);
});

Deno.test("publicConfig() shows what was worked out, and durations as they were written", () => {
  const shown = publicConfig(load({ CATALOG_POLL: "90s", KUBE_QPS: "50" }));
  equal(shown["CATALOG_POLL"], "90s");
  equal(shown["KUBE_QPS"], 50);
  equal(shown["LEADER_ELECT"], false);
  equal(shown["LOGS_URL"], "s3://braingeneers/services/mqtt_job_listener/logs");
});

Deno.test("renderHelp() names every variable, its flag and its default, within its width", () => {
  const help = renderHelp({ width: 100 });
  for (const name of knownNames()) match(help, new RegExp(`\\b${name}\\b`));
  for (const name of Object.keys(SETTINGS)) ok(help.includes(`--${flagName(name)} `), name);
  match(help, /Default: mqtt:\/\/localhost:1883/);
  ok(help.split("\n").every((line) => line.length <= 100));
});

Deno.test("docs/settings.md has each setting as the code has it", async () => {
  const file = new URL("../docs/settings.md", import.meta.url);
  const [begin, end] = ["<!-- config:begin -->", "<!-- config:end -->"];
  const page = await Deno.readTextFile(file);
  const from = page.indexOf(begin);
  const to = page.indexOf(end);
  ok(from >= 0 && to > from, `docs/settings.md needs the marks ${begin} and ${end}`);
  if (Deno.env.get("UPDATE_DOCS")) {
    const text = `${page.slice(0, from)}${begin}\n\n${renderSettings()}\n${page.slice(to)}`;
    await Deno.writeTextFile(file, text);
    return;
  }
  // `deno fmt` breaks lines.
  const plain = (text: string) => text.replace(/\s+/g, " ").trim();
  equal(
    plain(page.slice(from + begin.length, to)),
    plain(renderSettings()),
    "docs/settings.md is behind: UPDATE_DOCS=1 deno test -A tests/config_test.ts && deno fmt docs/settings.md",
  );
});

Deno.test("each setting has a heading of its own in docs/settings.md, so that #mqtt_url leads to it", async () => {
  const page = await Deno.readTextFile(new URL("../docs/settings.md", import.meta.url));
  const headings = [...page.matchAll(/^#+ (.+)$/gm)].map(([, words]) => words!.toLowerCase());
  deepEqual(
    Object.keys(SETTINGS).filter((name) => headings.filter((words) => words === name.toLowerCase()).length !== 1),
    [],
  );
});
