import { fromFloat64 } from "../../engine/core/dtypes.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import type { DType } from "../../engine/protocol/tensor.js";

/** A tensor from numbers; float16 and bfloat16 are rounded. */
export function tensor(
  dtype: DType,
  shape: readonly number[],
  values: ArrayLike<number>,
): TensorValue {
  return { dtype, shape, bytes: fromFloat64(values, dtype) };
}

export function vector(values: readonly number[], dtype: DType = "float32"): TensorValue {
  return tensor(dtype, [values.length], values);
}

export function int64(values: readonly bigint[], dtype: "int64" | "uint64" = "int64"): TensorValue {
  const elements = dtype === "int64" ? BigInt64Array.from(values) : BigUint64Array.from(values);
  return {
    dtype,
    shape: [values.length],
    bytes: new Uint8Array(elements.buffer),
  };
}

/** 0, 1, 2, … */
export function range(count: number, from = 0): number[] {
  return Array.from({ length: count }, (_, i) => from + i);
}

/** Pseudo-random numbers in −1 … 1, the same every time. */
export function noise(count: number, seed = 1): number[] {
  let state = seed >>> 0 || 1;
  return Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}
