import type { ErrorHistogram, MetricName, Metrics, Row, WorstElement } from "../protocol/report.js";
import type { Layout } from "../protocol/tensor.js";
import { toWire, type WireNumber } from "../protocol/wire.js";
import type { Alignment } from "./alignment.js";
import { relL2ByAxis } from "./byAxis.js";
import { isFloat, is64BitInteger } from "./dtypes.js";
import { errorHistogram } from "./floatBins.js";
import { findObstacle, type Finding, type FindingCode } from "./findings.js";
import { compareFloats } from "./floatComparison.js";
import { dtypeTolerance } from "./gates.js";
import { compareIntegers } from "./integerComparison.js";
import { identityAlignment } from "./layouts.js";
import { floatMetrics, integerMetrics, metricNames } from "./metrics.js";
import { paddingLeak, type PaddingRegion } from "./padding.js";
import { unravel } from "./shapes.js";
import type { TensorValue } from "./tensorValue.js";
import { topKAgreement } from "./topK.js";
import type { WorstList } from "./worstElements.js";

export { relL2, splitDifference, type DifferenceSplit } from "./difference.js";
export type { Finding, FindingCode } from "./findings.js";

export interface CompareOptions {
  /** Default: identity, for equal shapes only. */
  readonly alignment?: Alignment | undefined;
  /** For `violations`. Default: the looser of the two types' tolerances. */
  readonly rtol?: number | undefined;
  readonly atol?: number | undefined;
  /** NaN at the same place on both sides is equal. */
  readonly equalNan?: boolean | undefined;
  /** Compares the k best along the last axis of the reference. */
  readonly topK?: number | undefined;
  /** The role of each axis of the reference ("batch", "sequence", "head", "feature", …); asks for `byAxis`. */
  readonly referenceAxes?: readonly string[] | undefined;
  /** Lets `byAxis` tell the samples of a jagged reference apart. */
  readonly referenceLayout?: Layout | undefined;
  /** How many of the worst elements to list. Default: 10. */
  readonly worst?: number | undefined;
  /** The candidate's padded elements and what should stand there. */
  readonly padding?: PaddingRegion | undefined;
}

export interface Comparison {
  readonly metrics: Metrics;
  /** Why a metric is absent. Every metric stands either here or in `metrics`. */
  readonly undefined: Partial<Record<MetricName, string>>;
  readonly histogram: ErrorHistogram;
  /** Elements that differ, worst first; indices are those of the reference. */
  readonly worst: WorstElement[];
  readonly byAxis: NonNullable<Row["byAxis"]>;
  /** Present when `CompareOptions.padding` was given. */
  readonly padding?: NonNullable<Row["padding"]>;
  /** |d| ≤ atol + rtol·|r| everywhere, and NaN, ±Inf and fills agree. */
  readonly allclose: boolean;
  readonly findings: readonly Finding[];
  /** Nothing was compared: this is no evidence that the tensors are equal. */
  readonly vacuous: boolean;
  /** ‖r‖₂ over the valid elements; 0 where nothing was compared. */
  readonly referenceNorm: number;
}

/**
 * Compares a candidate with the reference over the aligned elements; never throws and never subsamples. What makes a
 * comparison impossible is an error among the findings.
 */
