import { describe, expect, it } from "vitest";
import { compareTensors } from "../../engine/core/compare.js";
import { fromWire } from "../../engine/protocol/wire.js";
import { noise, tensor } from "./tensors.js";

describe("relL2 by axis", () => {
  it("splits the difference by batch, sequence and feature", () => {
    const r = noise(24, 2);
    const c = [...r];
    c[2 * 4 + 1] = 5;
    const { byAxis } = compareTensors(
      tensor("float32", [2, 3, 4], r),
      tensor("float32", [2, 3, 4], c),
      {
        referenceAxes: ["batch", "sequence", "feature"],
      },
    );
    const wrong = byAxis.map(({ axis, relL2: errors }) => [
      axis,
      errors.map((x) => (fromWire(x) > 0 ? 1 : 0)),
    ]);
    expect(wrong).toEqual([
      ["batch", [1, 0]],
      ["sequence", [0, 0, 1]],
      ["feature", [0, 1, 0, 0]],
    ]);
    const f = Float32Array.from(r);
    const own = [4, 5, 6, 7].map((i) => f[i + 4] as number);
    const expected =
      Math.abs(5 - (f[9] as number)) /
      Math.hypot(...own, ...[20, 21, 22, 23].map((i) => f[i] as number));
    expect(fromWire(byAxis[1]?.relL2[2] ?? NaN)).toBeCloseTo(expected, 12);
  });

  it("finds the feature in a row that is longer than a chunk", () => {
    const r = noise(10_000, 6);
    const c = [...r];
    c[9_500] = 4;
    const { byAxis } = compareTensors(
      tensor("float32", [2, 5000], r),
      tensor("float32", [2, 5000], c),
      { referenceAxes: ["batch", "feature"] },
    );
    expect(byAxis[1]?.relL2.findIndex((x) => fromWire(x) > 0)).toBe(4500);
  });

  it("tells the samples of a jagged reference apart", () => {
    const r = noise(10, 4);
    const c = [...r];
    c[6] = 3;
    const { byAxis } = compareTensors(tensor("float32", [5, 2], r), tensor("float32", [5, 2], c), {
      referenceAxes: ["rows", "feature"],
      referenceLayout: { kind: "jagged", offsets: [0, 2, 2, 5] },
    });
    expect(byAxis.map(({ axis }) => axis)).toEqual(["batch", "sequence", "feature"]);
    expect(byAxis[0]?.relL2.map((x) => fromWire(x) > 0)).toEqual([false, false, true]);
    expect(byAxis[1]?.relL2.map((x) => fromWire(x) > 0)).toEqual([false, true, false]);
  });
});
