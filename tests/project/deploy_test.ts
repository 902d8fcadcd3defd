/**
 * The files in deploy/ and the Dockerfile, checked as far as that goes without a container engine: they are parsed,
 * compared with the code that they speak of, and given to the programs that read them where those are here.
 * tests/image/ builds and runs them.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { parse, parseAllDocuments } from "yaml";
import { knownNames, loadConfig } from "../../config.ts";
import { SETTINGS } from "../../config/settings.ts";
import { Metrics } from "../../observers/metrics.ts";
import { parsePolicy } from "../../catalog/policy.ts";
import { parseTable } from "../../catalog/table.ts";
import { commandPath, toolPath } from "../harness/cache.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { startMosquitto } from "../harness/mosquitto.ts";
import { needs } from "../harness/needs.ts";
import { accepts, freePort } from "../harness/ports.ts";
import { run, spawn } from "../harness/process.ts";
import { productModules } from "../harness/project.ts";
import { V8_FLAGS } from "../harness/service.ts";
import { eventually } from "../harness/wait.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");
const DEPLOY = `${ROOT}/deploy`;
const read = (path: string) => Deno.readTextFile(`${DEPLOY}/${path}`);

interface ComposeService {
  image: string;
  environment?: Record<string, string>;
  volumes?: (string | { source: string; bind?: { create_host_path?: boolean } })[];
  profiles?: string[];
  healthcheck?: { test: string[] };
  depends_on?: Record<string, { required?: boolean }>;
  user?: string;
  read_only?: boolean;
  cap_drop?: string[];
  security_opt?: string[];
}

/** A Kubernetes object, as far as the tests look into it. */
interface Manifest {
  kind: string;
  metadata: { name: string; namespace?: string };
  data?: Record<string, string>;
  roleRef?: { name: string };
  rules?: { resources: string[]; verbs: string[]; resourceNames?: string[] }[];
  subjects?: { name: string; namespace?: string }[];
  spec?: {
    replicas?: number;
    selector?: Record<string, unknown>;
    ports?: { targetPort: string }[];
    podSelector?: { matchLabels: Record<string, string> };
    ingress?: { ports: { port: string }[] }[];
    template?: {
      metadata: { labels: Record<string, string> };
      spec: {
        serviceAccountName: string;
        securityContext: Record<string, unknown>;
        containers: {
          image: string;
          env: { name: string }[];
          envFrom: { configMapRef?: { name: string }; secretRef?: { optional?: boolean } }[];
          ports: { name: string }[];
          securityContext: Record<string, unknown>;
          volumeMounts: { mountPath: string }[];
        }[];
      };
    };
  };
}

async function compose(): Promise<{ services: Record<string, ComposeService>; volumes: Record<string, unknown> }> {
  return parse(await read("docker-compose.yml"), { merge: true });
}

/** Names of all metrics that the text speaks of, without the parts of histograms. */
function metricNames(text: string): Set<string> {
  const names = text.match(/\b(mqtt_job_listener|process)_[a-z_]+/g) ?? [];
  return new Set(names.map((name) => name.replace(/(_seconds)_(bucket|sum|count)$/, "$1")));
}

function knownMetrics(): Set<string> {
  const metrics = new Metrics({
    version: "0",
    snapshot: () => {
      throw new Error("Nothing is scraped here");
    },
  });
  return new Set(metrics.names());
}

async function filesBelow(dir: string): Promise<string[]> {
  const files: string[] = [];
  for await (const entry of Deno.readDir(dir)) {
    const path = `${dir}/${entry.name}`;
    if (entry.isDirectory) files.push(...await filesBelow(path));
    else files.push(path);
  }
  return files.sort();
}

