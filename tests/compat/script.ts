/**
 * The end-to-end script: what people do with the service, once through, on one broker. The service is the real process;
 * its runs are processes of this machine and its stores folders, so that the broker alone is tried. Counts runs by their
 * records, which no redelivery of an end can double.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { createHash } from "node:crypto";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { csv, shell } from "../harness/table.ts";
import { eventually, pause } from "../harness/wait.ts";
import { tried, type Verdict } from "./verdicts.ts";

const PREFIX = "services/mqtt_job_listener";
/** One of two cores runs a process for each message, and writes three files of it. */
const LONG_MS = 120_000;

export interface Subject {
  /** With the user whom the broker lets in, and the password. */
  readonly url: string;
  readonly protocolVersion: 5 | 4;
  /** Whether a wrong password can be tried. */
  readonly hasUsers: boolean;
  /** Whether user properties can be sent. */
  readonly hasProperties: boolean;
  /** Why this broker publishes no last will. */
  readonly noWillBecause?: string;
  /** Settings of the service that this broker needs. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Figures of the script: small ones for CI. */
export interface Size {
  readonly stream: number;
  readonly burst: number;
  readonly topics: number;
}

export const WHOLE: Size = { stream: 100, burst: 300, topics: 200 };
export const SHORT: Size = { stream: 40, burst: 60, topics: 200 };

interface RunRecord {
  readonly job_name: string;
  readonly status: string;
  readonly topic: string;
  readonly payload: string | null;
  readonly run_name: string;
}

/** Plays the script; never throws for what the broker does. */
export async function playScript(subject: Subject, size: Size = WHOLE): Promise<Verdict[]> {
  const dir = await scratchFolder("compat");
  try {
    await using stage = new Stage(subject, size, dir);
    return await stage.play();
  } finally {
    await removeFolder(dir);
  }
}

class Stage implements AsyncDisposable {
  #service: ServiceProcess | undefined;
  #ear: MqttEar | undefined;
  /** Runs of the check under way that a message had beyond its first. */
  #doubled = 0;
  /** Records by their files. */
  readonly #read = new Map<string, RunRecord>();

  constructor(readonly subject: Subject, readonly size: Size, readonly dir: string) {}

