/**
 * A receiver of traces as OpenTelemetry's collector is one (OTLP/HTTP in JSON), which keeps what it gets. It refuses what
 * the collector's own reader refuses: ids of another length, numbers that are no texts, members that the protocol has not.
 */
import { z } from "zod";

const value = z.union([
  z.strictObject({ stringValue: z.string() }),
  z.strictObject({ intValue: z.string().regex(/^-?\d+$/) }),
]);
const attributes = z.array(z.strictObject({ key: z.string().min(1), value }));
const hex = (digits: number) => z.string().regex(new RegExp(`^(?!0+$)[0-9a-f]{${digits}}$`));
const nanoseconds = z.string().regex(/^\d{19}$/);

const span = z.strictObject({
  traceId: hex(32),
  spanId: hex(16),
  parentSpanId: hex(16).optional(),
  traceState: z.string().max(512).optional(),
  name: z.string().min(1),
  kind: z.int().min(1).max(5),
  startTimeUnixNano: nanoseconds,
  endTimeUnixNano: nanoseconds,
  attributes,
  status: z.strictObject({ code: z.int().min(0).max(2), message: z.string().optional() }).optional(),
});

const request = z.strictObject({
  resourceSpans: z.array(z.strictObject({
    resource: z.strictObject({ attributes }),
    scopeSpans: z.array(z.strictObject({
      scope: z.strictObject({ name: z.string(), version: z.string().optional() }),
      spans: z.array(span).min(1),
    })),
  })),
});

/** A span as it came, with its attributes by name and its times in milliseconds. */
export interface SeenSpan extends Omit<z.infer<typeof span>, "attributes"> {
  readonly attributes: Readonly<Record<string, string>>;
  readonly service: string | undefined;
  readonly startMs: number;
  readonly endMs: number;
}

/** A receiver on a free port of loopback. Disposing it closes it. */
export class Collector implements AsyncDisposable {
  readonly spans: SeenSpan[] = [];
  /** What was wrong with requests. */
  readonly faults: string[] = [];
  /** Of each request. */
  readonly headers: Headers[] = [];
  /** Status codes of the next answers; 200 where there is none. */
  readonly answers: number[] = [];
  readonly #server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => this.#take(request),
  );

  /** As OTEL_EXPORTER_OTLP_ENDPOINT has it. */
  get url(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  async #take(incoming: Request): Promise<Response> {
    const body = await incoming.json().catch(() => undefined);
    this.headers.push(incoming.headers);
    const status = this.answers.shift() ?? 200;
    if (status !== 200) return new Response("told to refuse", { status });
    const read = request.safeParse(body);
    if (new URL(incoming.url).pathname !== "/v1/traces" || !read.success) {
      this.faults.push(`${incoming.url}: ${read.error?.message}`);
      return new Response("bad request", { status: 400 });
    }
    for (const { resource, scopeSpans } of read.data.resourceSpans) {
      const service = textsOf(resource.attributes)["service.name"];
      for (const { spans } of scopeSpans) this.spans.push(...spans.map((one) => seen(one, service)));
    }
    return Response.json({});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

function seen({ attributes, ...more }: z.infer<typeof span>, service: string | undefined): SeenSpan {
  const ms = (text: string) => Number(BigInt(text) / 1_000_000n);
  const times = { startMs: ms(more.startTimeUnixNano), endMs: ms(more.endTimeUnixNano) };
  return { ...more, ...times, attributes: textsOf(attributes), service };
}

function textsOf(list: z.infer<typeof attributes>): Record<string, string> {
  return Object.fromEntries(
    list.map(({ key, value }) => [key, "stringValue" in value ? value.stringValue : value.intValue]),
  );
}
