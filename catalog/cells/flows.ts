/**
 * Cells of the columns that make more than one run of a message, or hold it back: `for_each`, `needs`, `retry_on`,
 * `schedule` and the like. Pure. What they do is flows.ts.
 */
import type { ForEach, RetryRule, Row, Schedule, Template } from "../../ports.ts";
import { RUN_REASONS, type RunReason } from "../../reasons.ts";
import { jobNameFault } from "../../run_spec.ts";
import { durationMs } from "../../util/duration.ts";
import { nearest } from "../../util/nearest.ts";
import type { Kind } from "../kinds.ts";
import { listOf, shortEntriesOf } from "./entries.ts";
import { parseTemplate } from "./template.ts";

/** Items of one group by numbers, at most. */
const MAX_NUMBER = 1_000_000;
const PATH_ROOTS: ReadonlySet<string> = new Set(["payload", "input", "result"]);
/** What is known before there are items. */
const MESSAGE_ROOTS: ReadonlySet<string> = new Set([...PATH_ROOTS, "topic", "job_name"]);

/** `payload.files`, `result.files`, `s3://bucket/prefix/*.h5`, `1..24`. */
export const forEach: Kind<ForEach> = {
  schema: { type: "string" },
  read(text, report) {
    const range = /^(\d{1,7})\.\.(\d{1,7})$/.exec(text);
    if (range) {
      const [first, last] = [Number(range[1]), Number(range[2])];
      if (first <= last && last <= MAX_NUMBER) return { from: "numbers", first, last };
      report.error(`not a range of numbers up to ${MAX_NUMBER}; write the lower one first, such as 1..24`);
      return undefined;
    }
    const parsed = parseTemplate(text.includes("://") ? text : `{${text}}`);
    if ("fault" in parsed) {
      report.error(`not a list of items: ${parsed.fault}`);
      return undefined;
    }
    if (text.includes("://")) {
      const fault = objectsFault(parsed.template);
      if (fault === undefined) return { from: "objects", url: parsed.template };
      report.error(`not a list of items: ${fault}`);
      return undefined;
    }
    const [piece] = parsed.template;
    if (parsed.template.length === 1 && typeof piece === "object" && PATH_ROOTS.has(piece.root)) {
      return { from: piece.root as "payload" | "input" | "result", path: piece.path };
    }
    report.error(`not a list of items; ${itemsAdvice(text)}`);
    return undefined;
  },
};

