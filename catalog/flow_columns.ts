/**
 * The part of the table of columns that is about more than one run: retries, items, joins, limits, schedules. Pure data.
 */
import { concurrencyGroup, forEach, retryRules, rowNames, schedule, timeZone } from "./cells/flows.ts";
import { choice, count, flag } from "./kinds.ts";

const NONE = "none";
const SINCE = { since: "0.1.0" } as const;

export const FLOW_COLUMNS = {
  skipExisting: {
    kind: flag,
    examples: ["yes"],
    meaning:
      "A message whose `output` is there already starts no run: it counts as succeeded, and what follows goes on. " +
      '`"overwrite": true` in the payload, or a rerun, makes it anew.',
    empty: "no",
    ...SINCE,
  },
  retries: {
    kind: count(0, 100),
    examples: ["2"],
    meaning: "How often a run that failed is tried again, as a Job of its own; the first time after 10 s " +
      "(`RETRY_DELAY`), then after twice as long each time, up to 6 min. `ATTEMPT` tells the program which it is. " +
      "Further sizes of `memory_limit` do not count.",
    empty: NONE,
    kubernetes: "a further Job, made before the one that failed is deleted",
    since: "0.1.0",
  },
  retryOn: {
    kind: retryRules,
    examples: ["75, 130-145, NodeLost"],
    meaning: "Failures that are tried again: exit codes, ranges of them, words of `reason`.",
    notation:
      "Entries are parted by `,` or `;`. The words are [those of a run that ended](troubleshoot.md#a-run-ended).",
    empty:
      "`ExitCode`, `OOMKilled`, `Evicted` and `Failed`: what the program itself did; not `DeadlineExceeded`, and " +
      "not what kept it from running",
    since: "0.1.0",
  },
  rerunAfterDisruption: {
    kind: flag,
    examples: ["no"],
    meaning: "`no`: a run whose pod the cluster takes away (a drained node, a more urgent pod) has failed. " +
      "Otherwise Kubernetes makes it a new pod, which counts as no failure.",
    empty: "yes",
    kubernetes:
      "`podFailurePolicy` of the Job: a pod with the condition `DisruptionTarget` is ignored (`Ignore`), or " +
      "fails the Job (`FailJob`); `podReplacementPolicy: Failed`",
    since: "0.1.0",
  },
  forEach: {
    kind: forEach,
    examples: ["payload.files", "s3://lab/{input.uuid}/*_well*.h5", "1..24"],
    meaning: "A run for each item: of a list or an object of the message, of a result, of the objects that match, " +
      "or of the numbers. `{item}` and `{index}` are its own.",
    empty: "one run a message",
    since: "0.1.0",
  },
  needs: {
    kind: rowNames,
    examples: ["sort, lfp"],
    meaning:
      "The row runs once when all of these rows have succeeded for the same message from outside; of a row with " +
      "`for_each` all items. Its payload has what they have made: `{payload.needs.sort.output}`, " +
      "`{result.sort.units}`, `{input.uuid}`. `mqtt_topic` may be empty.",
    empty: NONE,
    since: "0.1.0",
  },
  maxRuns: {
    kind: count(1, 100_000),
    examples: ["4"],
    meaning:
      "Runs at a time, of the row or of its `concurrency_group`. Further ones wait as suspended Jobs, and go on " +
      "in the order of their messages.",
    empty: "any number",
    ...SINCE,
  },
  concurrencyGroup: {
    kind: concurrencyGroup,
    examples: ["microscope-{payload.instrument}"],
    meaning:
      "What shares the slots of `max_runs`: runs of all rows for which this text is the same. A row without one is " +
      "in the group of its own name.",
    empty: "the row",
    ...SINCE,
  },
  whenBusy: {
    kind: choice("wait", "forbid", "replace", "latest"),
    examples: ["latest"],
    meaning:
      "What a message does when no slot is free: it waits; it is skipped (`forbid`); it takes the place of the oldest " +
      "run (`replace`); or it waits in the place of the one that waits (`latest`). What gives way is `cancelled`, and " +
      "no message says that it failed.",
    empty: "`wait`",
    ...SINCE,
  },
  maxWaiting: {
    kind: count(1, 10_000, "100"),
    examples: ["20"],
    meaning: "Runs of the row that wait as suspended Jobs; further messages stay with the broker.",
    empty: "100",
    ...SINCE,
  },
  schedule: {
    kind: schedule,
    examples: ["0 3 * * 1-5", "@daily", "every 30m"],
    meaning:
      "When the row runs by itself: five fields of cron, a word, or a time between runs. `mqtt_topic` may be empty " +
      "then. Of due times that were missed the last one runs, if within `STARTING_DEADLINE`.",
    empty: NONE,
    since: "0.1.0",
  },
  timeZone: {
    kind: timeZone,
    examples: ["Europe/Berlin"],
    meaning:
      "Time zone of `schedule`. A time that its clocks skip or repeat is due once; a row of every hour runs in " +
      "an hour that is repeated, too.",
    empty: "`UTC`",
    since: "0.1.0",
  },
} as const;
