import { describe, expect, it } from "vitest";
import { compareTensors, type FindingCode } from "../../engine/core/compare.js";
import { relL2 } from "../../engine/core/difference.js";
import { noiseGate, userGate } from "../../engine/core/gates.js";
import { align, identityAlignment, paddingLeak, paddingRegion } from "../../engine/core/layouts.js";
import { pairVerdict, rowVerdict, worstVerdict } from "../../engine/core/verdicts.js";
import type { DType, Layout } from "../../engine/protocol/tensor.js";
import { int64, noise, range, tensor, vector } from "./tensors.js";

/** The thirteen edge rules of the numerics contract, in its order. */

const everyType: DType[] = [
  "float64",
  "float32",
  "float16",
  "bfloat16",
  "int64",
  "int32",
  "int16",
  "int8",
  "uint64",
  "uint32",
  "uint16",
  "uint8",
  "bool",
];

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

describe("rule 7, empty tensors", () => {
  it.each(everyType)("%s: pass vacuously and are flagged", (dtype) => {
    const empty = tensor(dtype, [0, 5], []);
    const result = compareTensors(empty, empty);
    expect(result.vacuous).toBe(true);
    expect(result.allclose).toBe(true);
    expect(result.findings).toMatchObject([{ code: "vacuous", severity: "warning" }]);
    expect(result.metrics.count).toBe(0);
    expect(relL2(empty, empty)).toBe(0);
  });

  it("are flagged when the layout leaves nothing to compare", () => {
    const aligned = align(
      { shape: [0, 2], layout: { kind: "jagged", offsets: [0, 0] } },
      { shape: [1, 3, 2] },
    );
    if (!aligned.ok) throw new Error(aligned.reason);
    const result = compareTensors(
      tensor("float32", [0, 2], []),
      tensor("float32", [1, 3, 2], range(6)),
      { alignment: aligned.alignment },
    );
    expect(result.vacuous).toBe(true);
  });

  it("make a run UNKNOWN when there is nothing else", () => {
    const evidence = {
      origins: 0,
      outputOverGate: false,
      outputsCompared: true,
      unexplained: false,
      coverage: 1,
      coverageThreshold: 0.9,
      warnings: false,
    };
    expect(pairVerdict({ ...evidence, onlyVacuous: true })).toBe("unknown");
    expect(pairVerdict({ ...evidence, onlyVacuous: false })).toBe("pass");
    expect(worstVerdict([])).toBe("unknown");
  });

  it("a 0-d tensor works", () => {
    const result = compareTensors(tensor("float32", [], [2]), tensor("float32", [], [3]), {
      topK: 1,
      referenceAxes: [],
    });
    expect(result.metrics).toMatchObject({
      count: 1,
      maxAbs: 1,
      relL2: 0.5,
      maxAbsIndex: [],
    });
    expect(result.vacuous).toBe(false);
  });

  it("masked fills and infinities that agree are something to compare, NaN is not", () => {
    const fills = vector([-3e38, -Infinity]);
    expect(compareTensors(fills, fills).vacuous).toBe(false);
    expect(compareTensors(vector([NaN]), vector([NaN]), { equalNan: true }).vacuous).toBe(true);
  });
});

describe("rule 8, one element or a constant tensor", () => {
  it.each([
    ["one element", [2], [3], /one element/],
    ["a constant reference", [2, 2, 2], [2, 2.5, 2], /constant/],
    ["a constant candidate", [2, 2.5, 2], [2, 2, 2], /constant/],
  ])("%s: cosine is undefined, abs and rel are not", (_, r, c, reason) => {
    const result = compareTensors(vector(r), vector(c));
    expect(result.metrics.cosine).toBeUndefined();
    expect(result.undefined.cosine).toMatch(reason);
    expect(result.metrics.maxAbs).toBeGreaterThan(0);
    expect(result.metrics.maxRel).toBeGreaterThan(0);
  });

  it("a tensor that varies only in a late block is no constant", () => {
    const r = new Array<number>(40_000).fill(1);
    r[39_999] = 2;
    expect(compareTensors(vector(r), vector(r)).metrics.cosine).toBe(1);
  });
});

