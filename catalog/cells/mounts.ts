/**
 * The cell `mounts`: `pvc:name[/sub]:/path[:ro]; secret:name[/key]:/path; config:name[/key]:/path; memory[:8Gi]:/dev/shm;
 * scratch[:20Gi]:/tmp`, after docker's -v. Pure.
 */
import type { Mount } from "../../ports.ts";
import { compact } from "../../util/compact.ts";
import { quantityAdvice, quantityValue } from "../../util/quantities.ts";
import { type Fault, listOf } from "./entries.ts";
import { dataKeyFault, objectNameFault } from "./names.ts";
import { trimEnd } from "../../util/text.ts";

const NOTATION = "write pvc:name:/path, secret:name:/path, config:name:/path, memory:8Gi:/dev/shm or scratch:20Gi:/tmp";

export const mounts = listOf<Mount>(readMount, { unique: ({ path }) => path });

function readMount(entry: string): Mount | Fault {
  const [from = "", ...rest] = entry.split(":").map((part) => part.trim());
  // docker's order of options: the path comes last but one then.
  const option = rest.length > 1 && /^(ro|rw)$/.test(rest.at(-1) ?? "") ? rest.pop() : undefined;
  const path = rest.pop() ?? "";
  if (rest.length > 1) return { fault: `it has too many parts between ":"; ${NOTATION}` };
  const [what = ""] = rest;
  if (from.startsWith("/") || from === "hostPath" || from === "host") {
    return {
      fault: "a folder of the node can be mounted by an operator's pod_template only; take a claim: pvc:name:/path",
    };
  }
  if (!["pvc", "secret", "config", "memory", "scratch"].includes(from)) {
    const guess = GUESSES[from.toLowerCase()];
    return {
      fault: guess === undefined
        ? `"${from}" is nothing that can be mounted; ${NOTATION}`
        : `write "${guess}" instead of "${from}"`,
    };
  }
  const fault = pathFault(path);
  if (fault !== undefined) return { fault };
  const clean = cleanPath(path);
  if (from === "memory" || from === "scratch") return folderMount(from, what, option, clean);
  return objectMount(from as "pvc" | "secret" | "config", what, option, clean);
}

const GUESSES: Readonly<Record<string, string>> = {
  claim: "pvc",
  persistentvolumeclaim: "pvc",
  volume: "pvc",
  secrets: "secret",
  configmap: "config",
  cm: "config",
  shm: "memory",
  tmpfs: "memory",
  ram: "memory",
  emptydir: "scratch",
  tmp: "scratch",
  disk: "scratch",
};

function objectMount(
  from: "pvc" | "secret" | "config",
  what: string,
  option: string | undefined,
  path: string,
): Mount | Fault {
  const slash = what.indexOf("/");
  const object = slash === -1 ? what : what.slice(0, slash);
  const part = slash === -1 ? undefined : what.slice(slash + 1);
  const fault = objectNameFault(object) ??
    (part === undefined ? undefined : from === "pvc" ? subPathFault(part) : dataKeyFault(part));
  if (fault !== undefined) return { fault };
  if (from === "pvc") {
    return {
      from,
      object,
      ...(part === undefined ? {} : { subPath: trimEnd(part, "/") }),
      path,
      readOnly: option === "ro",
    };
  }
  if (option === "rw") {
    return { fault: `a ${from === "secret" ? "Secret" : "ConfigMap"} is always read-only; leave out ":rw"` };
  }
  return { from, object, ...compact({ key: part }), path };
}

function folderMount(
  from: "memory" | "scratch",
  size: string,
  option: string | undefined,
  path: string,
): Mount | Fault {
  if (option === "ro") return { fault: 'an empty folder that is read-only is of no use; leave out ":ro"' };
  if (size === "") return { from, path };
  const value = quantityValue(size);
  if (value === undefined || !(value > 0)) {
    return {
      fault: `"${size}" is no size: ${quantityAdvice(size, "disk").replace("leave the cell empty", "leave it out")}`,
    };
  }
  if (value < 2 ** 20) return { fault: `"${size}" is ${value} bytes; write a size as 500Mi or 8Gi` };
  return { from, size, path };
}

/** What is wrong with the path of a mount; undefined: nothing. */
function pathFault(path: string): string | undefined {
  if (!path.startsWith("/")) {
    return path === "" ? `the path is missing; ${NOTATION}` : `the path "${path}" must begin with "/"`;
  }
  if (path.split("/").includes("..")) return `the path "${path}" has ".."; write it without`;
  if (["/", "/proc", "/sys", "/dev"].includes(cleanPath(path))) return `nothing can be mounted over ${cleanPath(path)}`;
  return undefined;
}

function subPathFault(path: string): string | undefined {
  if (path === "") return `name the folder of the claim after "/", or leave "/" out`;
  if (path.startsWith("/") || path.split("/").includes("..")) {
    return `the folder "${path}" must lie within the claim, without ".."`;
  }
  return undefined;
}

function cleanPath(path: string): string {
  return path.replace(/\/{2,}/g, "/").replace(/(.)\/$/, "$1");
}
