/**
 * Real brokers that are Java libraries: HiveMQ CE, ActiveMQ Artemis and Moquette, each with the small program of its
 * folder here, on a free port of loopback. Owns their start; tests/install.sh fetches and compiles them.
 */
import { commandPath, javaBrokerFolder } from "../cache.ts";
import { removeFolder, scratchFolder } from "../folder.ts";
import type { BrokerOptions } from "./all.ts";
import { accepts, freePort } from "../ports.ts";
import { type ManagedProcess, spawn } from "../process.ts";
import { RestartableServer } from "../restartable.ts";

/** The brokers by the names of their folders. */
export type JavaBrokerName = "hivemq" | "artemis" | "moquette";

/** HiveMQ CE 2025.5, MQTT 5 and 3.1.1. `conf`: further elements of its config.xml. Needs `needs("hivemq")`. */
export function startHiveMq({ conf = "", user }: BrokerOptions & { conf?: string } = {}): Promise<JavaBroker> {
  return startJavaBroker("hivemq", user, async (dir, port) => {
    await Deno.mkdir(`${dir}/conf`, { recursive: true });
    // Its preset drops what is beyond 1,000 queued messages.
    await Deno.writeTextFile(
      `${dir}/conf/config.xml`,
      `<hivemq>
  <listeners><tcp-listener><port>${port}</port><bind-address>127.0.0.1</bind-address></tcp-listener></listeners>
  <mqtt><queued-messages><max-queue-size>1000000</max-queue-size></queued-messages>${conf}</mqtt>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
</hivemq>
`,
    );
  });
}

/** ActiveMQ Artemis 2.40, MQTT 5 and 3.1.1. Needs `needs("artemis")`. */
export function startArtemis({ user }: BrokerOptions = {}): Promise<JavaBroker> {
  return startJavaBroker("artemis", user);
}

/** Moquette 0.17, which speaks MQTT 3.1.1 only. Needs `needs("moquette")`. */
export function startMoquette({ user }: BrokerOptions = {}): Promise<JavaBroker> {
  return startJavaBroker("moquette", user);
}

async function startJavaBroker(
  name: JavaBrokerName,
  user: BrokerOptions["user"],
  prepare: (dir: string, port: number) => Promise<void> = async () => {},
): Promise<JavaBroker> {
  const dir = await scratchFolder(name);
  try {
    const broker = new JavaBroker(dir, name, user);
    await prepare(dir, broker.port);
    await broker.start();
    return broker;
  } catch (error) {
    await removeFolder(dir);
    throw error;
  }
}

/** A broker that keeps its port, sessions and messages over stop(), kill9() and start(). Disposing it removes it. */
export class JavaBroker extends RestartableServer {
  readonly port: number = freePort();
  /** `mqtt://127.0.0.1:PORT`. */
  readonly url = `mqtt://127.0.0.1:${this.port}`;

  /** Use the functions of this module. */
  constructor(dir: string, readonly name: JavaBrokerName, readonly user?: BrokerOptions["user"]) {
    super(dir);
  }

  protected override async launch(): Promise<ManagedProcess> {
    const program = await javaBrokerFolder(this.name);
    // The simple collector and compiler: a start takes half the time, and several brokers share a small machine.
    const quick = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
    // HiveMQ unpacks RocksDB, 13 MB, wherever temporary files go, and one that is killed leaves it there.
    const jvm = ["-Xmx512m", ...quick, `-Djava.io.tmpdir=${this.dir}`];
    return await spawn({
      name: this.name,
      command: commandPath("java") ?? "java",
      args: [...jvm, "-cp", `${program}:${program}/lib/*`, "Main", this.dir, String(this.port)],
      env: this.user ? { BROKER_USER: this.user.name, BROKER_PASSWORD: this.user.password } : {},
      dir: this.dir,
      cwd: this.dir,
      ready: () => accepts(this.port),
      readyTimeoutMs: 180_000,
    });
  }
}
