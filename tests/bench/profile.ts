/**
 * `deno run -A tests/bench/profile.ts [burst | steady | cycles] [messages]`: a V8 CPU profile of the service in a burst,
 * at 50 messages a second, or over whole runs, through the inspector that Deno opens with `--inspect`. Prints the
 * functions that took most time by themselves, and writes dist/NAME.cpuprofile for Chromium's DevTools. The inspector
 * tells of each fetch, which costs time of its own (op_inspector_emit_protocol_event); read shares, not times.
 */
import { CYCLES } from "./ends.ts";
import type { JobClock } from "./job_clock.ts";
import { benchRow, JOBS_ONLY, Scene } from "./scene.ts";
import { serveFakeLogs } from "./fake_kubelet.ts";
import { MqttEar } from "../harness/service.ts";
import { eventually } from "../harness/wait.ts";
import type { ServiceProcess } from "../harness/service.ts";

/** Flags of `deno run` for a service that is to be profiled. */
const INSPECT = ["--inspect=127.0.0.1:0"];
const WARM_UP = 200;

interface Node {
  readonly id: number;
  readonly callFrame: { functionName: string; url: string; lineNumber: number };
}

interface CpuProfile {
  readonly nodes: readonly Node[];
  readonly samples: readonly number[];
  /** Microseconds from the sample before. */
  readonly timeDeltas: readonly number[];
}

/** Profiles the service while `work` goes on. */
async function profile(service: ServiceProcess, work: () => Promise<unknown>): Promise<CpuProfile> {
  const url = await eventually(async () => /ws:\/\/\S+/.exec(await service.log())?.[0], { what: "the inspector" });
  const inspector = await Inspector.connect(url);
  try {
    await inspector.call("Profiler.enable");
    await inspector.call("Profiler.setSamplingInterval", { interval: 500 });
    await inspector.call("Profiler.start");
    await work();
    return (await inspector.call("Profiler.stop"))["profile"] as CpuProfile;
  } finally {
    inspector.close();
  }
}

/** One line for each of the functions that took most time by themselves: share, function, file and line. */
function hottest({ nodes, samples, timeDeltas }: CpuProfile, count = 30): string {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const self = new Map<string, number>();
  let total = 0;
  samples.forEach((id, index) => {
    const { functionName, url, lineNumber } = byId.get(id)!.callFrame;
    const file = url.split("/").slice(-2).join("/");
    const key = `${functionName || "(anonymous)"} ${file}${url === "" ? "" : `:${lineNumber + 1}`}`;
    const took = timeDeltas[index] ?? 0;
    self.set(key, (self.get(key) ?? 0) + took);
    total += took;
  });
  const busy = total - (self.get("(idle) ") ?? 0) - (self.get("(program) ") ?? 0);
  return [...self].sort(([, a], [, b]) => b - a).slice(0, count)
    .map(([key, took]) =>
      `${(took / 1000).toFixed(0).padStart(7)} ms ${(100 * took / busy).toFixed(1).padStart(5)} %  ${key}`
    )
    .join("\n");
}

class Inspector {
  #next = 1;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, PromiseWithResolvers<Record<string, unknown>>>();

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      const { id, result, error } = JSON.parse(data);
      if (error) this.#waiting.get(id)?.reject(new Error(error.message));
      else this.#waiting.get(id)?.resolve(result);
    });
  }

  static async connect(url: string): Promise<Inspector> {
    const socket = new WebSocket(url);
    await new Promise((resolve, reject) => {
      socket.addEventListener("open", resolve, { once: true });
      socket.addEventListener("error", reject, { once: true });
    });
    return new Inspector(socket);
  }

  call(method: string, params = {}): Promise<Record<string, unknown>> {
    const id = this.#next++;
    const answer = Promise.withResolvers<Record<string, unknown>>();
    this.#waiting.set(id, answer);
    this.#socket.send(JSON.stringify({ id, method, params }));
    return answer.promise;
  }

  close(): void {
    this.#socket.close();
  }
}

/** `messages` at once, until each has its Job; those have no pods. */
function burst(messages: number): Promise<CpuProfile> {
  return withoutPods(async (scene, clock) => {
    await scene.publish(Array.from({ length: messages }, () => "lab/job/x"));
    await clock.until(WARM_UP + messages);
  });
}

/** The same, 50 a second. */
function steady(messages: number): Promise<CpuProfile> {
  return withoutPods(async (scene, { seenAt }) => {
    await scene.publishPaced({ count: messages, perSecond: 50, topicOf: (index) => `lab/job/${index}`, seenAt });
  });
}

async function withoutPods(work: (scene: Scene, clock: JobClock) => Promise<void>): Promise<CpuProfile> {
  await using scene = await Scene.start({
    rows: [benchRow("job", "lab/job/+")],
    cluster: JOBS_ONLY,
    runFlags: INSPECT,
    entry: "main.ts",
  });
  await using clock = await scene.clock();
  await scene.publish(Array.from({ length: WARM_UP }, () => "lab/job/x"));
  await clock.until(WARM_UP);
  return await profile(scene.service, () => work(scene, clock));
}

/** As many runs on fake nodes, from their messages to their ends. */
async function cycles(messages: number): Promise<CpuProfile> {
  await using scene = await Scene.start({
    rows: [benchRow("cycle", "lab/cycle")],
    ...CYCLES,
    runFlags: INSPECT,
    entry: "main.ts",
  });
  await using _logs = await serveFakeLogs(scene.kit.cluster);
  await using ear = await MqttEar.connect(scene.kit.broker.url, ["services/mqtt_job_listener/job_complete/#"]);
  const run = async (count: number) => {
    const before = ear.heard.length;
    await scene.publish(Array.from({ length: count }, () => "lab/cycle"));
    await eventually(() => ear.heard.length >= before + count, { timeoutMs: 400_000, what: `${count} ends` });
  };
  await run(100);
  return await profile(scene.service, () => run(messages));
}

async function main([what = "burst", messages = "3000"]: readonly string[]): Promise<number> {
  const kind = { burst, steady, cycles }[what];
  if (!kind) {
    console.error(`Cannot profile ${what}: there are burst, steady and cycles`);
    return 2;
  }
  const taken = await kind(Number(messages));
  await Deno.mkdir("dist", { recursive: true });
  await Deno.writeTextFile(`dist/${what}.cpuprofile`, JSON.stringify(taken));
  console.log(hottest(taken));
  return 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
