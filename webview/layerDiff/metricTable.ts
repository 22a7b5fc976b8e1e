import { html, nothing, type TemplateResult } from "lit";
import { metricFormulas } from "../../engine/protocol/metricFormulas.js";
import type { MetricName, Metrics, Row } from "../../engine/protocol/report.js";
import type { WireNumber } from "../../engine/protocol/wire.js";
import {
  formatCount,
  formatDifference,
  formatIndex,
  formatValue,
  fullPrecision,
} from "../ui/format.js";

type MetricForm = "difference" | "value" | "decibel" | "count" | "share" | "index";

/** In the order of reading: how far off, in which way, at how many places. Formats by kind of number. */
const metricForms: Record<MetricName, MetricForm> = {
  relL2: "difference",
  linfRel: "difference",
  maxAbs: "difference",
  maxAbsIndex: "index",
  meanAbs: "difference",
  rmse: "difference",
  maxRel: "difference",
  p99Rel: "difference",
  p50Abs: "difference",
  p90Abs: "difference",
  p99Abs: "difference",
  p999Abs: "difference",
  cosine: "value",
  snrDb: "decibel",
  psnrDb: "decibel",
  maxUlp: "count",
  meanUlp: "difference",
  violations: "share",
  topKAgreement: "share",
  firstSwappedRank: "count",
  mismatches: "count",
  count: "count",
  zeroReference: "count",
  nanReference: "count",
  nanCandidate: "count",
  nanBoth: "count",
  nanDisagree: "count",
  infReference: "count",
  infCandidate: "count",
  infDisagree: "count",
  maskedFill: "count",
  maskedFillDisagree: "count",
};

/** Counts that say something only when they are not 0. */
const quietAtZero: ReadonlySet<MetricName> = new Set([
  "zeroReference",
  "nanBoth",
  "nanReference",
  "nanCandidate",
  "nanDisagree",
  "infReference",
  "infCandidate",
  "infDisagree",
  "maskedFill",
  "maskedFillDisagree",
]);

/** All metrics of a row, each with its formula on hover; an undefined one keeps its place and says why. */
export function metricTable(row: Row): unknown {
  const names = Object.keys(metricForms) as MetricName[];
  const shown = names.filter((name) => {
    const value = row.metrics?.[name];
    if (value === undefined) return row.undefined?.[name] !== undefined;
    return !(quietAtZero.has(name) && value === 0);
  });
  if (shown.length === 0) return nothing;
  return html`<h3>Metrics</h3>
    <dl class="metrics">
      ${shown.map((name) => metric(name, row.metrics?.[name], row.undefined?.[name]))}
    </dl>`;
}

function metric(
  name: MetricName,
  value: Metrics[MetricName],
  reason: string | undefined,
): TemplateResult {
  const { label, formula, explanation } = metricFormulas[name];
  return html`<div data-metric=${name}>
    <dt title=${`${formula}\n${explanation}`}>${label}</dt>
    ${
      value === undefined
        ? html`<dd class="muted" title=${reason ?? "not measured"}>—</dd>`
        : html`<dd title=${fullText(value)}>${metricText(metricForms[name], value)}</dd>`
    }
  </div>`;
}

function metricText(form: MetricForm, value: WireNumber | number[]): string {
  if (Array.isArray(value)) return formatIndex(value);
  if (typeof value === "number") {
    if (form === "decibel") return `${formatValue(value)} dB`;
    if (form === "count" && Number.isInteger(value)) return formatCount(value);
    if (form === "share") return `${formatValue(value * 100)} %`;
  }
  return form === "difference" ? formatDifference(value) : formatValue(value);
}

function fullText(value: WireNumber | number[]): string {
  return Array.isArray(value) ? formatIndex(value) : fullPrecision(value);
}
