/**
 * What the cells of a row say, as sentences. Pure. What stands between backticks is the cell's own text.
 */
import { forEachText, nodeRuleText, scheduleText } from "../../catalog.ts";
import type { Input, NodeRule, RetryRule, Row, Template } from "../../ports.ts";
import { endOf } from "../../topics.ts";
import { durationWords } from "../../util/duration.ts";
import { cut } from "../../util/text.ts";

/** Characters of one cell. */
const MAX_CELL = 300;
/** Names of a list that are written out. */
const MAX_NAMES = 20;

/** A cell's text as it is. */
function cell(text: string): string {
  return `\`${cut(text, MAX_CELL).replaceAll("`", "'")}\``;
}

function cells(texts: readonly string[], last = "and"): string {
  const shown = texts.slice(0, MAX_NAMES).map(cell);
  const rest = texts.length - shown.length;
  if (rest > 0) shown.push(`${rest} more`);
  return joined(shown, last);
}

function joined(words: readonly string[], last = "and"): string {
  return words.length < 2 ? words.join() : `${words.slice(0, -1).join(", ")} ${last} ${words.at(-1)}`;
}

function source(template: Template): string {
  return template.map((piece) => typeof piece === "string" ? piece : piece.source).join("");
}

/** When it runs, what it runs, on what, what happens when it fails, and what else its cells say. */
export function rowSentences(row: Row, topicPrefix: string): string[] {
  return [
    ...whenSentences(row, topicPrefix),
    ...whatSentences(row),
    ...resourceSentences(row),
    ...placeSentences(row),
    ...failureSentences(row),
    ...limitSentences(row),
    ...otherSentences(row),
  ].filter((sentence) => sentence !== "");
}

const ENDS: Readonly<Record<string, string>> = {
  job_complete: "has succeeded",
  job_failed: "has failed",
  group_complete: "has succeeded with all its items",
  group_failed: "has ended with an item that failed",
};

