/**
 * What a row names and the cluster does not have, on real parts: an API server, a kubelet that runs containers, mosquitto,
 * an S3 server and the service as a process. Each run says in plain words why it waits, on its page while it does and in its
 * end message. That the page is no later than ten seconds is held in tests/completion_test.ts, without a clock of this
 * busy machine.
 */
import { deepEqual, equal, match } from "node:assert/strict";
import { JobWatch } from "../harness/job_watch.ts";
import { removeFolder, scratchFolder } from "../harness/folder.ts";
import { GATE_MOUNT, Gates, untilOpen } from "../harness/gate.ts";
import { type Kit, startKit } from "../harness/kit.ts";
import { needs } from "../harness/needs.ts";
import { pageReason } from "../harness/page_reason.ts";
import { freePort } from "../harness/ports.ts";
import { MqttEar, type ServiceProcess, startService } from "../harness/service.ts";
import { type Cells, csv, shell } from "../harness/table.ts";
import { eventually } from "../harness/wait.ts";

const PREFIX = "services/mqtt_job_listener";
const JOBS = "/apis/batch/v1/namespaces/default/jobs";
const ready = await needs("mosquitto", "s3", "node");

interface End {
  readonly status: string;
  readonly reason: string;
  readonly message: string;
  readonly run_name: string;
}

interface Case {
  readonly name: string;
  readonly cells: Cells;
  /** What the page says while the run waits. */
  readonly page: RegExp;
  /** How it ends when the grace is over, */
  readonly reason: string;
  /** and in which words. */
  readonly end: RegExp;
}

/**
 * The secret `lab-s3` has the key `key`, the config map `lab` the key `mode`; there are two claims, and nothing that
 * makes volumes for them.
 */
const MISSING: readonly Case[] = [
  {
    name: "env-secret",
    cells: { env: "KEY=secret:gone/key" },
    page: /^Its container cannot be started: the secret "gone" does not exist in its namespace/,
    reason: "CannotStart",
    end: /the secret "gone" does not exist in its namespace/,
  },
  {
    name: "env-all-of-secret",
    cells: { env: "secret:gone" },
    page: /^Its container cannot be started: the secret "gone" does not exist in its namespace/,
    reason: "CannotStart",
    end: /the secret "gone" does not exist in its namespace/,
  },
  {
    name: "mount-secret",
    cells: { mounts: "secret:gone:/etc/lab" },
    page: /^Its pod cannot be prepared: the secret "gone" does not exist in its namespace/,
    reason: "CannotStart",
    end: /the secret "gone" does not exist in its namespace/,
  },
  {
    name: "env-key",
    cells: { env: "KEY=secret:lab-s3/gone" },
    page: /^Its container cannot be started: the secret default\/lab-s3 has no key "gone"/,
    reason: "CannotStart",
    end: /the secret default\/lab-s3 has no key "gone"/,
  },
  {
    name: "mount-key",
    cells: { mounts: "secret:lab-s3/gone:/etc/lab" },
    page: /the secret .*has no key "gone"/,
    reason: "CannotStart",
    end: /has no key "gone"/,
  },
  {
    name: "env-config",
    cells: { env: "MODE=config:gone/mode" },
    page: /^Its container cannot be started: the config map "gone" does not exist in its namespace/,
    reason: "CannotStart",
    end: /the config map "gone" does not exist in its namespace/,
  },
  {
    name: "env-config-key",
    cells: { env: "MODE=config:lab/gone" },
    page: /^Its container cannot be started: the config map default\/lab has no key "gone"/,
    reason: "CannotStart",
    end: /the config map default\/lab has no key "gone"/,
  },
  {
    name: "mount-config",
    cells: { mounts: "config:gone:/etc/lab" },
    page: /^Its pod cannot be prepared: the config map "gone" does not exist in its namespace/,
    reason: "CannotStart",
    end: /the config map "gone" does not exist in its namespace/,
  },
  {
    name: "claim",
    cells: { mounts: "pvc:gone:/data" },
    page: /^Waiting for a node: No node can take it: the claim "gone" does not exist in its namespace/,
    reason: "Unschedulable",
    end: /the claim "gone" does not exist in its namespace/,
  },
  {
    name: "claim-without-volume",
    cells: { mounts: "pvc:unbound:/data" },
    page: /^Waiting for a node: No node can take it: its claim is bound to no volume yet/,
    reason: "Unschedulable",
    end: /its claim is bound to no volume yet/,
  },
  {
    name: "claim-of-the-first-pod",
    cells: { mounts: "pvc:first-consumer:/data" },
    page: /^Waiting for a node: No node can take it: there is no volume for its claim, which waits for its first pod/,
    reason: "Unschedulable",
    end: /there is no volume for its claim/,
  },
  {
    name: "label-of-no-node",
    cells: { node_selector: "zone=nowhere" },
    page: /^Waiting for a node: No node can take it: no node has the labels that the row asks for/,
    reason: "Unschedulable",
    end: /no node has the labels that the row asks for/,
  },
];

