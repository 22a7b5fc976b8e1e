import type { Cause } from "../../protocol/report.js";
import type { DType } from "../../protocol/tensor.js";
import type { Frame } from "./frame.js";

/** float16 ends at 65504: where finite values of the reference do not fit it, that is why. */
const largestHalf = 65504;

export function overflowCause(frame: Frame, dtype: DType): Cause | undefined {
  const { newlyNotFinite, r, c } = frame;
  if (newlyNotFinite === 0) return undefined;
  let beyond = 0;
  for (const [i, y] of c.entries()) {
    const x = r[i] as number;
    if (Number.isFinite(x) && !Number.isFinite(y) && Math.abs(x) > largestHalf) beyond++;
  }
  const isHalf = beyond === newlyNotFinite;
  const why = isHalf ? `, all of them beyond ${largestHalf}, the largest float16` : "";
  return {
    kind: "overflow",
    text: `${newlyNotFinite} elements are NaN or infinite where the reference is finite${why}`,
    confidence: "certain",
    evidence: { elements: newlyNotFinite, dtype, ...(isHalf && { beyondFloat16: beyond }) },
  };
}
