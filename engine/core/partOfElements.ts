import type { Alignment } from "./alignment.js";
import { elementCount, float64Reader } from "./dtypes.js";
import type { TensorValue } from "./tensorValue.js";

const sameWithin = 1e-6;
const leastSame = 1 / 8;

/**
 * Whether a part of the elements is as it should be and the rest is not, also within one place of the first axis: as where a
 * mask, a window or a bound is wrong, and seldom where numbers are computed wrongly. That some samples are right and others
 * are not says nothing of the kind.
 */
export function differsInPart(
  reference: TensorValue,
  candidate: TensorValue,
  { runs, count }: Alignment,
): boolean {
  const [readReference, readCandidate] = [float64Reader(reference), float64Reader(candidate)];
  const [r, c] = [new Float64Array(4096), new Float64Array(4096)];
  const places = reference.shape[0] ?? 1;
  const size = elementCount(reference.shape) / places;
  const sameAt = new Int32Array(places);
  const otherAt = new Int32Array(places);
  for (const run of runs) {
    for (let done = 0; done < run.length; done += r.length) {
      const length = Math.min(r.length, run.length - done);
      readReference(run.reference + done, length, r, 0);
      readCandidate(run.candidate + done, length, c, 0);
      for (let i = 0; i < length; i++) {
        const [a, b] = [r[i] as number, c[i] as number];
        const at = Math.floor((run.reference + done + i) / size);
        // What both leave at zero says nothing.
        const isSame = a === b || Math.abs(a - b) <= sameWithin * Math.abs(a);
        if (!isSame) otherAt[at] = (otherAt[at] ?? 0) + 1;
        else if (a !== 0) sameAt[at] = (sameAt[at] ?? 0) + 1;
      }
    }
  }
  const same = sameAt.reduce((sum, n) => sum + n, 0);
  return same >= count * leastSame && sameAt.some((n, at) => n > 0 && (otherAt[at] ?? 0) > 0);
}
