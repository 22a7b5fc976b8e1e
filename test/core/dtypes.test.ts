import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  elementCount,
  elementSize,
  floatBits,
  fromFloat64,
  isComplete,
  toBigInts,
  toFloat64,
} from "../../engine/core/dtypes.js";
import { int64, vector } from "./tensors.js";

const finite16 = (exponentMask: number) =>
  fc.integer({ min: 0, max: 0xffff }).filter((bits) => (bits & exponentMask) !== exponentMask);

function decode(dtype: "float16" | "bfloat16", bits: number): number {
  return toFloat64({
    dtype,
    shape: [1],
    bytes: Uint8Array.of(bits & 255, bits >> 8),
  })[0] as number;
}

describe("float16 and bfloat16", () => {
  it.each([
    ["float16", 0x3c00, 1],
    ["float16", 0xc000, -2],
    ["float16", 0x7bff, 65504],
    ["float16", 0x0001, 2 ** -24],
    ["float16", 0x7c00, Infinity],
    ["float16", 0xfc00, -Infinity],
    ["float16", 0x7e00, NaN],
    ["float16", 0x8000, -0],
    ["bfloat16", 0x3f80, 1],
    ["bfloat16", 0xc049, -3.140625],
    ["bfloat16", 0x0001, 2 ** -133],
    ["bfloat16", 0x7f80, Infinity],
    ["bfloat16", 0x7fc0, NaN],
  ] as const)("decodes %s %i as %f", (dtype, bits, value) => {
    expect(decode(dtype, bits)).toBe(value);
    if (!Number.isNaN(value)) expect(floatBits(value, dtype)).toBe(bits);
  });

  it("bfloat16 is the upper half of float32", () => {
    fc.assert(
      fc.property(finite16(0x7f80), (bits) => {
        const float = new Float32Array(Uint32Array.of(bits << 16).buffer)[0];
        expect(decode("bfloat16", bits)).toBe(float);
      }),
    );
  });

  it.each([
    ["float16", 0x7c00],
    ["bfloat16", 0x7f80],
  ] as const)("%s survives a round trip through float64", (dtype, exponentMask) => {
    fc.assert(
      fc.property(finite16(exponentMask), (bits) => {
        expect(floatBits(decode(dtype, bits), dtype)).toBe(bits);
      }),
    );
  });

  it.each([
    ["float16", 0x7c00],
    ["bfloat16", 0x7f80],
  ] as const)("%s rounds to the nearest number, ties to even", (dtype, exponentMask) => {
    const lower = finite16(exponentMask).filter(
      (bits) => ((bits + 1) & exponentMask) !== exponentMask && (bits & 0x7fff) < 0x7fff,
    );
    fc.assert(
      fc.property(lower, fc.double({ min: 0, max: 1, noNaN: true }), (bits, share) => {
        const a = decode(dtype, bits);
        const b = decode(dtype, bits + 1);
        const x = a + (b - a) * share;
        const nearer =
          Math.abs(x - a) === Math.abs(b - x)
            ? bits + (bits % 2)
            : Math.abs(x - a) < Math.abs(b - x)
              ? bits
              : bits + 1;
        expect(floatBits(x, dtype)).toBe(nearer);
        const middle = (a + b) / 2;
        expect(floatBits(middle, dtype)).toBe(bits + (bits % 2));
      }),
    );
  });

  it("overflows to infinity half a step above the largest number", () => {
    expect(floatBits(65519.99, "float16")).toBe(0x7bff);
    expect(floatBits(65520, "float16")).toBe(0x7c00);
    expect(floatBits(-1e300, "bfloat16")).toBe(0xff80);
  });
});

describe("every other type", () => {
  it.each([
    ["float64", [0.1, -1e300, NaN, -Infinity, -0]],
    ["float32", [0.5, -3, NaN, Infinity, -0]],
    ["int32", [2147483647, -2147483648, 0]],
    ["int16", [32767, -32768]],
    ["int8", [127, -128]],
    ["uint32", [4294967295, 0]],
    ["uint16", [65535]],
    ["uint8", [255]],
    ["bool", [1, 0]],
  ] as const)("%s keeps its values", (dtype, values) => {
    expect([...toFloat64(vector(values, dtype))]).toEqual([...values]);
    expect(fromFloat64(values, dtype)).toHaveLength(values.length * elementSize[dtype]);
  });

  it("int64 and uint64 are exact as BigInt", () => {
    const values = [9223372036854775807n, -9223372036854775808n, 9007199254740993n];
    expect([...toBigInts(int64(values))]).toEqual(values);
    expect([...toBigInts(int64([18446744073709551615n], "uint64"))]).toEqual([
      18446744073709551615n,
    ]);
    expect([...toBigInts(vector([-5], "int8"))]).toEqual([-5n]);
  });

  it("bytes at any offset of their buffer are read", () => {
    const shifted = new Uint8Array(9).subarray(1);
    shifted.set(vector([1.5, -2]).bytes);
    expect([...toFloat64({ dtype: "float32", shape: [2], bytes: shifted })]).toEqual([1.5, -2]);
  });
});

describe("sizes", () => {
  it("a 0-d tensor has one element, an axis of 0 leaves none", () => {
    expect(elementCount([])).toBe(1);
    expect(elementCount([3, 0, 2])).toBe(0);
  });

  it("bytes must be exactly those of type and shape", () => {
    expect(isComplete(vector([1, 2]))).toBe(true);
    expect(isComplete({ ...vector([1, 2]), shape: [3] })).toBe(false);
    expect(isComplete({ ...vector([1, 2]), shape: [-2] })).toBe(false);
  });
});
