/** MqttBroker on the real brokers beside mosquitto: the conformance suite, with what each lacks. */
import { brokerConformance } from "../conformance/broker.ts";
import { lackNames, lacksOf } from "../conformance/broker_lacks.ts";
import { BROKERS } from "../harness/brokers/all.ts";
import { brokerFixture } from "../conformance/broker_fixture.ts";
import { needs } from "../harness/needs.ts";

// Moquette 0.17 now and then leaves a client unanswered that is back at once, so that no run of the suite is like the last;
// docs/compatibility.md has what was seen.
for (const kind of BROKERS.filter(({ part }) => part !== "moquette")) {
  brokerConformance(`MqttBroker on ${kind.name}`, async () => brokerFixture(await kind.start(), kind), {
    ignore: !await needs(kind.part),
    lacks: lackNames(lacksOf(kind)),
  });
}