/** Lines of an env file as NAME → value; those commented out as `#NAME=value` too. */
function envNames(text: string): string[] {
  return [...text.matchAll(/^#?([A-Z][A-Z0-9_]*)=/gm)].map(([, name]) => name!);
}

Deno.test("every YAML and JSON file in deploy/ parses", async () => {
  const files = await filesBelow(DEPLOY);
  ok(files.length > 5);
  for (const file of files) {
    const text = await Deno.readTextFile(file);
    if (/\.ya?ml$/.test(file)) {
      for (const document of parseAllDocuments(text)) deepEqual(document.errors, [], file);
    } else if (file.endsWith(".json")) JSON.parse(text);
  }
});

Deno.test("no file in deploy/ holds a secret", async () => {
  for (const file of [...await filesBelow(DEPLOY), `${ROOT}/Dockerfile`]) {
    const text = await Deno.readTextFile(file);
    ok(!/-----BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}|hooks\.slack\.com\/services\/T\w/.test(text), file);
    ok(!/^\s*#?(\w*(PASSWORD|SECRET\w*|TOKEN|WEBHOOK_URL))=\S/m.test(text.replaceAll("=...", "=")), file);
  }
});

// ---------------------------------------------------------------- Dockerfile

/** A stage of the Dockerfile: what it begins with (a base or an earlier stage), and its lines. */
interface Stage {
  from: string;
  name: string;
  lines: string[];
}

async function stages(): Promise<Stage[]> {
  const parts = (await Deno.readTextFile(`${ROOT}/Dockerfile`)).split(/^FROM /m).slice(1);
  return parts.map((part) => {
    const [first = "", ...lines] = part.split("\n");
    const [from = "", name = ""] = first.split(" AS ");
    return { from, name, lines };
  });
}

Deno.test("the Dockerfile pins its bases; both targets are on a small one as an unprivileged user", async () => {
  const all = await stages();
  const bases = all.map(({ from }) => from).filter((from) => !all.some(({ name }) => name === from));
  equal(bases.length, 2);
  match(bases[0]!, /^[\w./-]+:debian-\d+\.\d+\.\d+$/);
  match(bases[1]!, /^[\w./-]+distroless\/cc-debian12:nonroot$/);
  const small = all.find(({ from }) => from === bases[1])!;
  match(small.lines.find((line) => line.startsWith("USER "))!, /^USER [1-9]\d*:[1-9]\d*$/);
  const targets = all.filter(({ from }) => from === small.name);
  // The last one is what is built where none is named.
  deepEqual(targets.map(({ name }) => name), ["deno", "binary"]);
  equal(all.at(-1), targets.at(-1));
  for (const { lines } of [small, ...targets]) {
    ok(!lines.some((line) => line.startsWith("RUN ")), "the base has no shell");
    ok(lines === small.lines || !lines.some((line) => line.startsWith("USER ")), "the user is the base's");
  }
});

Deno.test("the Dockerfile's targets run with the same permissions and flags, each named", async () => {
  const text = await Deno.readTextFile(`${ROOT}/Dockerfile`);
  const compile = /^RUN deno compile([^]*?)\.js$/m.exec(text)?.[1] ?? "";
  ok(!/(^|\s)(-A|--allow-all)\b/.test(compile));
  ok(!/--allow-(read|write|run|sys|ffi)(\s|$)/.test(compile), "these need a list");
  const flags = compile.split(/[\s\\]+/).filter((word) => word.startsWith("--") && word !== "--output");
  for (const flag of ["--allow-net", "--allow-env", "--allow-read=", "--allow-sys=", "--no-prompt"]) {
    ok(flags.some((one) => one.startsWith(flag)), flag);
  }
  const entry = /^ENTRYPOINT (\["\/usr\/local\/bin\/deno"[^\]]*\])/m.exec(text)?.[1] ?? "[]";
  const words: string[] = JSON.parse(entry.replaceAll("\\\n", ""));
  deepEqual(words.slice(1, -1).sort(), ["run", ...flags].sort());
});

Deno.test("the Dockerfile fetches nothing by itself, holds no secret, and checks its health by the binary", async () => {
  const text = await Deno.readTextFile(`${ROOT}/Dockerfile`);
  ok(!/^ADD\b/m.test(text));
  ok(!/\b(curl|wget)\b/.test(text));
  ok(!/^(ENV|ARG)\b[^\n]*(PASSWORD|SECRET|TOKEN)/mi.test(text));
  match(text, /^HEALTHCHECK [^]*?CMD \["\/usr\/local\/bin\/mqtt-job-listener", "health"\]$/m);
  match(text, /^ENTRYPOINT \["\/usr\/local\/bin\/mqtt-job-listener"\]$/m);
});

Deno.test("what the Dockerfile copies is there and not ignored", async () => {
  const text = await Deno.readTextFile(`${ROOT}/Dockerfile`);
  const ignored = (await Deno.readTextFile(`${ROOT}/.dockerignore`)).split("\n");
  for (const [, files] of text.matchAll(/^COPY (?!--from)(.+) \S+$/gm)) {
    for (const file of files!.split(" ")) {
      ok(ignored.includes(`!${file}`), `.dockerignore leaves ${file} out`);
      if (!file.includes("*")) await Deno.stat(`${ROOT}/${file}`);
    }
  }
});

Deno.test("the Dockerfile copies each folder of the product", async () => {
  const text = await Deno.readTextFile(`${ROOT}/Dockerfile`);
  const folders = new Set(
    (await productModules()).filter((module) => module.includes("/")).map((path) => path.split("/")[0]),
  );
  deepEqual([...folders].filter((folder) => !text.includes(`\nCOPY ${folder} ./${folder}\n`)), []);
});

/** For glibc: what is freed goes back to the kernel. */
const MALLOC = "MALLOC_MMAP_THRESHOLD_=65536";

Deno.test("the start task, the image and the unit tell malloc to give memory back", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(`${ROOT}/deno.json`));
  ok(tasks.start.command.startsWith(`${MALLOC} deno run `));
  ok((await Deno.readTextFile(`${ROOT}/Dockerfile`)).includes(`\nENV ${MALLOC}\n`));
  ok((await read("mqtt-job-listener.service")).includes(`\nEnvironment=${MALLOC}\n`));
});

