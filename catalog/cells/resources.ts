/**
 * The cells about devices: `resources` (`nvidia.com/a100=1; hugepages-2Mi=96Mi`), and `gpu` with another resource than
 * `nvidia.com/gpu` (`nvidia.com/mig-1g.10gb=1`). Pure.
 */
import { quantityValue } from "../../util/quantities.ts";
import { type Fault, listOf } from "./entries.ts";
import { labelKeyFault } from "./names.ts";

export interface NamedQuantity {
  readonly name: string;
  readonly quantity: string;
}

/** What has a column of its own. */
const COLUMN_OF: Readonly<Record<string, string>> = {
  "cpu": "cpu_request and cpu_limit",
  "memory": "memory_request and memory_limit",
  "ephemeral-storage": "disk_request and disk_limit",
  "nvidia.com/gpu": "gpu",
};

export const resources = listOf<NamedQuantity>(readResource, { unique: ({ name }) => name });

function readResource(entry: string): NamedQuantity | Fault {
  const found = parseResource(entry);
  if ("fault" in found) return found;
  const column = COLUMN_OF[found.name];
  return column === undefined ? found : { fault: `use the column ${column}` };
}

/** `name=quantity` of an extended resource or of huge pages. */
export function parseResource(entry: string): NamedQuantity | Fault {
  const equals = entry.indexOf("=");
  const name = (equals === -1 ? entry : entry.slice(0, equals)).trim();
  const quantity = equals === -1 ? "" : entry.slice(equals + 1).trim();
  if (equals === -1) return { fault: "write name=number, such as nvidia.com/a100=1" };
  if (name in COLUMN_OF) return { name, quantity };
  if (/^hugepages-\d{1,4}[KMG]i$/.test(name)) {
    const value = quantityValue(quantity);
    return value !== undefined && value > 0
      ? { name, quantity }
      : { fault: `"${quantity}" is no size; write it as 96Mi` };
  }
  if (!name.includes("/")) {
    return {
      fault:
        `"${name}" is no resource that has no column of its own; such have a domain, as nvidia.com/a100, or are called hugepages-2Mi`,
    };
  }
  const fault = labelKeyFault(name);
  if (fault !== undefined) return { fault };
  if (!/^\d{1,9}$/.test(quantity) || Number(quantity) === 0) {
    return { fault: `"${quantity}" is no whole number of at least 1` };
  }
  return { name, quantity: String(Number(quantity)) };
}