/** The cluster makes no pod at all, so the run has ended as soon as that is known. */
const REFUSED: readonly Omit<Case, "page">[] = [
  {
    name: "priority-class",
    cells: { priority_class: "gone" },
    reason: "PodRefused",
    end: /^The cluster refuses its pod: the priority class "gone" does not exist/,
  },
  {
    name: "runtime-class",
    cells: { runtime_class: "gone" },
    reason: "PodRefused",
    end: /^The cluster refuses its pod: the runtime class "gone" does not exist/,
  },
  {
    name: "account",
    cells: { service_account: "gone" },
    reason: "PodRefused",
    end: /^The cluster refuses its pod: the service account "gone" does not exist in its namespace/,
  },
];

const ROWS: readonly Cells[] = [
  ...[...MISSING, ...REFUSED].map(({ name, cells }) => row(name, "true", cells)),
  row("gated", "echo through", { labels: "hold=gate" }),
  row("prepared", "echo never", { pod_template: "prepared" }),
  row("held", `${untilOpen("held")}; echo done`, { mounts: GATE_MOUNT }),
];

function row(name: string, script: string, cells: Cells = {}): Cells {
  return { job_name: name, image: "busybox:lab", mqtt_topic: `lab/${name}`, command: shell(script), ...cells };
}

const POLICY = `secrets: ["*"]
service_accounts: ["*"]
`;

/** What somebody's admission rule does to pods with the label `hold=gate`, on their way in. */
const GATE = {
  metadata: { name: "gate" },
  spec: {
    matchConstraints: {
      resourceRules: [{ apiGroups: [""], apiVersions: ["v1"], operations: ["CREATE"], resources: ["pods"] }],
      objectSelector: { matchLabels: { hold: "gate" } },
    },
    reinvocationPolicy: "Never",
    mutations: [{
      patchType: "JSONPatch",
      jsonPatch: {
        expression: `[JSONPatch{op: "add", path: "/spec/schedulingGates", value: [{"name": "example.com/wait"}]}]`,
      },
    }],
  },
};

const TEMPLATES = `kind: PodTemplate
metadata: { name: prepared }
template:
  spec:
    initContainers:
      - name: fetch
        image: "busybox:lab"
        command: [sh, -c, "${untilOpen("fetch")}; exit 4"]
        volumeMounts: [{ name: gate, mountPath: /gate, readOnly: true }]
    volumes: [{ name: gate, persistentVolumeClaim: { claimName: gate } }]
`;

class Bed implements AsyncDisposable {
  private constructor(
    readonly kit: Kit,
    readonly port: number,
    readonly ear: MqttEar,
    readonly jobs: JobWatch,
    readonly gates: Gates,
    readonly service: ServiceProcess,
    readonly files: string,
  ) {}

