import type { Alignment } from "./alignment.js";
import { float64Reader } from "./dtypes.js";
import type { TensorValue } from "./tensorValue.js";

const sameWithin = 1e-6;
const leastSame = 1 / 8;

/**
 * Whether a part of the elements is as it should be and the rest is not: as where a mask, a window or a bound is wrong, and
 * seldom where numbers are computed wrongly.
 */
export function differsInPart(
  reference: TensorValue,
  candidate: TensorValue,
  { runs, count }: Alignment,
): boolean {
  const [readReference, readCandidate] = [float64Reader(reference), float64Reader(candidate)];
  const [r, c] = [new Float64Array(4096), new Float64Array(4096)];
  let same = 0;
  for (const run of runs) {
    for (let done = 0; done < run.length; done += r.length) {
      const length = Math.min(r.length, run.length - done);
      readReference(run.reference + done, length, r, 0);
      readCandidate(run.candidate + done, length, c, 0);
      for (let i = 0; i < length; i++) {
        const [a, b] = [r[i] as number, c[i] as number];
        // What both leave at zero says nothing.
        if (a !== 0 && (a === b || Math.abs(a - b) <= sameWithin * Math.abs(a))) same++;
      }
    }
  }
  return same >= count * leastSame && same < count;
}
