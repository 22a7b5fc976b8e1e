import { html, nothing, svg, type TemplateResult } from "lit";
import type { Row, Side } from "../../engine/protocol/report.js";
import { fromWire, type WireNumber } from "../../engine/protocol/wire.js";
import {
  formatCount,
  formatDifference,
  formatIndex,
  formatValue,
  fullPrecision,
} from "../ui/format.js";

/** How many elements are how far off: one bar for each bin of log10 |d|, and one for the exact ones. */
export function histogram({ histogram: bins }: Row): unknown {
  if (!bins || bins.counts.length === 0) return nothing;
  const bars = [
    { label: "exact", range: "exactly 0", count: bins.zeros },
    ...bins.counts.map((count, index) => {
      const low = bins.log10Edges[index] ?? 0;
      const high = bins.log10Edges[index + 1] ?? low;
      return {
        label: wholeDecade(low, high),
        range: `${decade(low)} ≤ |d| < ${decade(high)}`,
        count,
      };
    }),
  ];
  return html`<h3>Elements by |d|</h3>
    ${barChart(
      bars.map(({ label, range, count }) => ({
        label,
        title: `${range}: ${formatCount(count)}`,
        share: share(count, Math.max(...bars.map((bar) => bar.count))),
      })),
      "Number of elements by the size of their difference",
    )}`;
}

/** A relL2 for each index of an axis: a batch mate, a head or a feature that stands out is a cause in itself. */
export function axisErrors({ byAxis }: Row): unknown {
  if (!byAxis || byAxis.length === 0) return nothing;
  return html`<h3>relL2 by axis</h3>
    ${byAxis.map(({ axis, relL2 }) => {
      const values = relL2.map(fromWire);
      const worst = values.reduce(
        (best, value, index) => (value > (values[best] ?? 0) ? index : best),
        0,
      );
      const scale = decadesOf(values);
      const worstValue = relL2[worst];
      return html`<div class="axis">
        <span>${axis}</span>
        ${barChart(
          sampled(relL2).map(({ value, index }) => ({
            label: relL2.length <= 8 ? String(index) : "",
            title: `${axis} ${index}: ${formatDifference(value)}`,
            share: scale(fromWire(value)),
          })),
          `relL2 for each index of ${axis}`,
        )}
        <span class="muted"
          >${
            worstValue === undefined || fromWire(worstValue) === 0
              ? "all exact"
              : html`worst ${axis} ${worst}: <b>${formatDifference(worstValue)}</b>`
          }${
            relL2.length > maxBars
              ? `, each bar the worst of ${Math.ceil(relL2.length / maxBars)}`
              : ""
          }</span
        >
      </div>`;
    })}`;
}

export function worstElements({ worst }: Row): unknown {
  if (!worst || worst.length === 0) return nothing;
  return html`<h3>Worst elements</h3>
    <table class="numbers">
      <thead>
        <tr>
          <th>index</th>
          <th>reference</th>
          <th>candidate</th>
          <th>difference</th>
        </tr>
      </thead>
      <tbody>
        ${worst.map(
          ({ index, reference, candidate, difference }) =>
            html`<tr>
              <td>${formatIndex(index)}</td>
              ${[reference, candidate, difference].map(valueCell)}
            </tr>`,
        )}
      </tbody>
    </table>`;
}

const statisticNames = ["min", "max", "mean", "rms", "zeros", "nan", "inf"] as const;

export function statistics({ reference, candidate }: Row): unknown {
  const sides: [string, Side][] = [];
  if (reference) sides.push(["reference", reference]);
  if (candidate) sides.push(["candidate", candidate]);
  if (sides.length === 0) return nothing;
  return html`<h3>Values</h3>
    <table class="numbers">
      <thead>
        <tr>
          <th></th>
          ${statisticNames.map((name) => html`<th>${name}</th>`)}
        </tr>
      </thead>
      <tbody>
        ${sides.map(
          ([label, { statistics: values }]) =>
            html`<tr>
              <td>${label}</td>
              ${statisticNames.map((name) =>
                name === "zeros" || name === "nan" || name === "inf"
                  ? html`<td>${formatCount(values[name])}</td>`
                  : valueCell(values[name]),
              )}
            </tr>`,
        )}
      </tbody>
    </table>`;
}

