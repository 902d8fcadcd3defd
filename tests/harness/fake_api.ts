/**
 * A server that answers as a test tells it, and kubeconfigs for it. For an API server that misbehaves; a real one is in
 * cluster.ts.
 */
import { type Certificate, createAuthority } from "./certs.ts";

/** undefined: 404. */
export type Answer = (url: URL, request: Request) => Response | undefined | Promise<Response | undefined>;

/** A server that answers as told, and a kubeconfig for it. Disposing it ends it. */
export class FakeApi implements AsyncDisposable {
  /** Path and query of each request. */
  readonly requests: URL[] = [];
  readonly dir: string;
  readonly url: string;
  /** PEM of the authority of its certificate; "" where it speaks plain HTTP. */
  readonly ca: string;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  private constructor(dir: string, answer: Answer, tls: { ca: string; certificate: Certificate } | undefined) {
    this.dir = dir;
    this.ca = tls?.ca ?? "";
    const { cert, key } = tls?.certificate ?? {};
    const options = { hostname: "127.0.0.1", port: 0, onListen() {}, ...(cert && key ? { cert, key } : {}) };
    this.#server = Deno.serve(options, async (request) => {
      const url = new URL(request.url);
      this.requests.push(url);
      return await answer(url, request) ?? new Response("{}", { status: 404 });
    });
    this.url = `${tls ? "https" : "http"}://127.0.0.1:${this.#server.addr.port}`;
  }

  /** `hosts`: it speaks TLS, with a certificate for these names or addresses by an authority of its own. */
  static async start(answer: Answer, { hosts }: { hosts?: readonly string[] } = {}): Promise<FakeApi> {
    const dir = await Deno.makeTempDir({ prefix: "fake-api-" });
    if (!hosts) return new FakeApi(dir, answer, undefined);
    const authority = await createAuthority(dir);
    return new FakeApi(dir, answer, { ca: authority.ca, certificate: await authority.server("server", hosts) });
  }

  async kubeconfig({ name = "here", user = {}, current = true }: {
    name?: string;
    user?: Record<string, unknown>;
    current?: boolean;
  } = {}): Promise<string> {
    const path = `${this.dir}/${name}`;
    // Plain http is for tests; KubeConfig wants it to be said.
    const cluster = { server: this.url, "insecure-skip-tls-verify": true };
    const config = {
      clusters: [{ name, cluster }],
      users: [{ name, user }],
      contexts: [{ name, context: { cluster: name, user: name, namespace: `ns-${name}` } }],
      ...(current ? { "current-context": name } : {}),
    };
    await Deno.writeTextFile(path, JSON.stringify(config));
    return path;
  }

  /** Versions from which watches went on. */
  get watchedFrom(): (string | null)[] {
    return this.requests.filter(isWatch).map(({ searchParams }) => searchParams.get("resourceVersion"));
  }

  get lists(): number {
    return this.requests.filter((url) => !isWatch(url)).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
    await Deno.remove(this.dir, { recursive: true });
  }
}

/** Whether the request is a watch. */
export function isWatch({ searchParams }: URL): boolean {
  return searchParams.get("watch") === "true";
}
