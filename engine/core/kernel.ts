import { binCount, binShift, type FloatBins } from "./floatBins.js";

/**
 * The inner loops of the comparison. Each passes once over a block and knows nothing but numbers. `sums32` and `sums64`
 * are the same text on purpose: a loop that sees both array types is compiled for both and runs at half the speed.
 */
export interface BlockSums {
  absolute: number;
  squared: number;
  referenceSquared: number;
  candidateSquared: number;
  product: number;
  maxAbsolute: number;
  maxReference: number;
  violations: number;
  maxRelative: number;
  zeroReference: number;
}

export function newBlockSums(): BlockSums {
  return {
    absolute: 0,
    squared: 0,
    referenceSquared: 0,
    candidateSquared: 0,
    product: 0,
    maxAbsolute: 0,
    maxReference: 0,
    violations: 0,
    maxRelative: 0,
    zeroReference: 0,
  };
}

/** Adds a block's sums to the totals. */
export function addSums(into: BlockSums, block: BlockSums): void {
  into.absolute += block.absolute;
  into.squared += block.squared;
  into.referenceSquared += block.referenceSquared;
  into.candidateSquared += block.candidateSquared;
  into.product += block.product;
  into.maxAbsolute = Math.max(into.maxAbsolute, block.maxAbsolute);
  into.maxReference = Math.max(into.maxReference, block.maxReference);
  into.violations += block.violations;
  into.maxRelative = Math.max(into.maxRelative, block.maxRelative);
  into.zeroReference += block.zeroReference;
}

/**
 * ‖d‖₂ / ‖r‖₂; NaN when Σr² = 0 and d is not. A difference that vanishes when it is squared is not passed off as zero:
 * max|d| / max|r| stands in for it.
 */
export function relativeNorm(sums: BlockSums): number {
  if (sums.maxAbsolute === 0) return 0;
  if (sums.referenceSquared === 0) return NaN;
  return sums.squared === 0
    ? sums.maxAbsolute / sums.maxReference
    : Math.sqrt(sums.squared) / Math.sqrt(sums.referenceSquared);
}

/** Overwrites `into` with the sums of one block. NaN, ±Inf and masked fills show in the sums of squares and the maxima. */
export function sums32(
  reference: Float32Array,
  candidate: Float32Array,
  length: number,
  atol: number,
  rtol: number,
  into: BlockSums,
): void {
  let absolute = 0;
  let squared = 0;
  let referenceSquared = 0;
  let candidateSquared = 0;
  let product = 0;
  let maxAbsolute = 0;
  let maxReference = 0;
  let violations = 0;
  let maxRelative = 0;
  let zeroReference = 0;
  for (let i = 0; i < length; i++) {
    const r = reference[i] as number;
    const c = candidate[i] as number;
    const d = c - r;
    const ad = Math.abs(d);
    const ar = Math.abs(r);
    absolute += ad;
    squared += d * d;
    referenceSquared += r * r;
    candidateSquared += c * c;
    product += c * r;
    if (ad > maxAbsolute) maxAbsolute = ad;
    if (ar > maxReference) maxReference = ar;
    if (ad > atol + rtol * ar) violations++;
    // Multiplied out, so that only a new maximum costs a division.
    if (ad > maxRelative * ar && ar !== 0) maxRelative = ad / ar;
    if (ar === 0) zeroReference++;
  }
  into.absolute = absolute;
  into.squared = squared;
  into.referenceSquared = referenceSquared;
  into.candidateSquared = candidateSquared;
  into.product = product;
  into.maxAbsolute = maxAbsolute;
  into.maxReference = maxReference;
  into.violations = violations;
  into.maxRelative = maxRelative;
  into.zeroReference = zeroReference;
}

export function sums64(
  reference: Float64Array,
  candidate: Float64Array,
  length: number,
  atol: number,
  rtol: number,
  into: BlockSums,
): void {
  let absolute = 0;
  let squared = 0;
  let referenceSquared = 0;
  let candidateSquared = 0;
  let product = 0;
  let maxAbsolute = 0;
  let maxReference = 0;
  let violations = 0;
  let maxRelative = 0;
  let zeroReference = 0;
  for (let i = 0; i < length; i++) {
    const r = reference[i] as number;
    const c = candidate[i] as number;
    const d = c - r;
    const ad = Math.abs(d);
    const ar = Math.abs(r);
    absolute += ad;
    squared += d * d;
    referenceSquared += r * r;
    candidateSquared += c * c;
    product += c * r;
    if (ad > maxAbsolute) maxAbsolute = ad;
    if (ar > maxReference) maxReference = ar;
    if (ad > atol + rtol * ar) violations++;
    if (ad > maxRelative * ar && ar !== 0) maxRelative = ad / ar;
    if (ar === 0) zeroReference++;
  }
  into.absolute = absolute;
  into.squared = squared;
  into.referenceSquared = referenceSquared;
  into.candidateSquared = candidateSquared;
  into.product = product;
  into.maxAbsolute = maxAbsolute;
  into.maxReference = maxReference;
  into.violations = violations;
  into.maxRelative = maxRelative;
  into.zeroReference = zeroReference;
}

const absoluteDifference = new Float64Array(16384);
const relativeDifference = new Float64Array(16384);
const absoluteWords = new Int32Array(absoluteDifference.buffer);
const relativeWords = new Int32Array(relativeDifference.buffer);

/** Counts |d| and |d|/|r| of one block of at most 16,384 elements. Where r = 0 the ratio lands in no bin that is read. */
export function bin32(
  reference: Float32Array,
  candidate: Float32Array,
  length: number,
  absolute: FloatBins,
  relative: FloatBins,
): void {
  for (let i = 0; i < length; i++) {
    const r = reference[i] as number;
    const ad = Math.abs((candidate[i] as number) - r);
    absoluteDifference[i] = ad;
    relativeDifference[i] = ad / Math.abs(r);
  }
  countBins(length, absolute.counts, relative.counts);
}

export function bin64(
  reference: Float64Array,
  candidate: Float64Array,
  length: number,
  absolute: FloatBins,
  relative: FloatBins,
): void {
  for (let i = 0; i < length; i++) {
    const r = reference[i] as number;
    const ad = Math.abs((candidate[i] as number) - r);
    absoluteDifference[i] = ad;
    relativeDifference[i] = ad / Math.abs(r);
  }
  countBins(length, absolute.counts, relative.counts);
}

function countBins(
  length: number,
  absolute: Uint32Array,
  relative: Uint32Array,
): void {
  for (let i = 0; i < length; i++) {
    const table = (i & 1) * binCount;
    const a = table + ((absoluteWords[2 * i + 1] as number) >>> binShift);
    absolute[a] = (absolute[a] as number) + 1;
    // 0/0 is a NaN whose sign bit may be set.
    const b =
      table +
      (((relativeWords[2 * i + 1] as number) & 0x7fffffff) >>> binShift);
    relative[b] = (relative[b] as number) + 1;
  }
}
