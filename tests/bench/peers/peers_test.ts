/** The arithmetic of `deno task bench peers` and `bench scale`: what their lines become, and what /proc is asked. */
import { deepEqual, match, ok, throws } from "node:assert/strict";
import { eventually } from "../../harness/wait.ts";
import { fillScale } from "../scale_page.ts";
import type { PeerLine } from "./line.ts";
import { fillPeers, plotsOfPeers, readPeers } from "./page.ts";
import { Group, residentMb } from "./processes.ts";

const marks = (...names: string[]) =>
  names.map((name) => `<!-- ${name}:begin -->\nold\n<!-- ${name}:end -->\n`).join("");
const PAGE = marks("peers-conditions", "peers-bursts", "peers-steady", "peers-faults", "peers-plots");

function aLine(part: Partial<PeerLine>): PeerLine {
  return {
    peer: "service",
    case: "burst-2000",
    jobs: 2_000,
    seconds: 5,
    perSecond: 400,
    p50: 10,
    p99: 20,
    cpu: 3,
    controlPlaneCpu: 5,
    memoryMb: 170,
    lost: 0,
    doubled: 0,
    late: 0,
    ...part,
  };
}

const read = (...lines: object[]) => readPeers(lines.map((line) => JSON.stringify(line)).join("\n"));

Deno.test("fillPeers() writes the median of a rate, but the most that was lost or doubled", () => {
  const turns = [{ perSecond: 300, lost: 7 }, { perSecond: 400, doubled: 2 }, { perSecond: 410 }].map(aLine);
  const page = fillPeers(PAGE, read(...turns));
  match(page, /^\| 2,000 at once \| MQTT Job Listener \| 400 +\| 1.5 +\| 2.5 +\| 170 +\| 7 +\| 2 +\|$/m);
});

Deno.test("fillPeers() does not call a message lost whose Job was only not there yet", () => {
  match(fillPeers(PAGE, read(aLine({ late: 290 }))), /\| 290 still to come \|/);
});

Deno.test("fillPeers() names bare creates after those who are sent messages, with their rate only", () => {
  const creates = { peer: "creates", case: "burst-2000", jobs: 2_000, seconds: 4, perSecond: 500 };
  const lines = fillPeers(PAGE, read(creates, aLine({}))).split("\n").filter((line) => line.startsWith("| 2,000"));
  deepEqual(lines.map((line) => line.split("|")[2]!.trim()), ["MQTT Job Listener", "bare creates, no messages"]);
  match(lines[1]!, /\| 500 +(\| +)+\|$/);
});

Deno.test("fillPeers() names the marker that a page lacks", () => {
  throws(() => fillPeers(PAGE.replace("peers-faults:end", ""), read()), /no <!-- peers-faults:begin -->/);
});

Deno.test("plotsOfPeers() draws what a run has, and nothing else", () => {
  deepEqual([...plotsOfPeers(read(aLine({ case: "kill-9" }))).keys()], ["peers-lost.svg"]);
});

Deno.test("fillScale() computes cores from milliseconds a message", () => {
  const line = { services: 1, controlPlanes: 1, messages: 1, perSecond: 400, busy: 2, cores: 2 };
  const text = JSON.stringify({ ...line, serviceCpu: 1.4, controlPlaneCpu: 2.6, machineCpu: 4.8 });
  const page = fillScale(marks("scale", "scale-10000"), text);
  match(page, /^\| 1 +\| 1 +\| 400 +\| 1.4 +\| 2.6 +\| 4.8 +\| 2 of 2 +\|$/m);
  match(page, /^\| services +\| 14 +\| 20 services/m);
  match(page, /^\| API servers and etcds +\| 26 +\| 3 control planes/m);
});

Deno.test("the pages of a program's file count once for two of its processes", async () => {
  const shell = () => new Deno.Command("sh", { args: ["-c", "echo; read _"], stdin: "piped", stdout: "piped" }).spawn();
  await using one = shell();
  await using two = shell();
  // One that has just begun has no pages of its file yet; one that has said something and listens takes no more of them.
  await Promise.all([one, two].map(({ stdout }) => stdout.getReader().read()));
  ok(residentMb([one.pid, two.pid]) < residentMb([one.pid]) + residentMb([two.pid]));
  ok(residentMb([one.pid]) > 0);
});

Deno.test("a group keeps the processor time of a process that has ended", async () => {
  const busy = new Deno.Command("sh", { args: ["-c", "while :; do :; done"] }).spawn();
  const pids = [busy.pid];
  await using group = new Group(() => pids);
  await eventually(() => group.cpu() >= 0.05, { what: "a busy process to have taken 50 ms" });
  busy.kill("SIGKILL");
  await busy.status;
  pids.length = 0;
  ok(group.cpu() >= 0.05);
});
