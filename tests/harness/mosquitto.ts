/**
 * A real mosquitto on a free port of loopback, with the settings that tests vary: persistence, passwords, TLS with
 * client certificates, queue limits. Owns its configuration file; speaks no MQTT itself.
 */
import { commandPath } from "./cache.ts";
import { type Authority, createAuthority } from "./certs.ts";
import { removeFolder, scratchFolder } from "./folder.ts";
import { accepts, freePort } from "./ports.ts";
import { type ManagedProcess, run, spawn } from "./process.ts";
import { RestartableServer } from "./restartable.ts";

export interface MosquittoOptions {
  /**
   * Keep sessions and queued messages on disk. `always` writes at each change, so that even kill9() loses nothing, and
   * writes all of them: with thousands queued it does little else. `each-second` may lose what came in the last two
   * seconds; `on-stop` writes at an orderly end only. Default: not kept.
   */
  persistence?: "always" | "each-second" | "on-stop";
  /** Name → password. Default: anybody may connect. */
  users?: Readonly<Record<string, string>>;
  /** Lines of mosquitto's acl_file. */
  acl?: readonly string[];
  /** `server`: TLS; `mutual`: and clients must show a certificate of the authority. Default: plain TCP. */
  tls?: "server" | "mutual";
  /** `max_queued_messages`; 0: no limit. Mosquitto's default is 1000. */
  maxQueuedMessages?: number;
  /** `max_inflight_messages`; 0: no limit. Mosquitto's default is 20. */
  maxInflightMessages?: number;
  /** Further lines of mosquitto.conf. */
  conf?: readonly string[];
}

/** Starts a broker. Needs `needs("mosquitto")`. */
export async function startMosquitto(options: MosquittoOptions = {}): Promise<Mosquitto> {
  const dir = await scratchFolder("mosquitto");
  try {
    const authority = options.tls === undefined ? undefined : await createAuthority(dir);
    const broker = new Mosquitto(dir, options, authority);
    await broker.start();
    return broker;
  } catch (error) {
    await removeFolder(dir);
    throw error;
  }
}

/** A broker that keeps its port and its data over stop() and start(). Disposing it removes it. */
export class Mosquitto extends RestartableServer {
  readonly port: number = freePort();
  /** `mqtt://127.0.0.1:PORT` or `mqtts://…`. */
  readonly url: string;
  /** Authority of the server's certificate; makes client certificates. Only with `tls`. */
  readonly authority: Authority | undefined;
  readonly #options: MosquittoOptions;

  /** Use startMosquitto. */
  constructor(dir: string, options: MosquittoOptions, authority: Authority | undefined) {
    super(dir);
    this.#options = options;
    this.authority = authority;
    this.url = `${authority === undefined ? "mqtt" : "mqtts"}://127.0.0.1:${this.port}`;
  }

  protected override async launch(): Promise<ManagedProcess> {
    const confFile = `${this.dir}/mosquitto.conf`;
    await Deno.writeTextFile(confFile, await this.#conf());
    return await spawn({
      name: "mosquitto",
      command: commandPath("mosquitto") ?? "mosquitto",
      args: ["-c", confFile],
      dir: this.dir,
      ready: () => accepts(this.port),
    });
  }

  async #conf(): Promise<string> {
    const { persistence, users, acl, tls, maxQueuedMessages, maxInflightMessages, conf = [] } = this.#options;
    const lines = [`listener ${this.port} 127.0.0.1`, `allow_anonymous ${users === undefined}`];
    // Started by root it would become the user `mosquitto`, who cannot read this folder.
    if (Deno.uid() === 0) lines.unshift("user root");
    if (persistence !== undefined) {
      lines.push("persistence true", `persistence_location ${this.dir}/`);
      if (persistence !== "on-stop") {
        lines.push(`autosave_on_changes ${persistence === "always"}`, "autosave_interval 1");
      }
    }
    if (users !== undefined) lines.push(`password_file ${await this.#passwordFile(users)}`);
    if (acl !== undefined) lines.push(`acl_file ${await this.#aclFile(acl)}`);
    if (tls !== undefined) {
      const { certFile, keyFile } = await this.authority!.server("mosquitto");
      lines.push(`cafile ${this.authority!.caFile}`, `certfile ${certFile}`, `keyfile ${keyFile}`);
      lines.push(`require_certificate ${tls === "mutual"}`);
    }
    if (maxQueuedMessages !== undefined) lines.push(`max_queued_messages ${maxQueuedMessages}`);
    if (maxInflightMessages !== undefined) lines.push(`max_inflight_messages ${maxInflightMessages}`);
    return [...lines, ...conf, ""].join("\n");
  }

  async #passwordFile(users: Readonly<Record<string, string>>): Promise<string> {
    const file = `${this.dir}/passwords`;
    const lines = Object.entries(users).map(([name, password]) => `${name}:${password}\n`);
    await Deno.writeTextFile(file, lines.join(""), { mode: 0o600 });
    // Hashes the passwords in place.
    await run(commandPath("mosquitto_passwd") ?? "mosquitto_passwd", ["-U", file]);
    return file;
  }

  async #aclFile(lines: readonly string[]): Promise<string> {
    const file = `${this.dir}/acl`;
    await Deno.writeTextFile(file, [...lines, ""].join("\n"), { mode: 0o600 });
    return file;
  }
}
