import { describe, expect, it } from "vitest";
import type { Layout } from "../../../engine/protocol/tensor.js";
import { noise, range } from "../tensors.js";
import { at, build, cause, kind, padded, r, shape } from "./causeOf.js";

describe("a factor or a constant for each group", () => {
  const factor = (g: number): number => 1 + 0.37 * ((g * 7) % 5);

  it.each([
    ["batchScale", "sample", (b: number) => factor(b)],
    ["groupScale", "position", (_: number, n: number) => factor(n)],
    ["groupScale", "feature", (_: number, _n: number, d: number) => factor(d)],
    ["rowScale", "row", (b: number, n: number) => 1 + 0.1 * (noise(60, 4)[b * 10 + n] ?? 0)],
  ])("%s by %s", (name, unit, f) => {
    const scaled = build(shape, (b, n, d) => at(shape, r, b, n, d) * f(b, n, d));
    const found = cause(shape, r, scaled, { referenceLayout: padded });
    expect(found).toMatchObject({ kind: name, evidence: { unit } });
  });

  it("by the samples' lengths", () => {
    const scaled = build(
      shape,
      (b, n, d) => (at(shape, r, b, n, d) * 10) / (padded.lengths[b] as number),
    );
    const found = cause(shape, r, scaled, { referenceLayout: padded });
    expect(found?.text).toContain("in proportion to 1/length");
  });

  it("heads, and a factor in some groups only", () => {
    const form = [4, 8, 5, 4];
    const layout: Layout = { ...padded, axes: [2], lengths: [5, 4, 3, 5] };
    const scaled = build(form, (b, h, n, d) => at(form, r, b, h, n, d) * (h === 3 ? 2 : 1));
    const found = cause(form, r, scaled, { referenceLayout: layout });
    expect(found).toMatchObject({
      kind: "groupScale",
      evidence: { unit: "head", scaled: 1, of: 8 },
    });
    expect(found?.text).toBe("looks scaled in 1 of 8 heads (by 2) and equal elsewhere");
  });

  it("a bias vector, and rows of their own shift", () => {
    const bias = build(shape, (b, n, d) => at(shape, r, b, n, d) + factor(d));
    expect(kind(shape, r, bias)).toBe("bias");
    const shifted = build(
      shape,
      (b, n, d) => at(shape, r, b, n, d) + (noise(40, 2)[b * 10 + n] ?? 0),
    );
    expect(cause(shape, r, shifted)).toMatchObject({
      kind: "groupOffset",
      evidence: { unit: "row" },
    });
  });

  it("whole heads or rows that were never written", () => {
    const rows = build([40, 16], (n, d) => (n > 30 ? 0 : at([40, 16], r, n, d)));
    const found = cause([40, 16], r, rows);
    expect(found).toMatchObject({ kind: "zero", evidence: { unit: "row", zero: 9, of: 40 } });
    const sparse = r.map((x, i) => (i % 5 === 0 ? 0 : x));
    expect(kind([40, 16], r, sparse)).toBeUndefined();
  });

  it("groups of two elements are explained by nothing", () => {
    const pairs = noise(64).map((x, i) => x * (1 + (noise(32, 7)[i >> 1] ?? 0)));
    expect(kind([32, 2], noise(64), pairs)).toBeUndefined();
  });
});

describe("another eps of a normalisation", () => {
  const rows = 12;
  const width = 32;
  const x = build([rows, width], (n, d) => 10 ** (-2 + n / 6) * (noise(width, n + 1)[d] ?? 0));
  const normalised = (eps: number, how: "layer" | "l2"): number[] =>
    build([rows, width], (n, d) => {
      const row = x.slice(n * width, (n + 1) * width);
      const mean = how === "layer" ? row.reduce((a, b) => a + b, 0) / width : 0;
      const sum = row.reduce((a, b) => a + (b - mean) ** 2, 0);
      return Math.fround(
        ((row[d] ?? 0) - mean) / Math.sqrt((how === "layer" ? sum / width : sum) + eps),
      );
    });

  it.each([
    ["layer", 1e-5, 1e-3, 100],
    ["layer", 1e-5, 1e-6, 0.1],
    ["l2", 1e-4, 1e-3, 10],
  ] as const)("%s %d → %d", (how, reference, candidate, ratio) => {
    const found = cause([rows, width], normalised(reference, how), normalised(candidate, how));
    expect(found).toMatchObject({ kind: "eps" });
    const evidence = found?.evidence as { epsRatio: number };
    expect(evidence.epsRatio / ratio).toBeGreaterThan(0.8);
    expect(evidence.epsRatio / ratio).toBeLessThan(1.25);
  });

  it("is not any other factor of each row", () => {
    const one = normalised(1e-5, "layer");
    const other = one.map((v, i) => v * (1 + 0.3 * (noise(rows, 9)[Math.floor(i / width)] ?? 0)));
    expect(kind([rows, width], one, other)).toBe("rowScale");
  });
});

describe("integers", () => {
  const form = [40, 16];
  const buckets = range(640).map((i) => Math.floor(Math.log(1 + i * 37) / 0.301));
  const other = (f: (x: number, i: number) => number) =>
    cause(form, buckets, buckets.map(f), { dtype: "int64" });

  it("off by one everywhere", () => {
    expect(other((x) => x + 1)).toMatchObject({ kind: "integerOffset", confidence: "certain" });
    expect(other((x) => x + 1)?.text).toBe(
      "has 640 of 640 elements that differ: every element is 1 more, off by one",
    );
  });

  it("another base of the logarithm", () => {
    const base = (log: (x: number) => number) =>
      range(640).map((i) => Math.floor(log(1 + i * 37) / 0.301));
    const found = cause(form, base(Math.log), base(Math.log2), { dtype: "int64" });
    expect(found).toMatchObject({ kind: "logBase", evidence: { base: "2", insteadOf: "e" } });
  });

  it("values at the boundary of a bucket", () => {
    expect(other((x, i) => (i % 50 === 3 ? x + 1 : x))).toMatchObject({ kind: "bucketBoundary" });
  });

  it("a mask inverted", () => {
    const mask = range(64).map((i) => (i % 3 === 0 ? 1 : 0));
    expect(
      kind(
        [8, 8],
        mask,
        mask.map((x) => 1 - x),
        { dtype: "bool" },
      ),
    ).toBe("inverted");
  });

  it("anything else is counted only", () => {
    const random = noise(640, 3).map((x) => Math.floor(50 * Math.abs(x)));
    expect(cause(form, buckets, random, { dtype: "int64" })?.kind).toBe("integers");
    expect(other((x, i) => (i % 50 === 3 ? x + 3 : x))?.text).toBe(
      "has 13 of 640 elements that differ",
    );
    expect(other((x, i) => (i % 3 === 0 ? x + 1 : x))?.kind).toBe("integers");
    expect(cause([3], [1, 2, 3], [2, 3, 4], { dtype: "int64" })?.kind).toBe("integers");
  });
});