/** What is to be written instead. */
function itemsAdvice(text: string): string {
  // With the curved and the angled quotes of word processors.
  const bare = text.replace(/^[{"'\u201c-\u201e\u2018\u2019\u00ab\u00bb]{1,3}/, "")
    .replace(/[}"'\u201c-\u201e\u2018\u2019\u00ab\u00bb]{1,3}$/, "");
  if (bare !== text && /^((payload|input|result)\.[\w.[\]-]{1,100}|\d{1,7}\.\.\d{1,7})$/.test(bare)) {
    return `write ${bare}, without braces or quotes`;
  }
  // A spreadsheet makes one character of three dots, and a longer dash.
  const range = /^(\d{1,7})\s?(?:-|\u2013|\u2026|\.\.\.|:|to)\s?(\d{1,7})$/.exec(text);
  if (range) return `write ${range[1]}..${range[2]}`;
  return "write where it is, such as payload.files or result.files, s3://bucket/folder/*.h5, or 1..24";
}

/** Ends that are no failure, or that nothing is left to be tried again of. */
const NOT_RETRIED: ReadonlySet<string> = new Set(
  ["Completed", "Cancelled", "Deleted", "Refused", "Vanished"] satisfies RunReason[],
);
/** Kubernetes' own words for a pod that it takes away, and the local runner's for a process. */
const OF_DISRUPTIONS = [
  "EvictionByEvictionAPI",
  "PreemptionByScheduler",
  "DeletionByTaintManager",
  "DeletionByPodGC",
  "TerminationByKubelet",
  "Lost",
];
const RETRIED = [...Object.keys(RUN_REASONS).filter((reason) => !NOT_RETRIED.has(reason)), ...OF_DISRUPTIONS];
const WORDS = RETRIED.map((word) => word.toLowerCase());
/** What people call some reasons, in small letters. `OutOfmemory` is the kubelet's word for a node without room. */
const OTHER_WORDS: Readonly<Record<string, RunReason>> = {
  outofmemory: "OOMKilled",
  oom: "OOMKilled",
  timeout: "DeadlineExceeded",
  error: "ExitCode",
};

/** The cell, as it may have been written. */
export function forEachText(forEach: ForEach): string {
  switch (forEach.from) {
    case "numbers":
      return `${forEach.first}..${forEach.last}`;
    case "objects":
      return forEach.url.map((piece) => typeof piece === "string" ? piece : piece.source).join("");
    default:
      return forEach.from + forEach.path.map((step) => typeof step === "number" ? `[${step}]` : `.${step}`).join("");
  }
}

/** What is wrong with the URL of the objects, a clause to follow a colon; undefined: nothing. */
function objectsFault(url: Template): string | undefined {
  const [start] = url;
  // Which bucket is read is the table's business, not the message's.
  const begin = typeof start === "string"
    ? /^(s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\/|file:\/\/\/)/.exec(start)?.[0]
    : "";
  if (!begin) return "write s3://bucket/folder/*.h5, with the bucket's name written out";
  const stars = url.some((piece) => typeof piece === "string" && piece.includes("*"));
  if (!stars) return `it names one object; write a "*" for what differs, such as ${begin}folder/*.h5`;
  const other = url.find((piece) => typeof piece !== "string" && !MESSAGE_ROOTS.has(piece.root));
  if (other === undefined || typeof other === "string") return undefined;
  return `${other.source} is not known before there are items; write what the message says, such as {payload.uuid}`;
}

/** Exit codes, ranges of them, and words of `reason`. */
export const retryRules: Kind<readonly RetryRule[]> = listOf<RetryRule>((entry) => {
  const range = /^(\d{1,3})(?:-(\d{1,3}))?$/.exec(entry);
  if (range) {
    const [first, last] = [Number(range[1]), Number(range[2] ?? range[1])];
    if (first >= 1 && first <= last && last <= 255) return { first, last };
    return { fault: "exit codes are 1 to 255, the lower one first: 130-145" };
  }
  if (!/^[A-Za-z]{2,60}$/.test(entry)) {
    return { fault: "write an exit code (75), a range (130-145) or a word of `reason` such as NodeLost" };
  }
  const meant = OTHER_WORDS[entry.toLowerCase()];
  if (meant !== undefined && !entry.startsWith("OutOfm")) return { fault: `did you mean ${meant}?` };
  if (NOT_RETRIED.has(entry)) return { fault: `a run that ends as ${entry} is never tried again; take it out` };
  if (RETRIED.includes(entry)) return { reason: entry };
  const near = nearest(entry.toLowerCase(), WORDS);
  const word = RETRIED.find((reason) => reason.toLowerCase() === near);
  // Kubernetes has more words of its own.
  if (word === undefined && /^[A-Z]/.test(entry)) return { reason: entry };
  return {
    fault: word === undefined ? "it is no word of `reason`; they begin with a capital" : `did you mean ${word}?`,
  };
}, { split: shortEntriesOf });

/** Rows that one row may need. */
const MAX_NEEDS = 50;

const namesOfRows: Kind<readonly string[]> = listOf<string>((name) => {
  const fault = jobNameFault(name);
  return fault === undefined ? name : { fault: `the name ${fault}` };
}, {
  split: shortEntriesOf,
  unique: (name) => name,
});

/** Names of rows, each once. */
export const rowNames: Kind<readonly string[]> = {
  ...namesOfRows,
  read(text, report, row) {
    const names = namesOfRows.read(text, report, row);
    if (names === undefined || names.length <= MAX_NEEDS) return names;
    report.error(`the cell names ${names.length} rows, ${MAX_NEEDS} are allowed; let one row need some of them first`);
    return undefined;
  },
};

/** Text with placeholders. */
export const concurrencyGroup: Kind<Template> = {
  schema: { type: "string", maxLength: 1000 },
  read(text, report) {
    const parsed = text.length > 1000 ? { fault: "it has more than 1000 characters" } : parseTemplate(text);
    if ("fault" in parsed) {
      report.error(`not a name of a group: ${parsed.fault}`);
      return undefined;
    }
    for (const doubt of parsed.doubts) report.warn(doubt);
    return parsed.template;
  },
};

/** Ten years, for who writes a longer one means something else. */
const LONGEST_MS = 3650 * 24 * 3600_000;

/** Five fields of cron, a word such as `@daily`, or `every 30m`. That cron understands it is checked by who loads cron. */
export const schedule: Kind<Schedule> = {
  schema: { type: "string", maxLength: 200 },
  read(text, report) {
    const every = /^every\s+(\S+)$/i.exec(text);
    if (every) {
      const ms = durationMs(every[1]!) ?? 0;
      if (ms >= 60_000 && ms <= LONGEST_MS && ms % 1_000 === 0) return { everySeconds: ms / 1_000 };
      report.error(
        "not a time between runs; write whole seconds and at least a minute, such as every 30m or every 12h",
      );
      return undefined;
    }
    if (/^@[a-z]{4,12}$/i.test(text) || text.length <= 200 && text.split(/\s+/).length === 5) {
      return { cron: text.toLowerCase().replaceAll(/\s+/g, " ") };
    }
    if (text.length <= 200 && text.split(/\s+/).length === 6) {
      report.error(
        "not a schedule: it has six fields, and nothing runs more often than each minute; leave the seconds out",
      );
      return undefined;
    }
    const fields = text.split(/\s+/);
    report.error(
      text.length <= 200 && fields.length === 4 && fields.every((field) => /^[\d*,/-]{1,50}$/.test(field))
        ? "not a schedule: it has four fields; write five: minute, hour, day of the month, month, day of the week"
        : "not a schedule; write five fields of cron (0 3 * * 1-5), @daily, or every 30m",
    );
    return undefined;
  },
};

/** As the cell has it, or means the same. */
export function scheduleText({ schedule }: Pick<Row, "schedule">): string {
  if (schedule === undefined) return "";
  if ("cron" in schedule) return schedule.cron;
  const { everySeconds } = schedule;
  const [unit, seconds] = ([["h", 3600], ["m", 60], ["s", 1]] as const).find(([, one]) => everySeconds % one === 0)!;
  return `every ${everySeconds / seconds}${unit}`;
}

/** A name of the IANA database. */
export const timeZone: Kind<string> = {
  schema: { type: "string", maxLength: 100 },
  read(text, report) {
    try {
      return new Intl.DateTimeFormat("en", { timeZone: text }).resolvedOptions().timeZone;
    } catch {
      report.error("not a time zone; write a name of the IANA database such as Europe/Berlin or UTC");
      return undefined;
    }
  },
};
