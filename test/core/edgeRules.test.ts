import { describe, expect, it } from "vitest";
import { compareTensors, type FindingCode } from "../../engine/core/compare.js";
import { relL2 } from "../../engine/core/difference.js";
import { align } from "../../engine/core/layouts.js";
import { int64, range, tensor, vector } from "./tensors.js";

/** Edge rules 1 to 6 of the numerics contract: single elements and their types. */

function codes(...args: Parameters<typeof compareTensors>): FindingCode[] {
  return compareTensors(...args).findings.map((finding) => finding.code);
}

function errors(...args: Parameters<typeof compareTensors>): FindingCode[] {
  return compareTensors(...args)
    .findings.filter((finding) => finding.severity === "error")
    .map((finding) => finding.code);
}

describe("rule 1, shape", () => {
  it("a mismatch is an error, not an exception, and no metric survives it", () => {
    const result = compareTensors(tensor("float32", [2, 3], range(6)), vector(range(6)));
    expect(result.findings.map((finding) => finding.code)).toEqual(["shape-mismatch"]);
    expect(result.findings[0]?.severity).toBe("error");
    expect(result.metrics).toEqual({});
    expect(result.allclose).toBe(false);
    expect(relL2(tensor("float32", [2, 3], range(6)), vector(range(6)))).toBeNaN();
  });

  it("never broadcasts and never takes the same number of elements for a match", () => {
    const dense = { kind: "dense" } as const;
    for (const [r, c] of [
      [
        [4, 6],
        [6, 4],
      ],
      [[4, 6], [24]],
      [
        [4, 6],
        [1, 4, 6],
      ],
      [
        [4, 6],
        [1, 6],
      ],
      [
        [4, 6],
        [4, 1],
      ],
      [
        [1, 6],
        [4, 6],
      ],
      [[6], [4, 6]],
      [
        [2, 3, 4],
        [3, 2, 4],
      ],
    ] as const) {
      expect(align({ shape: r, layout: dense }, { shape: c })).toMatchObject({
        ok: false,
      });
    }
  });

  it("accepts only a permutation that is declared", () => {
    const r = { shape: [2, 3], layout: { kind: "dense" } as const };
    expect(align(r, { shape: [3, 2] }).ok).toBe(false);
    const aligned = align(r, { shape: [3, 2] }, { permutation: [1, 0] });
    if (!aligned.ok) throw new Error(aligned.reason);
    const c = tensor("float32", [3, 2], [0, 3, 1, 4, 2, 5]);
    expect(relL2(tensor("float32", [2, 3], range(6)), c, aligned.alignment)).toBe(0);
  });

  it("reports bytes that do not fill the shape and runs that leave the tensor", () => {
    const short = { ...vector([1, 2]), shape: [3] };
    expect(codes(vector([1, 2, 3]), short)).toEqual(["incomplete-tensor"]);
    const runs = [{ reference: 0, candidate: 1, length: 3 }];
    const alignment = { runs, count: 3, transform: "" };
    expect(codes(vector([1, 2, 3]), vector([1, 2, 3]), { alignment })).toEqual([
      "alignment-out-of-range",
    ]);
  });
});

describe("rule 2, dtype", () => {
  it("widens both exactly and warns of the mismatch", () => {
    const result = compareTensors(vector([0.1, 1]), vector([0.1, 1], "float64"));
    expect(result.findings).toMatchObject([{ code: "dtype-mismatch", severity: "warning" }]);
    expect(result.metrics.maxAbs).toBe(Math.fround(0.1) - 0.1);
  });

  it("compares int64 and uint64 exactly beyond 2^53", () => {
    const big = 2n ** 60n;
    const result = compareTensors(int64([big, 5n]), int64([big + 1n, 5n]));
    expect(result.metrics).toMatchObject({ mismatches: 1, maxAbs: 1 });
    expect(result.worst).toMatchObject([{ index: [0], difference: 1 }]);
    expect(relL2(int64([big]), int64([big + 1n]))).toBeGreaterThan(0);
  });

  it("knows that int32 MAX and MIN differ by 4294967295", () => {
    const { metrics } = compareTensors(
      vector([2147483647], "int32"),
      vector([-2147483648], "int32"),
    );
    expect(metrics.maxAbs).toBe(4294967295);
  });

  it("knows that uint64 1 and 2 differ by 1, either way round, and that uint64 does not wrap", () => {
    const one = int64([1n], "uint64");
    const two = int64([2n], "uint64");
    expect(compareTensors(one, two).metrics.maxAbs).toBe(1);
    expect(compareTensors(two, one).metrics.maxAbs).toBe(1);
    const top = int64([2n ** 64n - 1n], "uint64");
    expect(compareTensors(top, int64([-1n])).metrics.mismatches).toBe(1);
    expect(compareTensors(one, int64([1n])).metrics.mismatches).toBe(0);
    expect(compareTensors(one, vector([1], "int32")).metrics.mismatches).toBe(0);
  });

  it("says when 64-bit integers had to be rounded to meet a float", () => {
    expect(codes(vector([1, 2]), int64([1n, 2n]))).toEqual(["dtype-mismatch", "rounded-integer"]);
  });
});

