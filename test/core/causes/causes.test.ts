import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { noise, range } from "../tensors.js";
import { at, build, cause, count, jagged, kind, padded, r, rounded, shape } from "./causeOf.js";

describe("look-alikes are not named", () => {
  it.each([
    ["nothing differs", shape, r, r],
    ["unrelated values", shape, r, noise(count(shape), 9)],
    ["random noise of one percent", shape, r, r.map((x, i) => x + 0.01 * (noise(640, 3)[i] ?? 0))],
    ["rounding noise", shape, r, r.map((x, i) => x * (1 + 1e-6 * (noise(640, 4)[i] ?? 0)))],
    ["one element", shape, r, r.map((x, i) => (i === 123 ? x + 1 : x))],
    ["an empty tensor", [0, 4], [], []],
    ["a single element", [1], [2], [3]],
    ["a nonlinear function", shape, r, r.map(Math.tanh)],
    [
      "two scattered elements of a matrix",
      [8, 8],
      noise(64),
      noise(64).map((x, i) => (i === 3 || i === 30 ? 9 : x)),
    ],
    ["a tensor of four numbers", [2, 2], [1, 2, 3, 4], [2, 1, 4, 3.5]],
  ] as const)("%s", (_, form, reference, candidate) => {
    expect(cause(form, reference, candidate)).toBeUndefined();
  });

  it("scattered and general noise of any size, in tensors of any shape", () => {
    const anyShape = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 4 });
    const property = fc.property(
      anyShape,
      fc.integer({ min: 1, max: 2 ** 31 }),
      fc.constantFrom(1e-6, 1e-2, 1),
      fc.constantFrom(0.1, 0.3, 1),
      (form, seed, size, share) => {
        const values = noise(count(form), seed);
        const added = noise(count(form), seed + 7919);
        const hits = noise(count(form), seed + 104729);
        const other = values.map((x, i) =>
          Math.abs(hits[i] ?? 0) < share ? x + size * (added[i] ?? 0) : x,
        );
        expect(cause(form, values, other)).toBeUndefined();
      },
    );
    fc.assert(property, { seed: 5, numRuns: 1000 });
  });

  it("a factor or a shift of three numbers, which fit by chance", () => {
    expect(cause([3], [1, 2, 3], [2, 4, 6])).toBeUndefined();
    expect(cause([3], [1, 2, 4], [2, 3, 5])).toBeUndefined();
    expect(cause([6], [0, 0, 5, 0, 0, 0], [0, 0, 4, 0, 0, 0])).toBeUndefined();
    const oneHot = build([8, 6], (n, d) => (n % 6 === d ? 1 : 0));
    expect(
      cause(
        [8, 6],
        oneHot,
        oneHot.map((x, i) => (i < 18 ? x * 0.9 : x)),
      ),
    ).toBeUndefined();
  });

  it("with layouts either", () => {
    const other = r.map((x, i) => x + 0.1 * (noise(640, 8)[i] ?? 0));
    expect(cause(shape, r, other, { referenceLayout: padded })).toBeUndefined();
    expect(cause([40, 16], r, other, { referenceLayout: jagged })).toBeUndefined();
    expect(cause(shape, r, other, { lengths: [10, 7, 4, 9] })).toBeUndefined();
  });

  it("constants have no scale, no bias and no order", () => {
    const ones = range(640).map(() => 1);
    const twos = ones.map(() => 2);
    expect(cause(shape, ones, twos)).toMatchObject({
      kind: "constant",
      text: "is 2 everywhere, where the reference is 1 everywhere",
      confidence: "certain",
    });
    expect(kind(shape, r, twos)).toBe("constant");
  });
});

