/**
 * The service with one fault in it: the process kills itself (SIGKILL) before or after the nth call of one operation.
 * The fault is put around the ports, so the shipped code knows nothing of it. `CHAOS_FAULT=operation:when:nth`, such as
 * `create:after:2`; without it this is the service as it is.
 */
import { serviceOptions } from "../../adapters.ts";
import { exportAwsEnv, loadConfig, processInput } from "../../config.ts";
import { eventLog } from "../../observers/event_log.ts";
import { getLogger, setupLog } from "../../util/log.ts";
import type { Broker, Cluster, Delivery, Lease, ObjectStore } from "../../ports.ts";
import { Service, type ServiceOptions } from "../../service.ts";

/** What a process can die before or after. */
export const OPERATIONS = [
  "receive",
  "create",
  "number",
  "acknowledge",
  "log-part",
  "log",
  "publish",
  "record",
  "delete",
  "lease",
  // Of an attempt that is followed by another one, and of that one's Job.
  "retry-record",
  "retry-create",
  "retry-delete",
] as const;

/**
 * What the messages of the matrix do not lead to: a publication of the trial of the broker's order; the note of rows with
 * a schedule; marks of rows that others need: put, listed, deleted; of a group the note that it is open, put and deleted,
 * the list of its items, the marks of its items, put and listed, and its end; the note of an attempt that waits for a
 * place, put and deleted; Jobs that are let go on or cancelled.
 */
const OTHERS = [
  "trial",
  "schedule",
  "mark",
  "mark-list",
  "unmark",
  "open-group",
  "close-group",
  "manifest",
  "item-mark",
  "item-list",
  "group-publish",
  "open-attempt",
  "close-attempt",
  "resume",
  "cancel",
  // Of a run that ends without a Job.
  "note",
  "skip-record",
  "unnote",
] as const;

const isOperation = (word: string | undefined): word is Operation =>
  [...OPERATIONS, ...OTHERS].some((one) => one === word);

export type Operation = typeof OPERATIONS[number] | typeof OTHERS[number];

interface Fault {
  readonly operation: Operation;
  readonly when: "before" | "after";
  readonly nth: number;
}

/** Kills this process at the fault's call. */
class Killer {
  #calls = 0;
  constructor(readonly fault: Fault | undefined) {}

  /** Does `work` as one call of `operation`. */
  async around<T>(operation: Operation, work: () => Promise<T>): Promise<T> {
    const hit = this.#hits(operation);
    if (hit && this.fault?.when === "before") await this.#die(operation);
    const result = await work();
    if (hit) await this.#die(operation);
    return result;
  }

