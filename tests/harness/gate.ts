/**
 * Programs of runs that go on when the test says so, and no sooner: each waits for a file in a folder of the node, which a
 * claim gives it. Owns the folder, the volume and the claim.
 */
import type { TestCluster } from "./cluster.ts";

/** What a row's `mounts` must name for `untilOpen`. */
export const GATE_MOUNT = "pvc:gate:/gate:ro";

/** Words of a shell that wait until the gate with this name, or what a variable holds, is open. */
export function untilOpen(name: string): string {
  return `until [ -e /gate/${name} ]; do sleep 0.2; done`;
}

/** The gates of a cluster; all are shut. Their folder goes with the cluster's. */
export class Gates {
  private constructor(readonly folder: string) {}

  /** The namespace must be there. */
  static async make({ api, dir }: TestCluster, namespace = "default"): Promise<Gates> {
    const folder = `${dir}/gate`;
    await Deno.mkdir(folder);
    const volume = { accessModes: ["ReadWriteMany"], storageClassName: "" };
    const size = { storage: "1Mi" };
    await api.create("/api/v1/persistentvolumes", {
      metadata: { name: "gate" },
      spec: { ...volume, capacity: size, hostPath: { path: folder } },
    });
    await api.create(`/api/v1/namespaces/${namespace}/persistentvolumeclaims`, {
      metadata: { name: "gate" },
      spec: { ...volume, volumeName: "gate", resources: { requests: size } },
    });
    return new Gates(folder);
  }

  async open(name: string): Promise<void> {
    await Deno.writeTextFile(`${this.folder}/${name}`, "");
  }
}
