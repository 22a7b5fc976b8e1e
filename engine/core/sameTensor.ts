import { convertFloats } from "./conversions.js";
import { elementArray, isFloat, toBigInts, toFloat64 } from "./dtypes.js";
import { sameBytes } from "./integerComparison.js";
import { sameShape } from "./shapes.js";
import type { TensorValue } from "./tensorValue.js";

/**
 * Whether two tensors are the same input: equal shapes and equal values, whatever the width of their integers, floats
 * after rounding to the narrower of two types; or rows [ΣL, …] on one side that the other holds padded, as [B, N, …].
 * @returns how they are the same, or undefined.
 */
export function sameTensor(
  a: TensorValue,
  b: TensorValue,
): "equal" | "rounded" | "padded" | undefined {
  if (isFloat(a.dtype) !== isFloat(b.dtype)) return undefined;
  if (sameShape(a.shape, b.shape)) return sameValues(a, b);
  return isPadded(a, b) || isPadded(b, a) ? "padded" : undefined;
}

/** Whether a tensor's values say where it came from: at least two of them, and not all the same. */
export function isTelling(value: TensorValue): boolean {
  const elements = elementArray(value);
  if (elements.length < 2) return false;
  if (!isFloat(value.dtype)) return elements.some((v) => v !== elements[0]);
  const values = toFloat64(value);
  return values.some((v) => v !== values[0] && !(Number.isNaN(v) && Number.isNaN(values[0])));
}

function sameValues(a: TensorValue, b: TensorValue): "equal" | "rounded" | undefined {
  if (a.dtype === b.dtype && sameBytes(a.bytes, b.bytes)) return "equal";
  if (!isFloat(a.dtype)) return equalIntegers(toBigInts(a), toBigInts(b)) ? "equal" : undefined;
  const x = toFloat64(a);
  const y = toFloat64(b);
  if (a.dtype === b.dtype) return equalNumbers(x, y) ? "equal" : undefined;
  // float16 and bfloat16 are as wide as one another: either may be the rounded one.
  const isRounded = (wide: TensorValue, narrow: TensorValue, values: Float64Array): boolean =>
    wide.bytes.length >= narrow.bytes.length &&
    equalNumbers(values, toFloat64(convertFloats(wide, narrow.dtype)));
  return isRounded(a, b, y) || isRounded(b, a, x) ? "rounded" : undefined;
}

/**
 * Each sample's rows follow one another in `jagged`; `padded` has them at the start of its rows, and one value in all that
 * lies behind them. A row may look like padding, so that every split into samples is followed that fits.
 */
function isPadded(jagged: TensorValue, padded: TensorValue): boolean {
  const [batch = 0, width = 0, ...inner] = padded.shape;
  const [rows = 0, ...own] = jagged.shape;
  if (padded.shape.length !== jagged.shape.length + 1 || !sameShape(inner, own)) return false;
  if (rows === 0 || rows > batch * width) return false;
  const size = inner.reduce((product, n) => product * n, 1);
  const exact = !isFloat(jagged.dtype);
  const j = exact ? toBigInts(jagged) : toFloat64(jagged);
  const p = exact ? toBigInts(padded) : toFloat64(padded);
  const same = (a: number | bigint | undefined, b: number | bigint | undefined): boolean =>
    a === b || (Number.isNaN(a) && Number.isNaN(b));
  const equalRow = (row: number, at: number): boolean => {
    for (let i = 0; i < size; i++) if (!same(j[row * size + i], p[at * size + i])) return false;
    return true;
  };
  // Only the values that something is padded with can be a pad value: those of each sample's last row.
  const isPadding = (at: number, pad: number | bigint): boolean => {
    for (let i = 0; i < size; i++) if (!same(p[at * size + i], pad)) return false;
    return true;
  };
  const fitsWith = (pad: number | bigint | undefined): boolean => {
    let reached = new Set([0]);
    for (let sample = 0; sample < batch; sample++) {
      let behind = 0;
      while (
        pad !== undefined &&
        behind < width &&
        isPadding(sample * width + width - 1 - behind, pad)
      ) {
        behind++;
      }
      const next = new Set<number>();
      for (const start of reached) {
        for (let n = 0; n <= width && start + n <= rows; n++) {
          if (n >= width - behind) next.add(start + n);
          if (n === width || start + n === rows || !equalRow(start + n, sample * width + n)) break;
        }
      }
      reached = next;
    }
    return reached.has(rows);
  };
  const pads = new Set<number | bigint | undefined>([undefined]);
  for (let sample = 0; sample < batch; sample++) pads.add(p[(sample + 1) * width * size - 1]);
  return [...pads].some(fitsWith);
}

function equalIntegers(
  x: BigInt64Array | BigUint64Array,
  y: BigInt64Array | BigUint64Array,
): boolean {
  return (x as BigInt64Array).every((v, i) => v === y[i]);
}

function equalNumbers(x: Float64Array, y: Float64Array): boolean {
  return x.every((v, i) => v === y[i] || (Number.isNaN(v) && Number.isNaN(y[i])));
}
