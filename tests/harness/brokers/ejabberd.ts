/**
 * A real ejabberd 23.01 (Debian's) with nothing but its MQTT broker, MQTT 5 and 3.1.1, on a free port of loopback. Owns
 * its configuration. It runs without Erlang's distribution, so that it opens no other port and starts no epmd.
 */
import { commandPath } from "../cache.ts";
import { removeFolder, scratchFolder } from "../folder.ts";
import { accepts, freePort } from "../ports.ts";
import { type ManagedProcess, spawn } from "../process.ts";
import { RestartableServer } from "../restartable.ts";
import type { BrokerOptions, User } from "./all.ts";

/** It lets nobody in without a user. Needs `needs("ejabberd")`. */
export async function startEjabberd(
  { user = { name: "lab", password: "lab" } }: BrokerOptions = {},
): Promise<Ejabberd> {
  const dir = await scratchFolder("ejabberd");
  try {
    const broker = new Ejabberd(dir, user);
    await broker.start();
    return broker;
  } catch (error) {
    await removeFolder(dir);
    throw error;
  }
}

/** A broker that keeps its port over stop(), kill9() and start(), but no session. Disposing it removes it. */
export class Ejabberd extends RestartableServer {
  readonly port: number = freePort();
  /** `mqtt://USER:PASSWORD@127.0.0.1:PORT`. */
  readonly url: string;

  /** Use startEjabberd. */
  constructor(dir: string, readonly user: User) {
    super(dir);
    this.url = `mqtt://${user.name}:${user.password}@127.0.0.1:${this.port}`;
  }

  protected override async launch(): Promise<ManagedProcess> {
    const { dir, user: { name, password } } = this;
    await Deno.writeTextFile(`${dir}/ejabberd.yml`, this.#conf());
    const register = `ejabberd_auth:try_register(<<"${name}">>, <<"localhost">>, <<"${password}">>)`;
    return await spawn({
      name: "ejabberd",
      command: commandPath("erl") ?? "erl",
      args: [
        "-noinput",
        "-mnesia",
        "dir",
        `"${dir}/data"`,
        "-s",
        "ejabberd",
        "-eval",
        `${register}, io:format("up~n").`,
      ],
      env: {
        HOME: dir,
        ERL_LIBS: `/usr/lib/${Deno.build.arch}-linux-gnu`,
        EJABBERD_CONFIG_PATH: `${dir}/ejabberd.yml`,
        EJABBERD_LOG_PATH: `${dir}/logs/ejabberd.log`,
        ERL_CRASH_DUMP: "/dev/null",
      },
      dir,
      cwd: dir,
      ready: async () => /^up$/m.test(await Deno.readTextFile(`${dir}/ejabberd.log`)) && await accepts(this.port),
      readyTimeoutMs: 240_000,
    });
  }

  /** Its presets: 5 min for a session, 5,000 messages in it, and users write to topics that begin with their names. */
  #conf(): string {
    return `hosts: [localhost]
loglevel: warning
listen: [{ port: ${this.port}, ip: "127.0.0.1", module: mod_mqtt, backlog: 1000 }]
modules:
  mod_mqtt:
    max_queue: 1000000
    session_expiry: 7 days
    access_publish: { "#": all }
    access_subscribe: { "#": all }
`;
  }
}
