import type { ErrorHistogram } from "../protocol/report.js";

/**
 * A histogram of non-negative numbers on the bits of float64: the 11 exponent bits and the first 3 of the mantissa, so a
 * bin is at most 12.5 % wide. It needs no sorting and no logarithm for each element. Bin 0 holds zero (and numbers
 * under 2⁻¹⁰²⁵, which no type but float64 has).
 *
 * The counts are kept in two tables that are used in turn: neighbouring elements often fall into one bin, and a counter
 * that was written just now is slow to read again.
 */
export interface FloatBins {
  readonly even: Uint32Array;
  readonly odd: Uint32Array;
}

/** The bins that hold something, in ascending order. */
export interface BinCounts {
  readonly bins: readonly number[];
  readonly counts: readonly number[];
}

const binCount = 1 << 14;

/** Bits of the high word of a float64 that are not part of the bin's number. */
export const binShift = 17;

export function newFloatBins(): FloatBins {
  return { even: new Uint32Array(binCount), odd: new Uint32Array(binCount) };
}

/** Takes the counts out and leaves the tables empty for the next comparison. Ratios with a zero (∞, NaN) are dropped. */
export function drain({ even, odd }: FloatBins): BinCounts {
  const bins: number[] = [];
  const counts: number[] = [];
  for (let bin = 0; bin < binCount; bin++) {
    const count = (even[bin] as number) + (odd[bin] as number);
    if (count === 0) continue;
    even[bin] = 0;
    odd[bin] = 0;
    if (bin >= infinityBin) continue;
    bins.push(bin);
    counts.push(count);
  }
  return { bins, counts };
}

/** Smallest number of a bin. */
export function lowerEdge(bin: number): number {
  words[1] = bin << binShift;
  return double[0] as number;
}

/**
 * The smallest value that at least share·n of the n values do not exceed, to within half a bin. Values that were not
 * finite stand in no bin and count as larger than all others.
 */
export function quantile(
  { bins, counts }: BinCounts,
  n: number,
  share: number,
  max: number,
): number {
  const rank = Math.max(1, Math.ceil(share * n));
  let seen = 0;
  for (const [i, bin] of bins.entries()) {
    seen += counts[i] as number;
    if (seen < rank) continue;
    return bin === 0 ? 0 : Math.min(max, (lowerEdge(bin) + lowerEdge(bin + 1)) / 2);
  }
  return max;
}

/** One bar for each power of two, so that every count is exact; the edges are given as log10. */
export function errorHistogram({ bins, counts }: BinCounts): ErrorHistogram {
  const octaves = new Map<number, number>();
  let zeros = 0;
  for (const [i, bin] of bins.entries()) {
    const count = counts[i] as number;
    if (bin === 0) zeros = count;
    else octaves.set(bin >>> 3, (octaves.get(bin >>> 3) ?? 0) + count);
  }
  if (octaves.size === 0) return { log10Edges: [], counts: [], zeros };
  const first = Math.min(...octaves.keys());
  const last = Math.max(...octaves.keys());
  const bars = Array.from({ length: last - first + 1 }, (_, i) => octaves.get(first + i) ?? 0);
  const log10Edges = Array.from(
    { length: bars.length + 1 },
    (_, i) => (first + i - 1023) * Math.log10(2),
  );
  return { log10Edges, counts: bars, zeros };
}

const infinityBin = 0x7ff << 3;
const double = new Float64Array(1);
const words = new Int32Array(double.buffer);