describe("rule 9, large tensors", () => {
  it.each([0, 16_383, 16_384, 250_001, 299_999])(
    "are never subsampled: one wrong element at %i is seen",
    (place) => {
      const r = new Float32Array(300_000).fill(1);
      const c = r.slice();
      c[place] = 1 + 2 ** -23;
      const value = (data: Float32Array) =>
        ({
          dtype: "float32",
          shape: [300_000],
          bytes: new Uint8Array(data.buffer),
        }) as const;
      const { metrics } = compareTensors(value(r), value(c));
      expect(metrics).toMatchObject({
        count: 300_000,
        maxUlp: 1,
        maxAbsIndex: [place],
      });
      expect(relL2(value(r), value(c))).toBeGreaterThan(0);
    },
  );
});

describe("rule 10, jagged and padded", () => {
  const jagged: Layout = { kind: "jagged", offsets: [0, 2, 2, 5] };
  const rows = tensor("float32", [5, 2], range(10, 1));
  const padded = tensor(
    "float32",
    [3, 4, 2],
    [1, 2, 3, 4, 9, 9, 9, 9, 8, 8, 8, 8, 8, 8, 8, 8, 5, 6, 7, 8, 9, 10, 7, 7],
  );

  it("covers valid positions only, and padding is its own number, shown and never blamed", () => {
    const aligned = align({ shape: [5, 2], layout: jagged }, { shape: [3, 4, 2] });
    if (!aligned.ok) throw new Error(aligned.reason);
    const { alignment } = aligned;
    const result = compareTensors(rows, padded, {
      alignment,
      padding: paddingRegion(alignment, padded.shape, 0),
    });
    expect(result.metrics).toMatchObject({ count: 10, relL2: 0 });
    expect(result.padding).toEqual({ verdict: "paddingOnly", maxAbs: 9 });
    expect(result.allclose).toBe(true);
    expect(result.findings).toMatchObject([{ code: "padding-differs", severity: "warning" }]);
    expect(rowVerdict({ total: 0, introduced: 0, gate: 1e-7, paddingOnly: true })).toBe(
      "paddingOnly",
    );
  });

  it("is padded on two axes: rows and columns under the length", () => {
    const layout: Layout = {
      kind: "padded",
      lengths: [1, 2],
      batchAxis: 0,
      axes: [2, 3],
      pad: 0,
    };
    const aligned = align({ shape: [2, 1, 3, 3], layout }, { shape: [2, 1, 3, 3] });
    if (!aligned.ok) throw new Error(aligned.reason);
    const r = tensor("float32", [2, 1, 3, 3], range(18, 1));
    const valid = new Set([0, 9, 10, 12, 13]);
    const c = tensor(
      "float32",
      [2, 1, 3, 3],
      range(18, 1).map((x, i) => (valid.has(i) ? x : -x)),
    );
    expect(aligned.alignment.count).toBe(5);
    expect(relL2(r, c, aligned.alignment)).toBe(0);
    const region = paddingRegion(aligned.alignment, c.shape, 0);
    expect(paddingLeak(c, region)).toMatchObject({
      count: 13,
      differing: 13,
      maxAbs: 18,
    });
  });

  it.each([
    ["do not start at 0", [1, 2, 5]],
    ["decrease", [0, 3, 2, 5]],
    ["end after the last row", [0, 2, 6]],
    ["are missing", []],
  ])("refuses offsets that %s", (_, offsets) => {
    const aligned = align(
      { shape: [5, 2], layout: { kind: "jagged", offsets } },
      { shape: [5, 2] },
    );
    expect(aligned.ok).toBe(false);
  });

  it("reports rows after the last sample and leaves them out", () => {
    const layout: Layout = { kind: "jagged", offsets: [0, 2, 4] };
    const aligned = align({ shape: [5, 2], layout }, { shape: [5, 2] });
    if (!aligned.ok) throw new Error(aligned.reason);
    expect(aligned.findings).toMatchObject([{ code: "offsets-tail", severity: "warning" }]);
    expect(aligned.alignment.count).toBe(8);
  });

  it("reports a padded width under a length as truncation", () => {
    const aligned = align({ shape: [5, 2], layout: jagged }, { shape: [3, 2, 2] });
    if (!aligned.ok) throw new Error(aligned.reason);
    expect(aligned.findings).toMatchObject([{ code: "truncation", severity: "error" }]);
    expect(aligned.alignment.count).toBe(8);
    const declared: Layout = {
      kind: "padded",
      lengths: [2, 0, 3],
      batchAxis: 0,
      axes: [1],
      pad: 0,
    };
    const both = align({ shape: [5, 2], layout: jagged }, { shape: [3, 2, 2], layout: declared });
    expect(both).toMatchObject({
      ok: true,
      findings: [{ code: "truncation" }],
    });
  });

  it("never replaces a NaN in the padding by a number", () => {
    const c = vector([1, NaN, 3]);
    const alignment = {
      runs: [{ reference: 0, candidate: 0, length: 1 }],
      count: 1,
      transform: "",
    };
    const leak = paddingLeak(c, paddingRegion(alignment, c.shape, 0));
    expect(leak).toEqual({ count: 2, differing: 2, maxAbs: NaN, nan: 1 });
  });
});