  static async start(): Promise<Bed> {
    const kit = await startKit({ broker: { persistence: "always", maxQueuedMessages: 0 } });
    const { api } = kit.cluster;
    const core = "/api/v1/namespaces/default";
    await api.create(`${core}/secrets`, { metadata: { name: "lab-s3" }, data: { key: btoa("s3cret") } });
    await api.create(`${core}/configmaps`, { metadata: { name: "lab" }, data: { mode: "slow" } });
    await api.create("/apis/storage.k8s.io/v1/storageclasses", {
      metadata: { name: "late" },
      provisioner: "kubernetes.io/no-provisioner",
      volumeBindingMode: "WaitForFirstConsumer",
    });
    for (const [name, storageClassName] of [["unbound", ""], ["first-consumer", "late"]]) {
      await api.create(`${core}/persistentvolumeclaims`, {
        metadata: { name },
        spec: { storageClassName, accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } },
      });
    }
    const admission = "/apis/admissionregistration.k8s.io/v1";
    await api.create(`${admission}/mutatingadmissionpolicies`, GATE);
    const binding = { metadata: GATE.metadata, spec: { policyName: "gate" } };
    await api.create(`${admission}/mutatingadmissionpolicybindings`, binding);
    const port = freePort();
    const files = await scratchFolder("policy");
    await Deno.writeTextFile(`${files}/policy.yaml`, POLICY);
    await Deno.writeTextFile(`${files}/templates.yaml`, TEMPLATES);
    const env: Record<string, string> = {
      ...kit.env(),
      CATALOG_POLL: "1h",
      POLICY_FILE: `${files}/policy.yaml`,
      POD_TEMPLATES: `${files}/templates.yaml`,
      STATUS_ADDR: `127.0.0.1:${port}`,
      IMAGE_PULL_GRACE: "25s",
      UNSCHEDULABLE_GRACE: "25s",
      LOG_LEVEL: "debug",
    };
    await kit.s3.put(env["CATALOG_URL"]!, csv(ROWS));
    const ear = await MqttEar.connect(kit.broker.url, [`${PREFIX}/#`]);
    const jobs = await JobWatch.start(api);
    const gates = await Gates.make(kit.cluster);
    return new Bed(kit, port, ear, jobs, gates, await startService(env), files);
  }

  async begin(jobName: string): Promise<string> {
    await this.ear.publish(`lab/${jobName}`, "go");
    return await eventually(() => this.jobs.created(jobName)[0]?.metadata?.name, {
      what: async () => `a Job of ${jobName}; the service says:\n${await this.service.logTail(15)}`,
    });
  }

  /** Resolves when the run's page says so. */
  async says(runName: string, words: RegExp): Promise<void> {
    let said = "";
    await eventually(async () => words.test(said = await pageReason(this.port, runName)), {
      what: () => `${words} on the page of ${runName}; it says: ${said}`,
    });
  }

  async end(jobName: string): Promise<End> {
    return await eventually(
      () => ["complete", "failed"].flatMap((how) => this.ear.json<End>(`${PREFIX}/job_${how}/${jobName}`))[0],
      {
        what: async () => `the end of ${jobName}; the service says:\n${await this.service.logTail(15)}`,
      },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.service[Symbol.asyncDispose]();
    await this.jobs[Symbol.asyncDispose]();
    await this.ear[Symbol.asyncDispose]();
    await this.kit[Symbol.asyncDispose]();
    await removeFolder(this.files);
  }
}

Deno.test({
  name: "outcomes of what a row names",
  ignore: !ready,
  async fn(t) {
    await using bed = await Bed.start();
    const { api } = bed.kit.cluster;

    await t.step("what is missing is named on the page while the run waits, and in its end message", async (t) => {
      const names = await Promise.all(MISSING.map(({ name }) => bed.begin(name)));
      await Promise.all(MISSING.map(({ page }, at) => bed.says(names[at]!, page)));
      for (const { name, reason, end: words } of MISSING) {
        await t.step(name, async () => {
          const end = await bed.end(name);
          deepEqual([end.status, end.reason], ["failed", reason]);
          match(end.message, words);
        });
      }
    });

    await t.step("a class or an account that is not there ends the run, named", async (t) => {
      const names = await Promise.all(REFUSED.map(({ name }) => bed.begin(name)));
      for (const [at, { name, reason, end: words }] of REFUSED.entries()) {
        await t.step(name, async () => {
          await bed.says(names[at]!, words);
          const end = await bed.end(name);
          deepEqual([end.status, end.reason], ["failed", reason]);
          match(end.message, words);
        });
      }
    });

    await t.step("a pod behind a scheduling gate waits for whoever set it, and runs when it is off", async () => {
      const runName = await bed.begin("gated");
      await bed.says(runName, /^Waiting for somebody to take the scheduling gate "example\.com\/wait" off its pod$/);
      const pods = `/api/v1/namespaces/default/pods`;
      const { items } = await api.get<{ items: { metadata: { name: string } }[] }>(
        `${pods}?labelSelector=job-name%3D${runName}`,
      );
      await api.patch(`${pods}/${items[0]!.metadata.name}`, { spec: { schedulingGates: null } });
      equal((await bed.end("gated")).status, "succeeded");
    });

    await t.step("an init container of a pod template is named while it runs and when it has failed", async () => {
      const runName = await bed.begin("prepared");
      await bed.says(runName, /^Its init container "fetch" is running$/);
      await bed.gates.open("fetch");
      const end = await bed.end("prepared");
      deepEqual([end.status, end.reason], ["failed", "ExitCode"]);
      match(end.message, /^Its init container "fetch" ended with exit code 4/);
      equal(end.run_name, runName);
    });

    await t.step("a run that a person suspends says so, and goes on when that is taken back", async () => {
      const runName = await bed.begin("held");
      await api.patch(`${JOBS}/${runName}`, { spec: { suspend: true } });
      await bed.says(runName, /^Suspended: somebody has set `suspend` on its Job; it goes on when that is taken back$/);
      await bed.gates.open("held");
      await api.patch(`${JOBS}/${runName}`, { spec: { suspend: false } });
      equal((await bed.end("held")).status, "succeeded");
      equal(bed.jobs.created("held").length, 1);
    });
  },
});
