import { describe, expect, it } from "vitest";
import {
  dtypeGate,
  dtypeTolerance,
  exactGate,
  isOver,
  noiseGate,
  userGate,
} from "../../engine/core/gates.js";
import { rowVerdict, type RowEvidence } from "../../engine/core/verdicts.js";

const gate = 1e-7;

describe("rowVerdict", () => {
  it.each<[string, Partial<RowEvidence>, string]>([
    ["total within gate", { total: 5e-8, introduced: 5e-8 }, "match"],
    ["total on the gate", { total: gate, introduced: gate }, "match"],
    ["match without a replay", { total: 5e-8 }, "match"],
    ["introduced over the gate", { total: 0.5, introduced: 0.5, inherited: 0 }, "origin"],
    [
      "introduced over the gate while rounding from further up hides it in the total",
      { total: 1e-6, introduced: 1e-6, accumulatedGate: 5e-6 },
      "origin",
    ],
    ["NaN introduced", { total: NaN, introduced: NaN }, "origin"],
    [
      "total over, introduced within",
      { total: 0.3, introduced: 1e-8, inherited: 0.3, worstInputError: 0.2 },
      "carrier",
    ],
    ["NaN came in", { total: NaN, introduced: 0, inherited: NaN, worstInputError: NaN }, "carrier"],
    [
      "total within the rounding that accumulated",
      { total: 3e-7, introduced: 1e-8, inherited: 3e-7, accumulatedGate: 4e-7 },
      "match",
    ],
    [
      "inherited over ten times the input error",
      { total: 0.3, introduced: 1e-8, inherited: 0.3, worstInputError: 0.02 },
      "amplifier",
    ],
    [
      "inherited exactly ten times the input error",
      { total: 0.5, introduced: 0, inherited: 0.5, worstInputError: 0.05 },
      "carrier",
    ],
    [
      "total under a tenth of the input error",
      { total: 0.01, introduced: 0, inherited: 0.01, worstInputError: 0.2 },
      "masking",
    ],
    ["the error vanished", { total: 0, introduced: 0, worstInputError: 0.2 }, "masking"],
    ["inputs differ by rounding only", { total: 0, introduced: 0, worstInputError: 5e-8 }, "match"],
    ["declared", { total: 0.5, introduced: 0.5, expected: true }, "expected"],
    ["declared, but it matches", { total: 0, introduced: 0, expected: true }, "match"],
    ["declared and not paired", { total: undefined, expected: true }, "expected"],
    ["only padding differs", { total: 0, introduced: 0, paddingOnly: true }, "paddingOnly"],
    [
      "padding differs and the op is wrong",
      { total: 0.5, introduced: 0.5, paddingOnly: true },
      "origin",
    ],
    ["not paired", { total: undefined }, "unknown"],
    ["over the gate and not replayable", { total: 0.5 }, "unknown"],
    [
      "NaN or infinity disagree although the norm is small",
      { total: 0, introduced: 0, nanOrInfDisagree: true, worstInputError: 0.1 },
      "carrier",
    ],
    [
      "within the user's own tolerance",
      { total: 0.5, introduced: 0.5, withinUserTolerance: true },
      "match",
    ],
    [
      "outside the user's own tolerance",
      { total: 1e-9, introduced: 1e-9, withinUserTolerance: false },
      "carrier",
    ],
  ])("%s", (_, evidence, verdict) => {
    expect(rowVerdict({ total: undefined, gate, ...evidence })).toBe(verdict);
  });
});

describe("noiseGate", () => {
  it("is four times the noise and never under 1e-7", () => {
    expect(noiseGate({ noise: 1e-6 })).toEqual({
      value: 4e-6,
      from: "noise",
      noise: 1e-6,
    });
    expect(noiseGate({ noise: 1e-8 })).toEqual({
      value: 1e-7,
      from: "floor",
      noise: 1e-8,
    });
    expect(noiseGate({ noise: 0 }).value).toBe(1e-7);
  });

  it("takes other factors and floors", () => {
    expect(noiseGate({ noise: 1e-6, k: 10 }).value).toBeCloseTo(1e-5, 12);
    expect(noiseGate({ noise: 1e-9, floor: 1e-5 }).value).toBe(1e-5);
  });

  it("falls back to the floor when the noise is not known", () => {
    expect(noiseGate({ noise: NaN })).toEqual({
      value: 1e-7,
      from: "floor",
      noise: "NaN",
    });
  });
});

describe("the gates of the types", () => {
  it.each([
    ["float64", 1e-7, 1e-7],
    ["float32", 1.3e-6, 1e-5],
    ["float16", 1e-3, 1e-5],
    ["bfloat16", 1.6e-2, 1e-5],
    ["int64", 0, 0],
    ["bool", 0, 0],
  ] as const)("%s: rtol %f, atol %f", (dtype, rtol, atol) => {
    expect(dtypeTolerance(dtype)).toEqual({ rtol, atol });
    expect(dtypeGate(dtype)).toEqual({ value: rtol, from: "floor" });
  });

  it("of two types the looser counts", () => {
    expect(dtypeTolerance("float32", "float16").rtol).toBe(1e-3);
    expect(dtypeTolerance("float64", "float32")).toEqual({
      rtol: 1.3e-6,
      atol: 1e-5,
    });
  });

  it("integers match exactly or not at all", () => {
    expect(isOver(1e-300, exactGate())).toBe(true);
    expect(isOver(0, exactGate())).toBe(false);
    expect(isOver(NaN, noiseGate({ noise: 1 }))).toBe(true);
  });
});

describe("userGate", () => {
  it("is the user's relL2, shown as the user's", () => {
    expect(userGate({ relL2: 0.02 })).toEqual({ value: 0.02, from: "user" });
  });

  it("follows from rtol and atol as the largest relL2 that they admit", () => {
    expect(userGate({ rtol: 1e-3 })).toEqual({ value: 1e-3, from: "user" });
    expect(userGate({ rtol: 0.5, atol: 2 }, { count: 4, norm: 8 })?.value).toBe(1);
  });

  it("is none where the tolerance sets none", () => {
    expect(userGate(undefined)).toBeUndefined();
    expect(userGate({ equalNan: true })).toBeUndefined();
    expect(userGate({ atol: 1e-3 })).toBeUndefined();
  });
});