  async play(): Promise<Verdict[]> {
    const { size } = this;
    await Deno.writeTextFile(`${this.dir}/jobs.csv`, csv(this.#rows()));
    const checks: readonly (readonly [string, () => Promise<Omit<Verdict, "check"> | string | void>])[] = [
      ["MQTT 5 asked of a broker without it: said, no loop", () => this.#wrongVersion()],
      ["Wrong password: said, no loop", () => this.#wrongPassword()],
      ["Start, and `state` retained", () => this.#starts()],
      ["Session over a restart of the service", () => this.#session()],
      [`Burst of ${size.burst}`, () => this.#burst()],
      ["Chain of three", () => this.#chain()],
      ["Wildcards", () => this.#wildcards()],
      ["Overlapping rows", () => this.#overlap()],
      [`${size.topics} topics`, () => this.#topics()],
      ["UTF-8 in topic and payload", () => this.#letters()],
      ["1 MB payload", () => this.#large()],
      ["Idempotency key", () => this.#key()],
      ["Last will at kill -9", () => this.#will()],
      ["kill -9 in a stream", () => this.#killed()],
    ];
    const verdicts: Verdict[] = [];
    for (const [check, body] of checks) {
      this.#doubled = 0;
      const verdict = await tried(check, body);
      verdicts.push(this.#doubled > 0 && verdict.answer === "yes" ? { ...verdict, ...this.#doubles() } : verdict);
    }
    return verdicts;
  }

  #doubles() {
    return { answer: "part", words: `Nothing lost; ${this.#doubled} ran twice.` } as const;
  }

  #rows() {
    const cells = { image: "none", command: "true" };
    const row = (job_name: string, mqtt_topic: string, command = "true") => ({
      ...cells,
      job_name,
      mqtt_topic,
      command,
    });
    return [
      { ...row("key", "c/key"), idempotency_key: "{payload.key}" },
      ...["session", "burst", "stream"].map((name) => row(name, `c/${name}`)),
      row("first", "c/chain"),
      row("second", `${PREFIX}/job_complete/first`),
      row("third", `${PREFIX}/job_complete/second`),
      row("plus", "c/plus/+/x"),
      row("hash", "c/hash/#"),
      row("one-of-three", "c/over/a"),
      row("two-of-three", "c/over/+"),
      row("three-of-three", "c/over/#"),
      ...Array.from({ length: this.size.topics }, (_, n) => row(`topic-${n}`, `c/many/${n}`)),
      row("letters", "c/größe/日本/🧬", shell('printf "%s %s" "$MQTT_TOPIC" "$MQTT_PAYLOAD"')),
      row("large", "c/large", shell('sha256sum < "${MQTT_PAYLOAD_URL#file://}"')),
    ];
  }

  #env(): Record<string, string> {
    const { dir, subject: { url, protocolVersion, env = {} } } = this;
    return {
      CLUSTER: "local",
      MQTT_URL: url,
      MQTT_VERSION: String(protocolVersion),
      CATALOG_URL: `${dir}/jobs.csv`,
      LOGS_URL: `${dir}/logs`,
      RUNS_URL: `${dir}/runs`,
      LOCAL_DIR: `${dir}/work`,
      STATUS_ADDR: "off",
      ...env,
    };
  }

  /** Starts a service that cannot get on, and sees that it says why, and tries again ever more slowly. */
  async #saysWhy(env: Record<string, string>, sentence: RegExp): Promise<string | undefined> {
    const begunMs = performance.now();
    await using service = await startService({ ...this.#env(), TOPIC_PREFIX: "c/refused", ...env }, { says: sentence });
    // Waits between connections begin at 250 ms: by now a loop would be one.
    await pause(2_000);
    const said = (await service.log()).split("\n").filter((line) => sentence.test(line)).length;
    // Waits of 125 ms at least, each twice as long as the one before.
    const tookMs = performance.now() - begunMs;
    ok(said <= 1 + Math.log2(tookMs / 125 + 1), `it was said ${said} times in ${Math.round(tookMs)} ms`);
    return said === 1 ? undefined : "The broker gives no reason, so that it is said at each try; waits grow to 30 s.";
  }

  async #wrongVersion() {
    if (this.subject.protocolVersion === 5) return { answer: "not asked" } as const;
    return await this.#saysWhy({ MQTT_VERSION: "5" }, /set MQTT_VERSION=4/);
  }

  async #wrongPassword() {
    if (!this.subject.hasUsers) return { answer: "not asked" } as const;
    const url = new URL(this.subject.url);
    url.password = "wrong-one";
    return await this.#saysWhy({ MQTT_URL: url.href }, /refused user .*Check MQTT_USERNAME and MQTT_PASSWORD/);
  }

  async #starts() {
    await this.#start();
    this.#ear = await MqttEar.connect(this.subject.url, [`${PREFIX}/state`], this.subject);
    const [state] = await eventually(() => this.#heardStates().length > 0 && this.#heardStates(), {
      timeoutMs: LONG_MS,
      what: "the retained state",
    });
    equal(state!.text, "online");
    if (!state!.retain) return { answer: "part", words: "The retained message comes without its flag." } as const;
  }

  async #session() {
    await this.#stop();
    await this.#publishAll("c/session", 20);
    await this.#start();
    await this.#each("session", 20);
  }

  async #burst() {
    await this.#publishAll("c/burst", this.size.burst);
    await this.#each("burst", this.size.burst);
  }

  async #chain() {
    await this.#publish("c/chain", "{}");
    for (const name of ["first", "second", "third"]) await this.#all(name, 1);
  }

  async #wildcards() {
    for (const topic of ["c/plus/a/x", "c/plus/b/x", "c/plus/b/y", "c/hash", "c/hash/a", "c/hash/a/b/c"]) {
      await this.#publish(topic, topic);
    }
    await this.#all("plus", 2);
    await this.#all("hash", 3);
  }

  async #overlap() {
    await this.#publish("c/over/a", "a");
    await this.#publish("c/over/b", "b");
    for (const [name, count] of [["one-of-three", 1], ["two-of-three", 2], ["three-of-three", 2]] as const) {
      await this.#all(name, count);
    }
  }

  async #topics() {
    const { topics } = this.size;
    for (let n = 0; n < topics; n++) await this.#publish(`c/many/${n}`, String(n));
    await this.#wait(() => this.#records(/^topic-/), topics);
    deepEqual(new Set((await this.#records(/^topic-/)).map(({ job_name }) => job_name)).size, topics);
  }

  async #letters() {
    await this.#publish("c/größe/日本/🧬", "käse ☃ 🧀");
    const [run] = await this.#all("letters", 1);
    match(await this.#logOf(run!), /^c\/größe\/日本\/🧬 käse ☃ 🧀$/m);
  }

  async #large() {
    // Letters that do not repeat soon, so that a part in the wrong place would be seen.
    const bytes = Uint8Array.from({ length: 1_000_000 }, (_, at) => 97 + (at * 7 + (at >> 8)) % 26);
    await this.#publish("c/large", bytes);
    const [run] = await this.#all("large", 1);
    const wanted = createHash("sha256").update(bytes).digest("hex");
    ok((await this.#logOf(run!)).includes(wanted), "the program read other bytes than were published");
  }

  async #key() {
    for (let n = 0; n < 3; n++) await this.#publish("c/key", `{"key":"same","n":${n}}`);
    if (this.subject.hasProperties) {
      const userProperties = { "idempotency-key": "by property" };
      for (let n = 0; n < 3; n++) await this.ear.publish("c/key", `{"key":"${n}"}`, { userProperties });
    }
    // One of another key comes last: what was before it has been decided.
    await this.#publish("c/key", '{"key":"last"}');
    await this.#all("key", this.subject.hasProperties ? 3 : 2);
    if (!this.subject.hasProperties) return "By the column `idempotency_key`: there are no user properties.";
  }

  async #will() {
    const before = this.#heardStates().length;
    await this.#kill();
    const { noWillBecause } = this.subject;
    await eventually(() => this.#heardStates().slice(before).some(({ text }) => text === "offline"), {
      timeoutMs: noWillBecause === undefined ? LONG_MS : 10_000,
      what: "the last will",
    }).catch((error) => {
      throw noWillBecause === undefined ? error : new Error(noWillBecause);
    });
  }

  async #killed() {
    const { stream } = this.size;
    await this.#start();
    const sending = (async () => {
      for (let n = 0; n < stream; n++) {
        await this.#publish("c/stream", String(n));
        await pause(10);
      }
    })();
    sending.catch(() => {}); // It is awaited below.
    await this.#wait(() => this.#records(/^stream$/), Math.floor(stream / 4));
    await this.#kill();
    await sending;
    await this.#start();
    await this.#each("stream", stream);
    // What the broker sends again is with the service now.
    await this.#publish("c/stream", "last");
    await this.#each("stream", stream + 1);
    await this.#stop();
    await this.#each("stream", stream + 1);
  }

  get ear(): MqttEar {
    if (this.#ear === undefined) throw new Error("The service did not start");
    return this.#ear;
  }

  #heardStates() {
    return this.ear.on(`${PREFIX}/state`);
  }

  async #publish(topic: string, payload: string | Uint8Array): Promise<void> {
    await this.ear.publish(topic, payload);
  }

  async #publishAll(topic: string, count: number): Promise<void> {
    await Promise.all(Array.from({ length: count }, (_, n) => this.#publish(topic, String(n))));
  }

  /** Waits until each of so many messages of a row has run, whether it succeeded or a kill ended it; counts doubles. */
  async #each(jobName: string, count: number): Promise<void> {
    const name = new RegExp(`^${jobName}$`);
    const payloads = async () => new Set((await this.#records(name)).map(({ payload }) => payload));
    await this.#wait(async () => [...await payloads()], count);
    this.#doubled = (await this.#records(name)).length - count;
  }

  /** Waits for so many runs of a row, and sees that there are no more and that all succeeded. */
  async #all(jobName: string, count: number): Promise<RunRecord[]> {
    const name = new RegExp(`^${jobName}$`);
    await this.#wait(() => this.#records(name), count);
    const records = await this.#records(name);
    equal(records.length, count, `${records.length} runs of "${jobName}" instead of ${count}`);
    const failed = records.find(({ status }) => status !== "succeeded");
    equal(failed, undefined, `run ${failed?.run_name} is ${failed?.status}`);
    return records;
  }

  async #wait(look: () => Promise<readonly unknown[]>, count: number): Promise<void> {
    let seen = 0;
    await eventually(async () => (seen = (await look()).length) >= count, {
      timeoutMs: LONG_MS,
      intervalMs: 100,
      what: () => `${count} runs (${seen} came)`,
    });
  }

  async #records(jobName: RegExp): Promise<RunRecord[]> {
    const found: RunRecord[] = [];
    for await (const { name } of Deno.readDir(`${this.dir}/runs`)) {
      // Not to read those of all other rows each time: a run's name begins with its row's.
      if (name.startsWith(".") || !name.endsWith(".json") || !jobName.test(name.replace(/-[^-]*\.json$/, ""))) continue;
      const record = this.#read.get(name) ?? JSON.parse(await Deno.readTextFile(`${this.dir}/runs/${name}`));
      this.#read.set(name, record);
      found.push(record);
    }
    return found;
  }

  async #logOf({ run_name }: RunRecord): Promise<string> {
    for await (const { name } of Deno.readDir(`${this.dir}/logs`)) {
      if (name.includes(run_name)) return await Deno.readTextFile(`${this.dir}/logs/${name}`);
    }
    throw new Error(`There is no log of ${run_name}`);
  }

  async #start(): Promise<void> {
    this.#service ??= await startService(this.#env());
  }

  async #stop(): Promise<void> {
    await this.#service?.stop();
    await this.#kill();
  }

  async #kill(): Promise<void> {
    const service = this.#service;
    this.#service = undefined;
    await service?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#kill();
    await this.#ear?.[Symbol.asyncDispose]();
  }
}