Deno.test("the image and the compiled binary run with the start task's flags for V8", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(`${ROOT}/deno.json`));
  ok(tasks.compile.command.includes(`${V8_FLAGS} `));
  ok((await Deno.readTextFile(`${ROOT}/Dockerfile`)).includes(`${V8_FLAGS} `));
});

Deno.test("the image, the compose file, the manifests and deno.json name the same version", async () => {
  const { version } = JSON.parse(await Deno.readTextFile(`${ROOT}/deno.json`));
  ok((await Deno.readTextFile(`${ROOT}/Dockerfile`)).includes(`image.version="${version}"`));
  equal((await compose()).services["listener"]!.image, `mqtt-job-listener:${version}`);
  equal(parse(await read("kustomization.yaml")).images[0].newTag, version);
});

// ---------------------------------------------------------------- compose

Deno.test("every image of the compose file is pinned by a tag", async () => {
  for (const [name, { image }] of Object.entries((await compose()).services)) {
    match(image, /^[\w./-]+:v?\d+\.\d+\.\d+$/, name);
  }
});

Deno.test("the compose file sets only variables that the service knows", async () => {
  const { environment = {} } = (await compose()).services["listener"]!;
  const unknown = Object.keys(environment).filter((name) => !knownNames().includes(name));
  deepEqual(unknown, []);
});

Deno.test("the compose file's settings are right with the example's environment", async () => {
  const { environment = {} } = (await compose()).services["listener"]!;
  const example = (await read(".env.example")).split("\n").flatMap((line) => {
    const [, name, value] = /^([A-Z_]+)=(.*)$/.exec(line) ?? [];
    return name === undefined ? [] : [[name, value!]];
  });
  const set: Record<string, string> = { ...Object.fromEntries(example), AWS_SECRET_ACCESS_KEY: "chosen" };
  const env = Object.fromEntries(
    Object.entries(environment).map(([name, value]) => [name, interpolated(value, set)]),
  );
  const config = loadConfig({ env, readTextFile: () => "" });
  equal(config.mqtt.url, "mqtt://mosquitto:1883");
  equal(config.s3.endpoint, "http://s3:7070");
  deepEqual(config.status.listen, { hostname: "0.0.0.0", port: 8080 });
});

