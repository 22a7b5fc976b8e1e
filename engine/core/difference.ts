import type { Alignment } from "./alignment.js";
import { float64Reader, isFloat } from "./dtypes.js";
import { findObstacle } from "./findings.js";
import { compareFloats } from "./floatComparison.js";
import { fillLimitOf, fillsBeyond } from "./maskedFills.js";
import { areEqualIntegers, compareIntegers } from "./integerComparison.js";
import { relativeNorm } from "./kernel.js";
import { identityAlignment } from "./layouts.js";
import type { TensorValue } from "./tensorValue.js";

/**
 * ‖c − r‖₂ / ‖r‖₂ and nothing else, for walks that ask it often. 0 when the tensors are equal. NaN when it is not defined:
 * shapes or bytes forbid the comparison, NaN, ±Inf or masked fills disagree, or Σr² = 0 and the candidate is not zero.
 * NaN is over every gate.
 */
export function relL2(
  reference: TensorValue,
  candidate: TensorValue,
  alignment?: Alignment,
  options: { readonly equalNan?: boolean } = {},
): number {
  return distance(reference, candidate, alignment, options).relL2;
}

/** `relL2`, and max|c − r| / max|r| beside it; integers that differ anywhere are infinitely far apart there. */
export function distance(
  reference: TensorValue,
  candidate: TensorValue,
  alignment?: Alignment,
  options: { readonly equalNan?: boolean } = {},
): { readonly relL2: number; readonly linfRel: number } {
  if (findObstacle(reference, candidate, alignment)) return { relL2: NaN, linfRel: NaN };
  const aligned = alignment ?? identityAlignment(reference.shape);
  if (!isFloat(reference.dtype) && !isFloat(candidate.dtype)) {
    if (areEqualIntegers(reference, candidate, aligned)) return { relL2: 0, linfRel: 0 };
    const totals = compareIntegers(reference, candidate, aligned, 0);
    return {
      relL2: ratio(totals.squared, totals.referenceSquared),
      linfRel: totals.squared === 0 ? 0 : Infinity,
    };
  }
  const { sums, special } = compareFloats(reference, candidate, aligned, {
    // Violations are not asked for; a tolerance that nothing exceeds spares the loop a branch that cannot be predicted.
    atol: Infinity,
    rtol: 0,
    worst: 0,
    detail: "norms",
  });
  const disagree = special.nanDisagree + special.infDisagree + special.maskedFillDisagree;
  if (disagree > 0 || (special.nanBoth > 0 && !options.equalNan)) {
    return { relL2: NaN, linfRel: NaN };
  }
  return {
    relL2: relativeNorm(sums),
    linfRel: sums.maxAbsolute === 0 ? 0 : sums.maxAbsolute / sums.maxReference,
  };
}

/** The split of one op's difference; each is ‖·‖₂ / ‖f_r(x_r)‖₂, NaN where it is not defined (see `relL2`). */
export interface DifferenceSplit {
  /** f_c(x_c) − f_r(x_r). */
  readonly total: number;
  /** f_c(x_r) − f_r(x_r): what the candidate's op itself does wrong. */
  readonly introduced: number;
  /** f_c(x_c) − f_c(x_r): what it got with its inputs and passes on. */
  readonly inherited: number;
}

/**
 * Splits f_c(x_c) − f_r(x_r) into introduced and inherited in one pass. The split is exact element by element, with no
 * linearisation; the three norms obey the triangle inequality and do not add up.
 * @param reference f_r(x_r)
 * @param candidateOnReference f_c(x_r): the candidate's op replayed on the reference's inputs
 * @param candidateTotal f_c(x_c); it has the layout of `candidateOnReference`
 */
