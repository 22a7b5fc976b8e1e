import type { Cause } from "../protocol/report.js";
import type { Layout } from "../protocol/tensor.js";
import type { Alignment } from "./alignment.js";
import {
  allZero,
  clampCause,
  constantTensor,
  offsetCause,
  scaleCause,
} from "./causes/elementwise.js";
import { frameOf } from "./causes/frame.js";
import { groupCauses } from "./causes/groupCauses.js";
import { causeOfIntegers } from "./causes/integerCauses.js";
import { overflowCause } from "./causes/overflow.js";
import { placeCause } from "./causes/placeCauses.js";
import { rearrangedCause } from "./causes/rearranged.js";
import { roundingCause } from "./causes/rounding.js";
import { isFloat } from "./dtypes.js";
import type { TensorValue } from "./tensorValue.js";

export { causeOfParameter } from "./causes/parameterCauses.js";

export interface CauseOptions {
  /** The reference tensor's, for what the axes are; dense without it. */
  readonly referenceLayout?: Layout | undefined;
  /** Lengths of the run's samples, for tensors whose own layout is not known. */
  readonly lengths?: readonly number[] | undefined;
}

/**
 * What the difference f_c(x_r) − f_r(x_r) looks like, the explanation that needs the fewest numbers first. Undefined when
 * nothing fits: no cause is better than a wrong one. Linear in the elements.
 */
export function causeOfOp(
  reference: TensorValue,
  candidate: TensorValue,
  alignment: Alignment,
  { referenceLayout, lengths }: CauseOptions = {},
): Cause | undefined {
  const frame = frameOf(reference, candidate, alignment, referenceLayout);
  if (!isFloat(reference.dtype) && !isFloat(candidate.dtype)) {
    const isBool = reference.dtype === "bool" && candidate.dtype === "bool";
    return causeOfIntegers(frame, alignment.count, isBool, lengths);
  }
  if (frame.dd === 0 && frame.newlyNotFinite === 0) return undefined;
  return (
    overflowCause(frame, candidate.dtype) ??
    allZero(frame) ??
    constantTensor(frame) ??
    clampCause(frame) ??
    roundingCause(frame) ??
    scaleCause(frame, [reference.shape, candidate.shape]) ??
    offsetCause(frame) ??
    rearrangedCause(frame) ??
    placeCause(frame, lengths) ??
    groupCauses(frame)
  );
}
