/** What the store says of the session with the broker, read as a person would: the newest of its records. */
import type { SessionRecord } from "../../records.ts";
import type { S3Server } from "./s3.ts";

/** undefined: there is none yet. */
export async function sessionRecord(s3: S3Server, runsUrl: string): Promise<SessionRecord | undefined> {
  const newest = (await s3.list(`${runsUrl}/.session/`)).sort().at(-1);
  const text = newest === undefined ? undefined : await s3.get(newest);
  return text === undefined ? undefined : JSON.parse(text);
}
