import type { Alignment } from "./alignment.js";
import { referenceOffset, visitFloat32Blocks, visitFloat64Blocks, type Segment } from "./blocks.js";
import {
  elementArray,
  float64Reader,
  floatFormats,
  isFloat,
  narrowerFloat,
  type FloatDType,
} from "./dtypes.js";
import { fillLimitOf, fillsBeyond } from "./maskedFills.js";
import { drain, newFloatBins, type BinCounts } from "./floatBins.js";
import {
  addSums,
  countStored,
  newBlockSums,
  storingSums32,
  storingSums64,
  sums32,
  sums64,
  type BlockSums,
} from "./kernel.js";
import type { TensorValue } from "./tensorValue.js";
import { ulp32, ulpOf, type UlpSums } from "./ulp.js";
import { newWorstList, offerBlock, type WorstList } from "./worstElements.js";

/** What one pass over two tensors finds out, before any formula. Ordinary elements are V: finite and no masked fill. */
export interface FloatTotals {
  /** n = |V|. */
  count: number;
  readonly sums: BlockSums;
  /** |d|, and |d|/|r| where r ≠ 0. */
  readonly absolute: BinCounts;
  readonly relative: BinCounts;
  readonly ulp: UlpSums;
  readonly ulpType: FloatDType;
  readonly special: SpecialCounts;
  readonly worst: WorstList;
  /** Neither side changes its value over V. */
  readonly varies: { reference: boolean; candidate: boolean };
}

/** Elements that enter no metric, by kind. */
export interface SpecialCounts {
  nanReference: number;
  nanCandidate: number;
  nanBoth: number;
  nanDisagree: number;
  infReference: number;
  infCandidate: number;
  infDisagree: number;
  maskedFill: number;
  maskedFillDisagree: number;
  /** Zero on one side, subnormal on the other: these stay in V and count as equal. */
  flushed: number;
}

export interface FloatPass {
  readonly atol: number;
  readonly rtol: number;
  /** How many of the worst elements to keep. */
  readonly worst: number;
  /** `norms` leaves ULP, quantiles, histogram and the worst elements out: three times as fast. */
  readonly detail: "norms" | "full";
}

/**
 * Compares the aligned elements, at least one tensor being of a float type. Both are widened to float64 exactly. Sums are
 * float64 and made by blocks. Squares of float64 elements under 1e-162 vanish, as they do in NumPy.
 */
export function compareFloats(
  reference: TensorValue,
  candidate: TensorValue,
  alignment: Alignment,
  pass: FloatPass,
): FloatTotals {
  const totals = {
    count: 0,
    sums: newBlockSums(),
    ulp: { max: 0, sum: 0, flushed: 0 },
    ulpType: narrowerFloat(reference.dtype, candidate.dtype) ?? "float64",
    special: noSpecials(),
    worst: newWorstList(pass.worst),
    varies: { reference: false, candidate: false },
  };
  const flushLimit = subnormalLimit(reference, candidate);
  const fills = fillsBeyond(reference);
  const fillLimit = fillLimitOf(candidate.dtype, fills);
  const block = newBlockSums();
  const ulp: UlpSums = { max: 0, sum: 0, flushed: 0 };
  const full = pass.detail === "full";
  const first = { reference: NaN, candidate: NaN };

  const take64 = (
    r: Float64Array,
    c: Float64Array,
    length: number,
    positionOf: (position: number) => number,
  ): void => {
    if (length === 0) return;
    (full ? storingSums64 : sums64)(r, c, length, pass.atol, pass.rtol, block);
    if (full && block.maxAbsolute > 0) {
      countStored(length, absoluteBins, relativeBins);
      ulpOf(totals.ulpType, r, c, length, ulp);
      addUlps(totals.ulp, ulp);
    }
    finish(r, c, length, positionOf);
  };
  const finish = (
    r: Float32Array | Float64Array,
    c: Float32Array | Float64Array,
    length: number,
    positionOf: (position: number) => number,
  ): void => {
    if (full && block.maxAbsolute === 0) countEqual(length, block.zeroReference);
    totals.count += length;
    addSums(totals.sums, block);
    if (!full) return;
    offerBlock(totals.worst, r, c, length, block.maxAbsolute, positionOf);
    noteVariation(totals.varies, first, r, c, length);
  };
  const takeMixed = (
    r: Float32Array | Float64Array,
    c: Float32Array | Float64Array,
    length: number,
    segments: readonly Segment[],
  ): void => {
    const kept = separate(
      r,
      c,
      length,
      { flushLimit, fills, fillLimit },
      totals.special,
      (position) =>
        totals.worst.disagreements.push({
          offset: referenceOffset(segments, position),
          reference: r[position] as number,
          candidate: c[position] as number,
        }),
    );
    take64(kept.reference, kept.candidate, kept.length, (position) =>
      referenceOffset(segments, kept.positions[position] as number),
    );
  };

  if (reference.dtype === "float32" && candidate.dtype === "float32") {
    visitFloat32Blocks(
      elementArray(reference) as Float32Array,
      elementArray(candidate) as Float32Array,
      alignment,
      (r, c, length, segments) => {
        (full ? storingSums32 : sums32)(r, c, length, pass.atol, pass.rtol, block);
        ulp.flushed = block.maxAbsolute > 0 && block.maxAbsolute < flushLimit ? 1 : 0;
        if (full && block.maxAbsolute > 0) ulp32(bitsOf(r), bitsOf(c), length, ulp);
        if (isSpecial(block, fills) || ulp.flushed > 0) return takeMixed(r, c, length, segments);
        if (full && block.maxAbsolute > 0) {
          countStored(length, absoluteBins, relativeBins);
          addUlps(totals.ulp, ulp);
        }
        finish(r, c, length, (position) => referenceOffset(segments, position));
      },
    );
  } else {
    visitFloat64Blocks(
      float64Reader(reference),
      float64Reader(candidate),
      alignment,
      (r, c, length, segments) => takeMixed(r, c, length, segments),
    );
  }
  return full
    ? { ...totals, absolute: drain(absoluteBins), relative: drain(relativeBins) }
    : { ...totals, absolute: noBins, relative: noBins };
}

