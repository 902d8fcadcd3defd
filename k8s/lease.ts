/**
 * KubernetesLease: the port Lease as a Lease object of coordination.k8s.io/v1. Owns its calls; who leads is decided in
 * leader.ts.
 */
import type { V1Lease } from "@kubernetes/client-node";
import { answerError, isAlreadyThere, isMissing, isSuccess, type KubeClient, statusOf } from "./client.ts";
import type { Json } from "./facts.ts";
import type { Lease, LeaseRecord } from "../ports.ts";

export interface LeaseOptions {
  readonly client: KubeClient;
  readonly name: string;
}

/** A Lease object of coordination.k8s.io/v1; its resourceVersion makes a write compare-and-set. */
export class KubernetesLease implements Lease {
  readonly #client: KubeClient;
  readonly #name: string;
  readonly #path: string;

  constructor({ client, name }: LeaseOptions) {
    this.#client = client;
    this.#name = name;
    this.#path = `/apis/coordination.k8s.io/v1/namespaces/${encodeURIComponent(client.namespace)}/leases`;
  }

  async read({ signal }: { signal?: AbortSignal } = {}): Promise<LeaseRecord | undefined> {
    const answer = await this.#client.call("GET", `${this.#path}/${this.#name}`, { urgent: true, signal });
    if (isMissing(answer)) return undefined;
    if (!isSuccess(answer)) throw answerError(`read the Lease ${this.#name}`, answer);
    const { metadata, spec }: Json<V1Lease> = JSON.parse(answer.text);
    return {
      holder: spec?.holderIdentity ?? "",
      durationSeconds: spec?.leaseDurationSeconds ?? 0,
      renewedAt: new Date(spec?.renewTime ?? 0),
      transitions: spec?.leaseTransitions ?? 0,
      version: metadata?.resourceVersion ?? "",
    };
  }

  async write(next: LeaseRecord, { signal }: { signal?: AbortSignal } = {}): Promise<boolean> {
    const isNew = next.version === "";
    const body = JSON.stringify({
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: this.#name, ...(isNew ? {} : { resourceVersion: next.version }) },
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
    if (isSuccess(answer)) return true;
    if (isAlreadyThere(answer) || statusOf(answer).reason === "Conflict" || (!isNew && isMissing(answer))) return false;
    throw answerError(`write the Lease ${this.#name}`, answer);
  }
}
