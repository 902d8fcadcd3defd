/**
 * Keeps sessions over a restart, in a file of DATA_DIR that the service alone can read. It holds no cookie and no token:
 * only digests that both of them make together. What cannot be read or written is as if there were no file.
 */
import { join } from "node:path";
import * as z from "zod";
import { shortHash } from "../run_spec.ts";
import { errorMessage } from "../util/errors.ts";
import { getLogger } from "../util/log.ts";
import type { KeptSession, SessionKeeper } from "./session.ts";

/** Of a thousand sessions with the longest names. */
const MAX_FILE_BYTES = 1024 * 1024;

const stored = z.object({
  sessions: z.array(z.object({
    digest: z.string().max(100),
    ends_at: z.number(),
    user: z.string().max(200).optional(),
  })).max(1_000),
});

export interface SessionPlace {
  readonly folder: string;
  /** The folder is used only where it is there. */
  readonly ifThere?: boolean;
}

/** The file of the service that is `of` that place; undefined: there is no folder for it. */
export function sessionFile({ folder, ifThere }: SessionPlace, of: string): SessionKeeper | undefined {
  if (ifThere && !isFolder(folder)) return undefined;
  const path = join(folder, `sessions-${shortHash([of])}.json`);
  let isTold = false;
  const tell = (error: unknown) => {
    if (isTold) return;
    isTold = true;
    const why = errorMessage(error);
    getLogger("status").warn("Sessions of the page are not kept over a restart: {why} (DATA_DIR)", { why });
  };
  return {
    load() {
      try {
        if (Deno.statSync(path).size > MAX_FILE_BYTES) return [];
        const { sessions } = stored.parse(JSON.parse(Deno.readTextFileSync(path)));
        return sessions.map(({ digest, ends_at: endsAtMs, user }): KeptSession => ({ digest, endsAtMs, user }));
      } catch {
        return []; // none yet, or of somebody else
      }
    },
    save(all) {
      const sessions = all.map(({ digest, endsAtMs, user }) => ({ digest, ends_at: endsAtMs, user }));
      const next = `${path}.new`;
      try {
        Deno.mkdirSync(folder, { recursive: true });
        Deno.writeTextFileSync(next, JSON.stringify({ sessions }), { mode: 0o600 });
        Deno.renameSync(next, path);
      } catch (error) {
        if (!ifThere || !(error instanceof Deno.errors.PermissionDenied || error instanceof Deno.errors.NotCapable)) {
          tell(error);
        }
      }
    },
  };
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}