  /**
   * The same for work that ends at once; `settleMs`: how long its effect takes to leave the process. None of its kind
   * has an effect meanwhile.
   */
  aroundSync(operation: Operation, work: () => void, settleMs: number): void {
    if (operation === this.fault?.operation && this.#calls >= this.fault.nth) return;
    const hit = this.#hits(operation);
    if (hit && this.fault?.when === "before") return void setTimeout(() => void this.#die(operation), settleMs);
    work();
    if (!hit) return;
    if (settleMs === 0) void this.#die(operation);
    else setTimeout(() => void this.#die(operation), settleMs);
  }

  #hits(operation: Operation): boolean {
    return operation === this.fault?.operation && ++this.#calls === this.fault.nth;
  }

  /** Never resolves. */
  #die(operation: Operation): Promise<never> {
    console.error(`Dying ${this.fault?.when} ${operation} number ${this.fault?.nth}`);
    Deno.kill(Deno.pid, "SIGKILL");
    return new Promise(() => {});
  }
}

/** `target` with some of its methods replaced; the rest, private fields included, stays its own. */
function override<T extends object>(target: T, methods: Partial<T>): T {
  return new Proxy(target, {
    get(object, key) {
      if (Object.hasOwn(methods, key)) return Reflect.get(methods, key);
      const value: unknown = Reflect.get(object, key, object);
      return typeof value === "function" ? value.bind(object) : value;
    },
  });
}

function faultyBroker(broker: Broker, killer: Killer, topicPrefix: string): Broker {
  return override(broker, {
    connect: (events, signal) =>
      broker.connect({
        onConnect: (info) => events.onConnect(info),
        onDisconnect: (reason) => events.onDisconnect(reason),
        onDelivery(delivery: Delivery) {
          // Those of the trial of the broker's order are nobody's.
          if (delivery.topic === `${topicPrefix}/info`) return events.onDelivery(delivery);
          const done = () => killer.aroundSync("acknowledge", () => delivery.done(), 30);
          killer.aroundSync("receive", () => events.onDelivery({ ...delivery, done }), 0);
        },
      }, signal),
    publish(topic, payload, options) {
      const publish = () => broker.publish(topic, payload, options);
      if (topic.startsWith(`${topicPrefix}/job_`)) return killer.around("publish", publish);
      if (topic.startsWith(`${topicPrefix}/group_`)) return killer.around("group-publish", publish);
      const isTrial = topic === `${topicPrefix}/info` && !options?.retain;
      return isTrial ? killer.around("trial", publish) : publish();
    },
  });
}

/** `retried`: names of runs whose record says that they are tried again. */
function faultyCluster(cluster: Cluster, killer: Killer, retried: ReadonlySet<string>): Cluster {
  return override(cluster, {
    create(spec, options) {
      const operation = (spec.attempt ?? 1) > 1 ? "retry-create" : "create";
      return killer.around(operation, () => cluster.create(spec, options));
    },
    delete(runName, options) {
      const operation = retried.has(runName) ? "retry-delete" : "delete";
      return killer.around(operation, () => cluster.delete(runName, options));
    },
    resume: (runName, options) => killer.around("resume", () => cluster.resume(runName, options)),
    cancel: (runName, who, options) => killer.around("cancel", () => cluster.cancel(runName, who, options)),
  });
}

/** What is done with a key of the store. */
type StoreCall = "put" | "list" | "delete";

/** `operationOf`: which operation a call is; undefined: none that counts. */
function faultyStore(
  store: ObjectStore,
  killer: Killer,
  operationOf: (call: StoreCall, key: string, body?: unknown) => Operation | undefined,
): ObjectStore {
  const around = <T>(operation: Operation | undefined, work: () => Promise<T>) =>
    operation === undefined ? work() : killer.around(operation, work);
  return override(store, {
    put: (key, body, options) => around(operationOf("put", key, body), () => store.put(key, body, options)),
    putIfAbsent: (key, body, options) =>
      around(operationOf("put", key, body), () => store.putIfAbsent(key, body, options)),
    delete: (key, options) => around(operationOf("delete", key), () => store.delete(key, options)),
    list(prefix, options) {
      const operation = operationOf("list", prefix);
      if (operation === undefined) return store.list(prefix, options);
      return (async function* () {
        yield* await killer.around(operation, () => Array.fromAsync(store.list(prefix, options)));
      })();
    },
  });
}

function faultyLease(lease: Lease, killer: Killer): Lease {
  return override(lease, {
    write: (next, options) => killer.around("lease", () => lease.write(next, options)),
  });
}

const MARK_CALLS: Readonly<Record<StoreCall, Operation>> = { put: "mark", list: "mark-list", delete: "unmark" };

const OPEN_GROUP_CALLS: Readonly<Partial<Record<StoreCall, Operation>>> = { put: "open-group", delete: "close-group" };
const OPEN_ATTEMPT_CALLS: Readonly<Partial<Record<StoreCall, Operation>>> = {
  put: "open-attempt",
  delete: "close-attempt",
};
const GROUP_CALLS: Readonly<Partial<Record<StoreCall, Operation>>> = { list: "item-list" };

function groupPut(key: string): Operation {
  return key.split("/").length === 2 ? "manifest" : "item-mark";
}

const NOTE_CALLS: Readonly<Partial<Record<StoreCall, Operation>>> = { put: "note", delete: "unnote" };

/** The service's options with the fault around its ports. */
export function withFault(options: ServiceOptions, fault: Fault | undefined): ServiceOptions {
  const killer = new Killer(fault);
  const { stores, election } = options;
  let acknowledged: number | undefined;
  const retried = new Set<string>();
  /** Whether it is a write of the session's record that messages wait for; the first ones, at the start, are not. */
  const acknowledgesMore = (key: string, body: unknown) => {
    if (!key.startsWith(".session/")) return false;
    const before = acknowledged;
    acknowledged = JSON.parse(String(body)).acknowledged as number;
    return before !== undefined && acknowledged > before;
  };
  return {
    ...options,
    broker: faultyBroker(options.broker, killer, options.topicPrefix),
    cluster: faultyCluster(options.cluster, killer, retried),
    stores: {
      ...stores,
      logs: faultyStore(stores.logs, killer, (call, key) => {
        return call !== "put" ? undefined : /^[^/]+\.txt$/.test(key) ? "log" : "log-part";
      }),
      runs: faultyStore(
        stores.runs,
        killer,
        (call, key, body) => {
          // The list of all, at the start, is no look at the marks of one root.
          if (key.startsWith(".joins/") && key.length > ".joins/".length) return MARK_CALLS[call];
          if (key.startsWith(".open-groups/")) return OPEN_GROUP_CALLS[call];
          if (key.startsWith(".open-attempts/")) return OPEN_ATTEMPT_CALLS[call];
          if (key.startsWith(".groups/")) return call === "put" ? groupPut(key) : GROUP_CALLS[call];
          if (key.startsWith(".unstarted/")) return NOTE_CALLS[call];
          if (call !== "put") return undefined;
          if (key.startsWith(".schedules/")) return "schedule";
          if (!/^[^./][^/]*\.json$/.test(key)) return acknowledgesMore(key, body) ? "number" : undefined;
          const { run_name, retried_as, reason } = JSON.parse(String(body));
          if (reason === "Skipped") return "skip-record";
          if (retried_as === undefined) return "record";
          retried.add(run_name);
          return "retry-record";
        },
      ),
    },
    ...(election ? { election: { ...election, lease: faultyLease(election.lease, killer) } } : {}),
  };
}

function faultOf(text: string | undefined): Fault | undefined {
  if (!text) return undefined;
  const [operation, when, nth] = text.split(":");
  if (
    !isOperation(operation) || (when !== "before" && when !== "after") || !(Number(nth) > 0)
  ) {
    throw new TypeError(`Cannot read CHAOS_FAULT "${text}": write operation:before|after:number`);
  }
  return { operation, when, nth: Number(nth) };
}

async function start(): Promise<void> {
  const config = loadConfig({ ...processInput(), args: [] });
  setupLog(config.log);
  exportAwsEnv(config);
  const log = getLogger("main");
  const options = await serviceOptions(config, { version: "0.0.0", onTrouble: (reason) => log.warn(reason) });
  const service = new Service({
    ...withFault(options, faultOf(Deno.env.get("CHAOS_FAULT"))),
    listeners: [eventLog()],
  });
  Deno.addSignalListener("SIGTERM", () => void service.stop().then(() => Deno.exit(0)));
  service.failed.then((reason) => {
    log.error(reason);
    Deno.exit(1);
  });
  await service.start();
  log.info("Ready: table {table}", { table: config.catalog.url });
}

if (import.meta.main) await start();