describe("rule 11, non-determinism", () => {
  it("is a floor: no gate is tighter than two runs of the reference", () => {
    expect(noiseGate({ noise: 1e-9, nonDeterminism: 3e-5 })).toMatchObject({
      value: 3e-5,
      from: "noise",
    });
    expect(userGate({ relL2: 1e-8 }, { nonDeterminism: 3e-5 })).toEqual({
      value: 3e-5,
      from: "user",
    });
  });
});

describe("rule 12, verdict lattice", () => {
  const clean = {
    origins: 0,
    outputOverGate: false,
    outputsCompared: true,
    unexplained: false,
    coverage: 0.9,
    coverageThreshold: 0.9,
    onlyVacuous: false,
    warnings: false,
  };
  const unknown = {
    coverage: 0,
    outputsCompared: false,
    unexplained: true,
    warnings: true,
  };

  it.each([
    ["an origin is FAIL, whatever is unknown", { ...unknown, origins: 1 }, "fail"],
    ["an output over its gate is FAIL", { ...unknown, outputOverGate: true }, "fail"],
    ["coverage under its threshold is UNKNOWN", { coverage: 0.899, warnings: true }, "unknown"],
    ["an output that was not compared is UNKNOWN", { outputsCompared: false }, "unknown"],
    ["an unexplained difference is UNKNOWN", { unexplained: true }, "unknown"],
    ["a difference in padding or dtype is WARN", { warnings: true }, "warn"],
    ["coverage that is not a number is UNKNOWN", { coverage: NaN }, "unknown"],
    ["a declared difference alone is PASS", {}, "pass"],
  ] as const)("%s", (_, evidence, verdict) => {
    expect(pairVerdict({ ...clean, ...evidence })).toBe(verdict);
  });

  it("orders FAIL > UNKNOWN > WARN > PASS", () => {
    expect(worstVerdict(["pass", "warn", "unknown", "fail"])).toBe("fail");
    expect(worstVerdict(["pass", "warn", "unknown"])).toBe("unknown");
    expect(worstVerdict(["warn", "pass"])).toBe("warn");
    expect(worstVerdict(["pass"])).toBe("pass");
  });
});

describe("rule 13, sanity before blame", () => {
  it.each(everyType)("%s: a tensor against itself is exactly 0", (dtype) => {
    const value = tensor(
      dtype,
      [3, 40],
      noise(120, 9).map((x) => Math.abs(x) * 100),
    );
    const result = compareTensors(value, value, {
      alignment: identityAlignment([3, 40]),
    });
    expect(result.metrics).toMatchObject({
      maxAbs: 0,
      meanAbs: 0,
      violations: 0,
      p999Abs: 0,
    });
    expect(result.worst).toEqual([]);
    expect(result.findings).toEqual([]);
    expect(relL2(value, value)).toBe(0);
    if (dtype.includes("float")) {
      expect(result.metrics).toMatchObject({
        relL2: 0,
        maxUlp: 0,
        snrDb: "Infinity",
      });
    } else expect(result.metrics.mismatches).toBe(0);
  });
});