/** One pair of tables for all comparisons: they are large, and each comparison leaves them empty. */
const absoluteBins = newFloatBins();
const relativeBins = newFloatBins();
const noBins: BinCounts = { bins: [], counts: [] };

function noSpecials(): SpecialCounts {
  return {
    nanReference: 0,
    nanCandidate: 0,
    nanBoth: 0,
    nanDisagree: 0,
    infReference: 0,
    infCandidate: 0,
    infDisagree: 0,
    maskedFill: 0,
    maskedFillDisagree: 0,
    flushed: 0,
  };
}

/** A block with NaN has a NaN sum of squares, one with ±Inf an infinite one. */
function isSpecial(block: BlockSums, fills: number): boolean {
  return !(
    block.referenceSquared < Infinity &&
    block.candidateSquared < Infinity &&
    block.maxReference <= fills
  );
}

function bitsOf(values: Float32Array): Int32Array {
  return new Int32Array(values.buffer, values.byteOffset, values.length);
}

function addUlps(into: UlpSums, block: UlpSums): void {
  into.max = Math.max(into.max, block.max);
  into.sum += block.sum;
}

function countEqual(length: number, zeroReference: number): void {
  absoluteBins.even[0] = (absoluteBins.even[0] as number) + length;
  relativeBins.even[0] = (relativeBins.even[0] as number) + length - zeroReference;
}

function noteVariation(
  varies: { reference: boolean; candidate: boolean },
  first: { reference: number; candidate: number },
  r: Float32Array | Float64Array,
  c: Float32Array | Float64Array,
  length: number,
): void {
  if (Number.isNaN(first.reference)) {
    first.reference = r[0] as number;
    first.candidate = c[0] as number;
  }
  for (let i = 0; i < length && !varies.reference; i++) varies.reference = r[i] !== first.reference;
  for (let i = 0; i < length && !varies.candidate; i++) varies.candidate = c[i] !== first.candidate;
}

/** Where a hardware or library that flushes subnormals would give zero: below the types' smallest normal number. */
function subnormalLimit(reference: TensorValue, candidate: TensorValue): number {
  const limits = [reference.dtype, candidate.dtype]
    .filter(isFloat)
    .map((dtype) => floatFormats[dtype].minNormal);
  // float16 beside a wider type has no say: what it cannot hold the wider type can.
  const wide = limits.filter((limit) => limit <= floatFormats.float32.minNormal);
  return Math.max(...(wide.length > 0 ? wide : limits));
}

const keptReference = new Float64Array(16384);
const keptCandidate = new Float64Array(16384);
const keptPositions = new Int32Array(16384);

/** Takes the ordinary elements out of a block, counts the others and reports those that disagree. */
function separate(
  reference: Float32Array | Float64Array,
  candidate: Float32Array | Float64Array,
  length: number,
  { flushLimit, fills, fillLimit }: { flushLimit: number; fills: number; fillLimit: number },
  counts: SpecialCounts,
  disagree: (position: number) => void,
): {
  reference: Float64Array;
  candidate: Float64Array;
  positions: Int32Array;
  length: number;
} {
  let kept = 0;
  for (let i = 0; i < length; i++) {
    const r = reference[i] as number;
    const c = candidate[i] as number;
    const ar = Math.abs(r);
    const ac = Math.abs(c);
    if (ar <= fills && ac < Infinity) {
      // One of them is zero and the other subnormal exactly when they differ and the larger is under the limit.
      const flushed = (r === 0 || c === 0) && r !== c && ar + ac < flushLimit;
      if (flushed) counts.flushed++;
      keptReference[kept] = r;
      keptCandidate[kept] = flushed ? r : c;
      keptPositions[kept++] = i;
    } else if (r !== r || c !== c) {
      if (r !== r) counts.nanReference++;
      if (c !== c) counts.nanCandidate++;
      if (ar === Infinity) counts.infReference++;
      if (ac === Infinity) counts.infCandidate++;
      if (r !== r && c !== c) counts.nanBoth++;
      else {
        counts.nanDisagree++;
        disagree(i);
      }
    } else if (ar === Infinity || ac === Infinity) {
      if (ar === Infinity) counts.infReference++;
      if (ac === Infinity) counts.infCandidate++;
      if (r !== c) {
        counts.infDisagree++;
        disagree(i);
      }
    } else {
      counts.maskedFill++;
      if (!(ac >= fillLimit && r > 0 === c > 0)) {
        counts.maskedFillDisagree++;
        disagree(i);
      }
    }
  }
  return {
    reference: keptReference,
    candidate: keptCandidate,
    positions: keptPositions,
    length: kept,
  };
}
