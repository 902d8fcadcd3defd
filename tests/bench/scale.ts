/**
 * `deno task bench scale [--messages=N] [--turns=N] [--out=FILE]`: one burst of messages for one service on one control
 * plane, for two services that part it by topic on one, and for two on two; one broker, by turns. Prints a JSON line a
 * turn; bench/plot.ts makes docs/scale.md's table of FILE.
 */
import { startCluster, type TestCluster } from "../harness/cluster.ts";
import { flag, numberFlag } from "../harness/flags.ts";
import { eventually, pause } from "../harness/wait.ts";
import { bundleEntry } from "../harness/bundled.ts";
import { conditions, Saved } from "./conditions.ts";
import { cpuSecondsOf, rounded } from "./measure.ts";
import { type Running, SERVICE } from "./peers/contestants.ts";
import { deleteJobs } from "./peers/turn.ts";
import { type ScaleLine, SETUPS } from "./scale_page.ts";
import { benchRow, clockOf, JOBS_ONLY, Scene } from "./scene.ts";

/** Exit code. */
export async function benchScale(): Promise<number> {
  const messages = numberFlag("messages", 2_000);
  const turns = numberFlag("turns", 3);
  const saved = new Saved(flag("out"));
  saved.add(await conditions({ repeats: turns, messages }));
  const bundle = await bundleEntry();
  await using scene = await Scene.start({ rows: [benchRow("job", "lab/none")], cluster: JOBS_ONLY, bare: true });
  await using second = await startCluster(JOBS_ONLY);
  const clusters = [scene.kit.cluster, second];
  let serial = 0;
  for (let turn = 0; turn < turns; turn++) {
    for (const [services, controlPlanes] of SETUPS) {
      const used = Array.from({ length: services }, (_, index) => clusters[index % controlPlanes]!);
      const line = await burst(scene, { clusters: used, messages, bundle, id: `scale-${++serial}` });
      saved.tell({ services, controlPlanes, messages, ...line });
    }
  }
  saved.add({ loadAfter: Deno.loadavg() });
  return 0;
}

type Measured = Omit<ScaleLine, "services" | "controlPlanes" | "messages">;

/** One service a cluster that is named, each with its own topics; a cluster may be named twice. */
async function burst(
  scene: Scene,
  { clusters, messages, bundle, id }: {
    readonly clusters: readonly TestCluster[];
    readonly messages: number;
    readonly bundle: string;
    readonly id: string;
  },
): Promise<Measured> {
  await using all = new AsyncDisposableStack();
  const distinct = [...new Set(clusters)];
  const services: Running[] = [];
  for (const [index, { kubeconfig }] of clusters.entries()) {
    const template = () => Promise.reject(new Error("The service needs no template"));
    const part = `${id}-${index}`;
    services.push(
      all.use(await SERVICE.start({ scene, id: part, filter: `lab/${part}/+`, bundle, template, kubeconfig })),
    );
  }
  const clocks = await Promise.all(distinct.map(async (cluster) => all.use(await clockOf(cluster, "default"))));
  const topics = (count: number, name: string) =>
    Array.from({ length: count }, (_, index) => `lab/${id}-${index % clusters.length}/${name}-${index}`);
  const seen = () => clocks.reduce((sum, clock) => sum + clock.count, 0);
  const send = async (count: number, name: string) => {
    const until = seen() + count;
    void scene.publish(topics(count, name));
    await eventually(() => seen() >= until, {
      timeoutMs: 120_000,
      intervalMs: 5,
      what: () => `${until} Jobs: ${seen()}`,
    });
  };
  await send(200 * clusters.length, "warm");
  await pause(3_000);
  const spent = () =>
    [
      services.flatMap((one) => one.pids()),
      distinct.flatMap((cluster) => cluster.controlPlanePids),
    ].map(cpuSecondsOf).concat(machineSeconds());
  const before = spent();
  const begun = performance.now();
  await send(messages, "burst");
  const seconds = (performance.now() - begun) / 1_000;
  const used = spent().map((now, index) => now - before[index]!);
  const [serviceCpu, controlPlaneCpu, machineCpu] = used.map((one) => rounded(one / messages * 1_000));
  await all.disposeAsync();
  for (const cluster of distinct) await deleteJobs(cluster);
  return {
    perSecond: rounded(messages / seconds),
    serviceCpu: serviceCpu!,
    controlPlaneCpu: controlPlaneCpu!,
    machineCpu: machineCpu!,
    busy: rounded(used[2]! / seconds),
    cores: navigator.hardwareConcurrency,
  };
}

/** Time that all cores have worked, of proc_stat(5): all but idle and waiting for a disk. */
function machineSeconds(): number {
  const [, user, nice, system, _idle, _iowait, irq, softirq] = Deno.readTextFileSync("/proc/stat").split(/\s+/).map(
    Number,
  );
  return (user! + nice! + system! + irq! + softirq!) / 100;
}
