import { describe, expect, it } from "vitest";
import { compareTensors } from "../../engine/core/compare.js";
import { fillThreshold, fillsBeyond } from "../../engine/core/maskedFills.js";
import { noise, tensor } from "./tensors.js";

const scores = noise(64, 3);
const masked = (fill: number, share = 3) =>
  tensor(
    "float32",
    [8, 8],
    scores.map((x, i) => (i % share === 0 ? fill + x : x)),
  );

describe("masked fills", () => {
  it.each([-1e9, -1e4, -3.4e38, 1e30])("of %s beside scores are told from them", (fill) => {
    const limit = fillsBeyond(masked(fill));
    expect(limit).toBeLessThanOrEqual(Math.abs(fill));
    expect(limit).toBeGreaterThan(1);
  });

  it("are nothing that only is large", () => {
    for (const values of [
      scores.map((x) => 1e6 * x),
      scores.map((x, i) => (i % 3 === 0 ? 500 + 500 * x : x)),
      scores.map((x, i) => (i === 5 ? -1e9 : x)),
      scores.map((x, i) => (i % 3 === 0 ? -1e9 : i % 3 === 1 ? 1e9 : x)),
      scores.map(() => -1e9),
    ]) {
      expect(fillsBeyond(tensor("float32", [8, 8], values))).toBe(fillThreshold);
    }
  });

  it("hide no difference beside them", () => {
    const wrong = scores.map((x, i) => (i % 3 === 0 ? -1e9 : 1.5 * x));
    const { metrics } = compareTensors(masked(-1e9), tensor("float32", [8, 8], wrong));
    expect(Number(metrics.relL2)).toBeCloseTo(0.5, 6);
    expect(metrics.maskedFill).toBe(22);
  });

  it("must be fills on both sides", () => {
    const { metrics } = compareTensors(masked(-1e9), tensor("float32", [8, 8], scores));
    expect(metrics.maskedFillDisagree).toBe(22);
  });
});
