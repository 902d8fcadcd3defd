/**
 * The page `/messages`: what became of the last messages, and what one on a given topic would start. A pure function of
 * its input.
 */
import type { SeenMessage } from "../../observers/messages.ts";
import { type Column, List } from "./lists.tsx";
import { frame, RunLink, short, Time } from "./parts.tsx";

/** What a message on a topic would start, by the table in force. */
export interface AskedTopic {
  readonly topic: string;
  /** Rows that are for it. */
  readonly rows: readonly string[];
  /** Rows that would be, were they not switched off. */
  readonly off: readonly string[];
  /** Of the table's topics the one that was probably meant, where no row is for it. */
  readonly nearest?: string;
}

export interface MessagesInput {
  /** Newest first, those that fit the query. */
  readonly messages: readonly SeenMessage[];
  /** Of how many that are known. */
  readonly known: number;
  readonly asked?: AskedTopic;
}

const WORDS: Readonly<Record<SeenMessage["outcome"], readonly [tone: string, words: string]>> = {
  runs: ["good", "runs"],
  ignored: ["off", "for no row"],
  filtered: ["off", "filtered"],
  duplicate: ["off", "known already"],
  skipped: ["off", "skipped"],
  refused: ["bad", "refused"],
};

/** The page as HTML text. */
export function messagesPage({ messages, known, asked }: MessagesInput): string {
  return frame({
    title: "Messages",
    heading: "Messages",
    here: "messages",
    children: (
      <>
        <section aria-labelledby="find-h">
          <h2 id="find-h">What becomes of a message?</h2>
          <form method="get" action="/messages" role="search" aria-labelledby="find-h">
            <div>
              <label for="find-topic">Topic</label>
              <input id="find-topic" name="topic" value={short(asked?.topic)} />
            </div>
            <button type="submit">Look</button>
          </form>
          {asked && <Answer {...asked} />}
        </section>
        <section id="messages" data-live aria-labelledby="messages-h">
          <h2 id="messages-h">The last messages</h2>
          {messages.length === 0 ? <p class="muted">None that fits has come since the service began.</p> : (
            <>
              <p class="muted small">{messages.length} of {known}, newest first; since the service began</p>
              <List caption="The last messages" columns={COLUMNS} rows={messages} />
            </>
          )}
        </section>
      </>
    ),
  });
}

function Answer({ topic, rows, off, nearest }: AskedTopic) {
  if (rows.length + off.length > 0) {
    return (
      <p>
        A message on <code>{short(topic)}</code> is for {rows.length === 0 ? "no row" : short(rows.join(", "))}.
        {off.length > 0 && <>{" "}Switched off (enabled): {short(off.join(", "))}.</>}
      </p>
    );
  }
  return (
    <p class="warn">
      No row is for{" "}
      <code>{short(topic)}</code>, so that nobody subscribes to it; a message there is seen here only where
      OBSERVE_TOPICS has it.
      {nearest !== undefined && (
        <>
          {" "}The nearest topic of the table is <code>{short(nearest)}</code>.
        </>
      )}
    </p>
  );
}

const COLUMNS: readonly Column<SeenMessage>[] = [
  { head: "Topic", cell: ({ topic }) => <code>{short(topic)}</code> },
  { head: "Received", onPhone: "inline", cell: ({ at }) => <Time at={at} /> },
  { head: "What became of it", onPhone: "inline", cell: ({ outcome }) => <OutcomeTag outcome={outcome} /> },
  {
    head: "Runs",
    onPhone: "plain",
    cell: ({ runs }) => runs.length > 0 && runs.map((runName) => <RunOf runName={runName} />),
  },
  { head: "Why", onPhone: "plain", cell: ({ why }) => why.length > 0 && why.map((sentence) => <p>{sentence}</p>) },
];

function OutcomeTag({ outcome }: Pick<SeenMessage, "outcome">) {
  const [tone, words] = WORDS[outcome];
  return <span class={`tag ${tone}`.trimEnd()}>{words}</span>;
}

function RunOf({ runName }: { runName: string }) {
  return (
    <div>
      <RunLink runName={runName} />
    </div>
  );
}