describe("rule 3, bool and index tensors", () => {
  it.each(["bool", "uint8", "int32", "int64"] as const)(
    "%s: counts mismatches, and gives no relative error and no cosine",
    (dtype) => {
      const result = compareTensors(vector([0, 1, 1, 0], dtype), vector([0, 1, 0, 1], dtype));
      expect(result.metrics).toMatchObject({
        count: 4,
        mismatches: 2,
        violations: 0.5,
      });
      for (const name of ["maxRel", "p99Rel", "relL2", "cosine", "maxUlp", "snrDb"] as const) {
        expect(result.metrics[name]).toBeUndefined();
        expect(result.undefined[name]).toMatch(/exactly/);
      }
      expect(result.allclose).toBe(false);
    },
  );

  it("takes every non-zero byte for true", () => {
    const odd = {
      dtype: "bool",
      shape: [2],
      bytes: Uint8Array.of(2, 0),
    } as const;
    expect(compareTensors(vector([1, 0], "bool"), odd).metrics.mismatches).toBe(0);
  });

  it("is exact whatever the tolerance says", () => {
    expect(compareTensors(vector([7], "int32"), vector([8], "int32"), { atol: 10 }).allclose).toBe(
      false,
    );
  });
});

describe("rule 4, NaN", () => {
  const r = vector([NaN, 1, 2, NaN]);

  it("fails where both sides are NaN, unless equalNan accepts it", () => {
    const result = compareTensors(r, r);
    expect(result.metrics).toMatchObject({
      nanBoth: 2,
      nanDisagree: 0,
      count: 2,
      maxAbs: 0,
    });
    expect(errors(r, r)).toEqual(["nan-on-both-sides"]);
    expect(result.allclose).toBe(false);
    expect(relL2(r, r)).toBeNaN();
    const accepted = compareTensors(r, r, { equalNan: true });
    expect(accepted.allclose).toBe(true);
    expect(accepted.findings).toMatchObject([{ severity: "information" }]);
    expect(relL2(r, r, undefined, { equalNan: true })).toBe(0);
  });

  it("fails where one side is NaN, even with equalNan, lists it first, and lets no NaN into a metric", () => {
    const c = vector([NaN, 1, NaN, 3]);
    const result = compareTensors(r, c, { equalNan: true });
    expect(result.metrics).toMatchObject({
      nanReference: 2,
      nanCandidate: 2,
      nanBoth: 1,
      nanDisagree: 2,
      count: 1,
      relL2: 0,
    });
    expect(errors(r, c, { equalNan: true })).toEqual(["nan-disagreement"]);
    expect(result.worst[0]).toEqual({
      index: [2],
      reference: 2,
      candidate: "NaN",
      difference: "NaN",
    });
    expect(relL2(r, c, undefined, { equalNan: true })).toBeNaN();
  });

  it("shows its count even when it is 0", () => {
    expect(compareTensors(vector([1]), vector([1])).metrics).toMatchObject({
      nanReference: 0,
      nanCandidate: 0,
      nanBoth: 0,
      nanDisagree: 0,
    });
  });
});

