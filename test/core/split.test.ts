import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { relL2, splitDifference } from "../../engine/core/difference.js";
import { align } from "../../engine/core/layouts.js";
import { int64, noise, tensor, vector } from "./tensors.js";

const number = fc.double({ min: -100, max: 100, noNaN: true }).map((x) => Math.fround(x));
const triple = fc
  .array(fc.tuple(number, number, number), { minLength: 1, maxLength: 40 })
  .filter((rows) => rows.some(([r]) => Math.abs(r) > 1e-3));

describe("splitDifference", () => {
  it("splits the total element by element: total = introduced + inherited", () => {
    fc.assert(
      fc.property(triple, (rows) => {
        const [r, replayed, total] = [0, 1, 2].map((k) => rows.map((row) => row[k] as number));
        const split = splitDifference(vector(r ?? []), vector(replayed ?? []), vector(total ?? []));
        const norm = Math.sqrt(rows.reduce((sum, [a]) => sum + a * a, 0));
        let introduced = 0;
        let inherited = 0;
        let sum = 0;
        for (const [a, b, c] of rows) {
          introduced += (b - a) ** 2;
          inherited += (c - b) ** 2;
          sum += (b - a + (c - b)) ** 2;
        }
        expectNear(split.introduced, Math.sqrt(introduced) / norm);
        expectNear(split.inherited, Math.sqrt(inherited) / norm);
        expectNear(split.total, Math.sqrt(sum) / norm);
      }),
    );
  });

  it("says for a real op what it got wrong and what it was given", () => {
    const xr = noise(64, 1);
    const xc = xr.map((x) => x + 0.01);
    const right = (x: number) => 3 * x;
    const wrong = (x: number) => 3.3 * x;
    const r = vector(xr.map(right), "float64");
    const guilty = splitDifference(
      r,
      vector(xr.map(wrong), "float64"),
      vector(xr.map(wrong), "float64"),
    );
    expectNear(guilty.introduced, 0.1, 1e-12);
    expect(guilty.inherited).toBe(0);
    const innocent = splitDifference(r, r, vector(xc.map(right), "float64"));
    expect(innocent.introduced).toBe(0);
    expect(innocent.inherited).toBe(innocent.total);
    expect(innocent.total).toBeGreaterThan(0.01);
  });

  it("agrees with relL2 on jagged against padded", () => {
    const aligned = align(
      { shape: [5, 2], layout: { kind: "jagged", offsets: [0, 2, 5] } },
      { shape: [2, 4, 2] },
    );
    if (!aligned.ok) throw new Error(aligned.reason);
    const r = tensor("float32", [5, 2], noise(10, 1));
    const replayed = tensor("float16", [2, 4, 2], noise(16, 2));
    const total = tensor("float32", [2, 4, 2], noise(16, 3));
    const split = splitDifference(r, replayed, total, aligned.alignment);
    expectNear(split.total, relL2(r, total, aligned.alignment));
    expectNear(split.introduced, relL2(r, replayed, aligned.alignment));
  });

  it("is exact for 64-bit integers", () => {
    const big = 2n ** 60n;
    const split = splitDifference(int64([big]), int64([big + 1n]), int64([big + 1n]));
    expect(split.introduced).toBeGreaterThan(0);
    expect(split.inherited).toBe(0);
    expect(split.total).toBe(split.introduced);
  });

  it("is NaN where NaN or infinity appear, in the part that they appear in", () => {
    const r = vector([1, 2]);
    expect(splitDifference(r, vector([1, NaN]), r)).toEqual({
      total: 0,
      introduced: NaN,
      inherited: NaN,
    });
    expect(splitDifference(r, r, vector([1, Infinity]))).toEqual({
      total: NaN,
      introduced: 0,
      inherited: NaN,
    });
    const nan = vector([NaN, 2]);
    expect(splitDifference(nan, nan, nan).total).toBeNaN();
    expect(splitDifference(nan, nan, nan, undefined, { equalNan: true }).total).toBe(0);
    const fill = vector([-3e38, 2]);
    expect(splitDifference(fill, vector([-1e38, 2]), fill)).toEqual({
      total: 0,
      introduced: 0,
      inherited: 0,
    });
  });

  it("is NaN, and throws nothing, when shapes differ or Σr² = 0", () => {
    expect(splitDifference(vector([1]), vector([1, 2]), vector([1])).total).toBeNaN();
    expect(splitDifference(vector([0]), vector([1]), vector([1]))).toEqual({
      total: NaN,
      introduced: NaN,
      inherited: 0,
    });
  });
});

function expectNear(actual: number, expected: number, tolerance = 1e-12): void {
  expect(Math.abs(actual - expected)).toBeLessThanOrEqual(tolerance * Math.max(1, expected));
}
