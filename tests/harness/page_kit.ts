/** Runs, records, tables and a view of them for the tests of the page. */
import type { JobFacts, RunRecord, RunView } from "../../ports.ts";
import type { RecordFilter, StatusView } from "../../status.ts";
import { parseTable, type Table } from "../../catalog/table.ts";

export const PREFIX = "services/mqtt_job_listener";

/** A table with a chain, a misspelt completion topic, a self-trigger, a circle and a bad row, plus `more` lines. */
export function tableOf(...more: string[]): Table {
  const done = `${PREFIX}/job_complete`;
  const lines = [
    "job_name,mqtt_topic,image,cpu_request,memory_request,gpu",
    "sort-spikes,experiments/+/uploaded,lab/sorter:3,4,16Gi,1",
    `curate,${done}/sort-spikes,lab/curate:2,1,4Gi,0`,
    `plot,${done}/curate,lab/plot:1,1,2Gi,0`,
    `alarm,${PREFIX}/job_failed/sort-spikes,lab/alarm:1,100m,64Mi,0`,
    `report,${done}/curatte,lab/report:1,1,1Gi,0`,
    `loop,${done}/loop,lab/loop:1,1,1Gi,0`,
    `ping,${done}/pong,lab/ping:1,1,1Gi,0`,
    `pong,${done}/ping,lab/pong:1,1,1Gi,0`,
    "broken,experiments/+/uploaded,lab/broken:1,four,1Gi,0",
    ...more,
  ];
  return parseTable(lines.join("\n") + "\n", { topicPrefix: PREFIX });
}

export interface FakeView {
  readonly table?: Table;
  readonly tableFailure?: string;
  readonly live?: readonly RunView[];
  readonly ended?: readonly RunRecord[];
  readonly records?: (filter: RecordFilter, signal: AbortSignal) => Promise<readonly RunRecord[]>;
  readonly onRecord?: (runName: string) => void;
  readonly job?: JobFacts;
  readonly manifest?: string;
  readonly log?: (
    options: { readonly follow: boolean; readonly signal: AbortSignal },
  ) => ReadableStream<Uint8Array> | undefined;
}

/** A view of what it is given. */
export function fakeView(fake: FakeView = {}): StatusView {
  const { live = [], ended = [] } = fake;
  return {
    table: () => fake.table,
    tableFailure: () => fake.tableFailure,
    liveRuns: () => live,
    liveRun: (runName) => live.find((run) => run.runName === runName),
    records: fake.records ?? (() => Promise.resolve(ended)),
    record: (runName) => {
      fake.onRecord?.(runName);
      return Promise.resolve(ended.find((record) => record.run_name === runName));
    },
    job: () => Promise.resolve(fake.job),
    manifest: () => Promise.resolve(fake.manifest),
    log: (_, options) => Promise.resolve(fake.log?.(options)),
  };
}
