/**
 * A process that ends runs as a service does (record, then event) and keeps their history, with all that is done by the clock
 * done all the time, until it is killed: `keeper.ts FOLDER NAME`. Says each record that it has put.
 */
import { KeptHistory } from "../../history.ts";
import { LocalStore } from "../../local/store.ts";
import { RunRecords } from "../../records.ts";
import { endAt } from "../conformance/history.ts";

const [folder = "", name = ""] = Deno.args;
const store = new LocalStore(`${folder}/runs`);
const records = new RunRecords(store);
const history = new KeptHistory({
  records,
  store,
  place: { folder: `${folder}/data` },
  leads: () => true,
  onTrouble: (sentence) => console.error(sentence),
  segmentMs: 5,
  dayMs: 50,
});
void history.load(new AbortController().signal);
for (let second = 0;; second++) {
  const record = endAt(second, { run_name: `${name}-${second}` });
  await records.put(record);
  // The event follows the record, as in completion.ts; it is killed between the two as well.
  history.emit({ type: "finished", record, completionMs: 1 });
  console.log(record.run_name);
}
