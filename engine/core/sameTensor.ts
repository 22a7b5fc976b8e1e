import { convertFloats } from "./conversions.js";
import { is64BitInteger, isFloat, toFloat64 } from "./dtypes.js";
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

/** A tensor that says nothing about where it came from: all its elements are equal, or there is at most one. */
export function isTelling(value: TensorValue): boolean {
  const values = toFloat64(value);
  return values.length > 1 && values.some((v) => v !== values[0]);
}

function sameValues(a: TensorValue, b: TensorValue): "equal" | "rounded" | undefined {
  if (a.dtype === b.dtype && a.bytes.every((byte, i) => byte === b.bytes[i])) return "equal";
  if (a.dtype === b.dtype && is64BitInteger(a.dtype)) return undefined;
  const x = toFloat64(a);
  const y = toFloat64(b);
  if (!isFloat(a.dtype) || a.dtype === b.dtype) return equalNumbers(x, y) ? "equal" : undefined;
  const narrower = a.bytes.length < b.bytes.length ? a : b;
  const wider = narrower === a ? b : a;
  const rounded = toFloat64(convertFloats(wider, narrower.dtype));
  return equalNumbers(toFloat64(narrower), rounded) ? "rounded" : undefined;
}

/** Each sample's rows follow one another in `jagged`; `padded` has them at the start of its rows. */
function isPadded(jagged: TensorValue, padded: TensorValue): boolean {
  const [batch = 0, width = 0, ...inner] = padded.shape;
  const [rows = 0, ...own] = jagged.shape;
  if (padded.shape.length !== jagged.shape.length + 1 || !sameShape(inner, own)) return false;
  if (rows === 0 || rows > batch * width) return false;
  const size = inner.reduce((product, n) => product * n, 1);
  const j = toFloat64(jagged);
  const p = toFloat64(padded);
  const equalRow = (row: number, at: number): boolean => {
    for (let i = 0; i < size; i++) if (j[row * size + i] !== p[at * size + i]) return false;
    return true;
  };
  let row = 0;
  for (let sample = 0; sample < batch; sample++) {
    for (let n = 0; n < width && row < rows && equalRow(row, sample * width + n); n++) row++;
  }
  return row === rows;
}

function equalNumbers(x: Float64Array, y: Float64Array): boolean {
  return x.every((v, i) => v === y[i] || (Number.isNaN(v) && Number.isNaN(y[i])));
}
