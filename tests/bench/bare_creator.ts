/**
 * The limit of "message → Job": a process that does nothing but create the same Jobs, by fetch over kept connections,
 * as many at once as the service, and has them watched as the service has. Takes the path of its order; says `ready`
 * before it begins and `took` with what it took, as JSON, when it has ended.
 */
import { cpuSeconds } from "./measure.ts";

/** A Job of the service's, without what the server adds, in another namespace. */
export interface JobTemplate {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations: Readonly<Record<string, string>>;
  };
  readonly spec: Readonly<Record<string, unknown>> & { readonly template: Readonly<Record<string, unknown>> };
}

/** What the process is told. */
export interface BareOrder {
  readonly server: string;
  readonly ca: string;
  readonly token: string;
  readonly template: JobTemplate;
  readonly count: number;
  /** Created before the time begins, as the service has created some when it is measured. */
  readonly warmUp: number;
  readonly concurrency: number;
  /** Of each create call. */
  readonly query?: string;
  readonly accept?: string;
  /** One whole watch unless told: what each asks for (the header Accept). */
  readonly watches?: readonly string[];
  /** They are deleted again, which is `erased`. */
  readonly erase?: boolean;
  /** Whose time is told. */
  readonly pids?: readonly number[];
}

/** How long it took, and how much CPU of each of `pids` meanwhile, in milliseconds. */
export interface Spent {
  readonly ms: number;
  readonly cpuMs: readonly number[];
}

/** Of all creates, and of all deletes. */
export interface BareResult extends Spent {
  readonly erased?: Spent;
}

async function create(order: BareOrder): Promise<BareResult> {
  const { server, ca, token, template, concurrency, query = "", accept = "*/*", pids = [] } = order;
  const client = Deno.createHttpClient({ caCerts: [ca], http2: false, poolMaxIdlePerHost: concurrency });
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json", accept };
  const url = `${server}/apis/batch/v1/namespaces/${template.metadata.namespace}/jobs`;
  const begin = Date.now().toString(36);
  const names: string[] = [];
  const call = async (address: string, method: string, body: unknown) => {
    const response = await fetch(address, { method, client, headers, body: JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
  };
  const sideBySide = async (count: number, one: () => Promise<void>): Promise<Spent> => {
    const [begun, before] = [performance.now(), pids.map(cpuSeconds)];
    let left = count;
    await Promise.all(Array.from({ length: concurrency }, async () => {
      while (left-- > 0) await one();
    }));
    const ms = performance.now() - begun;
    return { ms, cpuMs: pids.map((pid, index) => (cpuSeconds(pid) - before[index]!) * 1_000) };
  };
  const createOne = async () => {
    const name = `bare-${begin}-${names.length}`;
    names.push(name);
    await call(url + query, "POST", { ...template, metadata: { ...template.metadata, name } });
  };
  for (const accepted of order.watches ?? ["application/json"]) {
    void drainWatch(order, url, accepted).catch((error) => {
      console.error(error);
      Deno.exit(1);
    });
  }
  await sideBySide(order.warmUp, createOne);
  const made = await sideBySide(order.count, createOne);
  if (!order.erase) return made;
  const background = { propagationPolicy: "Background" };
  const left = names.slice(-order.count);
  return { ...made, erased: await sideBySide(left.length, () => call(`${url}/${left.pop()}`, "DELETE", background)) };
}

/** The server serves as many watches of these Jobs as of the service's; what comes is read and thrown away. */
export async function drainWatch(
  { ca, token }: Pick<BareOrder, "ca" | "token">,
  url: string,
  accept = "application/json",
): Promise<void> {
  const client = Deno.createHttpClient({ caCerts: [ca], http2: false });
  const headers = { authorization: `Bearer ${token}`, accept };
  const newest = { ...headers, accept: "application/json" };
  const list = await (await fetch(`${url}?limit=1`, { client, headers: newest })).json();
  const watch = await fetch(`${url}?watch=1&resourceVersion=${list.metadata.resourceVersion}`, { client, headers });
  for await (const _ of watch.body!);
}

if (import.meta.main) {
  const order = JSON.parse(await Deno.readTextFile(Deno.args[0]!));
  console.log("ready");
  console.log(`took ${JSON.stringify(await create(order))}`);
  // The watch is still open.
  Deno.exit(0);
}
