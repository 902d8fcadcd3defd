/**
 * All measurements of `deno task bench` by name, in the order in which they are made. Measures nothing itself.
 */
import { CLI } from "./cli.ts";
import { ENDS } from "./ends.ts";
import { FLOWS } from "./flows.ts";
import { HISTORY } from "./history.ts";
import { JOB_COST } from "./job_cost.ts";
import { LOGS } from "./log_node.ts";
import type { Measurement } from "./measure.ts";
import { MEMORY } from "./memory.ts";
import { MILLION } from "./million.ts";
import { PAGES } from "./pages.ts";
import { PEER } from "./peer.ts";
import { SPEED } from "./speed.ts";
import { TABS } from "./tabs.ts";

/** What is measured when no name is given. */
export const MEASUREMENTS: Readonly<Record<string, Measurement>> = {
  ...SPEED,
  ...JOB_COST,
  ...ENDS,
  ...PEER,
  ...MEMORY,
  ...MILLION,
  ...LOGS,
  ...FLOWS,
  ...CLI,
  ...HISTORY,
  ...PAGES,
  ...TABS,
};
