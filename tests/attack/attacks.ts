/**
 * All attacks. The visitor's come first: what they take is measured from where a fresh service
 * stands. The largest tables come last.
 */
import { API_SERVER } from "./api_server.ts";
import type { Attack } from "./bed.ts";
import { BROKER } from "./broker.ts";
import { EDITOR } from "./editor.ts";
import { FOREIGN } from "./foreign.ts";
import { JOB } from "./job.ts";
import { BELOW_PREFIX } from "./prefix.ts";
import { PUBLISHER } from "./publisher.ts";
import { READER } from "./reader.ts";
import { STORE } from "./store.ts";
import { SUPPLIER } from "./supplier.ts";
import { VISITOR } from "./visitor.ts";

export const ATTACKS: readonly Attack[] = [
  ...VISITOR,
  ...PUBLISHER,
  ...BELOW_PREFIX,
  ...JOB,
  ...FOREIGN,
  ...STORE,
  ...BROKER,
  ...API_SERVER,
  ...READER,
  ...SUPPLIER,
  ...EDITOR,
];