describe("rule 5, infinity and masked fills", () => {
  it("takes the same sign at the same place for equal", () => {
    const r = vector([Infinity, -Infinity, 1, 2]);
    const result = compareTensors(r, r);
    expect(result.metrics).toMatchObject({
      infReference: 2,
      infCandidate: 2,
      infDisagree: 0,
    });
    expect(result.allclose).toBe(true);
    expect(relL2(r, r)).toBe(0);
  });

  it.each([
    ["the other sign", [Infinity, 1], [-Infinity, 1]],
    ["finite in the candidate", [Infinity, 1], [3, 1]],
    ["finite in the reference", [3, 1], [Infinity, 1]],
    ["a large number instead", [-Infinity, 1], [-3.4e38, 1]],
  ])("fails: %s", (_, r, c) => {
    expect(errors(vector(r), vector(c))).toEqual(["inf-disagreement"]);
    expect(compareTensors(vector(r), vector(c)).metrics.infDisagree).toBe(1);
    expect(relL2(vector(r), vector(c))).toBeNaN();
  });

  it("compares masked fills as a class and counts them apart", () => {
    const r = vector([-3.4e38, 1, 2]);
    const c = vector([-2e38, 1, 2]);
    const result = compareTensors(r, c);
    expect(result.metrics).toMatchObject({
      maskedFill: 1,
      maskedFillDisagree: 0,
      count: 2,
      relL2: 0,
    });
    expect(result.allclose).toBe(true);
    expect(relL2(r, c)).toBe(0);
  });

  it.each([
    ["a place that the candidate does not mask", [-1e9, 1, 2]],
    ["a fill of the other sign", [3.4e38, 1, 2]],
  ])("fails: %s", (_, values) => {
    const r = vector([-3.4e38, 1, 2]);
    expect(errors(r, vector(values))).toEqual(["fill-disagreement"]);
    expect(relL2(r, vector(values))).toBeNaN();
  });
});

describe("rule 6, zero reference", () => {
  it("leaves the relative error undefined there and counts the places", () => {
    const { metrics } = compareTensors(vector([0, 0, 2]), vector([1, 0, 3]));
    expect(metrics).toMatchObject({ zeroReference: 2, maxRel: 0.5 });
  });

  it("makes cosine, SNR and relL2 undefined when Σr² = 0 and the candidate differs", () => {
    const result = compareTensors(vector([0, 0]), vector([0, 1]));
    for (const name of ["cosine", "snrDb", "psnrDb", "relL2", "linfRel", "maxRel"] as const) {
      expect(result.metrics[name]).toBeUndefined();
      expect(result.undefined[name]).toBeDefined();
    }
    expect(result.undefined.cosine).toMatch(/norms is 0/);
    expect(relL2(vector([0, 0]), vector([0, 1]))).toBeNaN();
  });

  it("is exact when the candidate is zero too", () => {
    const { metrics } = compareTensors(vector([0, 0]), vector([0, 0]));
    expect(metrics).toMatchObject({
      relL2: 0,
      linfRel: 0,
      snrDb: "Infinity",
      psnrDb: "Infinity",
    });
    expect(relL2(vector([0, 0]), vector([0, 0]))).toBe(0);
  });

  it("takes −0 for +0", () => {
    const { metrics } = compareTensors(vector([0, -0, 1]), vector([-0, 0, 1]));
    expect(metrics).toMatchObject({ maxAbs: 0, maxUlp: 0, relL2: 0 });
  });

  it.each([
    ["float32", 1e-40],
    ["float64", 1e-310],
    ["float16", 2 ** -20],
    ["bfloat16", 2 ** -130],
  ] as const)("notes a subnormal flush of %s and does not fail it", (dtype, subnormal) => {
    for (const [r, c] of [
      [vector([subnormal, subnormal], dtype), vector([0, 0], dtype)],
      [vector([0, 1], dtype), vector([subnormal, 1], dtype)],
    ] as const) {
      const result = compareTensors(r, c);
      expect(result.findings).toMatchObject([{ code: "subnormal-flush", severity: "information" }]);
      expect(result.metrics).toMatchObject({ relL2: 0, maxUlp: 0 });
      expect(result.allclose).toBe(true);
    }
    expect(relL2(vector([subnormal, subnormal], dtype), vector([0, 0], dtype))).toBe(0);
  });

  it("does not take a lost normal number for a flush", () => {
    expect(codes(vector([1e-30, 1]), vector([0, 1]))).toEqual([]);
    expect(relL2(vector([1e-30]), vector([0]))).toBe(1);
    // 1e-6 is subnormal in float16 but not in the reference's float32: precision was lost, not flushed.
    expect(relL2(vector([1e-6]), vector([0], "float16"))).toBe(1);
  });
});
