/**
 * The limit of "message → Job": a process that does nothing but create the same Jobs, by fetch over kept connections,
 * as many at once as the service. Reads its order as JSON from standard input and writes milliseconds to standard output.
 */

/** What the process is told. */
export interface BareOrder {
  readonly server: string;
  readonly ca: string;
  readonly token: string;
  readonly namespace: string;
  /** A Job of the service's, without what the server adds. */
  readonly template: { metadata: Record<string, unknown> };
  readonly count: number;
  /** Created before the time begins, as the service has created some when it is measured. */
  readonly warmUp: number;
  readonly concurrency: number;
}

async function create(order: BareOrder): Promise<number> {
  const { server, ca, token, namespace, template, concurrency } = order;
  const client = Deno.createHttpClient({ caCerts: [ca], http2: false, poolMaxIdlePerHost: concurrency });
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const begin = Date.now().toString(36);
  let serial = 0;
  const all = async (count: number) => {
    let left = count;
    await Promise.all(Array.from({ length: concurrency }, async () => {
      while (left-- > 0) {
        const job = { ...template, metadata: { ...template.metadata, name: `bare-${begin}-${serial++}`, namespace } };
        const response = await fetch(`${server}/apis/batch/v1/namespaces/${namespace}/jobs`, {
          method: "POST",
          client,
          headers,
          body: JSON.stringify(job),
        });
        const text = await response.text();
        if (!response.ok) throw new Error(text);
      }
    }));
  };
  await all(order.warmUp);
  const begun = performance.now();
  await all(order.count);
  return performance.now() - begun;
}

if (import.meta.main) {
  console.log(await create(JSON.parse(await new Response(Deno.stdin.readable).text())));
}