export function splitDifference(
  reference: TensorValue,
  candidateOnReference: TensorValue,
  candidateTotal: TensorValue,
  alignment?: Alignment,
  options: { readonly equalNan?: boolean } = {},
): DifferenceSplit {
  if (
    findObstacle(reference, candidateOnReference, alignment) ||
    findObstacle(reference, candidateTotal, alignment)
  ) {
    return { total: NaN, introduced: NaN, inherited: NaN };
  }
  const aligned = alignment ?? identityAlignment(reference.shape);
  const tensors = [reference, candidateOnReference, candidateTotal];
  if (tensors.every((value) => !isFloat(value.dtype))) {
    return splitIntegers(reference, candidateOnReference, candidateTotal, aligned);
  }

  const [readR, readReplayed, readTotal] = tensors.map(float64Reader);
  const chunk = 4096;
  const r = new Float64Array(chunk);
  const replayed = new Float64Array(chunk);
  const whole = new Float64Array(chunk);
  const equalNan = options.equalNan ?? false;
  const fills = fillsBeyond(reference);
  const fillLimit = fillLimitOf(candidateTotal.dtype, fills);
  let rr = 0;
  let total = 0;
  let introduced = 0;
  let inherited = 0;
  for (const run of aligned.runs) {
    for (let done = 0; done < run.length; done += chunk) {
      const length = Math.min(chunk, run.length - done);
      readR?.(run.reference + done, length, r, 0);
      readReplayed?.(run.candidate + done, length, replayed, 0);
      readTotal?.(run.candidate + done, length, whole, 0);
      for (let i = 0; i < length; i++) {
        const a = r[i] as number;
        const b = replayed[i] as number;
        const c = whole[i] as number;
        const squareA = a * a;
        if (Math.abs(a) <= fills && Math.abs(b) < Infinity && Math.abs(c) < Infinity) {
          rr += squareA;
          total += (c - a) * (c - a);
          introduced += (b - a) * (b - a);
          inherited += (c - b) * (c - b);
          continue;
        }
        if (Math.abs(a) <= fills) rr += squareA;
        total += specialSquare(a, c, equalNan, { fills, fillLimit });
        introduced += specialSquare(a, b, equalNan, { fills, fillLimit });
        inherited += specialSquare(b, c, equalNan, { fills, fillLimit });
      }
    }
  }
  return {
    total: ratio(total, rr),
    introduced: ratio(introduced, rr),
    inherited: ratio(inherited, rr),
  };
}

/** The square of y − x where one of three elements is NaN, ±Inf or a masked fill: NaN where the two disagree. */
function specialSquare(
  x: number,
  y: number,
  equalNan: boolean,
  { fills, fillLimit }: { fills: number; fillLimit: number },
): number {
  if (x === y) return 0;
  if (Number.isNaN(x) && Number.isNaN(y)) return equalNan ? 0 : NaN;
  if (!Number.isFinite(x) || !Number.isFinite(y)) return NaN;
  if (Math.abs(x) <= fills) return (y - x) * (y - x);
  return Math.abs(y) >= fillLimit && x > 0 === y > 0 ? 0 : NaN;
}

/** 64-bit integers are subtracted as BigInt, so each part is a comparison of its own; ‖·‖ is that of the reference. */
function splitIntegers(
  reference: TensorValue,
  candidateOnReference: TensorValue,
  candidateTotal: TensorValue,
  alignment: Alignment,
): DifferenceSplit {
  const within: Alignment = {
    ...alignment,
    runs: alignment.runs.map((run) => ({ ...run, reference: run.candidate })),
  };
  const isEqual = [candidateOnReference, candidateTotal].every((value) =>
    areEqualIntegers(reference, value, alignment),
  );
  if (isEqual) return { total: 0, introduced: 0, inherited: 0 };
  const introduced = compareIntegers(reference, candidateOnReference, alignment, 0);
  const total = compareIntegers(reference, candidateTotal, alignment, 0);
  const inherited = compareIntegers(candidateOnReference, candidateTotal, within, 0);
  return {
    total: ratio(total.squared, total.referenceSquared),
    introduced: ratio(introduced.squared, total.referenceSquared),
    inherited: ratio(inherited.squared, total.referenceSquared),
  };
}

function ratio(squared: number, referenceSquared: number): number {
  if (squared === 0) return 0;
  return referenceSquared === 0 ? NaN : Math.sqrt(squared) / Math.sqrt(referenceSquared);
}
