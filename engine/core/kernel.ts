import type { FloatBins } from "./floatBins.js";

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

/** Results of one block on their way into the bins, as numbers and as the words of their bits. */
const scratch = (() => {
  const absolute = new Float64Array(16384);
  const relative = new Float64Array(16384);
  return {
    absolute,
    relative,
    absoluteWords: new Int32Array(absolute.buffer),
    relativeWords: new Int32Array(relative.buffer),
  };
})();

/** Counts |d| and |d|/|r| of one block of at most 16,384 elements. Where r = 0 the ratio lands in no bin that is read. */
export function bin32(
  reference: Float32Array,
  candidate: Float32Array,
  length: number,
  absolute: FloatBins,
  relative: FloatBins,
): void {
  // Locals, because a bundle turns module constants into variables, which the loop would read again at every turn.
  const { absolute: differences, relative: ratios } = scratch;
  for (let i = 0; i < length; i++) {
    const r = reference[i] as number;
    const ad = Math.abs((candidate[i] as number) - r);
    differences[i] = ad;
    ratios[i] = ad / Math.abs(r);
  }
  countBins(length, absolute, relative);
}

export function bin64(
  reference: Float64Array,
  candidate: Float64Array,
  length: number,
  absolute: FloatBins,
  relative: FloatBins,
): void {
  // Locals, because a bundle turns module constants into variables, which the loop would read again at every turn.
  const { absolute: differences, relative: ratios } = scratch;
  for (let i = 0; i < length; i++) {
    const r = reference[i] as number;
    const ad = Math.abs((candidate[i] as number) - r);
    differences[i] = ad;
    ratios[i] = ad / Math.abs(r);
  }
  countBins(length, absolute, relative);
}

/** Two elements in one turn, each into tables of its own; the loop knows its four tables, and that is what makes it fast. */
function countBins(length: number, absolute: FloatBins, relative: FloatBins): void {
  const { even: absoluteEven, odd: absoluteOdd } = absolute;
  const { even: relativeEven, odd: relativeOdd } = relative;
  const { absoluteWords, relativeWords } = scratch;
  // A literal, equal to binShift: an imported constant is a variable to the compiler, and the loop runs at half the speed.
  const shift = 17;
  const pairs = length & ~1;
  // The sign bit is masked out because 0/0 is a NaN that may have one.
  for (let i = 0; i < pairs; i += 2) {
    const a = (absoluteWords[2 * i + 1] as number) >>> shift;
    absoluteEven[a] = (absoluteEven[a] as number) + 1;
    const b = ((relativeWords[2 * i + 1] as number) & 0x7fffffff) >>> shift;
    relativeEven[b] = (relativeEven[b] as number) + 1;
    const c = (absoluteWords[2 * i + 3] as number) >>> shift;
    absoluteOdd[c] = (absoluteOdd[c] as number) + 1;
    const d = ((relativeWords[2 * i + 3] as number) & 0x7fffffff) >>> shift;
    relativeOdd[d] = (relativeOdd[d] as number) + 1;
  }
  if (pairs === length) return;
  const a = (absoluteWords[2 * pairs + 1] as number) >>> shift;
  absoluteEven[a] = (absoluteEven[a] as number) + 1;
  const b = ((relativeWords[2 * pairs + 1] as number) & 0x7fffffff) >>> shift;
  relativeEven[b] = (relativeEven[b] as number) + 1;
}
