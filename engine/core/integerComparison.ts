import type { Alignment } from "./alignment.js";
import { visitPieces, referenceOffset } from "./blocks.js";
import { elementArray, toBigInts } from "./dtypes.js";
import { binShift, drain, newFloatBins, type BinCounts } from "./floatBins.js";
import type { TensorValue } from "./tensorValue.js";
import { bar, newWorstList, offer, type WorstList } from "./worstElements.js";

export interface IntegerTotals {
  count: number;
  mismatches: number;
  absolute: number;
  squared: number;
  maxAbsolute: number;
  referenceSquared: number;
  readonly bins: BinCounts;
  readonly worst: WorstList;
}

/**
 * Compares integers and booleans element by element, exactly: 64-bit types as BigInt. A difference is given as a float64
 * and therefore rounded beyond 2^53, but never to 0.
 */
export function compareIntegers(
  reference: TensorValue,
  candidate: TensorValue,
  alignment: Alignment,
  worst: number,
): IntegerTotals {
  const totals = {
    count: alignment.count,
    mismatches: 0,
    absolute: 0,
    squared: 0,
    maxAbsolute: 0,
    referenceSquared: 0,
    worst: newWorstList(worst),
  };
  const r = integersOf(reference);
  const c = integersOf(candidate);
  visitPieces(
    alignment.runs,
    (piece) => {
      const segments = [{ at: 0, reference: piece.reference }];
      for (let i = 0; i < piece.length; i++) {
        const a = r[piece.reference + i] as number | bigint;
        const b = c[piece.candidate + i] as number | bigint;
        totals.referenceSquared += Number(a) * Number(a);
        if (typeof a === typeof b ? a === b : BigInt(a) === BigInt(b)) continue;
        const d =
          typeof a === "number" && typeof b === "number" ? b - a : Number(BigInt(b) - BigInt(a));
        const absolute = Math.abs(d);
        totals.mismatches++;
        totals.absolute += absolute;
        totals.squared += d * d;
        totals.maxAbsolute = Math.max(totals.maxAbsolute, absolute);
        countBin(absolute);
        if (absolute > bar(totals.worst)) {
          offer(totals.worst, {
            offset: referenceOffset(segments, i),
            reference: Number(a),
            candidate: Number(b),
            absolute,
          });
        }
      }
    },
    () => undefined,
  );
  bins.even[0] = totals.count - totals.mismatches;
  return { ...totals, bins: drain(bins) };
}

function integersOf(value: TensorValue): ArrayLike<number> | ArrayLike<bigint> {
  if (value.dtype === "int64" || value.dtype === "uint64") return toBigInts(value);
  const elements = elementArray(value) as ArrayLike<number>;
  return value.dtype === "bool"
    ? Uint8Array.from(elements, (bit) => (bit === 0 ? 0 : 1))
    : elements;
}

const bins = newFloatBins();
const double = new Float64Array(1);
const words = new Int32Array(double.buffer);

function countBin(absolute: number): void {
  double[0] = absolute;
  const bin = (words[1] as number) >>> binShift;
  bins.odd[bin] = (bins.odd[bin] as number) + 1;
}
