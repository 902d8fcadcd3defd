/**
 * The last ends of a row as a strip: a bar each, oldest first. Its colour and shape say how the run ended, its height how
 * long it took. Pure.
 */
import { type EndedRun, tookMs } from "../../history.ts";

/** Ends in one strip. */
export const ENDS_SHOWN = 30;

const HEIGHT = 24;
/** The upper part has the marks of those that failed, so that they lie on one line. */
const MARK = 6;
const LEAST = 3;

type End = Pick<EndedRun, "run_name" | "status" | "started_at" | "finished_at" | "message">;

/** `last 30 ends: 28 succeeded, 2 failed; the last one failed` */
export function endsWords(ends: readonly End[]): string {
  const last = ends.at(-1);
  if (!last) return "no run has ended yet";
  const counts = (["succeeded", "failed", "cancelled"] as const).flatMap((status) => {
    const count = ends.filter((end) => end.status === status).length;
    return count === 0 ? [] : [`${count} ${status}`];
  });
  const head = ends.length === 1 ? "the last end" : `the last ${ends.length} ends`;
  return ends.length === 1 ? `${head}: ${counts}` : `${head}: ${counts.join(", ")}; the last one ${last.status}`;
}

/** Outline of one bar: whole where it succeeded, under a wedge where it failed, hollow where it was cancelled. */
function barPath(status: End["status"], at: { left: number; width: number; top: number }): string {
  const { left, width, top } = at;
  if (status === "cancelled") return `M${left + 0.5} ${HEIGHT - 0.5}V${top + 0.5}h${width - 1}V${HEIGHT - 0.5}z`;
  const bar = `M${left} ${HEIGHT}V${top}h${width}V${HEIGHT}z`;
  return status === "failed" ? `${bar}M${left} 0h${width}l${-width / 2} ${MARK - 1}z` : bar;
}

function tops(ends: readonly End[]): number[] {
  const took = ends.map((end) => tookMs(end) ?? 0);
  const longest = Math.max(1, ...took);
  // Of the root, so that one that took very long does not make all others the same.
  return took.map((ms) => HEIGHT - Math.round(LEAST + Math.sqrt(ms / longest) * (HEIGHT - MARK - LEAST)));
}

/** The strip as a picture beside which `endsWords` stands for those who cannot see it. */
export function EndStrip({ ends }: { ends: readonly End[] }) {
  const [pitch, width] = [6, 5];
  const shown = ends.slice(-ENDS_SHOWN);
  const top = tops(shown);
  const shift = (ENDS_SHOWN - shown.length) * pitch;
  const path = (status: End["status"]) =>
    shown.map((end, at) =>
      end.status === status ? barPath(status, { left: shift + at * pitch, width, top: top[at]! }) : ""
    ).join("");
  const classes = [["s", "succeeded"], ["f", "failed"], ["c", "cancelled"]] as const;
  const size = ENDS_SHOWN * pitch;
  return (
    <span class="ends">
      <svg width={size} height={HEIGHT} viewBox={`0 0 ${size} ${HEIGHT}`} aria-hidden="true">
        {classes.map(([name, status]) => {
          const drawn = path(status);
          return drawn !== "" && <path class={name} d={drawn} />;
        })}
      </svg>
    </span>
  );
}
