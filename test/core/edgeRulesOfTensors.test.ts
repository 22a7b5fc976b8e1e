import { describe, expect, it } from "vitest";
import { compareTensors } from "../../engine/core/compare.js";
import { relL2 } from "../../engine/core/difference.js";
import { noiseGate, userGate } from "../../engine/core/gates.js";
import { align, identityAlignment, paddingLeak, paddingRegion } from "../../engine/core/layouts.js";
import { pairVerdict, rowVerdict, worstVerdict } from "../../engine/core/verdicts.js";
import type { DType, Layout } from "../../engine/protocol/tensor.js";
import { noise, range, tensor, vector } from "./tensors.js";

/** Edge rules 7 to 13 of the numerics contract: whole tensors, layouts, gates and verdicts. */

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
