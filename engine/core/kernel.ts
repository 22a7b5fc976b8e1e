import { blockElements } from "./blocks.js";
import type { FloatBins } from "./floatBins.js";

/** What one loop over a block adds up. NaN, ±Inf and masked fills show in the sums of squares and the maxima. */
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

/**
 * The inner loops of the comparison. Each passes once over a block of at most 16,384 elements and overwrites `into`.
 *
 * They repeat one another on purpose: a loop that sees both array types, or asks at each turn whether to store, runs at half
 * the speed. They live in a function because a bundle turns a module's constants into variables; a function's constants
 * stay what they are, and the compiler puts the scratch arrays' addresses into the loops.
 */
const kernel = (() => {
  const absolutes = new Float64Array(blockElements);
  const ratios = new Float64Array(blockElements);
  const absoluteWords = new Int32Array(absolutes.buffer);
  const ratioWords = new Int32Array(ratios.buffer);
  const shift = 17;

  function sums32(
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

  function sums64(
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

  function storingSums32(
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
      absolutes[i] = ad;
      ratios[i] = ad / ar;
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

  function storingSums64(
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
      absolutes[i] = ad;
      ratios[i] = ad / ar;
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

  /** Two elements in one turn, each into a table of its own. The sign is masked out because 0/0 is a NaN that may have one. */
  function countStored(length: number, absolute: FloatBins, relative: FloatBins): void {
    const { even: absoluteEven, odd: absoluteOdd } = absolute;
    const { even: relativeEven, odd: relativeOdd } = relative;
    const pairs = length & ~1;
    for (let i = 0; i < pairs; i += 2) {
      const a = (absoluteWords[2 * i + 1] as number) >>> shift;
      absoluteEven[a] = (absoluteEven[a] as number) + 1;
      const b = ((ratioWords[2 * i + 1] as number) & 0x7fffffff) >>> shift;
      relativeEven[b] = (relativeEven[b] as number) + 1;
      const c = (absoluteWords[2 * i + 3] as number) >>> shift;
      absoluteOdd[c] = (absoluteOdd[c] as number) + 1;
      const d = ((ratioWords[2 * i + 3] as number) & 0x7fffffff) >>> shift;
      relativeOdd[d] = (relativeOdd[d] as number) + 1;
    }
    if (pairs === length) return;
    const a = (absoluteWords[2 * pairs + 1] as number) >>> shift;
    absoluteEven[a] = (absoluteEven[a] as number) + 1;
    const b = ((ratioWords[2 * pairs + 1] as number) & 0x7fffffff) >>> shift;
    relativeEven[b] = (relativeEven[b] as number) + 1;
  }

  return { sums32, sums64, storingSums32, storingSums64, countStored };
})();

/** The sums alone. */
export const { sums32, sums64 } = kernel;

/** The sums, and |d| and |d|/|r| of every element are kept for `countStored`. */
export const { storingSums32, storingSums64 } = kernel;

/** Counts what the last storing loop kept. Where r = 0 the ratio lands in a bin that is not read. */
export const { countStored } = kernel;