export function compareTensors(
  reference: TensorValue,
  candidate: TensorValue,
  options: CompareOptions = {},
): Comparison {
  const obstacle = findObstacle(reference, candidate, options.alignment);
  if (obstacle) return notCompared(obstacle);
  const alignment = options.alignment ?? identityAlignment(reference.shape);
  const findings = dtypeFindings(reference, candidate);
  const worst = options.worst ?? 10;
  const exact = !isFloat(reference.dtype) && !isFloat(candidate.dtype);
  const tolerance = dtypeTolerance(reference.dtype, candidate.dtype);

  const padding = options.padding && paddingLeak(candidate, options.padding);
  const byAxis = options.referenceAxes
    ? relL2ByAxis(reference, candidate, alignment, options.referenceAxes, options.referenceLayout)
    : [];
  const topK =
    options.topK !== undefined && options.topK > 0
      ? topKAgreement(reference, candidate, alignment, options.topK)
      : undefined;
  if (padding && padding.differing > 0) {
    findings.push({
      code: "padding-differs",
      severity: "warning",
      text: `${padding.differing} of ${padding.count} padded elements are not the pad value; padding is shown, never blamed`,
    });
  }
  const extras = {
    byAxis,
    ...(padding && {
      padding: {
        verdict: padding.differing > 0 ? ("paddingOnly" as const) : ("match" as const),
        maxAbs: toWire(padding.maxAbs),
      },
    }),
  };

  if (exact) {
    const totals = compareIntegers(reference, candidate, alignment, worst);
    const { metrics, reasons } = integerMetrics(totals, reference.shape, topK);
    const vacuous = totals.count === 0;
    if (vacuous) findings.push(vacuousFinding);
    return {
      metrics,
      undefined: reasons,
      histogram: errorHistogram(totals.bins),
      worst: worstElements(totals.worst, reference.shape),
      ...extras,
      allclose: totals.mismatches === 0,
      findings,
      vacuous,
      referenceNorm: Math.sqrt(totals.referenceSquared),
    };
  }

  const totals = compareFloats(reference, candidate, alignment, {
    rtol: options.rtol ?? tolerance.rtol,
    atol: options.atol ?? tolerance.atol,
    worst,
    detail: "full",
  });
  const { metrics, reasons } = floatMetrics(totals, reference.shape, topK);
  const s = totals.special;
  const note = (
    count: number,
    code: FindingCode,
    severity: Finding["severity"],
    text: string,
  ): void => {
    if (count > 0) findings.push({ code, severity, text: `${count} ${text}` });
  };
  note(s.nanDisagree, "nan-disagreement", "error", "elements are NaN on one side only");
  note(
    s.nanBoth,
    "nan-on-both-sides",
    options.equalNan ? "information" : "error",
    options.equalNan
      ? "elements are NaN on both sides, which this tolerance accepts"
      : "elements are NaN on both sides; `equalNan` would accept them",
  );
  note(s.infDisagree, "inf-disagreement", "error", "elements are infinite without an equal");
  note(
    s.maskedFillDisagree,
    "fill-disagreement",
    "error",
    "masked fills of the reference are none in the candidate",
  );
  note(s.maskedFill, "masked-fill", "information", "masked fills compared as a class");
  note(
    s.flushed,
    "subnormal-flush",
    "information",
    "elements are zero on one side and subnormal on the other; they count as equal",
  );
  const infinities = Math.min(s.infReference, s.infCandidate);
  const vacuous = totals.count + s.nanDisagree + s.infDisagree + infinities + s.maskedFill === 0;
  if (vacuous) findings.push(vacuousFinding);
  return {
    metrics,
    undefined: reasons,
    histogram: errorHistogram(totals.absolute),
    worst: worstElements(totals.worst, reference.shape),
    ...extras,
    allclose:
      totals.sums.violations === 0 && !findings.some((finding) => finding.severity === "error"),
    findings,
    vacuous,
    referenceNorm: Math.sqrt(totals.sums.referenceSquared),
  };
}

const vacuousFinding: Finding = {
  code: "vacuous",
  severity: "warning",
  text: "there is no element to compare; that proves nothing",
};

function dtypeFindings(reference: TensorValue, candidate: TensorValue): Finding[] {
  if (reference.dtype === candidate.dtype) return [];
  const findings: Finding[] = [
    {
      code: "dtype-mismatch",
      severity: "warning",
      text: `${reference.dtype} against ${candidate.dtype}; both were widened exactly`,
    },
  ];
  const mixed = isFloat(reference.dtype) !== isFloat(candidate.dtype);
  if (mixed && (is64BitInteger(reference.dtype) || is64BitInteger(candidate.dtype))) {
    const text = "64-bit integers beyond 2^53 were rounded to float64 to compare them with floats";
    findings.push({ code: "rounded-integer", severity: "warning", text });
  }
  return findings;
}

function notCompared(obstacle: Finding): Comparison {
  const reason = `not compared: ${obstacle.text}`;
  return {
    metrics: {},
    undefined: Object.fromEntries(metricNames.map((name) => [name, reason])),
    histogram: { log10Edges: [], counts: [], zeros: 0 },
    worst: [],
    byAxis: [],
    allclose: false,
    findings: [obstacle],
    vacuous: false,
    referenceNorm: 0,
  };
}

function worstElements(list: WorstList, shape: readonly number[]): WorstElement[] {
  return [...list.disagreements.items, ...list.largest].slice(0, list.limit).map((entry) => {
    const absolute = "absolute" in entry ? (entry.absolute as number) : undefined;
    const difference = entry.candidate - entry.reference;
    return {
      index: unravel(entry.offset, shape),
      reference: toWire(entry.reference),
      candidate: toWire(entry.candidate),
      // Two 64-bit integers may round to the same float64; their exact difference is known all the same.
      difference: wireDifference(difference, absolute),
    };
  });
}

function wireDifference(difference: number, absolute: number | undefined): WireNumber {
  return toWire(difference === 0 && absolute !== undefined ? absolute : difference);
}