function valueCell(value: WireNumber): TemplateResult {
  return html`<td title=${fullPrecision(value)}>${formatValue(value)}</td>`;
}

interface Bar {
  label: string;
  title: string;
  /** 0 … 1. */
  share: number;
}

const maxBars = 64;
const chartHeight = 40;

/** Small bars; a bar that is not empty is never invisible. Every label that has room is drawn. */
function barChart(bars: readonly Bar[], label: string): TemplateResult {
  const width = bars.length <= 8 ? 28 : bars.length <= 24 ? 18 : 6;
  const labelled = bars.some((bar) => bar.label !== "");
  const labels = withRoom(
    bars.map(({ label }) => label),
    width,
  );
  return html`<svg
    class="bars"
    role="img"
    aria-label=${label}
    width=${bars.length * width}
    height=${chartHeight + (labelled ? 14 : 0)}
  >
    ${bars.map((bar, index) => {
      const height = bar.share > 0 ? Math.max(1.5, bar.share * (chartHeight - 2)) : 0;
      return svg`<g>
        <title>${bar.title}</title>
        <rect class="bar-space" x=${index * width} y="0" width=${width} height=${chartHeight}></rect>
        <rect class="bar" x=${index * width + 1} y=${chartHeight - height}
          width=${width - 2} height=${height}></rect>
        ${
          labels.has(index)
            ? svg`<text x=${index * width + width / 2} y=${chartHeight + 11}>${bar.label}</text>`
            : nothing
        }
      </g>`;
    })}
    <line
      class="bar-base"
      x1="0"
      x2=${bars.length * width}
      y1=${chartHeight}
      y2=${chartHeight}
    ></line>
  </svg>`;
}

/** Indices of the labels that are drawn: from the left, each that does not touch the one before. */
function withRoom(labels: readonly string[], width: number): Set<number> {
  const drawn = new Set<number>();
  let free = -Infinity;
  labels.forEach((label, index) => {
    const half = label.length * 3 + 3;
    const centre = (index + 0.5) * width;
    if (label === "" || centre - half < free) return;
    drawn.add(index);
    free = centre + half;
  });
  return drawn;
}

/** The power of ten that a bin starts with or contains; other bins are told by their tooltip. */
function wholeDecade(low: number, high: number): string {
  const whole = Math.ceil(low - 1e-9);
  return whole < high ? decade(whole) : "";
}

function share(count: number, largest: number): number {
  return largest > 0 ? Math.sqrt(count / largest) : 0;
}

/** Long axes are drawn by the worst value of each run; the numbers in the text are of the whole axis. */
function sampled(values: readonly WireNumber[]): { value: WireNumber; index: number }[] {
  const run = Math.ceil(values.length / maxBars);
  const bars: { value: WireNumber; index: number }[] = [];
  values.forEach((value, index) => {
    const bar = bars[Math.floor(index / run)];
    if (!bar) bars.push({ value, index });
    else if (fromWire(value) > fromWire(bar.value)) Object.assign(bar, { value, index });
  });
  return bars;
}

/** Heights on a log scale from a decade under the smallest value to the largest; 0 has no bar. */
function decadesOf(values: readonly number[]): (value: number) => number {
  const logs = values.filter((value) => value > 0 && Number.isFinite(value)).map(Math.log10);
  const high = Math.max(...logs);
  const low = Math.min(...logs) - 1;
  return (value) => {
    if (!(value > 0)) return 0;
    return Number.isFinite(value) ? (Math.log10(value) - low) / (high - low) : 1;
  };
}

function decade(log10: number): string {
  return Number.isInteger(log10) ? `1e${log10}`.replace("-", "−") : formatValue(10 ** log10);
}
