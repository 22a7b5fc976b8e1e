import { expect } from "vitest";
import type { Values } from "./runTrace.js";

/** Equal type, shape and elements; NaN equals NaN and −0 equals 0. bfloat16 leaves the runtime as float32. */
export function expectSame(actual: Values | undefined, expected: Values): void {
  expectClose(actual, expected, 0);
}

/** Equal type and shape, elements within a relative tolerance. */
export function expectClose(
  actual: Values | undefined,
  expected: Values,
  relative: number,
  absolute = 0,
): void {
  const dtype = expected.dtype === "bfloat16" ? "float32" : expected.dtype;
  expect({ dtype: actual?.dtype, shape: actual?.shape }).toEqual({
    dtype,
    shape: expected.shape,
  });
  const wrong = expected.data.flatMap((value, index) => {
    const got = actual?.data[index] as number;
    const same =
      got === value ||
      (Number.isNaN(got) && Number.isNaN(value)) ||
      Math.abs(got - value) <= absolute + relative * Math.abs(value);
    return same ? [] : [{ index, got, value }];
  });
  expect(wrong).toEqual([]);
  expect(actual?.data.length).toBe(expected.data.length);
}

/** What one rounding to a type may cost, relative to the value. */
export function tolerance(dtype: string, float32: number): number {
  return dtype === "float16" ? 1e-3 : dtype === "bfloat16" ? 8e-3 : float32;
}
