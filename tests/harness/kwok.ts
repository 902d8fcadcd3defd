/**
 * What fake nodes and their pods do, as stages for kwok (kwok.x-k8s.io/v1alpha1): a node becomes ready, a pod runs for a
 * given time, then ends. Pure: makes the configuration's text.
 */

export interface FakePods {
  /** How long each pod pretends to run, in milliseconds; `forever`: until it is deleted. Default 0. */
  runMs?: number | "forever";
  /** Exit code of each container. Default 0. */
  exitCode?: number;
}

/** The configuration file for `kwok --config`. */
export function kwokStages({ runMs = 0, exitCode = 0 }: FakePods = {}): string {
  const stages = [
    stage("node-ready", "Node", [not("Ready")], { statusTemplate: NODE_READY }),
    stage("pod-run", "Pod", [alive, phase("Pending")], { statusTemplate: POD_RUN }),
    stage("pod-delete", "Pod", [{ key: ".metadata.deletionTimestamp", operator: "Exists" }], { delete: true }),
    ...runMs === "forever"
      ? []
      : [stage("pod-end", "Pod", [alive, phase("Running")], { statusTemplate: podEnd(exitCode) }, runMs)],
  ];
  // JSON is YAML; documents are parted by dashes.
  return stages.map((object) => JSON.stringify(object, null, 2)).join("\n---\n");
}

interface Match {
  key: string;
  operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
  values?: string[];
}

const alive: Match = { key: ".metadata.deletionTimestamp", operator: "DoesNotExist" };

function phase(name: string): Match {
  return { key: ".status.phase", operator: "In", values: [name] };
}

function not(condition: string): Match {
  const key = `.status.conditions.[] | select( .type == "${condition}" ) | .status`;
  return { key, operator: "NotIn", values: ["True"] };
}

function stage(name: string, kind: string, matchExpressions: Match[], next: unknown, delayMs = 0): unknown {
  return {
    apiVersion: "kwok.x-k8s.io/v1alpha1",
    kind: "Stage",
    metadata: { name },
    spec: {
      resourceRef: { apiGroup: "v1", kind },
      selector: { matchExpressions },
      ...(delayMs === 0 ? {} : { delay: { durationMilliseconds: delayMs } }),
      next,
    },
  };
}

const NODE_READY = `
conditions:
{{ range NodeConditions }}
- { type: {{ .type | Quote }}, status: {{ .status | Quote }}, reason: {{ .reason | Quote }}, message: {{ .message | Quote }}, lastHeartbeatTime: {{ Now | Quote }}, lastTransitionTime: {{ Now | Quote }} }
{{ end }}
addresses:
- { type: InternalIP, address: {{ NodeIP | Quote }} }
`;

const POD_RUN = `
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
conditions:
- { type: Initialized, status: "True", lastTransitionTime: {{ $now | Quote }} }
- { type: Ready, status: "True", lastTransitionTime: {{ $now | Quote }} }
- { type: ContainersReady, status: "True", lastTransitionTime: {{ $now | Quote }} }
containerStatuses:
{{ range .spec.containers }}
- { name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: "", ready: true, started: true, restartCount: 0, state: { running: { startedAt: {{ $now | Quote }} } } }
{{ end }}
`;

function podEnd(exitCode: number): string {
  const reason = exitCode === 0 ? "Completed" : "Error";
  return `
{{ $now := Now }}
{{ $start := .status.startTime }}
phase: ${exitCode === 0 ? "Succeeded" : "Failed"}
conditions:
- { type: Ready, status: "False", reason: PodCompleted, lastTransitionTime: {{ $now | Quote }} }
- { type: ContainersReady, status: "False", reason: PodCompleted, lastTransitionTime: {{ $now | Quote }} }
containerStatuses:
{{ range .spec.containers }}
- { name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: "", ready: false, started: false, restartCount: 0, state: { terminated: { exitCode: ${exitCode}, reason: ${reason}, startedAt: {{ $start | Quote }}, finishedAt: {{ $now | Quote }} } } }
{{ end }}
`;
}