Deno.test("the compose file leaves the service's health to the image and keeps what must be kept", async () => {
  const { services, volumes } = await compose();
  const listener = services["listener"]!;
  // Each target of the Dockerfile has its own command for it.
  equal(listener.healthcheck, undefined);
  for (const { name, from, lines } of await stages()) {
    if (from === "base") ok(/^HEALTHCHECK [^]*"health"\]$/m.test(lines.join("\n")), name);
  }
  ok(listener.user !== undefined);
  for (const [name, service] of Object.entries(services)) {
    for (const volume of service.volumes ?? []) {
      if (typeof volume !== "string") {
        // Docker makes a folder where there is no file, and mounts that.
        equal(volume.bind?.create_host_path, false, `${name}: ${volume.source}`);
        continue;
      }
      const source = /^(?:\$\{[^}]*\}|[^:]*)/.exec(volume)![0];
      if (source.startsWith("$")) continue;
      if (source.startsWith(".")) await Deno.stat(`${DEPLOY}/${source}`);
      else ok(source in volumes, `${name}: volume ${source} is not declared`);
    }
  }
  ok(services["mosquitto"]!.volumes?.some((volume) => String(volume).endsWith(":/mosquitto/data")));
});

Deno.test("every service of the compose file is closed off, and its secrets must be set", async () => {
  const { services } = await compose();
  for (const [name, service] of Object.entries(services)) {
    deepEqual(
      [service.read_only, service.cap_drop, service.security_opt],
      [true, ["ALL"], ["no-new-privileges:true"]],
      name,
    );
  }
  for (
    const secret of [
      services["listener"]!.environment!["AWS_SECRET_ACCESS_KEY"],
      services["s3"]!.environment!["ROOT_SECRET_KEY"],
    ]
  ) {
    match(String(secret), /^\$\{AWS_SECRET_ACCESS_KEY:\?/);
  }
});

Deno.test("without a profile the compose file starts the service alone", async () => {
  const { services } = await compose();
  const alone = Object.entries(services).filter(([, { profiles = [] }]) => profiles.length === 0);
  deepEqual(alone.map(([name]) => name), ["listener"]);
  for (const [name, { required }] of Object.entries(services["listener"]!.depends_on ?? {})) {
    ok(name in services && required === false, name);
  }
});

Deno.test("every variable of the compose file is in .env.example, and the other way round", async () => {
  const text = (await read("docker-compose.yml")).replace(/^\s*#.*$/gm, "");
  const used = new Set([...text.matchAll(/(?<!\$)\$\{([A-Z0-9_]+)/g)].map(([, name]) => name!));
  const told = new Set(envNames(await read(".env.example")));
  told.delete("COMPOSE_PROFILES");
  deepEqual([...told].filter((name) => !used.has(name)), []);
  deepEqual([...used].filter((name) => !told.has(name)), []);
});

Deno.test({
  name: "docker compose accepts the file",
  ignore: !await needs("docker-compose"),
  async fn() {
    const out = await run(toolPath("docker-compose")!, [
      "-f",
      `${DEPLOY}/docker-compose.yml`,
      "--profile",
      "dev",
      "config",
    ], {
      env: { KUBECONFIG_FILE: "/dev/null", AWS_SECRET_ACCESS_KEY: "x" },
    });
    match(out, /mosquitto_sub/);
  },
});

/** `${NAME:-default}` as compose fills it in. */
function interpolated(text: string, env: Record<string, string>): string {
  return text.replace(/\$\{([A-Z0-9_]+)(?::[-?]([^}]*))?\}/g, (_, name: string, preset = "") => env[name] || preset);
}

// ---------------------------------------------------------------- the broker and the table of the profile dev

Deno.test({
  name: "mosquitto starts with mosquitto.conf and keeps a message over kill -9",
  ignore: !await needs("mosquitto"),
  async fn() {
    const dir = await scratchFolder("deploy");
    try {
      const port = freePort();
      const conf = (await read("mosquitto.conf"))
        .replace(/^listener 1883$/m, `listener ${port} 127.0.0.1`)
        .replace("/mosquitto/data/", `${dir}/`);
      await Deno.writeTextFile(`${dir}/mosquitto.conf`, Deno.uid() === 0 ? `user root\n${conf}` : conf);
      const start = () =>
        spawn({
          name: "mosquitto",
          command: commandPath("mosquitto")!,
          args: ["-c", `${dir}/mosquitto.conf`],
          dir,
          ready: () => accepts(port),
        });
      const clientArgs = ["-h", "127.0.0.1", "-p", String(port), "-t", "a/b", "-q", "1"];
      const subscribe = ["-i", "listener", "-c", ...clientArgs];
      {
        await using broker = await start();
        const log = (await broker.log()).replace(/.*should not be run as root.*/, "");
        ok(!/Error|Warning|Note:/i.test(log), log);
        await run("mosquitto_sub", [...subscribe, "-E"]);
        await run("mosquitto_pub", [...clientArgs, "-m", "kept"]);
        // It acknowledges before it writes.
        await eventually(async () => (await Deno.readTextFile(`${dir}/mosquitto.db`)).includes("kept"));
        await broker.kill9();
      }
      await using _broker = await start();
      equal(await run("mosquitto_sub", [...subscribe, "-C", "1", "-W", "5"]), "kept\n");
    } finally {
      await removeFolder(dir);
    }
  },
});

Deno.test({
  name: "mosquitto.conf holds more than the default of 1,000 messages for a service that is away",
  ignore: !await needs("mosquitto"),
  async fn() {
    const limits = (await read("mosquitto.conf")).split("\n").filter((line) => /^max_/.test(line));
    await using broker = await startMosquitto({ conf: limits });
    const at = ["-h", "127.0.0.1", "-p", String(broker.port), "-t", "a/b", "-q", "1"];
    await run("mosquitto_sub", ["-i", "listener", "-c", ...at, "-E"]);
    await run("mosquitto_pub", [...at, "--repeat", "3000", "-m", "x"]);
    const kept = await run("mosquitto_sub", ["-i", "listener", "-c", ...at, "-C", "3000", "-W", "10"]);
    equal(kept.trim().split("\n").length, 3000);
  },
});

Deno.test("the first table of the profile dev has no problem, also by the example policy", async () => {
  const policy = parsePolicy(await read("policy.yaml"));
  const table = parseTable(await read("jobs.csv"), { topicPrefix: "services/mqtt_job_listener" });
  deepEqual(table.problems, []);
  deepEqual(table.rows.map(({ jobName }) => jobName), ["hello", "goodbye"]);
  deepEqual(table.rows[0]!.command, ["sh", "-c", 'echo "Hello, $MQTT_PAYLOAD"']);
  equal(policy.maxJobs, 400);
});

// ---------------------------------------------------------------- Kubernetes

Deno.test("kustomization.yaml lists files that exist, and all manifests", async () => {
  const { resources, configMapGenerator } = parse(await read("kustomization.yaml"));
  const listed: string[] = [
    ...resources,
    ...configMapGenerator.flatMap((one: { files?: string[]; envs?: string[] }) => [
      ...one.files ?? [],
      ...one.envs ?? [],
    ]),
  ];
  for (const file of listed) await Deno.stat(`${DEPLOY}/${file}`);
  for (const file of await filesBelow(`${DEPLOY}/kubernetes`)) ok(listed.includes(file.slice(DEPLOY.length + 1)), file);
});

Deno.test("kubernetes/settings.env and the Deployment set only variables that the service knows, rightly", async () => {
  const settings = await read("kubernetes/settings.env");
  const lines = settings.split("\n").filter((line) => /^[A-Z]/.test(line));
  const env = Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2)));
  const [deployment] = parseAllDocuments(await read("kubernetes/deployment.yaml")).map((one) => one.toJS() as Manifest);
  const container = deployment!.spec!.template!.spec.containers[0]!;
  const named = [...Object.keys(env), ...container.env.map(({ name }) => name)];
  named.push(...[...settings.matchAll(/--from-literal=([A-Z_]+)/g)].map(([, name]) => name!));
  deepEqual(named.filter((name) => !knownNames().includes(name)), []);
  const config = loadConfig({ env: { ...env, STATUS_TOKEN: "a token of more than 16" }, readTextFile: () => "" });
  deepEqual(config.warnings, []);
  equal(config.leader?.leaseName, SETTINGS.LEASE_NAME.preset);
  // With nothing set but what must differ, the lease is the one that the Role allows.
  match(await read("role.yaml"), new RegExp(`resourceNames: \\[${SETTINGS.LEASE_NAME.preset}\\]`));
  const policyFile = env["POLICY_FILE"]!;
  ok(container.volumeMounts.some(({ mountPath }) => policyFile.startsWith(`${mountPath}/`)));
});

