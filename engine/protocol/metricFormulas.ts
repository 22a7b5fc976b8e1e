import type { MetricName } from "./report.js";

/** How a metric is labelled, its formula as the documentation prints it, and one sentence on how to read it. */
export interface MetricFormula {
  readonly label: string;
  readonly formula: string;
  readonly explanation: string;
}

/** d = c − r over the valid elements V: inside the declared layout, finite on both sides; n = |V|. */
export const metricFormulas: Readonly<Record<MetricName, MetricFormula>> = {
  count: {
    label: "n",
    formula: "n = |V|",
    explanation: "Elements compared: inside the declared layout and finite on both sides.",
  },
  maxAbs: {
    label: "max abs",
    formula: "max |d|",
    explanation: "The largest difference.",
  },
  maxAbsIndex: {
    label: "at",
    formula: "argmax |d|",
    explanation: "Index in the reference of the element with the largest difference.",
  },
  meanAbs: {
    label: "mean abs",
    formula: "Σ|d|/n",
    explanation: "The mean difference.",
  },
  rmse: {
    label: "RMSE",
    formula: "√(Σd²/n)",
    explanation: "Root of the mean squared difference.",
  },
  violations: {
    label: "violations",
    formula: "share of |d| > atol + rtol·|r|",
    explanation: "Share of elements that numpy.allclose or torch.allclose would refuse.",
  },
  maxRel: {
    label: "max rel",
    formula: "|d|/|r| where r ≠ 0",
    explanation: "The largest relative difference; elements with r = 0 are counted apart.",
  },
  p99Rel: {
    label: "p99 rel",
    formula: "|d|/|r| where r ≠ 0",
    explanation: "99 % of the relative differences are no larger; known to within 12.5 %.",
  },
  zeroReference: {
    label: "zeros",
    formula: "count of r = 0",
    explanation: "Elements whose relative difference is undefined.",
  },
  relL2: {
    label: "relL2",
    formula: "‖d‖₂ / ‖r‖₂",
    explanation: "The headline number for float operations; 0 is exact.",
  },
  linfRel: {
    label: "linf rel",
    formula: "max|d| / max|r|",
    explanation: "The largest difference against the largest value; robust near zero.",
  },
  cosine: {
    label: "cosine",
    formula: "Σcr/(‖c‖‖r‖)",
    explanation:
      "Undefined if a norm is 0, for one element and for constant tensors. Blind to scale.",
  },
  snrDb: {
    label: "SNR",
    formula: "10·log10(Σr²/Σd²)",
    explanation: "Signal to noise in dB; +∞ when the tensors are equal.",
  },
  psnrDb: {
    label: "PSNR",
    formula: "20·log10(max|r|) − 10·log10(mse)",
    explanation: "Peak signal to noise in dB; the peak is max|r|, not max(r).",
  },
  maxUlp: {
    label: "max ULP",
    formula: "|ord(c) − ord(r)| in the narrower dtype",
    explanation: "Most representable numbers between two elements of the narrower type.",
  },
  meanUlp: {
    label: "mean ULP",
    formula: "|ord(c) − ord(r)| in the narrower dtype",
    explanation: "Mean count of representable numbers between two elements of the narrower type.",
  },
  p50Abs: quantile("p50", "50 %"),
  p90Abs: quantile("p90", "90 %"),
  p99Abs: quantile("p99", "99 %"),
  p999Abs: quantile("p99.9", "99.9 %"),
  topKAgreement: {
    label: "top-k",
    formula: "|TopK(c) ∩ TopK(r)| / k",
    explanation: "Share of the reference's k best that the candidate has too, mean over the rows.",
  },
  firstSwappedRank: {
    label: "first swap",
    formula: "first rank at which TopK(c) and TopK(r) differ",
    explanation: "Counted from 1, the earliest over all rows; absent when the order agrees.",
  },
  mismatches: {
    label: "mismatches",
    formula: "count of c ≠ r",
    explanation: "Integers and booleans compare exactly.",
  },
  nanReference: count("NaN in r", "NaN in the reference."),
  nanCandidate: count("NaN in c", "NaN in the candidate."),
  nanBoth: count("NaN in both", "Positions that are NaN on both sides; accepted with equalNan."),
  nanDisagree: count("NaN in one", "Positions that are NaN on one side only; each is a failure."),
  infReference: count("Inf in r", "±Inf in the reference."),
  infCandidate: count("Inf in c", "±Inf in the candidate."),
  infDisagree: count("Inf differs", "Positions where ±Inf has no equal; each is a failure."),
  maskedFill: {
    label: "masked fills",
    formula: "count of |r| > 1e30",
    explanation: "Fills of a mask; they compare as a class, by sign and size, not by value.",
  },
  maskedFillDisagree: {
    label: "fills differ",
    formula: "count of |r| > 1e30 where c is no such fill",
    explanation: "Masked places of the reference that the candidate does not mask.",
  },
};

function quantile(label: string, share: string): MetricFormula {
  return {
    label: `${label} abs`,
    formula: `quantiles p50 p90 p99 p99.9 of |d|`,
    explanation: `${share} of the differences are no larger; known to within 12.5 %.`,
  };
}

function count(label: string, explanation: string): MetricFormula {
  return { label, formula: "count", explanation };
}
