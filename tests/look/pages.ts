/**
 * The pages as people see them: the demo's pipeline with real runs, served by the real program, and where each kind of page
 * is there.
 */
import { eventually } from "../harness/wait.ts";

const PROJECT = new URL("../../", import.meta.url).pathname;

export interface Shown extends AsyncDisposable {
  readonly url: string;
  /** Paths by what they show. */
  readonly paths: Readonly<Record<string, string>>;
}

interface Listed {
  readonly run_name: string;
  readonly job_name: string;
  readonly status: string;
  readonly root?: string;
  readonly group?: string;
}

/** The demo with its table `pipeline`, when all its runs have ended. */
export async function showPipeline(): Promise<Shown> {
  const dir = await Deno.makeTempDir();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", `${PROJECT}main.ts`, "demo", "--table", "pipeline", "--dir", dir],
    cwd: PROJECT,
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let said = "";
  const reading = child.stdout.pipeThrough(new TextDecoderStream()).pipeTo(
    new WritableStream({ write: (text) => void (said += text) }),
  );
  const shown = {
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await Promise.all([child.status, reading.catch(() => {})]);
      await Deno.remove(dir, { recursive: true });
    },
  };
  try {
    const url = await eventually(() => /^Page (\S+)/m.exec(said)?.[1], { what: "the demo's page" });
    const ended = await eventually(async () => {
      const { live, ended } = await listed(url);
      // The last one of what its message sets off.
      return live.length === 0 && ended.some(({ job_name }) => job_name === "alarm") && ended;
    }, { timeoutMs: 120_000, intervalMs: 500, what: "the pipeline to end" });
    return { ...shown, url, paths: pathsOf(ended) };
  } catch (error) {
    await shown[Symbol.asyncDispose]();
    throw error;
  }
}

async function listed(url: string): Promise<{ live: readonly unknown[]; ended: readonly Listed[] }> {
  return await (await fetch(`${url}/runs.json`)).json();
}

function pathsOf(ended: readonly Listed[]): Record<string, string> {
  const run = ended.find(({ status }) => status === "failed") ?? ended[0]!;
  const group = ended.find(({ group }) => group !== undefined)?.group;
  return {
    overview: "/",
    runs: "/runs",
    graph: "/graph",
    row: `/rows/${encodeURIComponent(run.job_name)}`,
    run: `/runs/${run.run_name}`,
    log: `/runs/${run.run_name}/log/view`,
    message: `/?root=${run.root}`,
    ...(group === undefined ? {} : { group: `/groups/${group}` }),
    messages: "/messages",
    usage: "/usage",
    table: "/table",
  };
}
