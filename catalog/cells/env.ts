/**
 * The cell `env`: `A=1; B=secret:name/key; C=config:name/key; D=field:spec.nodeName; secret:name`.
 * A value is taken as it stands after the first `=`. Pure.
 */
import type { EnvEntry } from "../../ports.ts";
import { type Fault, isFault, listOf } from "./entries.ts";
import { dataKeyFault, objectNameFault } from "./names.ts";
import { isCodeVariable } from "./script.ts";
import { hasPlaceholder, parseTemplate } from "./template.ts";
import type { Report } from "../kinds.ts";

/** Linux allows 131,072 bytes for one variable; a value of a table is far from it. */
const MAX_NAME = 128;

/** What the service tells each container; a row must not say otherwise. */
const OWN =
  /^(JOB_NAME|RUN_NAME|MQTT_TOPIC|MQTT_PAYLOAD(_BASE64|_URL|_OBJECT)?|PAYLOAD_.*|JOB_COMPLETION_INDEX|RESULT_FILE)$/;

/** Whether the service, or Kubernetes for it, sets the variable in each container. */
export function isServicesVariable(name: string): boolean {
  return OWN.test(name);
}

/** https://kubernetes.io/docs/concepts/workloads/pods/downward-api/ */
const FIELD =
  /^(metadata\.(name|namespace|uid|(labels|annotations)\['[A-Za-z0-9._\/-]{1,317}'\])|spec\.(nodeName|serviceAccountName)|status\.(hostIPs?|podIPs?)|(limits|requests)\.(cpu|memory|ephemeral-storage|hugepages-[A-Za-z0-9]{1,10}))$/;

export const env = listOf<EnvEntry>(readEntry, {
  unique: (entry) => entry.from === "all" ? `${entry.kind}:${entry.object}` : entry.name,
});

function readEntry(entry: string, report: Report): EnvEntry | Fault {
  const equals = entry.indexOf("=");
  if (equals === -1) return readAll(entry);
  const name = entry.slice(0, equals).trim();
  const value = entry.slice(equals + 1);
  const fault = variableFault(name);
  if (fault !== undefined) return { fault };
  const source = /^\s*(secret|config|field):(.*)$/.exec(value);
  if (!source) return readValue(name, value, report);
  const [, from, rest = ""] = source;
  if (from === "field") return readField(name, rest.trim());
  const reference = keyReference(from as "secret" | "config", rest.trim());
  return isFault(reference) ? reference : { from: from as "secret" | "config", name, ...reference };
}

function variableFault(name: string): string | undefined {
  if (name.length > MAX_NAME) return `the name has ${name.length} characters, ${MAX_NAME} are allowed`;
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
    return /^export\s/.test(name)
      ? 'leave out "export"'
      : `"${name}" is no name of a variable: letters, digits and "_", no digit first`;
  }
  return isServicesVariable(name) ? `${name} is set by the service; take another name` : undefined;
}

function readAll(entry: string): EnvEntry | Fault {
  const all = /^(secret|config):(.*)$/.exec(entry);
  if (!all) {
    return {
      fault:
        'write NAME=value, NAME=secret:name/key, NAME=config:name/key, NAME=field:spec.nodeName or secret:name; a value cannot hold ";" nor a line break',
    };
  }
  const object = (all[2] ?? "").trim();
  const fault = objectNameFault(object);
  if (fault === undefined) return { from: "all", kind: all[1] as "secret" | "config", object };
  return { fault: object.includes("/") ? `to take one key, name its variable: NAME=${entry}` : fault };
}

function readField(name: string, path: string): EnvEntry | Fault {
  if (FIELD.test(path)) return { from: "field", name, path };
  return {
    fault: `"${path}" is no field that a container can be told; write metadata.name, metadata.namespace, ` +
      "spec.nodeName, status.podIP, status.hostIP, limits.cpu, limits.memory or another of Kubernetes' downward API",
  };
}

function readValue(name: string, text: string, report: Report): EnvEntry | Fault {
  const parsed = parseTemplate(text);
  if ("fault" in parsed) return parsed;
  if (isCodeVariable(name) && hasPlaceholder(parsed.template)) {
    return { fault: `programs load code by ${name}, so a payload must not be part of it; take a variable of your own` };
  }
  for (const doubt of parsed.doubts) report.warn(doubt);
  warnOfQuotes(name, text, report);
  return { from: "value", name, value: parsed.template };
}

function warnOfQuotes(name: string, text: string, report: Report): void {
  const value = text.trim();
  if (/^"[^"]*"$|^'[^']*'$/.test(value)) {
    report.warn(
      `the quotes are part of the value of ${name}, for it is taken as it stands; leave them out if they are not meant`,
    );
  }
  if (/^(configmap|cm|secrets|configs|secretKeyRef|configMapKeyRef|fieldRef):/i.test(value)) {
    report.warn(
      `the value of ${name} is this text; for a key of a Secret or ConfigMap write secret:name/key or config:name/key`,
    );
  }
}

/** `name/key` of a Secret or ConfigMap. */
function keyReference(from: "secret" | "config", text: string): { object: string; key: string } | Fault {
  const slash = text.indexOf("/");
  if (slash === -1) return { fault: `name the key too: ${from}:${text === "" ? "name" : text}/key` };
  const object = text.slice(0, slash);
  const key = text.slice(slash + 1);
  const fault = objectNameFault(object) ?? dataKeyFault(key);
  return fault === undefined ? { object, key } : { fault };
}