Deno.test({
  name: "kubectl kustomize builds manifests that fit together",
  ignore: !await needs("kubectl"),
  async fn() {
    const text = await run("kubectl", ["kustomize", DEPLOY]);
    const all = parseAllDocuments(text).map((document) => document.toJS() as Manifest);
    const one = (kind: string) => all.find((manifest) => manifest.kind === kind) ?? ({} as Manifest);
    const { spec } = one("Deployment");
    const pod = spec!.template!.spec;
    equal(spec!.replicas, 2);
    ok(all.some(({ kind, metadata }) => kind === "ServiceAccount" && metadata.name === pod.serviceAccountName));
    equal(one("RoleBinding").roleRef!.name, one("Role").metadata.name);
    deepEqual(one("RoleBinding").subjects!.map(({ name, namespace }) => [name, namespace]), [
      [pod.serviceAccountName, "mqtt-job-listener"],
    ]);
    const container = pod.containers[0]!;
    match(container.image, /^mqtt-job-listener:\d+\.\d+\.\d+$/);
    const [map] = container.envFrom;
    ok(all.some(({ kind, metadata }) => kind === "ConfigMap" && metadata.name === map!.configMapRef!.name));
    // Both select the Deployment's pods.
    const { labels } = spec!.template!.metadata;
    for (const [name, value] of Object.entries(one("Service").spec!.selector!)) equal(labels[name], value);
    equal(one("Service").spec!.ports![0]!.targetPort, container.ports[0]!.name);
    const { podSelector, ingress } = one("NetworkPolicy").spec!;
    for (const [name, value] of Object.entries(podSelector!.matchLabels)) equal(labels[name], value);
    deepEqual(ingress!.flatMap(({ ports }) => ports.map(({ port }) => port)), [container.ports[0]!.name]);
    // Of Pod Security "restricted".
    equal(pod.securityContext["runAsNonRoot"], true);
    deepEqual(pod.securityContext["seccompProfile"], { type: "RuntimeDefault" });
    equal(container.securityContext["allowPrivilegeEscalation"], false);
    deepEqual(container.securityContext["capabilities"], { drop: ["ALL"] });
    // The Role names the lease that the settings name.
    const settings = all.find(({ kind, data }) => kind === "ConfigMap" && data?.["LEASE_NAME"] !== undefined)!;
    const leases = one("Role").rules!.filter(({ resources }) => resources.includes("leases"));
    ok(leases.length > 0);
    for (const { resourceNames } of leases) {
      if (resourceNames !== undefined) ok(resourceNames.includes(settings.data!["LEASE_NAME"]!));
    }
  },
});

