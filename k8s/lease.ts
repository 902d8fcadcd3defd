/**
 * KubernetesLease: the port Lease as a Lease object of coordination.k8s.io/v1. Owns its calls; who leads is decided in
 * leader.ts.
 */
import type { V1Lease } from "@kubernetes/client-node";
import { answerError, isAlreadyThere, isMissing, isSuccess, type KubeClient, objectOf, statusOf } from "./client.ts";
import type { Json } from "./facts.ts";
import { LABEL, ownLabels } from "./labels.ts";
import type { Lease, LeaseRecord } from "../ports.ts";

export interface LeaseOptions {
  readonly client: KubeClient;
  readonly name: string;
  /** Which service this is, for the label of the Lease. */
  readonly instance: string;
}

/** A Lease object of coordination.k8s.io/v1; its resourceVersion makes a write compare-and-set. */
export class KubernetesLease implements Lease {
  readonly #client: KubeClient;
  readonly #name: string;
  readonly #path: string;
  readonly #labels: Readonly<Record<string, string>>;

  constructor({ client, name, instance }: LeaseOptions) {
    this.#client = client;
    this.#labels = ownLabels(instance);
    this.#name = name;
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${encodeURIComponent(client.namespace)}/leases`;
  }

  async read({ signal }: { signal?: AbortSignal } = {}): Promise<LeaseRecord | undefined> {
    const answer = await this.#client.call("GET", `${this.#path}/${this.#name}`, { urgent: true, signal });
    if (isMissing(answer)) return undefined;
    if (!isSuccess(answer)) throw answerError(`read the Lease ${this.#name}`, answer);
    const { metadata, spec } = objectOf<Json<V1Lease>>(answer, this.#name);
    const instance = metadata?.labels?.[LABEL.instance];
    return {
      holder: spec?.holderIdentity ?? "",
      durationSeconds: spec?.leaseDurationSeconds ?? 0,
      renewedAt: new Date(spec?.renewTime ?? 0),
      transitions: spec?.leaseTransitions ?? 0,
      version: metadata?.resourceVersion ?? "",
      ...(instance === undefined || instance === this.#labels[LABEL.instance] ? {} : {
        stranger: `The Lease ${this.#name} is that of another service, "${instance}"; ` +
          "give each a LEASE_NAME of its own, and a rule for it in deploy/role.yaml",
      }),
    };
  }

  async write(next: LeaseRecord, { signal }: { signal?: AbortSignal } = {}): Promise<LeaseRecord | undefined> {
    const isNew = next.version === "";
    const body = JSON.stringify({
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: this.#name, labels: this.#labels, ...(isNew ? {} : { resourceVersion: next.version }) },
      spec: {
        holderIdentity: next.holder,
        // 0 is refused; a holder that steps down says so by an empty name.
        leaseDurationSeconds: Math.max(1, Math.ceil(next.durationSeconds)),
        // MicroTime wants six digits.
        renewTime: next.renewedAt.toISOString().replace("Z", "000Z"),
        leaseTransitions: next.transitions,
      },
    });
    const path = isNew ? this.#path : `${this.#path}/${this.#name}`;
    const answer = await this.#client.call(isNew ? "POST" : "PUT", path, { body, urgent: true, signal });
    if (isSuccess(answer)) {
      const { metadata } = objectOf<Json<V1Lease>>(answer, this.#name);
      return { ...next, version: metadata?.resourceVersion ?? "" };
    }
    if (isAlreadyThere(answer) || statusOf(answer).reason === "Conflict" || (!isNew && isMissing(answer))) {
      return undefined;
    }
    throw answerError(`write the Lease ${this.#name}`, answer);
  }
}
