/** Attacks of visitors on a page in a process of its own: it lives, stays small and says that it is well. */
import { equal, ok } from "node:assert/strict";
import { HeldConnections } from "../harness/held_connections.ts";
import { eventually } from "../harness/wait.ts";

/** Resident memory that the process had at most, in MB. */
const MOST_MB = 300;

class Page implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly url: string;

  private constructor(child: Deno.ChildProcess, url: string) {
    this.#child = child;
    this.url = url;
  }

  /** `descriptors`: how many files and sockets it may have open. */
  static async start({ descriptors }: { descriptors: number }): Promise<Page> {
    const entry = new URL("page_entry.ts", import.meta.url).pathname;
    const deno = `${Deno.execPath()} run -A --no-check --v8-flags=--max-semi-space-size=8`;
    const child = new Deno.Command("sh", {
      args: ["-c", `ulimit -n ${descriptors}; exec ${deno} "$0"`, entry],
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const { value } = await reader.read();
    await reader.cancel();
    ok(value, "the page does not start");
    return new Page(child, value.trim());
  }

  get port(): number {
    return Number(new URL(this.url).port);
  }

  /** Most resident memory until now, in MB. */
  async peakMb(): Promise<number> {
    const status = await Deno.readTextFile(`/proc/${this.#child.pid}/status`);
    return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1_000;
  }

  async healthMs(): Promise<number> {
    const start = performance.now();
    const answer = await fetch(`${this.url}/healthz`, {
      headers: { connection: "close" },
      signal: AbortSignal.timeout(60_000),
    });
    await answer.body?.cancel();
    equal(answer.status, 200);
    return performance.now() - start;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }
}

const ATTACKS: readonly {
  readonly name: string;
  readonly count: number;
  readonly bytes: string;
  readonly drip?: string;
  readonly reads?: boolean;
}[] = [
  { name: "connections that say nothing", count: 400, bytes: "" },
  { name: "half of a head", count: 300, bytes: "GET / HTTP/1.1\r\nHost: local" },
  { name: "a head that grows for ever", count: 300, bytes: "GET / HTTP/1.1\r\nHost: localhost\r\n", drip: "X: y\r\n" },
  {
    name: "bodies with a wrong bearer",
    count: 300,
    bytes:
      "POST /actions/run HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\nContent-Length: 1000000\r\n\r\n",
    drip: "x".repeat(4_096),
  },
  {
    name: "bodies of forms without end",
    count: 300,
    bytes: "POST /actions/run HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\n" +
      "Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n",
    drip: `1000\r\n${"x".repeat(4_096)}\r\n`,
  },
  {
    name: "logs that nobody reads",
    count: 300,
    bytes: "GET /runs/sort-1/log HTTP/1.1\r\nHost: localhost\r\n\r\n",
    reads: false,
  },
  {
    name: "events that nobody reads",
    count: 300,
    bytes: "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n",
    reads: false,
  },
  {
    name: "thousands of requests at once",
    count: 20,
    bytes: "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2_000),
  },
];

for (const descriptors of [4_096, 80]) {
  Deno.test(`the page outlives visitors who mean harm, with ${descriptors} file descriptors`, async (t) => {
    await using page = await Page.start({ descriptors });
    using attackers = new HeldConnections(page.port);
    for (const { name, count, bytes, ...how } of ATTACKS) {
      await t.step(`${count} × ${name}`, async () => {
        for (let at = 0; at < count; at++) await attackers.open(bytes, how);
        console.log(
          `${name}: /healthz in ${Math.round(await page.healthMs())} ms, ${Math.round(await page.peakMb())} MB`,
        );
      });
    }
    const peak = await page.peakMb();
    ok(peak < MOST_MB, `${peak} MB`);
    // And serves again as before.
    attackers[Symbol.dispose]();
    await eventually(async () => {
      const answer = await fetch(page.url);
      return (await answer.text()).includes("Live runs");
    });
  });
}
