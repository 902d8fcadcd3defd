/** Lighthouse on a page, in a browser of its own. */
import { lighthouseFolder } from "../harness/cache.ts";
import { eventually } from "../harness/wait.ts";

export type Form = "phone" | "desktop";

export interface Audit {
  /** Of 100, by category. */
  readonly scores: Readonly<Record<string, number>>;
  readonly findings: readonly string[];
  readonly error?: string;
}

/** A browser that listens for its debugger. */
export async function startBrowser(): Promise<AsyncDisposable & { readonly port: number }> {
  const dir = await Deno.makeTempDir();
  const child = new Deno.Command("/usr/bin/chromium", {
    args: [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--no-first-run",
      "--disable-background-networking",
      "--remote-debugging-port=0",
      `--user-data-dir=${dir}`,
      "about:blank",
    ],
    stdout: "null",
    stderr: "null",
  }).spawn();
  const dispose = async () => {
    child.kill("SIGKILL");
    await child.status;
    await Deno.remove(dir, { recursive: true }).catch(() => {/* Its children may still write. */});
  };
  try {
    const port = await eventually(async () => {
      const text = await Deno.readTextFile(`${dir}/DevToolsActivePort`).catch(() => "");
      return Number(text.split("\n")[0]) || undefined;
    }, { what: "the browser" });
    return { port, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** Scores and findings of one page. */
export async function audit(url: string, options: { port: number; form: Form }): Promise<Audit> {
  const first = await auditOnce(url, options);
  // Chromium's trace lacks its beginning now and then.
  return first.error === undefined ? first : await auditOnce(url, options);
}

async function auditOnce(url: string, { port, form }: { port: number; form: Form }): Promise<Audit> {
  const folder = lighthouseFolder();
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--config", `${folder}/deno.json`, `${folder}/audit.ts`, url, `${port}`, form],
    cwd: folder,
  }).output();
  const [line = ""] = new TextDecoder().decode(stdout).trim().split("\n").slice(-1);
  if (!success || !line.startsWith("{")) throw new Error(`Lighthouse failed: ${new TextDecoder().decode(stderr)}`);
  return JSON.parse(line);
}