// ---------------------------------------------------------------- systemd

Deno.test({
  name: "systemd accepts the unit, and finds it well closed off",
  ignore: !await needs("systemd-analyze"),
  async fn() {
    const dir = await scratchFolder("unit");
    try {
      const unit = (await read("mqtt-job-listener.service")).replace("/usr/local/bin/mqtt-job-listener", "/bin/true");
      await Deno.writeTextFile(`${dir}/mqtt-job-listener.service`, unit);
      const analyze = async (...args: string[]) => {
        const command = new Deno.Command("systemd-analyze", { args: [...args, `${dir}/mqtt-job-listener.service`] });
        const { stdout, stderr } = await command.output();
        return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
      };
      const said = await analyze("verify", "--man=no");
      deepEqual(said.split("\n").filter((line) => line.includes("mqtt-job-listener.service")), []);
      const exposure = /exposure level for [^:]*: ([\d.]+)/.exec(await analyze("security", "--offline=true"))?.[1];
      ok(exposure !== undefined && Number(exposure) < 3, `exposure ${exposure}`);
    } finally {
      await removeFolder(dir);
    }
  },
});

Deno.test("the unit sets only variables that the service knows, and HOME", async () => {
  const unit = await read("mqtt-job-listener.service");
  const names = [...unit.matchAll(/^#?\s*Environment=([A-Z_]+)=/gm)].map(([, name]) => name!);
  ok(names.length >= 2);
  const others = ["HOME", MALLOC.split("=")[0]!];
  deepEqual(names.filter((name) => !others.includes(name) && !knownNames().includes(name)), []);
});

// ---------------------------------------------------------------- dashboard and alerts

Deno.test("the dashboard shows only metrics that there are, and all of the service's", async () => {
  const text = await read("grafana-dashboard.json");
  const shown = metricNames(text);
  const known = knownMetrics();
  deepEqual([...shown].filter((name) => !known.has(name)), []);
  const unseen = [...known].filter((name) => name.startsWith("mqtt_job_listener_") && !shown.has(name));
  deepEqual(unseen, []);
});

Deno.test("the dashboard's panels have an id each and do not overlap", async () => {
  interface Panel {
    id: number;
    title: string;
    gridPos: { x: number; y: number; w: number; h: number };
    targets?: { expr: string }[];
  }
  const { panels }: { panels: Panel[] } = JSON.parse(await read("grafana-dashboard.json"));
  equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const taken = new Map<string, string>();
  for (const { title, gridPos: { x, y, w, h } } of panels) {
    ok(x + w <= 24, title);
    for (let at = 0; at < w * h; at++) {
      const cell = `${x + at % w},${y + Math.floor(at / w)}`;
      equal(taken.get(cell), undefined, `${title} lies on ${taken.get(cell)}`);
      taken.set(cell, title);
    }
  }
  for (const { title, targets = [] } of panels) for (const { expr } of targets) ok(isBalanced(expr), title);
});

Deno.test("the alerts are on metrics that there are, and tell what to do", async () => {
  interface Rule {
    alert: string;
    expr: string;
    labels: { severity: string };
    annotations: { summary: string; description: string };
  }
  const { groups }: { groups: { rules: Rule[] }[] } = parse(await read("alerts.yaml"));
  const rules = groups.flatMap((group) => group.rules);
  equal(new Set(rules.map(({ alert }) => alert)).size, rules.length);
  const known = knownMetrics();
  for (const { alert, expr, labels, annotations } of rules) {
    match(alert, /^MqttJobListener[A-Z]/);
    ok(isBalanced(expr), alert);
    const used = metricNames(expr);
    ok(used.size > 0, alert);
    deepEqual([...used].filter((name) => !known.has(name)), [], alert);
    match(labels.severity, /^(critical|warning)$/);
    ok(annotations.summary.length > 10 && annotations.description.length > 10, alert);
  }
});

function isBalanced(expr: string): boolean {
  const closers: string[] = [];
  for (const char of expr.replace(/"[^"]*"/g, "")) {
    if (char === "(") closers.push(")");
    else if (char === "[") closers.push("]");
    else if (char === "{") closers.push("}");
    else if (")]}".includes(char) && closers.pop() !== char) return false;
  }
  return closers.length === 0;
}
