/**
 * What the page `/messages` shows, gathered from the view: the messages that fit, and what the table says of a topic. Reads
 * only.
 */
import { rowsFor, type Table } from "../catalog.ts";
import type { SeenMessage } from "../observers/messages.ts";
import { matches } from "../topics.ts";
import { compact } from "../util/compact.ts";
import { nearest } from "../util/nearest.ts";
import type { AskedTopic, MessagesInput } from "./pages/messages.tsx";
import type { StatusView } from "./view.ts";

/** Messages on a page. */
const MAX_SHOWN = 200;
/** Topics of the table that a wrong one is compared with, and wrong ones that are on one page: each pair takes time. */
const MAX_COMPARED = 2_000;
const MAX_GUESSES = 20;
const LONGEST_TOPIC = 1_000;

/** For a query: `topic`, a part of the topic. */
export function readMessages(view: StatusView, params: URLSearchParams): MessagesInput {
  const topic = params.get("topic")?.trim().slice(0, LONGEST_TOPIC) ?? "";
  const table = view.table();
  const all = view.messages();
  const fitting = topic === "" ? all : all.filter((message) => message.topic.includes(topic));
  const asked = topic === "" || table === undefined ? undefined : askedTopic(table, topic);
  return {
    messages: withGuesses(fitting.slice(0, MAX_SHOWN), table),
    known: all.length,
    ...compact({ asked }),
  };
}

function askedTopic(table: Table, topic: string): AskedTopic {
  const rows = rowsFor(table, topic).map(({ jobName }) => jobName);
  const off = table.rows
    .filter(({ enabled, mqttTopic }) => enabled === "no" && matches(mqttTopic, topic))
    .map(({ jobName }) => jobName);
  const isKnown = rows.length + off.length > 0;
  return { topic, rows, off, ...compact({ nearest: isKnown ? undefined : guessOf(table, topic) }) };
}

/** Those for no row with the topic that was probably meant. */
function withGuesses(messages: readonly SeenMessage[], table: Table | undefined): SeenMessage[] {
  const guesses = new Map<string, string | undefined>();
  return messages.map((message) => {
    const { topic, outcome, why } = message;
    if (outcome !== "ignored" || why.length > 0 || table === undefined) return message;
    if (!guesses.has(topic) && guesses.size < MAX_GUESSES) guesses.set(topic, guessOf(table, topic));
    const guess = guesses.get(topic);
    const words = guess === undefined
      ? "No row is for this topic"
      : `No row is for this topic; the nearest is ${guess}`;
    return { ...message, why: [words] };
  });
}

function guessOf(table: Table, topic: string): string | undefined {
  return nearest(topic, table.index.filters().slice(0, MAX_COMPARED));
}
