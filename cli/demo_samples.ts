/**
 * The sample tables of the demo: what a newcomer's first rows look like, and the messages that show what they do. Pure
 * data; cli/demo.ts plays them. Values come as arguments, for a newcomer's next row looks like these.
 */

/** One message, and the row whose success shows that it has done its work. */
export interface SampleMessage {
  readonly payload: string;
  readonly until: string;
  /** What is to be seen; a sentence. */
  readonly shows?: string;
}

export interface Sample {
  readonly topic: string;
  /** Sent one after the other. */
  readonly messages: readonly SampleMessage[];
  /** A run that fails is a part of what is shown. */
  readonly mayFail: boolean;
  /** Said when all messages have done their work. */
  readonly done: string;
  /** `objects`: URL of a folder for what the rows make. */
  table(places: { readonly prefix: string; readonly objects: string }): string;
  /** What the rows may name, as a policy file says it; absent: nothing that has to be allowed. */
  policy?(places: { readonly objects: string }): string;
}

const chain: Sample = {
  topic: "demo/hello",
  messages: [{ payload: '{"name":"world"}', until: "Report" }],
  mayFail: false,
  done: "The chain of three rows is done",
  // The later two wait for the end of the one before, and the last one for a job that has written something.
  table: ({ prefix }) =>
    `job_name,mqtt_topic,image,command,args,inputs,when,memory_limit
Greet,demo/hello,busybox,"sh -c 'echo ""Hello, $1""; sleep 0.5' -",{payload.name},name=stranger,,1Gi
Count,${prefix}/job_complete/Greet,busybox,"sh -c 'echo ""$1 got ${"$"}{#2} characters""; sleep 0.5' -",{payload.job_name} {payload.input},,,1Gi
Report,${prefix}/job_complete/Count,busybox,echo,{payload.run_name} {payload.status} at {payload.finished_at},,payload.log_bytes > 0,1Gi
`,
};

const UPLOAD = {
  uuid: "e1",
  experiments: {
    rec1: { format: "maxtwo" },
    rec2: { format: "maxone", params: "fast" },
    rec3: { format: "maxone" },
  },
};
const BROKEN = { uuid: "e1", experiments: { ...UPLOAD.experiments, rec4: { format: "unreadable" } } };

/** Splits a recording into three wells. */
const SPLIT = "for well in 0 1 2; do echo $2 well $well > $1/$2_well$well.raw; done; echo three wells of $2";
/** What 16 GB of memory are to some recordings, exit code 75 is to this stand-in: one well needs a second attempt. */
const SORT = 'echo "reading $1"; case $1$ATTEMPT in *well1.raw1) echo no memory left; exit 75;; esac; ' +
  String.raw`test $4 != unreadable || { printf "\033[31merror\033[m: $1 has no format that is known\n"; exit 3; }; ` +
  String.raw`printf "channels 1 of 3\rchannels 3 of 3\n"; echo sorted $1 with $3 > $2; echo $1 is sorted`;

const pipeline: Sample = {
  topic: "experiments/upload",
  messages: [
    {
      payload: JSON.stringify(UPLOAD),
      until: "report",
      shows: "one recording is split into wells first; each is sorted by itself, one of them at the second attempt " +
        "after ten seconds; the report waits for all",
    },
    {
      payload: JSON.stringify(BROKEN),
      until: "alarm",
      shows: "what has been sorted is skipped, a recording that cannot be read raises the alarm, and no report is made",
    },
  ],
  mayFail: true,
  policy: ({ objects }) => `output_prefixes: ["${objects}/"]\n`,
  done: "The upload is sorted and reported, and the broken one has raised the alarm",
  table({ prefix, objects }) {
    const folder = decodeURIComponent(new URL(objects).pathname);
    const sort = `"sh -c '${SORT.replaceAll('"', '""')}' -"`;
    const rest = `"1Gi, 2Gi",2,75`;
    return `job_name,mqtt_topic,image,command,args,for_each,when,needs,output,skip_existing,memory_limit,retries,retry_on
split,experiments/upload,lab/split:1,"sh -c '${SPLIT}' -",'${folder}' {item.key},payload.experiments,"item.format == ""maxtwo""",,,,1Gi,,
sort-wells,${prefix}/group_complete/split,lab/sort:3,${sort},{item.name} '${folder}/{item.name}.sorted' default well,${objects}/*_well*.raw,,,${objects}/{item.name}.sorted,yes,${rest}
sort,experiments/upload,lab/sort:3,${sort},{item.key} '${folder}/{item.key}.sorted' {item.params=default} {item.format},payload.experiments,"item.format != ""maxtwo""",,${objects}/{item.key}.sorted,yes,${rest}
report,,lab/report:1,echo,report of {payload.input},,,"sort, sort-wells",,,1Gi,,
alarm,${prefix}/job_failed/+,lab/alarm:1,echo,{payload.job_name}: {payload.message},,"payload.job_name != ""alarm""",,,,1Gi,,
`;
  },
};

/** By the name that `demo --table` takes. */
export const SAMPLES: Readonly<Record<SampleName, Sample>> = { chain, pipeline };

export type SampleName = "chain" | "pipeline";

/** Whether `demo --table` takes it. */
export function isSampleName(name: string): name is SampleName {
  return Object.hasOwn(SAMPLES, name);
}
