/**
 * A bare client of the test cluster's API server, for what tests set up and look at. Deliberately not the service's own
 * adapter, so that a test never checks the adapter with itself.
 */

export type PatchKind = "merge" | "json" | "strategic-merge";

/** An answer of the API server that is not 2xx. */
export class KubeApiError extends Error {
  override name = "KubeApiError";
  constructor(readonly status: number, message: string) {
    super(message);
  }
}

export class KubeApi implements Disposable {
  readonly #client: Deno.HttpClient;
  readonly #server: string;
  readonly #token: string | undefined;

  constructor(server: string, ca: string, token?: string) {
    this.#server = server;
    this.#token = token;
    this.#client = Deno.createHttpClient({ caCerts: [ca], poolIdleTimeout: 1_000 });
  }

  /** The object at a path such as `/apis/batch/v1/namespaces/default/jobs/x`. */
  async get<T>(path: string): Promise<T> {
    return await (await this.request("GET", path)).json();
  }

  /** The object, or undefined when there is none. */
  async find<T>(path: string): Promise<T | undefined> {
    try {
      return await this.get<T>(path);
    } catch (error) {
      if (error instanceof KubeApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** Text at a path, such as a pod's log. */
  async text(path: string): Promise<string> {
    return await (await this.request("GET", path)).text();
  }

  async create<T>(path: string, body: unknown): Promise<T> {
    return await (await this.request("POST", path, body)).json();
  }

  async patch<T>(path: string, body: unknown, kind: PatchKind = "merge"): Promise<T> {
    return await (await this.request("PATCH", path, body, `application/${kind}-patch+json`)).json();
  }

  /** Deletes in the background; pods of a Job go too. */
  async delete(path: string, options: Record<string, unknown> = {}): Promise<void> {
    await (await this.request("DELETE", path, { propagationPolicy: "Background", ...options })).text();
  }

  /** Any request; throws KubeApiError for an answer that is not 2xx. The caller reads the body. */
  async request(method: string, path: string, body?: unknown, type = "application/json"): Promise<Response> {
    const response = await fetch(this.#server + path, {
      method,
      client: this.#client,
      headers: {
        ...(this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` }),
        ...(body === undefined ? {} : { "content-type": type }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (response.ok) return response;
    throw new KubeApiError(response.status, `${method} ${path} answered ${response.status}: ${await response.text()}`);
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}
