/**
 * Volumes and where the run's own container mounts them. A volume that another container mounts too, or that a cell cannot
 * say, stays in the template with its mounts. Pure.
 */
import { type Fields, mapOf, mapsOf } from "./documents.ts";
import type { Draft } from "./draft.ts";
import type { ReportFinding } from "./finding.ts";

/** What the service calls the volumes of a row's columns. */
const OWN_NAME = /^(mount-\d+|disk)$/;

/** Offers the column `mounts`; volumes that no container mounts are told and left out. */
export function readMounts(spec: Fields, main: Fields, draft: Draft, report: ReportFinding): void {
  const volumes = new Map(mapsOf(spec["volumes"]).map((volume) => [volume["name"], volume]));
  const containers = [...mapsOf(spec["containers"]), ...mapsOf(spec["initContainers"])];
  const usesOf = (name: unknown) =>
    containers.flatMap((container) => mapsOf(container["volumeMounts"]).filter((mount) => mount["name"] === name));
  for (const mount of mapsOf(main["volumeMounts"])) {
    const { name } = mount;
    const volume = volumes.get(name);
    if (volume === undefined) continue;
    const own = mapsOf(main["volumeMounts"]).filter((other) => other["name"] === name);
    if (usesOf(name).length > own.length) continue;
    const cell = cellOf(volume, mount, own.length);
    if (cell === undefined) continue;
    draft.offer("mounts", cell.text, [cell.expected], () => {
      remove(main, "volumeMounts", mount);
      if (usesOf(name).length === 0) remove(spec, "volumes", volume);
    });
  }
  for (const [name, volume] of volumes) {
    const isDevice = containers.some((one) => mapsOf(one["volumeDevices"]).some((device) => device["name"] === name));
    if (usesOf(name).length > 0 || isDevice) continue;
    report("note", `volume ${String(name)}`, "no container mounts it, so it is left out");
    remove(spec, "volumes", volume);
  }
}

/** Gives volumes of a template other names where the service would give the same. */
export function renameVolumes(spec: Fields): void {
  const all = mapsOf(spec["volumes"]);
  for (const volume of all) {
    const name = String(volume["name"]);
    if (!OWN_NAME.test(name)) continue;
    volume["name"] = `own-${name}`;
    for (const container of [...mapsOf(spec["containers"]), ...mapsOf(spec["initContainers"])]) {
      for (const mount of [...mapsOf(container["volumeMounts"]), ...mapsOf(container["volumeDevices"])]) {
        if (mount["name"] === name) mount["name"] = `own-${name}`;
      }
    }
  }
}

/** Takes an entry out of a list, and the list once it is empty. */
function remove(fields: Fields, list: string, entry: Fields): void {
  const left = mapsOf(fields[list]).filter((other) => other !== entry);
  if (left.length === 0) delete fields[list];
  else fields[list] = left;
}

interface Cell {
  readonly text: string;
  readonly expected: unknown;
}

/** `uses`: how often the container mounts the volume. */
function cellOf({ name: _, ...sources }: Fields, mount: Fields, uses: number): Cell | undefined {
  const { name: __, mountPath, subPath, readOnly, ...more } = mount;
  const [[kind, source] = ["", {}], ...others] = Object.entries(sources);
  if (typeof mountPath !== "string" || Object.keys(more).length > 0 || others.length > 0) return undefined;
  if (!["string", "undefined"].includes(typeof subPath) || !["boolean", "undefined"].includes(typeof readOnly)) return;
  const part = subPath as string | undefined;
  const path = mountPath.replace(/\/{2,}/g, "/").replace(/(.)\/$/, "$1");
  const fields = mapOf(source);
  switch (kind) {
    case "persistentVolumeClaim":
      return claimCell(fields, path, part, readOnly === true);
    case "secret":
      return objectCell("secret", fields, "secretName", path, part);
    case "configMap":
      return objectCell("config", fields, "name", path, part);
    case "emptyDir":
      return uses === 1 && part === undefined && readOnly !== true ? folderCell(fields, path) : undefined;
    default:
      return undefined;
  }
}

function claimCell(source: Fields, path: string, part: string | undefined, isReadOnly: boolean): Cell | undefined {
  const { claimName: object, readOnly, ...more } = source;
  if (Object.keys(more).length > 0) return undefined;
  const ro = isReadOnly || readOnly === true;
  const subPath = part?.replace(/\/$/, "");
  return {
    text: `pvc:${object}${subPath === undefined ? "" : `/${subPath}`}:${path}${ro ? ":ro" : ""}`,
    expected: { from: "pvc", object, ...(subPath === undefined ? {} : { subPath }), path, readOnly: ro },
  };
}

function objectCell(
  from: "secret" | "config",
  source: Fields,
  nameField: string,
  path: string,
  part: string | undefined,
): Cell | undefined {
  const { [nameField]: object, items, ...more } = source;
  if (Object.keys(more).length > 0) return undefined;
  const chosen = mapsOf(items).find((item) => item["path"] === part);
  // Chosen keys in a folder have no notation, one of them as a file has; and a mode of its own has none.
  if (items !== undefined && (part === undefined || chosen?.["mode"] !== undefined)) return undefined;
  const key = items === undefined ? part : chosen?.["key"];
  if (items !== undefined && key === undefined) return undefined;
  return {
    text: `${from}:${object}${key === undefined ? "" : `/${key}`}:${path}`,
    expected: { from, object, ...(key === undefined ? {} : { key }), path },
  };
}

function folderCell({ medium, sizeLimit, ...more }: Fields, path: string): Cell | undefined {
  if (Object.keys(more).length > 0 || medium !== undefined && medium !== "Memory") return undefined;
  const from = medium === "Memory" ? "memory" : "scratch";
  const size = sizeLimit === undefined ? undefined : String(sizeLimit);
  return {
    text: `${from}${size === undefined ? "" : `:${size}`}:${path}`,
    expected: { from, ...(size === undefined ? {} : { size }), path },
  };
}
