import type { Alignment } from "./alignment.js";
import { visitPieces, referenceOffset } from "./blocks.js";
import { elementArray, elementSize, float64Reader, is64BitInteger, toBigInts } from "./dtypes.js";
import { binShift, drain, newFloatBins, type BinCounts } from "./floatBins.js";
import type { TensorValue } from "./tensorValue.js";
import { bar, newWorstList, offer, type WorstList } from "./worstElements.js";

/** Whether all valid elements are equal, exactly; much faster than comparing them. `undefined` where that cannot be told so. */
export function areEqualIntegers(
  reference: TensorValue,
  candidate: TensorValue,
  { runs }: Alignment,
): boolean | undefined {
  const [r, c] = [reference, candidate];
  if (r.dtype === c.dtype) {
    const size = elementSize[r.dtype];
    const part = ({ bytes }: TensorValue, start: number, length: number): Uint8Array =>
      bytes.subarray(start * size, (start + length) * size);
    return runs.every(({ reference: a, candidate: b, length }) =>
      sameBytes(part(r, a, length), part(c, b, length)),
    );
  }
  // A number beyond 2^53 rounds to one that no type of 32 bits or less has.
  if (is64BitInteger(r.dtype) && is64BitInteger(c.dtype)) return undefined;
  const [readR, readC] = [float64Reader(r), float64Reader(c)];
  const chunk = 4096;
  const [x, y] = [new Float64Array(chunk), new Float64Array(chunk)];
  return runs.every((run) => {
    for (let done = 0; done < run.length; done += chunk) {
      const length = Math.min(chunk, run.length - done);
      readR(run.reference + done, length, x, 0);
      readC(run.candidate + done, length, y, 0);
      for (let i = 0; i < length; i++) if (x[i] !== y[i]) return false;
    }
    return true;
  });
}

/** Four bytes at a time where they lie so. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  const words = ((a.byteOffset | b.byteOffset) & 3) === 0 ? a.length >> 2 : 0;
  const x = new Int32Array(a.buffer, words > 0 ? a.byteOffset : 0, words);
  const y = new Int32Array(b.buffer, words > 0 ? b.byteOffset : 0, words);
  for (let i = 0; i < words; i++) if (x[i] !== y[i]) return false;
  for (let i = words << 2; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

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
