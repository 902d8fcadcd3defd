/** The brokers of the compatibility suites: how each is started, what must be set, and both suites on one of them. */
import { startLocalBroker } from "../../local/broker.ts";
import { compact } from "../../util/compact.ts";
import { BROKER_CASES, type BrokerFixture } from "../conformance/broker.ts";
import { brokerFixture } from "../conformance/broker_fixture.ts";
import { lackNames, type Lacks, lacksOf } from "../conformance/broker_lacks.ts";
import { type BrokerKind, type BrokerOptions, BROKERS } from "../harness/brokers/all.ts";
import { startNats } from "../harness/brokers/go.ts";
import { startMosquitto } from "../harness/mosquitto.ts";
import type { Part } from "../harness/needs.ts";
import { freePort } from "../harness/ports.ts";
import { playScript, type Size, type Subject } from "./script.ts";
import { type ServerResult, tried, type Verdict } from "./verdicts.ts";

interface Running extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  restart(): Promise<void>;
}

export interface CompatBroker {
  /** As it is called on the command line. */
  readonly id: string;
  /** With its version. */
  readonly name: string;
  /** What is to be there; absent: nothing. */
  readonly part?: Part;
  readonly protocolVersion: 5 | 4;
  readonly lacks: Lacks;
  /** What must be set, beside user and password. */
  readonly setting: string;
  /** Environment of the service. */
  readonly env?: Readonly<Record<string, string>>;
  start(options?: BrokerOptions): Promise<Running>;
  /** The same for the conformance suite, which waits for seconds only. */
  readonly startForSuite?: () => Promise<Running>;
}

const USER = { name: "lab", password: "the-right-one" };

const SETTINGS: Readonly<Record<string, Pick<CompatBroker, "setting" | "env">>> = {
  hivemq: { setting: "broker: `max-queue-size` (preset 1,000; what is beyond is dropped)" },
  artemis: {
    setting: "`MQTT_RECEIVE_MAXIMUM=10000`; broker: `max-delivery-attempts` -1 (preset 10; a message is then given up)",
    env: { MQTT_RECEIVE_MAXIMUM: "10000" },
  },
  mochi: { setting: "none; not for real work" },
  rabbitmq: {
    setting: "`MQTT_VERSION=4`; broker: `mqtt.subscription_ttl` (preset 1 day; how long a session is kept, in ms)",
  },
  nats: {
    setting: "`MQTT_VERSION=4`, no blanks in topics; broker: `max_ack_pending` × filters at most 65,535, `max_payload`",
  },
  moquette: {
    setting: "`MQTT_VERSION=4`, nothing retained on rows' topics; broker: `netty.mqtt.message_size` (preset 8 KiB)",
  },
  ejabberd: {
    setting:
      "broker: `session_expiry` (preset 5 min), `max_queue` (preset 5,000), `access_publish`, `access_subscribe`",
  },
};

const MOSQUITTO: CompatBroker = {
  id: "mosquitto",
  name: "mosquitto 2.0.11",
  part: "mosquitto",
  protocolVersion: 5,
  lacks: {},
  setting: "broker: `max_queued_messages 0` (preset 1,000; what is beyond is dropped), `persistence true`",
  start: ({ user } = {}) =>
    startMosquitto({
      persistence: "on-stop",
      maxQueuedMessages: 0,
      ...(user ? { users: { [user.name]: user.password } } : {}),
    }),
};

const AEDES: CompatBroker = {
  id: "aedes",
  name: "aedes 1.2 (the demo)",
  protocolVersion: 4,
  lacks: {
    ...lacksOf({ protocolVersion: 4 }),
    "sessions over restart": "Everything lies in memory.",
  },
  setting: "`MQTT_VERSION=4`",
  async start() {
    // Not one of the system's choice: that could be taken by an outgoing connection while the broker restarts.
    const port = freePort();
    let broker = await startLocalBroker({ port });
    return {
      url: broker.url,
      port,
      async restart() {
        await broker.close();
        broker = await startLocalBroker({ port });
      },
      [Symbol.asyncDispose]: () => broker.close(),
    };
  },
};

/** All of them, in the order of the table. */
export const COMPAT_BROKERS: readonly CompatBroker[] = [MOSQUITTO, ...BROKERS.map(ofHarness), AEDES];

function ofHarness(kind: BrokerKind): CompatBroker {
  const { name, part, protocolVersion } = kind;
  return {
    id: part,
    name,
    part,
    protocolVersion,
    lacks: lacksOf(kind),
    ...(SETTINGS[part] ?? { setting: "none" }),
    start: (options) => kind.start(options),
    // With the preset of its `ack_wait`, as people have it.
    ...(part === "nats"
      ? { start: (options) => startNats({ ...options, ackWait: "30s" }), startForSuite: () => kind.start() }
      : {}),
  };
}

/** Name and version apart. */
export function brokerServer({ name }: Pick<CompatBroker, "name">): { server: string; version: string } {
  const [, server = name, version = ""] = /^(.*?) (\d.*)$/.exec(name) ?? [];
  return { server, version };
}

/** Both suites on one broker. */
export async function tryBroker(
  broker: CompatBroker,
  { size, conformance = true }: { size?: Size; conformance?: boolean } = {},
): Promise<ServerResult> {
  const verdicts: Verdict[] = [];
  if (conformance) {
    await using fixture = brokerFixture(await (broker.startForSuite ?? broker.start)(), broker);
    verdicts.push(...await conform(fixture, broker.lacks));
  }
  await using running = await broker.start({ user: USER });
  const url = new URL(running.url);
  const hasUsers = broker.id !== "aedes";
  if (hasUsers) [url.username, url.password] = [USER.name, USER.password];
  const subject: Subject = {
    url: url.href,
    protocolVersion: broker.protocolVersion,
    hasUsers,
    hasProperties: !("properties" in broker.lacks),
    ...compact({ env: broker.env, noWillBecause: broker.lacks.will }),
  };
  verdicts.push(...await playScript(subject, size));
  return { ...brokerServer(broker), setting: broker.setting, verdicts };
}

/** The conformance suite as one verdict with its figures, and one for each case that failed though it should pass. */
async function conform(fixture: BrokerFixture, lacks: Lacks): Promise<Verdict[]> {
  const names = lackNames(lacks);
  const failed: string[] = [];
  const reasons = new Set<string>();
  let leftOut = 0;
  for (const { title, needs, run } of BROKER_CASES) {
    const lacked = needs.filter((need) => names.includes(need));
    for (const need of lacked) reasons.add(lacks[need]!);
    if (lacked.length > 0) {
      leftOut++;
      continue;
    }
    const { answer, words = "" } = await tried(title, () => run(fixture, names));
    if (answer === "no") failed.push(`“${title}” fails (${words})`);
  }
  const all = BROKER_CASES.length;
  const figures = `${all - leftOut - failed.length} of ${all} cases pass.`;
  const answer = failed.length > 0 ? "no" : leftOut > 0 ? "part" : "yes";
  return [{ check: "Conformance suite of the port", answer, words: [figures, ...reasons, ...failed].join(" ") }];
}
