/**
 * A real RabbitMQ 3.10 (Debian's) with its MQTT plugin, which speaks MQTT 3.1.1, on free ports of loopback. Owns its
 * configuration and an epmd of its own: Erlang would start one for the whole machine, on all addresses, and leave it.
 */
import { commandPath } from "../cache.ts";
import { removeFolder, scratchFolder } from "../folder.ts";
import type { BrokerOptions } from "./all.ts";
import { accepts, freePort } from "../ports.ts";
import { type ManagedProcess, spawn } from "../process.ts";
import { RestartableServer } from "../restartable.ts";

/** Starts a broker; without `user`, with nobody but guests. Needs `needs("rabbitmq")`. */
export async function startRabbitMq({ user }: BrokerOptions = {}): Promise<RabbitMq> {
  const dir = await scratchFolder("rabbitmq");
  const broker = new RabbitMq(dir, user);
  try {
    await broker.start();
    return broker;
  } catch (error) {
    await broker[Symbol.asyncDispose]().catch(() => removeFolder(dir));
    throw error;
  }
}

/** A broker that keeps its port, sessions and messages over stop(), kill9() and start(). Disposing it removes it. */
export class RabbitMq extends RestartableServer {
  readonly port: number = freePort();
  /** `mqtt://127.0.0.1:PORT`. */
  readonly url = `mqtt://127.0.0.1:${this.port}`;
  readonly #epmdPort = freePort();
  readonly #distributionPort = freePort();
  #epmd: ManagedProcess | undefined;

  /** Use startRabbitMq. */
  constructor(dir: string, readonly user: BrokerOptions["user"]) {
    super(dir);
  }

  protected override async launch(): Promise<ManagedProcess> {
    const { dir } = this;
    this.#epmd ??= await spawn({
      name: "epmd",
      command: commandPath("epmd") ?? "epmd",
      args: ["-address", "127.0.0.1", "-port", String(this.#epmdPort)],
      dir,
      ready: () => accepts(this.#epmdPort),
    });
    await Deno.writeTextFile(`${dir}/rabbitmq.conf`, this.#conf());
    await Deno.writeTextFile(`${dir}/plugins`, "[rabbitmq_mqtt].\n");
    return await spawn({
      name: "rabbitmq",
      // Not the one in PATH: that changes to the user rabbitmq, who may not read this folder.
      command: "/usr/lib/rabbitmq/bin/rabbitmq-server",
      env: {
        HOME: dir,
        ERL_EPMD_ADDRESS: "127.0.0.1",
        ERL_EPMD_PORT: String(this.#epmdPort),
        RABBITMQ_NODENAME: `mjl${this.port}@localhost`,
        RABBITMQ_DIST_PORT: String(this.#distributionPort),
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: "-kernel inet_dist_use_interface {127,0,0,1}",
        RABBITMQ_CONFIG_FILE: `${dir}/rabbitmq.conf`,
        RABBITMQ_CONF_ENV_FILE: "/dev/null",
        RABBITMQ_ENABLED_PLUGINS_FILE: `${dir}/plugins`,
        RABBITMQ_MNESIA_BASE: `${dir}/data`,
        RABBITMQ_LOG_BASE: `${dir}/logs`,
        RABBITMQ_LOGS: "-",
        // The shell is then replaced by the broker, so that a signal to its process id reaches it.
        RUNNING_UNDER_SYSTEMD: "true",
        NOTIFY_SOCKET: `${dir}/nobody-listens`,
      },
      dir,
      cwd: dir,
      ready: () => accepts(this.port),
      readyTimeoutMs: 180_000,
    });
  }

  #conf(): string {
    return [
      "listeners.tcp = none",
      `mqtt.listeners.tcp.default = 127.0.0.1:${this.port}`,
      `mqtt.allow_anonymous = ${this.user === undefined}`,
      ...(this.user ? [`default_user = ${this.user.name}`, `default_pass = ${this.user.password}`] : []),
      "mqtt.subscription_ttl = 604800000",
      "log.console.level = warning",
      "",
    ].join("\n");
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#epmd?.stop();
    await super[Symbol.asyncDispose]();
  }
}
