import type { MetricName, Metrics } from "../protocol/report.js";
import { metricFormulas } from "../protocol/metricFormulas.js";
import { toWire } from "../protocol/wire.js";
import { quantile, type BinCounts } from "./floatBins.js";
import type { FloatTotals } from "./floatComparison.js";
import type { IntegerTotals } from "./integerComparison.js";
import { relativeNorm } from "./kernel.js";
import { unravel } from "./shapes.js";
import type { TopKAgreement } from "./topK.js";

/** Metrics with their reasons: every name stands in exactly one of the two. */
export interface MetricsWithReasons {
  readonly metrics: Metrics;
  readonly reasons: Partial<Record<MetricName, string>>;
}

export const metricNames = Object.keys(metricFormulas) as MetricName[];

/** The formulas of floats, from the totals of one pass. */
export function floatMetrics(
  totals: FloatTotals,
  shape: readonly number[],
  topK: TopKAgreement | undefined,
): MetricsWithReasons {
  const { count: n, sums, special } = totals;
  const builder = newBuilder();
  const { number, count } = builder;
  count("count", n);
  count("nanReference", special.nanReference);
  count("nanCandidate", special.nanCandidate);
  count("nanBoth", special.nanBoth);
  count("nanDisagree", special.nanDisagree);
  count("infReference", special.infReference);
  count("infCandidate", special.infCandidate);
  count("infDisagree", special.infDisagree);
  count("maskedFill", special.maskedFill);
  count("maskedFillDisagree", special.maskedFillDisagree);
  builder.undefined("mismatches", "counted for integers and booleans only");
  setTopK(builder, topK);
  if (n === 0) return builder.finish("there is no finite valid element");

  const mse = sums.squared / n;
  const equal = sums.maxAbsolute === 0;
  number("maxAbs", sums.maxAbsolute);
  setMaxAbsIndex(builder, totals.worst.largest[0]?.offset, shape);
  number("meanAbs", sums.absolute / n);
  number("rmse", Math.sqrt(mse));
  number("violations", sums.violations / n);
  setQuantiles(builder, totals.absolute, n, sums.maxAbsolute);
  number("maxUlp", totals.ulp.max);
  number("meanUlp", totals.ulp.sum / n);

  count("zeroReference", sums.zeroReference);
  const nonZero = n - sums.zeroReference;
  if (nonZero === 0) {
    builder.undefined("maxRel", "the reference is zero everywhere");
    builder.undefined("p99Rel", "the reference is zero everywhere");
  } else {
    number("maxRel", sums.maxRelative);
    number("p99Rel", quantile(totals.relative, nonZero, 0.99, sums.maxRelative));
  }

  const zeroReference = "Σr² = 0 and the candidate differs";
  if (equal) number("relL2", 0);
  else if (sums.referenceSquared === 0) builder.undefined("relL2", zeroReference);
  else number("relL2", relativeNorm(sums));

  if (equal) number("linfRel", 0);
  else if (sums.maxReference === 0) builder.undefined("linfRel", zeroReference);
  else number("linfRel", sums.maxAbsolute / sums.maxReference);

  if (n === 1) builder.undefined("cosine", "one element has no direction; see abs and rel");
  else if (sums.referenceSquared === 0 || sums.candidateSquared === 0) {
    builder.undefined("cosine", "one of the norms is 0");
  } else if (!totals.varies.reference || !totals.varies.candidate) {
    builder.undefined("cosine", "a constant tensor has no direction; see abs and rel");
  } else {
    const norms = Math.sqrt(sums.candidateSquared) * Math.sqrt(sums.referenceSquared);
    number("cosine", Math.max(-1, Math.min(1, sums.product / norms)));
  }

  if (equal) {
    number("snrDb", Infinity);
    number("psnrDb", Infinity);
  } else if (sums.referenceSquared === 0) {
    builder.undefined("snrDb", zeroReference);
    builder.undefined("psnrDb", zeroReference);
  } else {
    number("snrDb", 10 * Math.log10(sums.referenceSquared / sums.squared));
    number("psnrDb", 20 * Math.log10(sums.maxReference) - 10 * Math.log10(mse));
  }
  return builder.finish("not defined for these tensors");
}

/** Integers and booleans: how many differ and by how much. A relative error or an angle between indices means nothing. */
export function integerMetrics(
  totals: IntegerTotals,
  shape: readonly number[],
  topK: TopKAgreement | undefined,
): MetricsWithReasons {
  const builder = newBuilder();
  const { count: n } = totals;
  builder.count("count", n);
  builder.count("mismatches", totals.mismatches);
  setTopK(builder, topK);
  if (n === 0) return builder.finish("there is no valid element");
  builder.number("maxAbs", totals.maxAbsolute);
  setMaxAbsIndex(builder, totals.worst.largest[0]?.offset, shape);
  builder.number("meanAbs", totals.absolute / n);
  builder.number("rmse", Math.sqrt(totals.squared / n));
  builder.number("violations", totals.mismatches / n);
  setQuantiles(builder, totals.bins, n, totals.maxAbsolute);
  return builder.finish("integers and booleans compare exactly");
}

interface Builder {
  readonly number: (name: NumberMetric, value: number) => void;
  readonly count: (name: CountMetric, value: number) => void;
  readonly index: (value: number[]) => void;
  readonly undefined: (name: MetricName, reason: string) => void;
  /** Gives every metric that was not mentioned this reason. */
  readonly finish: (reason: string) => MetricsWithReasons;
}

type CountMetric =
  | "count"
  | "zeroReference"
  | "mismatches"
  | "firstSwappedRank"
  | Extract<MetricName, `nan${string}` | `inf${string}` | `maskedFill${string}`>;
type NumberMetric = Exclude<MetricName, CountMetric | "maxAbsIndex">;

function newBuilder(): Builder {
  const metrics: Metrics = {};
  const reasons: Partial<Record<MetricName, string>> = {};
  return {
    number: (name, value) => {
      metrics[name] = toWire(value);
    },
    count: (name, value) => {
      metrics[name] = value;
    },
    index: (value) => {
      metrics.maxAbsIndex = value;
    },
    undefined: (name, reason) => {
      reasons[name] = reason;
    },
    finish: (reason) => {
      for (const name of metricNames) {
        if (!(name in metrics) && !(name in reasons)) reasons[name] = reason;
      }
      return { metrics, reasons };
    },
  };
}

function setMaxAbsIndex(
  builder: Builder,
  offset: number | undefined,
  shape: readonly number[],
): void {
  if (offset === undefined) builder.undefined("maxAbsIndex", "no element differs");
  else builder.index(unravel(offset, shape));
}

function setQuantiles(builder: Builder, bins: BinCounts, n: number, max: number): void {
  builder.number("p50Abs", quantile(bins, n, 0.5, max));
  builder.number("p90Abs", quantile(bins, n, 0.9, max));
  builder.number("p99Abs", quantile(bins, n, 0.99, max));
  builder.number("p999Abs", quantile(bins, n, 0.999, max));
}

function setTopK(builder: Builder, topK: TopKAgreement | undefined): void {
  if (!topK) {
    builder.undefined("topKAgreement", "not asked for");
    builder.undefined("firstSwappedRank", "not asked for");
    return;
  }
  if (topK.rows === 0) builder.undefined("topKAgreement", "there is no row to rank");
  else builder.number("topKAgreement", topK.agreement);
  if (topK.firstSwappedRank === undefined) {
    builder.undefined("firstSwappedRank", "no two ranks are swapped");
  } else builder.count("firstSwappedRank", topK.firstSwappedRank);
}
