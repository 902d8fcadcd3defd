/**
 * The limit of "message → Job": a process that does nothing but create the same Jobs, by fetch over kept connections,
 * as many at once as the service, and has them watched as the service has. Takes the path of its order; says `ready`
 * before it begins and writes milliseconds when it has ended.
 */

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
}

async function create(order: BareOrder): Promise<number> {
  const { server, ca, token, template, concurrency } = order;
  const client = Deno.createHttpClient({ caCerts: [ca], http2: false, poolMaxIdlePerHost: concurrency });
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const url = `${server}/apis/batch/v1/namespaces/${template.metadata.namespace}/jobs`;
  const begin = Date.now().toString(36);
  let serial = 0;
  const all = async (count: number) => {
    let left = count;
    await Promise.all(Array.from({ length: concurrency }, async () => {
      while (left-- > 0) {
        const job = { ...template, metadata: { ...template.metadata, name: `bare-${begin}-${serial++}` } };
        const response = await fetch(url, { method: "POST", client, headers, body: JSON.stringify(job) });
        const text = await response.text();
        if (!response.ok) throw new Error(text);
      }
    }));
  };
  void drainWatch(order, url).catch((error) => {
    console.error(error);
    Deno.exit(1);
  });
  await all(order.warmUp);
  const begun = performance.now();
  await all(order.count);
  return performance.now() - begun;
}

/** The server serves as many watches of these Jobs as of the service's; what comes is read and thrown away. */
export async function drainWatch({ ca, token }: Pick<BareOrder, "ca" | "token">, url: string): Promise<void> {
  const client = Deno.createHttpClient({ caCerts: [ca], http2: false });
  const headers = { authorization: `Bearer ${token}` };
  const list = await (await fetch(`${url}?limit=1`, { client, headers })).json();
  const watch = await fetch(`${url}?watch=1&resourceVersion=${list.metadata.resourceVersion}`, { client, headers });
  for await (const _ of watch.body!);
}

if (import.meta.main) {
  const order = JSON.parse(await Deno.readTextFile(Deno.args[0]!));
  console.log("ready");
  console.log(`took ${await create(order)}`);
  // The watch is still open.
  Deno.exit(0);
}
