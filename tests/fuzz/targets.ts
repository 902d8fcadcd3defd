/**
 * What is fuzzed: each place where something from outside is read. A target reads one input and throws where a promise
 * is broken: an error of another class than its caller expects, words without bounds, or too much processor time (the
 * fuzzer measures that).
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { describeFinding, importedCsv, importedTemplates, importManifests } from "../../catalog/import.ts";
import { parsePolicy } from "../../catalog/policy.ts";
import { compileCondition } from "../../catalog/conditions.ts";
import { readSheet } from "../../catalog/sheet.ts";
import { compileTimetable } from "../../catalog/timetables.ts";
import { parseTable, rowsFor } from "../../catalog/table.ts";
import { Actions, controlFilters, handleControl } from "../../control.ts";
import { describeProblem } from "../../catalog/problem.ts";
import { ConfigError, loadConfig } from "../../config.ts";
import { KubeClient } from "../../k8s/client.ts";
import { eventFacts, jobFacts, podFacts } from "../../k8s/facts.ts";
import { openKubeConfig } from "../../k8s/kubeconfig.ts";
import { ListWatch, type WatchedObject } from "../../k8s/list_watch.ts";
import { jobFault } from "../../k8s/own.ts";
import { buildJob } from "../../k8s/manifest.ts";
import { parsePodTemplates } from "../../k8s/pod_templates.ts";
import { originOf } from "../../listener.ts";
import { RefusedError, UnavailableError } from "../../ports.ts";
import { RunRecords } from "../../records.ts";
import { jobNameFault, messageEnv, payloadFits, runNameFor } from "../../run_spec.ts";
import { completeTopic, covers, endName, filterFault, matches, overlap, topicFault, uncovered } from "../../topics.ts";
import { errorMessage } from "../../util/errors.ts";
import { aRecord, delivery, FakeBroker, FakeCluster, FakeStore, row } from "../harness/fakes.ts";
import { FakeApi, isWatch } from "../harness/fake_api.ts";
import { anApp, ORIGIN, PREFIX } from "../harness/page_kit.ts";
import { bytesOf } from "./mutate.ts";

export interface Target extends AsyncDisposable {
  readonly seeds: readonly string[];
  run(text: string, number: number): void | Promise<void>;
}

export type Targets = Readonly<Record<string, () => Promise<Target>>>;

const NONE = { [Symbol.asyncDispose]: () => Promise.resolve() };
const read = (path: string) => Deno.readTextFileSync(new URL(`../../${path}`, import.meta.url));

/** Words for people are of a bounded length. Orders for terminals are taken out where words leave the program. */
export function checkWords(words: string, most = 4_000): void {
  ok(words.length <= most, `words of ${words.length} characters: ${JSON.stringify(words.slice(0, 100))}`);
}

/** An error in our own words, such as `Cannot read …: …`. */
class SaidError extends Error {
  static override [Symbol.hasInstance](error: unknown): boolean {
    return error instanceof Error && error.message.startsWith("Cannot ");
  }
}

/** Runs `work`; errors of these classes are answers, and their words are checked. */
async function expecting(
  classes: readonly (abstract new (...args: never[]) => Error)[],
  work: () => unknown,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!classes.some((one) => error instanceof one)) throw error;
    checkWords(errorMessage(error));
  }
}

function tableSeeds(): string[] {
  const folders = ["tests/data/", "tests/data/faults/"];
  const files = folders.flatMap((folder) =>
    [...Deno.readDirSync(new URL(`../../${folder}`, import.meta.url))]
      .filter(({ name }) => name.endsWith(".csv")).map(({ name }) => read(folder + name))
  );
  return [...files, read("deploy/jobs.csv")];
}

const END = JSON.stringify({
  status: "succeeded",
  run_name: "sort-abcdefgh2345",
  root_run: "sort-abcdefgh2345",
  chain_depth: 0,
  input: '{"uuid":"x"}',
  traceparent: "00-11112222333344445555666677778888-1111222233334444-01",
  tracestate: "lab=1,other@lab=2",
});

const JOB = JSON.stringify(buildJob({
  runName: "sort-abcdefgh2345",
  row: row({ jobName: "sort" }),
  message: { topic: "lab/up", payload: new TextEncoder().encode('{"a":1}') },
  messageHash: "abcdefgh2345",
  root: "rootrootroot",
  rootRun: "sort-abcdefgh2345",
  chainDepth: 0,
  receivedAt: new Date(0),
  // deno-lint-ignore no-explicit-any
} as any, { namespace: "lab", instance: "lab", ttlSecondsAfterFinished: 60 }));

