import type { Alignment } from "./alignment.js";
import { float64Reader } from "./dtypes.js";
import type { TensorValue } from "./tensorValue.js";

export interface TopKAgreement {
  /** |TopK(c) ∩ TopK(r)| / k, the mean over the rows. */
  readonly agreement: number;
  /** The first rank, from 1, at which the two orders name different elements; the earliest of all rows. */
  readonly firstSwappedRank?: number;
  readonly rows: number;
}

/**
 * Compares the k largest elements along the reference's last axis. A row with fewer than k valid elements is compared
 * with as many as it has. Equal values rank by position on both sides; NaN ranks nowhere.
 */
export function topKAgreement(
  reference: TensorValue,
  candidate: TensorValue,
  alignment: Alignment,
  k: number,
): TopKAgreement {
  const width = reference.shape.at(-1) ?? 1;
  const readReference = float64Reader(reference);
  const readCandidate = float64Reader(candidate);
  let agreement = 0;
  let rows = 0;
  let firstSwappedRank = Infinity;
  let row = -1;
  let r: number[] = [];
  let c: number[] = [];
  const finishRow = (): void => {
    const bestOfReference = best(r, k);
    const bestOfCandidate = best(c, k);
    const size = Math.max(bestOfReference.length, bestOfCandidate.length);
    if (size > 0) {
      const inReference = new Set(bestOfReference);
      agreement += bestOfCandidate.filter((position) => inReference.has(position)).length / size;
      rows++;
      for (let rank = 0; rank < size; rank++) {
        if (bestOfReference[rank] === bestOfCandidate[rank]) continue;
        firstSwappedRank = Math.min(firstSwappedRank, rank + 1);
        break;
      }
    }
    r = [];
    c = [];
  };
  const one = new Float64Array(2);
  for (const run of alignment.runs) {
    for (let i = 0; i < run.length; i++) {
      const ownRow = Math.floor((run.reference + i) / width);
      if (ownRow !== row) {
        finishRow();
        row = ownRow;
      }
      readReference(run.reference + i, 1, one, 0);
      readCandidate(run.candidate + i, 1, one, 1);
      r.push(one[0] as number);
      c.push(one[1] as number);
    }
  }
  finishRow();
  return {
    agreement: rows === 0 ? 0 : agreement / rows,
    rows,
    ...(firstSwappedRank < Infinity && { firstSwappedRank }),
  };
}

/** Positions of the k largest, largest first. */
function best(values: readonly number[], k: number): number[] {
  const ranked: number[] = [];
  for (let position = 0; position < values.length; position++) {
    const value = values[position] as number;
    if (Number.isNaN(value)) continue;
    const last = ranked.length < k ? -Infinity : (values[ranked.at(-1) as number] as number);
    if (ranked.length >= k && value <= last) continue;
    let at = ranked.length;
    while (at > 0 && (values[ranked[at - 1] as number] as number) < value) at--;
    ranked.splice(at, 0, position);
    if (ranked.length > k) ranked.pop();
  }
  return ranked;
}
