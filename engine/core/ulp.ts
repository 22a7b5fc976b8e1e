import { floatBits, type FloatDType } from "./dtypes.js";

/**
 * Distances in units in the last place: |ord(c) − ord(r)|, where ord(x) is the number's bits if its sign is 0, else minus
 * the bits without the sign. Both zeros have ord 0.
 */
export interface UlpSums {
  max: number;
  sum: number;
  /** Elements that are zero on one side and subnormal on the other. */
  flushed: number;
}

/** Overwrites `into`; both arrays hold the bits of float32 numbers. */
export function ulp32(
  reference: Int32Array,
  candidate: Int32Array,
  length: number,
  into: UlpSums,
): void {
  let max = 0;
  let sum = 0;
  let flushed = 0;
  for (let i = 0; i < length; i++) {
    const r = reference[i] as number;
    const c = candidate[i] as number;
    const mr = r & 0x7fffffff;
    const mc = c & 0x7fffffff;
    // Which of two near numbers is larger cannot be predicted, so that must not be a branch.
    const ulp = (r ^ c) >= 0 ? Math.abs(mr - mc) : mr + mc;
    if (ulp > max) max = ulp;
    sum += ulp;
    if ((mr === 0 || mc === 0) && ulp > 0 && ulp < 0x00800000) flushed++;
  }
  into.max = max;
  into.sum = sum;
  into.flushed = flushed;
}

/** Overwrites `into` with the distances after rounding both sides to `dtype`. Exact up to 2^53. */
export function ulpOf(
  dtype: FloatDType,
  reference: Float64Array,
  candidate: Float64Array,
  length: number,
  into: UlpSums,
): void {
  if (dtype === "float32") {
    float32Reference.set(reference.subarray(0, length));
    float32Candidate.set(candidate.subarray(0, length));
    ulp32(float32ReferenceBits, float32CandidateBits, length, into);
    return;
  }
  let max = 0;
  let sum = 0;
  for (let i = 0; i < length; i++) {
    const r = reference[i] as number;
    const c = candidate[i] as number;
    const ulp =
      dtype === "float64"
        ? ulpDistance64(r, c)
        : Math.abs(ordinal16(c, dtype) - ordinal16(r, dtype));
    if (ulp > max) max = ulp;
    sum += ulp;
  }
  into.max = max;
  into.sum = sum;
  into.flushed = 0;
}

function ordinal16(x: number, dtype: "float16" | "bfloat16"): number {
  const bits = floatBits(x, dtype);
  return bits & 0x8000 ? -(bits & 0x7fff) : bits;
}

function ulpDistance64(r: number, c: number): number {
  pair[0] = r;
  pair[1] = c;
  const highR = (pairWords[1] as number) & 0x7fffffff;
  const highC = (pairWords[3] as number) & 0x7fffffff;
  const lowR = pairWords[0] as number;
  const lowC = pairWords[2] as number;
  const sameSign = ((pairWords[1] as number) ^ (pairWords[3] as number)) >>> 31 === 0;
  // High and low words are subtracted apart, so that near numbers lose nothing to the size of their bits.
  return sameSign
    ? Math.abs((highC - highR) * 2 ** 32 + (lowC - lowR))
    : (highC + highR) * 2 ** 32 + (lowC + lowR);
}

const float32Reference = new Float32Array(16384);
const float32Candidate = new Float32Array(16384);
const float32ReferenceBits = new Int32Array(float32Reference.buffer);
const float32CandidateBits = new Int32Array(float32Candidate.buffer);
const pair = new Float64Array(2);
const pairWords = new Uint32Array(pair.buffer);