export const TARGETS: Targets = {
  table: () =>
    Promise.resolve({
      ...NONE,
      seeds: tableSeeds(),
      run(text, number) {
        const table = parseTable(bytesOf(number, text), { topicPrefix: PREFIX });
        for (const problem of table.problems.slice(0, 50)) {
          ok(problem.line >= 1 && problem.message !== "", "a problem has a line and words");
          checkWords(describeProblem(problem));
        }
        for (const one of table.rows) {
          // What starts itself needs no topic.
          const startsItself = one.schedule !== undefined || one.needs !== undefined;
          if (one.mqttTopic !== "" || !startsItself) equal(filterFault(one.mqttTopic), undefined);
          equal(jobNameFault(one.jobName), undefined);
          ok(runNameFor(one, { key: "k" }).length <= 63, "a run's name fits");
        }
        rowsFor(table, "lab/a");
      },
    }),

  import: () =>
    Promise.resolve({
      ...NONE,
      seeds: [...Deno.readDirSync(new URL("../../tests/data/manifests/", import.meta.url))]
        .map(({ name }) => read(`tests/data/manifests/${name}`)),
      run(text) {
        const { rows, templates, findings } = importManifests([{ name: "x.yaml", text }], {
          topic: "lab/{name}",
          topicPrefix: PREFIX,
        });
        for (const finding of findings.slice(0, 50)) checkWords(describeFinding(finding));
        // What is made is read as it is: a table without errors, templates without faults.
        if (rows.length > 0) {
          const table = parseTable(importedCsv(rows), { topicPrefix: PREFIX });
          deepEqual(table.problems.filter(({ severity }) => severity === "error"), []);
          equal(table.rows.length, rows.length);
        }
        const printed = importedTemplates(templates);
        deepEqual(parsePodTemplates({ "x.yaml": printed }, { allowPrivileged: true }).faults, []);
      },
    }),

  payload: () =>
    Promise.resolve({
      ...NONE,
      seeds: [
        END,
        '{"idempotency-key":"k","a":1,"b":"x","c":true,"d":null,"e":[1],"f":{"g":2}}',
        "text",
        "1",
        '"s"',
        "",
      ],
      run(text, number) {
        const payload = bytesOf(number, text);
        for (const topic of ["lab/up", completeTopic(PREFIX, "sort")]) {
          const origin = originOf({ topic, payload }, PREFIX);
          ok(Number.isSafeInteger(origin.chainDepth) && origin.chainDepth >= 0, `depth ${origin.chainDepth}`);
          ok(/^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})?$/.test(origin.traceparent ?? ""), "a trace context");
          ok(/^[\x20-\x7e]{0,512}$/.test(origin.tracestate ?? ""), "a trace's state");
        }
        if (!payloadFits(payload)) return;
        const env = messageEnv({ message: { topic: "t", payload }, row: row(), runName: "r-abcdefgh2345" });
        for (const [name, value] of Object.entries(env)) {
          ok(/^[A-Z_][A-Z0-9_]*$/.test(name), `variable ${JSON.stringify(name)}`);
          ok(!value.includes("\0") && value.isWellFormed(), `value of ${name}`);
        }
      },
    }),

  topics: () =>
    Promise.resolve({
      ...NONE,
      seeds: ["lab/+/done", "lab/#", `${PREFIX}/job_complete/sort`, "a/b/c", "#", "+", "$SYS/x", "/", ""],
      run(text) {
        const [a = "", b = ""] = text.split("\n");
        const [fault, other] = [filterFault(a), topicFault(b)];
        if (fault !== undefined) checkWords(fault);
        if (other !== undefined) checkWords(other);
        if (fault !== undefined || other !== undefined) return;
        const found = matches(a, b);
        if (covers(a, b)) ok(found, "what covers a topic matches it");
        if (found) ok(overlap(a, b), "what matches overlaps");
        ok(uncovered([a, b]).length >= 1);
        endName(PREFIX, b);
      },
    }),

  policy: () =>
    Promise.resolve({
      ...NONE,
      seeds: [read("deploy/policy.yaml"), "max_jobs: 4\nbanned_commands: [sleep]\n", ""],
      run: (text) => expecting([TypeError], () => parsePolicy(text)),
    }),

  templates: () =>
    Promise.resolve({
      ...NONE,
      seeds: [
        "kind: PodTemplate\nmetadata: {name: a}\ntemplate: {spec: {containers: [{name: main, env: [{name: A}]}]}}\n",
        "kind: PodTemplateList\nitems: [{kind: PodTemplate, metadata: {name: b}, template: {spec: {hostPID: true}}}]\n",
      ],
      run(text) {
        const { byName, faults } = parsePodTemplates({ "t.yaml": text.slice(0, 20_000) }, { allowPrivileged: false });
        for (const words of faults) checkWords(words);
        for (const one of byName.values()) if ("fault" in one) checkWords(one.fault);
      },
    }),

  schedules: () =>
    Promise.resolve({
      ...NONE,
      seeds: ["0 3 * * 1-5", "*/7 0-23/2 L 2,4 MON#2", "@daily", "59 23 31W dec sun", "every 30m"],
      run(text, number) {
        const zone = ["UTC", "Europe/Berlin", "Australia/Lord_Howe"][number % 3]!;
        const all = compileTimetable({ cron: text.slice(0, 200).trim().toLowerCase() }, zone);
        if ("fault" in all) return checkWords(all.fault);
        const from = new Date("2026-03-28T12:00:00Z");
        const next = all.next(from);
        ok(next === undefined || next > from, "the next time is later");
        if (next) deepEqual(all.last(new Date(next.getTime() - 1), next), next);
      },
    }),

  sheets: () =>
    Promise.resolve({
      ...NONE,
      seeds: ['uuid,mode\na,fast\n"b ""x""",slow\n', "uuid;mode\r\na;b\r\n", "sep=\t\nuuid\tmode\na\tb", "n\n1\n1\n"],
      run(text, number) {
        const inputs = [{ name: "uuid", required: true }, { name: "mode", required: false, choices: ["fast", "slow"] }];
        const sheet = readSheet(bytesOf(number, text), { row: { inputs } });
        for (const problem of sheet.problems.slice(0, 50)) {
          ok(problem.line >= 1 && problem.message !== "", "a problem has a line and words");
          checkWords(describeProblem(problem));
        }
        for (const { payload } of sheet.lines) {
          const { uuid, mode } = JSON.parse(payload);
          ok(typeof uuid === "string" && uuid !== "" && [undefined, "fast", "slow"].includes(mode), payload);
        }
      },
    }),

  conditions: () =>
    Promise.resolve({
      ...NONE,
      seeds: [
        'payload.size > 1000 && payload.kind == "raw"',
        'has(payload.a) ? topic.matches("^a+$") : input.x in [1, 2]',
      ],
      run(text) {
        const condition = compileCondition(text.slice(0, 1_000));
        if ("fault" in condition) return checkWords(condition.fault);
        const { because } = condition.evaluate({ topic: text, payload: { size: text, kind: [text] }, input: {} });
        ok(because.length < 2_000, "the values that decided are cut");
      },
    }),

  kubeconfig: async () => {
    const dir = await Deno.makeTempDir({ prefix: "mjl-fuzz-" });
    return {
      seeds: [...Deno.readDirSync(new URL("../data/kubeconfig/", import.meta.url))].map(({ name }) =>
        read(`tests/data/kubeconfig/${name}`)
      ),
      async run(text) {
        await Deno.writeTextFile(`${dir}/config`, text);
        // A command of the file must not run here.
        await expecting([SaidError, TypeError], () => openKubeConfig({ kubeconfig: `${dir}/config` }));
      },
      [Symbol.asyncDispose]: () => Deno.remove(dir, { recursive: true }),
    };
  },

  settings: () =>
    Promise.resolve({
      ...NONE,
      seeds: [
        "MQTT_URL=mqtt://u:p@broker:1883\nCATALOG_URL=s3://b/k.csv\nSTATUS_ADDR=:8080\n",
        "MQTT_URL=wss://b/x?token=hunter2\nCATALOG_POLL=5s\nLOG_LEVEL=debug\nAWS_ENDPOINT_URL=https://a:b@c\n",
      ],
      run(text) {
        const env = Object.fromEntries(
          text.split("\n").map((line) => [line.split("=", 1)[0], line.split("=").slice(1).join("=")]),
        );
        return expecting([ConfigError], () => loadConfig({ env, args: [], readTextFile: () => "" }));
      },
    }),

  requests: () => {
    const [broker, cluster, store] = [new FakeBroker(), new FakeCluster(), new FakeStore()];
    const signal = new AbortController().signal;
    // deno-lint-ignore no-explicit-any
    const parts: any = {
      catalog: {
        table: undefined,
        refresh: () => Promise.resolve({}),
        row: () => undefined,
        rowNamed: () => undefined,
      },
      listener: {},
      records: new RunRecords(store),
      payloads: store,
      cluster,
      topicPrefix: PREFIX,
    };
    const actions = new Actions(parts);
    return Promise.resolve({
      ...NONE,
      seeds: [
        'cancel\n{"run_name":"sort-abcdefgh2345","transaction":1}',
        'rerun\n{"run_name":"../../x"}',
        'run\n{"job_name":"sort","payload":{"a":1},"transaction":"t"}',
        "refresh\n{}",
      ],
      async run(text, number) {
        const [word = "", ...rest] = text.split("\n");
        const topic = `${PREFIX}/request/${word}`;
        if (topicFault(topic) !== undefined) return;
        const message = delivery({ topic, payload: bytesOf(number, rest.join("\n")), filters: controlFilters(PREFIX) });
        const before = broker.published.length;
        await handleControl(message, { actions, broker, topicPrefix: PREFIX, signal });
        for (const { body } of broker.published.slice(before)) checkWords(body, 300_000);
        broker.published.length = 0;
      },
    });
  },

  records: () => {
    const store = new FakeStore();
    const records = new RunRecords(store);
    const name = "sort-abcdefgh2345";
    return Promise.resolve({
      ...NONE,
      seeds: [JSON.stringify(aRecord({ run_name: name })), "{}", "[]", "null"],
      async run(text, number) {
        await store.put(`${name}.json`, bytesOf(number, text));
        await expecting([SyntaxError, TypeError, RefusedError, UnavailableError], async () => {
          const record = await records.get(name);
          if (record === undefined) return;
          ok(typeof record.job_name === "string" && typeof record.message === "string", "the shape was checked");
          ok(!Number.isNaN(Date.parse(record.finished_at)), "its times are times");
        });
      },
    });
  },

  http: () => {
    const app = anApp();
    return Promise.resolve({
      ...NONE,
      seeds: [
        "GET / host=127.0.0.1:8080",
        "GET /runs/sort-abcdefgh2345 host=localhost accept=text/html",
        "POST /run origin=http://127.0.0.1:8080 content-type=application/x-www-form-urlencoded authorization=Bearer_x\njob_name=a&payload=b",
        "GET /logs/x host=127.0.0.1:8080 range=bytes=0-5",
        "GET /graph?root=a host=[::1]:8080",
        "GET /metrics host=127.0.0.1:8080",
      ],
      async run(text) {
        const [head = "", body = ""] = text.split("\n");
        const [method = "GET", path = "/", ...pairs] = head.split(" ");
        let request: Request;
        try {
          const headers = new Headers();
          for (const pair of pairs) headers.append(pair.split("=", 1)[0]!, pair.split("=").slice(1).join("="));
          request = new Request(ORIGIN + path, { method, headers, ...(method === "POST" ? { body } : {}) });
        } catch {
          return; // no request at all
        }
        const response = await app.ask(request);
        ok(response.status < 500 || response.status === 503, `answered ${response.status} to ${method} ${path}`);
        ok(response.headers.get("x-content-type-options") === "nosniff", "answers carry the headers of security");
        if (!/event-stream/.test(response.headers.get("content-type") ?? "")) await response.text();
        else await response.body?.cancel();
      },
    });
  },

  facts: () =>
    Promise.resolve({
      ...NONE,
      seeds: [JOB],
      run(text) {
        let object: unknown;
        try {
          object = JSON.parse(text);
        } catch {
          return;
        }
        if (typeof object !== "object" || object === null) return;
        // deno-lint-ignore no-explicit-any
        const any = object as any;
        return expecting([RefusedError, TypeError, RangeError], () => {
          const fault = jobFault(any, "lab");
          if (fault !== undefined) return checkWords(fault);
          const facts = jobFacts(any);
          ok(topicFault(facts.topic) === undefined, "a topic that comes back is one");
          ok(jobNameFault(facts.jobName) === undefined, "a row's name that comes back is one");
          podFacts(any);
          eventFacts(any);
        });
      },
    }),

  watch: async () => {
    let text = "";
    const api = await FakeApi.start((url) => {
      if (!isWatch(url)) return Response.json({ items: [], metadata: { resourceVersion: "1" } });
      return new Response(text);
    });
    const client = await KubeClient.open({ kubeconfig: await api.kubeconfig() });
    const event = (type: string, object: unknown) => JSON.stringify({ type, object }) + "\n";
    return {
      seeds: [
        event("ADDED", { metadata: { name: "a", resourceVersion: "2" } }) +
        event("BOOKMARK", { metadata: { resourceVersion: "3" } }),
        event("ERROR", { kind: "Status", code: 410, message: "too old" }),
        event("DELETED", { metadata: { name: "a", resourceVersion: "4" } }),
      ],
      async run(given) {
        text = given;
        const stop = new AbortController();
        const heard = Promise.withResolvers<void>();
        let lists = 0;
        const running = new ListWatch<WatchedObject>({
          client,
          path: "/things",
          labelSelector: "a=b",
          kind: "things",
          tagOf: () => "",
          onObject: ({ metadata }) => ok(typeof metadata?.name === "string", "an object has a name"),
          onGone: () => {},
          // The second list, or trouble: the stream was read to its end.
          onListed: () => void (++lists === 2 && heard.resolve()),
          onTrouble: (reason) => {
            checkWords(reason);
            heard.resolve();
          },
          maxBackoffMs: 1,
          relistMs: 20,
        }).run(stop.signal);
        await Promise.race([heard.promise, running]);
        stop.abort();
        await running;
      },
      async [Symbol.asyncDispose]() {
        client[Symbol.dispose]();
        await api[Symbol.asyncDispose]();
      },
    };
  },
};
