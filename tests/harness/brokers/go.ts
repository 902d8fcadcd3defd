/**
 * Real brokers that are Go programs: mochi and the NATS server, each on a free port of loopback. Owns their
 * configuration; tests/install.sh builds them.
 */
import { type Tool, toolPath } from "../cache.ts";
import type { BrokerOptions } from "./all.ts";
import { removeFolder, scratchFolder } from "../folder.ts";
import { accepts, freePort } from "../ports.ts";
import { type ManagedProcess, spawn } from "../process.ts";
import { RestartableServer } from "../restartable.ts";

/** mochi 2.7.9, MQTT 5 and 3.1.1, with its sessions and messages in a file. Needs `needs("mochi")`. */
export function startMochi({ user }: BrokerOptions = {}): Promise<GoBroker> {
  return startGoBroker("mochi", "-config", ({ dir, port }) =>
    JSON.stringify({
      listeners: [{ type: "tcp", id: "tcp", address: `127.0.0.1:${port}` }],
      hooks: { auth: mochiUsers(user), storage: { bolt: { path: `${dir}/state.db` } } },
      logging: { level: "WARN" },
    }));
}

/**
 * NATS server 2.15 with its MQTT gateway, which speaks MQTT 3.1.1 only. `ackWait`: when it
 * sends again what was not acknowledged, also over the same connection; its preset is 30 s. Needs `needs("nats")`.
 */
export function startNats(
  { user, ackWait = "2s" }: BrokerOptions & { ackWait?: string } = {},
): Promise<GoBroker> {
  return startGoBroker("nats", "--config", ({ dir, port }) =>
    JSON.stringify({
      server_name: "mjl",
      host: "127.0.0.1",
      port: freePort(),
      jetstream: { store_dir: `${dir}/jetstream` },
      // All subscriptions of a session together may have 65,535, one with "#" counts twice.
      mqtt: {
        host: "127.0.0.1",
        port,
        ack_wait: ackWait,
        max_ack_pending: 100,
        ...(user ? { authorization: { username: user.name, password: user.password } } : {}),
      },
    }));
}

function mochiUsers(user: BrokerOptions["user"]) {
  if (!user) return { allow_all: true };
  return { ledger: { auth: [{ username: user.name, password: user.password, allow: true }] } };
}

interface Place {
  readonly dir: string;
  readonly port: number;
}

async function startGoBroker(tool: Tool, flag: string, conf: (place: Place) => string): Promise<GoBroker> {
  const dir = await scratchFolder(tool);
  try {
    const broker = new GoBroker(dir, tool, flag);
    await Deno.writeTextFile(broker.confFile, conf({ dir, port: broker.port }));
    await broker.start();
    return broker;
  } catch (error) {
    await removeFolder(dir);
    throw error;
  }
}

/** A broker that keeps its port, sessions and messages over stop(), kill9() and start(). Disposing it removes it. */
export class GoBroker extends RestartableServer {
  readonly port: number = freePort();
  /** `mqtt://127.0.0.1:PORT`. */
  readonly url = `mqtt://127.0.0.1:${this.port}`;
  readonly confFile: string;

  /** Use the functions of this module. */
  constructor(dir: string, readonly tool: Tool, readonly flag: string) {
    super(dir);
    this.confFile = `${dir}/conf.json`;
  }

  protected override async launch(): Promise<ManagedProcess> {
    return await spawn({
      name: this.tool,
      command: toolPath(this.tool) ?? this.tool,
      args: [this.flag, this.confFile],
      dir: this.dir,
      ready: () => accepts(this.port),
    });
  }
}
