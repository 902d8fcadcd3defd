/**
 * The facts of a run on its page: what it asked for and used, where its output is, what the cluster says, its Job. Pure
 * functions of their input.
 */
import type { RunRecord } from "../../ports.ts";
import { valueWords } from "./charts.tsx";
import { resourceWords, runHref, short, Time } from "./parts.tsx";
import type { RunPageInput } from "./run.tsx";

/** Characters of a Job's YAML shown at most; the rest is a page of its own. */
const MAX_MANIFEST = 16 * 1024;
/** Characters of a fact. */
const MAX_WORDS = 600;

/** What it asked for and used, and where its output and its log are. */
export function FactsSection({ live, record }: RunPageInput) {
  const run = record ?? live;
  if (!run) return null;
  return (
    <section id="facts" data-live aria-labelledby="facts-h">
      <h2 id="facts-h">Facts</h2>
      <dl>
        <dt>Image</dt>
        <dd>
          <code>{short(run.image)}</code>
        </dd>
        <dt>Requests and limits</dt>
        <dd>{resourceWords({ ...run, gpu: run.gpu ?? 0 })}</dd>
        {record && <RecordFacts record={record} />}
      </dl>
    </section>
  );
}

/** The cluster's last words on a live run, newest first. */
export function EventsSection({ events = [] }: RunPageInput) {
  if (events.length === 0) return <section id="events" data-live hidden></section>;
  return (
    <section id="events" data-live aria-labelledby="events-h">
      <h2 id="events-h">What the cluster says</h2>
      <ul class="events">
        {events.toReversed().map(({ at, type, reason, message, count }) => (
          <li class={type === "Warning" ? "warn" : undefined}>
            <Time at={at} /> <b>{short(reason, 100)}</b> {short(message, 300)}
            {count > 1 && ` (${count} times)`}
          </li>
        ))}
      </ul>
    </section>
  );
}

function RecordFacts({ record }: { record: RunRecord }) {
  const { peak_memory, peak_cpu, owner, output, result, log_url } = record;
  return (
    <>
      {(peak_memory !== undefined || peak_cpu !== undefined) && (
        <Fact
          name="Most that it used"
          words={[
            ...(peak_memory === undefined ? [] : [`memory ${valueWords(peak_memory, "bytes")}`]),
            ...(peak_cpu === undefined ? [] : [`cpu ${valueWords(peak_cpu, "cores")}`]),
          ].join(", ")}
        />
      )}
      {owner !== undefined && <Fact name="Owner" words={owner} />}
      {output !== undefined && (
        <>
          <dt>Output</dt>
          <dd>
            <Place url={output} /> {record.output_missing && <span class="warn">(nothing is there)</span>}
          </dd>
        </>
      )}
      {result !== undefined && <Fact name="Result" words={JSON.stringify(result)} />}
      <dt>Log</dt>
      <dd>{log_url === "" ? "–" : <Place url={log_url} />}</dd>
    </>
  );
}

function Fact({ name, words }: { name: string; words: string }) {
  return (
    <>
      <dt>{name}</dt>
      <dd>{short(words, MAX_WORDS)}</dd>
    </>
  );
}

/** Where something is: a link where a browser can follow it, else text that can be copied. */
function Place({ url }: { url: string }) {
  const shown = short(url, 2_000);
  if (/^https?:\/\//i.test(url)) return <a href={shown} rel="noreferrer">{shown}</a>;
  return (
    <>
      <code>{shown}</code> <button type="button" class="copy" data-copy={shown}>Copy</button>
    </>
  );
}

/** The Job as YAML, closed. */
export function ManifestSection({ manifest, runName }: { manifest: string | undefined; runName: string }) {
  const isCut = (manifest?.length ?? 0) > MAX_MANIFEST;
  return (
    <section aria-labelledby="job-h">
      <h2 id="job-h">Job</h2>
      {manifest === undefined ? <p class="muted">Its Job is not known any more.</p> : (
        <details>
          <summary>As YAML</summary>
          <pre class="all" role="group" aria-labelledby="job-h">{short(manifest, MAX_MANIFEST)}</pre>
          {isCut && (
            <p>
              <a href={`${runHref(runName)}/job`}>All of it</a>
            </p>
          )}
        </details>
      )}
    </section>
  );
}
