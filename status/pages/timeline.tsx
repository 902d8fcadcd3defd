/**
 * The life of a run as a bar, and as a table that says the same with each step's duration. A pure function of its input.
 */
import { preciseWords, type Step, type Timeline } from "../timeline.ts";
import { Time } from "./parts.tsx";

const HEIGHT = 26;
/** No step is narrower, in percent: one of a second shows beside one of a day. */
const LEAST = 0.6;
/** Height and place of each kind, so that shape tells them apart as colour does. */
const SHAPES: Readonly<Record<Step["kind"], { readonly y: number; readonly height: number }>> = {
  wait: { y: 10, height: 6 },
  ready: { y: 6, height: 14 },
  run: { y: 1, height: 24 },
  after: { y: 10, height: 6 },
};

/** The bar with its table. */
export function TimelineView({ timeline }: { timeline: Timeline }) {
  const { steps, received_at, ms } = timeline;
  return (
    <>
      <TimelineBar steps={steps} />
      <table class="steps">
        <caption class="vh">From the message on, {preciseWords(ms)} in all</caption>
        <thead>
          <tr>
            <th scope="col">What went on</th>
            <th scope="col" class="num">Took</th>
            <th scope="col">Until</th>
          </tr>
        </thead>
        <tbody>
          <tr>
            <th scope="row">message came</th>
            <td class="num">–</td>
            <td>
              <Time at={received_at} />
            </td>
          </tr>
          {steps.map((step) => (
            <tr>
              <th scope="row">
                <Key kind={step.kind} /> {step.what}
              </th>
              <td class="num">{preciseWords(step.ms)}</td>
              <td>
                {step.is_now ? "now" : (
                  <>
                    <span class="wideonly">{`${step.name} `}</span>
                    <Time at={step.at} />
                  </>
                )}
              </td>
            </tr>
          ))}
          <tr>
            <th scope="row">all</th>
            <td class="num">{preciseWords(ms)}</td>
            <td></td>
          </tr>
        </tbody>
      </table>
    </>
  );
}

function Key({ kind }: { kind: Step["kind"] }) {
  const { y, height } = SHAPES[kind];
  return (
    <svg class="key" width={12} height={14} viewBox={`0 0 12 ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      <rect class={`step-${kind}`} x={1} width={10} y={y} height={height} />
    </svg>
  );
}

function TimelineBar({ steps }: { steps: readonly Step[] }) {
  const shown = steps.filter(({ ms }) => ms > 0);
  const total = shown.reduce((sum, { ms }) => sum + ms, 0);
  if (total === 0) return null;
  const widths = shown.map(({ ms }) => Math.max(LEAST, (ms / total) * 100));
  const scale = 100 / widths.reduce((sum, width) => sum + width, 0);
  let x = 0;
  return (
    <svg class="timeline" width="100%" height={HEIGHT} aria-hidden="true">
      {shown.map((step, at) => {
        const width = widths[at]! * scale;
        const from = x;
        x += width;
        return (
          <rect
            class={`step-${step.kind}`}
            x={`${percent(from)}%`}
            width={`${percent(width)}%`}
            {...SHAPES[step.kind]}
          >
            <title>{`${step.what}: ${preciseWords(step.ms)}`}</title>
          </rect>
        );
      })}
    </svg>
  );
}

function percent(value: number): number {
  return Math.round(value * 100) / 100;
}