describe("a function of each element", () => {
  it.each([
    ["a ratio of small numbers", 9 / 8, "1.12500 (9/8) times"],
    ["one over a size", 1 / 10, "0.100000 (1/10), 1/N of an axis with N = 10, times"],
    ["a size", 10, "10.0000, N of an axis with N = 10, times"],
    ["one over a root", 1 / Math.sqrt(10), "0.316228, 1/√d of an axis with d = 10, times"],
    ["a root", 4, "4.00000, N of an axis with N = 4 or √d of an axis with d = 16, times"],
    ["a number of no meaning", 1.23456, "every element is 1.23456 times the reference's"],
  ])("scale by %s", (_, factor, text) => {
    const found = cause(
      shape,
      r,
      r.map((x) => x * factor),
    );
    expect(found).toMatchObject({ kind: "scale", confidence: "likely" });
    expect(found?.text).toContain(text);
  });

  it("scale by less than six digits show", () => {
    const found = cause(
      shape,
      r,
      r.map((x) => x * (1 + 5e-6)),
    );
    expect(found?.text).toContain("every element is (1 + 0.00000500");
    expect(found?.confidence).toBe("possible");
  });

  it("does not name sizes for 2 and 1/2, which have many reasons", () => {
    const found = cause(
      [2, 4, 80],
      r,
      r.map((x) => x / 2),
    );
    expect(found?.text).toBe(
      "looks like a scale: every element is 0.500000 (1/2) times the reference's",
    );
  });

  it.each([
    ["sign", (x: number) => -x],
    ["offset", (x: number) => x + 0.25],
    ["absolute", Math.abs],
    ["relu", (x: number) => Math.max(x, 0)],
    ["clip", (x: number) => Math.min(x, 0.5)],
    ["clip", (x: number) => Math.max(x, -0.5)],
    ["zero", () => 0],
  ])("%s", (name, f) => {
    expect(kind(shape, r, r.map(f))).toBe(name);
    expect(kind(shape, r, r.map(f), { referenceLayout: padded })).toBe(name);
  });

  it("a leaky ReLU is no ReLU, and the extremes of noise are no clip", () => {
    expect(
      kind(
        shape,
        r,
        r.map((x) => (x < 0 ? 0.1 * x : x)),
      ),
    ).toBeUndefined();
    const top = Math.max(...r);
    expect(
      kind(
        shape,
        r,
        r.map((x) => (x === top ? 0.9 * x : x)),
      ),
    ).toBeUndefined();
  });

  it("padding takes no part", () => {
    const spoilt = build(shape, (b, n, d) =>
      n < (padded.lengths[b] as number) ? -at(shape, r, b, n, d) : 3,
    );
    expect(kind(shape, r, spoilt, { referenceLayout: padded })).toBe("sign");
    expect(kind(shape, r, spoilt)).toBeUndefined();
  });

  it("overflow, and that it is float16's", () => {
    const large = r.map((x) => x * 1e5);
    const half = Array.from(rounded(large, "float16"));
    expect(cause(shape, large, half)).toMatchObject({ kind: "overflow", confidence: "certain" });
    expect(cause(shape, large, half)?.text).toContain("65504");
    const nan = cause(
      shape,
      r,
      r.map((x, i) => (i === 3 ? NaN : x)),
    );
    expect(nan?.text).toBe("1 elements are NaN or infinite where the reference is finite");
  });
});

describe("rounding to a narrower type", () => {
  it.each(["bfloat16", "float16"] as const)("%s", (dtype) => {
    expect(cause(shape, r, rounded(r, dtype))).toMatchObject({
      kind: "rounding",
      confidence: "likely",
      evidence: { type: dtype },
    });
  });

  it("TF32 keeps the range of float32", () => {
    const large = r.map((x) => Math.fround(x * 1e9));
    const tf32 = large.map((x) => {
      const unit = 2 ** (Math.floor(Math.log2(Math.abs(x))) - 10);
      return Math.round(x / unit) * unit;
    });
    expect(cause(shape, large, tf32)?.evidence).toMatchObject({ type: "TF32" });
  });

  it("is not what short numbers or noise of its size are", () => {
    const whole = range(640).map((i) => i % 50);
    expect(
      kind(
        shape,
        whole,
        whole.map((x, i) => (i % 7 === 0 ? x + 1 : x)),
      ),
    ).not.toBe("rounding");
    const noisy = r.map((x, i) => x * (1 + 2e-3 * (noise(640, 6)[i] ?? 0)));
    expect(kind(shape, r, noisy)).toBeUndefined();
    const wrong = rounded(
      r.map((x) => x * 1.1 + 0.03),
      "bfloat16",
    );
    expect(kind(shape, r, wrong)).not.toBe("rounding");
  });
});
