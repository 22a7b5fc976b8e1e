import type { Alignment } from "./alignment.js";
import { elementCount, float64Reader } from "./dtypes.js";
import type { TensorValue } from "./tensorValue.js";

/** The elements of a candidate that are outside its valid region, and what should stand there. */
export interface PaddingRegion {
  readonly pad: number;
  /** Flat element runs in the candidate. */
  readonly runs: readonly {
    readonly offset: number;
    readonly length: number;
  }[];
}

/** How far padding is from the pad value. It is shown and never blamed. */
export interface PaddingLeak {
  /** Padded elements. */
  readonly count: number;
  readonly differing: number;
  /** max |padded − pad|; NaN when there is a NaN in the padding. 0 when there is no padding. */
  readonly maxAbs: number;
  readonly nan: number;
}

/** Everything that the alignment does not reach. */
export function paddingRegion(
  alignment: Alignment,
  candidateShape: readonly number[],
  pad: number,
): PaddingRegion {
  const valid = [...alignment.runs].sort((a, b) => a.candidate - b.candidate);
  const runs: { offset: number; length: number }[] = [];
  let next = 0;
  for (const run of valid) {
    if (run.candidate > next) runs.push({ offset: next, length: run.candidate - next });
    next = Math.max(next, run.candidate + run.length);
  }
  const size = elementCount(candidateShape);
  if (size > next) runs.push({ offset: next, length: size - next });
  return { pad, runs };
}

export function paddingLeak(candidate: TensorValue, region: PaddingRegion): PaddingLeak {
  const read = float64Reader(candidate);
  const chunk = new Float64Array(4096);
  let count = 0;
  let differing = 0;
  let nan = 0;
  let maxAbs = 0;
  for (const run of region.runs) {
    for (let done = 0; done < run.length; done += chunk.length) {
      const length = Math.min(chunk.length, run.length - done);
      read(run.offset + done, length, chunk, 0);
      for (let i = 0; i < length; i++) {
        const value = chunk[i] as number;
        // −∞ as the pad of a mask equals −∞; the difference of the two would be NaN.
        if (value === region.pad) continue;
        differing++;
        if (Number.isNaN(value)) nan++;
        else maxAbs = Math.max(maxAbs, Math.abs(value - region.pad));
      }
      count += length;
    }
  }
  return { count, differing, maxAbs: nan > 0 ? NaN : maxAbs, nan };
}