function whenSentences({ mqttTopic, needs, schedule, ...row }: Row, topicPrefix: string): string[] {
  const end = endOf(topicPrefix, mqttTopic);
  const how = ENDS[mqttTopic.slice(topicPrefix.length + 1).split("/")[0] ?? ""];
  const zone = row.timeZone ?? "UTC";
  return [
    mqttTopic === ""
      ? ""
      : end && how && !/[+#]/.test(end.jobName)
      ? `It runs when ${cell(end.jobName)} ${how}.`
      : `A message on ${cell(mqttTopic)} starts it.`,
    needs
      ? `It runs once when ${cells(needs)} ${needs.length > 1 ? "have all" : "has"} succeeded for the same message.`
      : "",
    schedule ? `It runs by itself: ${cell(scheduleText({ schedule }))} in the time zone ${zone}.` : "",
    row.when === undefined ? "" : `Only where ${cell(row.when)} is true.`,
    row.inputs ? inputsSentence(row.inputs) : "",
    row.forEach ? `Each item of ${cell(forEachText(row.forEach))} is a run of its own.` : "",
    row.idempotencyKey ? `Messages with the same ${cell(source(row.idempotencyKey))} are one run.` : "",
    row.enabled === "no" ? "It is switched off: messages do not start it, a person still can." : "",
    row.enabled === "paused" ? "It is paused: its messages wait until its cell `enabled` says yes." : "",
  ];
}

function inputsSentence(inputs: readonly Input[]): string {
  const named = (wanted: (input: Input) => boolean) => inputs.filter(wanted);
  const must = named(({ required }) => required);
  const choose = named(({ choices }) => choices !== undefined);
  const may = named(({ required, choices }) => !required && choices === undefined);
  const parts = [
    must.length > 0 ? `must have ${cells(must.map(({ name }) => name))}` : "",
    ...choose.map(({ name, choices = [] }) => `may choose ${cell(name)} from ${cells(choices, "or")}`),
    ...may.map(({ name, preset = "" }) => `may have ${cell(name)}, else ${preset === "" ? "empty" : cell(preset)}`),
  ].filter((part) => part !== "");
  return `Its message ${parts.join("; ")}.`;
}

function whatSentences(
  { image, command, args, workingDir, runAs, env, mounts, parallelism, completions }: Row,
): string[] {
  const parts = completions ?? parallelism;
  return [
    `It runs the image ${cell(image)}${command ? ` with the command ${cell(command.join(" "))}` : ""}${
      args ? `${command ? " and" : " with"} the arguments ${cell(args.map(source).join(" "))}` : ""
    }.`,
    workingDir ? `It starts in the folder ${cell(source(workingDir))}.` : "",
    runAs ? `It runs as user ${runAs.user}${runAs.group === undefined ? "" : ` and group ${runAs.group}`}.` : "",
    env && env.length > 0
      ? `Variables: ${cells(env.map((entry) => entry.from === "all" ? `${entry.kind}:${entry.object}` : entry.name))}.`
      : "",
    mounts && mounts.length > 0
      ? `Mounted: ${
        joined(
          mounts.slice(0, MAX_NAMES).map((mount) =>
            "object" in mount
              ? `${cell(mount.path)} from ${mount.from} ${cell(mount.object)}`
              : `${cell(mount.path)}, ${mount.from}`
          ),
        )
      }.`
      : "",
    parts > 1 ? `A run has ${parts} parts, ${parts > parallelism ? parallelism : "all"} at a time.` : "",
  ];
}

function resourceSentences(row: Row): string[] {
  const { cpuRequest, cpuLimit, memoryRequest, memoryLimit, diskRequest, diskLimit, memoryLimits = [] } = row;
  const amounts = (cpu?: string, memory?: string, disk?: string) =>
    joined([
      ...cpu === undefined ? [] : [cpu === "1" ? "1 core" : `${cpu} cores`],
      ...memory === undefined ? [] : [`${memory} of memory`],
      ...disk === undefined ? [] : [`${disk} of disk`],
    ]);
  const [sure, most] = [amounts(cpuRequest, memoryRequest, diskRequest), amounts(cpuLimit, memoryLimit, diskLimit)];
  const what = row.gpuResource === undefined
    ? (row.gpu === 1 ? "1 GPU" : `${row.gpu} GPUs`)
    : `${row.gpu} of ${cell(row.gpuResource)}`;
  return [
    sure === "" ? "" : `It is sure to get ${sure}.`,
    most === "" ? "It has no limits." : `It may use at most ${most}.`,
    memoryLimits.length > 1 ? `Out of memory, it is tried again with ${joined(memoryLimits.slice(1), "then")}.` : "",
    row.gpu > 0 ? `It needs ${what}${row.gpuProduct ? `, model ${cells(row.gpuProduct, "or")}` : ""}.` : "",
    row.resources && row.resources.length > 0
      ? `It needs ${joined(row.resources.map(({ name, quantity }) => `${quantity} of ${cell(name)}`))}.`
      : "",
    row.diskMount === undefined ? "" : `A scratch disk is mounted at ${cell(row.diskMount)}.`,
  ];
}

function placeSentences(row: Row): string[] {
  const rules = (all: readonly NodeRule[]) => cells(all.map(nodeRuleText));
  return [
    row.nodeSelector ? `Only on nodes with ${rules(row.nodeSelector)}.` : "",
    row.nodePreference ? `Rather on nodes with ${rules(row.nodePreference)}.` : "",
    row.tolerations
      ? `It may run on nodes with the taint ${
        cells(
          row.tolerations.map(({ key = "*", value, effect }) =>
            `${key}${value === undefined ? "" : `=${value}`}${effect === undefined ? "" : `:${effect}`}`
          ),
          "or",
        )
      }.`
      : "",
    row.queue === undefined ? "" : `Kueue lets it in by the queue ${cell(row.queue)}.`,
    row.priorityClass === undefined ? "" : `Its priority class is ${cell(row.priorityClass)}.`,
    row.runtimeClass === undefined ? "" : `Its runtime class is ${cell(row.runtimeClass)}.`,
    row.serviceAccount === undefined ? "" : `It acts as the account ${cell(row.serviceAccount)}.`,
    row.podTemplate === undefined ? "" : `It is based on the pod template ${cell(row.podTemplate)}.`,
  ];
}

function failureSentences(row: Row): string[] {
  const { retries = 0, retryOn, backoffLimit, activeDeadlineSeconds: seconds, terminationGraceSeconds: grace } = row;
  const on = retryOn ? ` where it ended with ${cells(retryOn.map(retryText), "or")}` : "";
  return [
    retries > 0 ? `A run that failed is tried again${on}, up to ${times(retries)}.` : "",
    backoffLimit > 0 ? `A pod that failed is made anew, up to ${times(backoffLimit)}.` : "",
    row.rerunAfterDisruption === false ? "A run whose pod the cluster takes away has failed." : "",
    seconds === undefined ? "" : `A run that has not ended after ${durationWords(seconds * 1000)} fails.`,
    grace === undefined ? "" : `It has ${durationWords(grace * 1000)} to end when it is told to.`,
  ];
}

function retryText(rule: RetryRule): string {
  return "reason" in rule ? rule.reason : rule.first === rule.last ? `${rule.first}` : `${rule.first}-${rule.last}`;
}

function times(count: number): string {
  return count === 1 ? "once" : `${count} times`;
}

function limitSentences({ maxRuns, concurrencyGroup, whenBusy = "wait", maxWaiting }: Row): string[] {
  const busy = {
    wait: "further ones wait",
    forbid: "further ones are skipped",
    replace: "a further one stops the oldest",
    latest: "of further ones the newest waits",
  };
  return [
    maxRuns === undefined
      ? ""
      : `At most ${maxRuns} ${maxRuns === 1 ? "run" : "runs"} at a time${
        concurrencyGroup ? ` of the group ${cell(source(concurrencyGroup))}` : ""
      }; ${busy[whenBusy]}.`,
    maxWaiting === undefined ? "" : `At most ${maxWaiting} wait; further messages stay with the broker.`,
  ];
}

function otherSentences(
  { output, skipExisting, notify, imagePullPolicy, imagePullSecret, labels, annotations }: Row,
): string[] {
  return [
    output
      ? `Its result is at ${cell(source(output))}${skipExisting ? "; where that is there already, nothing runs" : ""}.`
      : "",
    notify ? `Failures are told to ${cells(notify)}.` : "",
    imagePullPolicy === undefined ? "" : `Its image is fetched: ${cell(imagePullPolicy)}.`,
    imagePullSecret ? `Its image is read with the Secret ${cells(imagePullSecret)}.` : "",
    labels ? `Labels: ${cells(labels.map(({ key, value }) => `${key}=${source(value)}`))}.` : "",
    annotations ? `Annotations: ${cells(annotations.map(({ key, value }) => `${key}=${source(value)}`))}.` : "",
  ];
}
