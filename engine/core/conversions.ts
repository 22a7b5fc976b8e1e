import type { DType } from "../protocol/tensor.js";
import {
  floatFormats,
  fromFloat64,
  is64BitInteger,
  isFloat,
  toBigInts,
  toFloat64,
} from "./dtypes.js";
import type { TensorValue } from "./tensorValue.js";

/** The same values in another float type, rounded to nearest; tensors that hold no floats stay as they are. */
export function convertFloats(value: TensorValue, dtype: DType): TensorValue {
  if (value.dtype === dtype || !isFloat(value.dtype) || !isFloat(dtype)) return value;
  const values = toFloat64(value);
  const bytes =
    dtype === "float64"
      ? new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
      : fromFloat64(values, dtype);
  return { dtype, shape: value.shape, bytes };
}

/** The same integers in another integer type; undefined when one of them does not fit or a side holds no integers. */
export function convertIntegers(value: TensorValue, dtype: DType): TensorValue | undefined {
  if (value.dtype === dtype) return value;
  if ([value.dtype, dtype].some((type) => isFloat(type) || type === "bool")) return undefined;
  const from = toBigInts(value);
  if (is64BitInteger(dtype)) {
    if (dtype === "uint64" && from.some((x) => x < 0n)) return undefined;
    if (dtype === "int64" && from.some((x) => x > 9223372036854775807n)) return undefined;
    const bytes = new Uint8Array(from.buffer.slice(0), from.byteOffset, from.byteLength);
    return { dtype, shape: value.shape, bytes };
  }
  const bits = BigInt(dtype.replace(/\D/g, ""));
  const signed = dtype.startsWith("int");
  const low = signed ? -(1n << (bits - 1n)) : 0n;
  const high = signed ? (1n << (bits - 1n)) - 1n : (1n << bits) - 1n;
  if (from.some((x) => x < low || x > high)) return undefined;
  return {
    dtype,
    shape: value.shape,
    bytes: fromFloat64(Float64Array.from(from, Number), dtype),
  };
}

/**
 * As `convertFloats`, but what is finite stays finite: a masked fill such as float32's lowest number is the narrower
 * type's lowest on a side that computes in it, and −Inf in its place would be something that this side never holds.
 */
export function convertWithinRange(value: TensorValue, dtype: DType): TensorValue {
  if (value.dtype === dtype || !isFloat(value.dtype) || !isFloat(dtype)) return value;
  const { max } = floatFormats[dtype];
  const values = toFloat64(value).map((x) =>
    Math.abs(x) > max && Math.abs(x) < Infinity ? Math.sign(x) * max : x,
  );
  return { dtype, shape: value.shape, bytes: fromFloat64(values, dtype) };
}
