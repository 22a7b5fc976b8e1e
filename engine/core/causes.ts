import type { Cause } from "../protocol/report.js";
import type { Alignment } from "./alignment.js";
import { isFloat, toFloat64 } from "./dtypes.js";
import type { ParameterFinding } from "./parameters.js";
import type { TensorValue } from "./tensorValue.js";

/** What remains after the best scale or offset must be this much smaller than the difference to name it as the cause. */
const explainedShare = 1e-3;

/**
 * What the difference f_c(x_r) − f_r(x_r) looks like. Undefined when nothing fits: no cause is better than a wrong one.
 */
export function causeOfOp(
  reference: TensorValue,
  candidate: TensorValue,
  alignment: Alignment,
): Cause | undefined {
  const r = toFloat64(reference);
  const c = toFloat64(candidate);
  if (!isFloat(reference.dtype) && !isFloat(candidate.dtype)) {
    return causeOfIntegers(r, c, alignment);
  }
  let n = 0;
  let sumR = 0;
  let sumC = 0;
  let rr = 0;
  let cr = 0;
  let dd = 0;
  let newNotFinite = 0;
  const each = (visit: (x: number, y: number) => void): void => {
    for (const run of alignment.runs) {
      for (let i = 0; i < run.length; i++) {
        visit(r[run.reference + i] as number, c[run.candidate + i] as number);
      }
    }
  };
  each((x, y) => {
    if (Number.isFinite(x) && !Number.isFinite(y)) newNotFinite++;
    if (!Number.isFinite(x) || !Number.isFinite(y)) return;
    n++;
    sumR += x;
    sumC += y;
    rr += x * x;
    cr += x * y;
    dd += (y - x) * (y - x);
  });
  if (newNotFinite > 0) {
    return {
      kind: "overflow",
      text: `${newNotFinite} elements are NaN or infinite where the reference is finite`,
      confidence: "certain",
      evidence: { elements: newNotFinite },
    };
  }
  if (n < 2 || rr === 0 || dd === 0) return undefined;
  const scale = cr / rr;
  const offset = (sumC - sumR) / n;
  let afterScale = 0;
  let afterOffset = 0;
  each((x, y) => {
    if (!Number.isFinite(x) || !Number.isFinite(y)) return;
    afterScale += (y - scale * x) ** 2;
    afterOffset += (y - x - offset) ** 2;
  });
  // A candidate that is nearly zero leaves little of any difference: what the scale leaves must be small against it too.
  if (Math.sqrt(afterScale / Math.min(dd, scale * scale * rr)) < explainedShare && scale !== 1) {
    const ratio = asRatio(scale);
    return {
      kind: "scale",
      text: `looks like a scale: every element is ${scale.toPrecision(6)}${ratio} times the reference's`,
      confidence: "likely",
      evidence: { scale, remaining: Math.sqrt(afterScale / dd) },
    };
  }
  if (Math.sqrt(afterOffset / dd) < explainedShare) {
    return {
      kind: "offset",
      text: `looks like a bias: every element is ${offset.toPrecision(6)} more than the reference's`,
      confidence: "likely",
      evidence: { offset, remaining: Math.sqrt(afterOffset / dd) },
    };
  }
  return undefined;
}

function causeOfIntegers(
  r: Float64Array,
  c: Float64Array,
  { runs, count }: Alignment,
): Cause | undefined {
  let mismatches = 0;
  for (const run of runs) {
    for (let i = 0; i < run.length; i++) {
      if (r[run.reference + i] !== c[run.candidate + i]) mismatches++;
    }
  }
  if (mismatches === 0) return undefined;
  return {
    kind: "integers",
    text: `has ${mismatches} of ${count} elements that differ`,
    confidence: "certain",
    evidence: { mismatches, count },
  };
}

/** A ratio of small whole numbers says more than a decimal: 1.125 is 27/24. */
function asRatio(scale: number): string {
  for (let denominator = 1; denominator <= 1024; denominator++) {
    const numerator = Math.round(scale * denominator);
    if (numerator === 0 || numerator > 1024) continue;
    if (Math.abs(numerator / denominator - scale) < 2e-7 * Math.abs(scale)) {
      return denominator === 1 ? "" : ` (${numerator}/${denominator})`;
    }
  }
  return "";
}

export function causeOfParameter(finding: ParameterFinding): Cause {
  const { candidate, reference, status, relL2 } = finding;
  const from = reference ? `the reference's ${reference.name}` : "any parameter of the reference";
  return status === "notFromReference"
    ? {
        kind: "parameterNotFromReference",
        text: `${candidate.name} never came from the reference: its values have nothing to do with ${from}`,
        confidence: "certain",
        evidence: { ...(relL2 !== undefined && { relL2 }) },
      }
    : {
        kind: "parameterDiffers",
        text: `${candidate.name} differs from ${from}`,
        confidence: "certain",
        evidence: { ...(relL2 !== undefined && { relL2 }) },
      };
}
