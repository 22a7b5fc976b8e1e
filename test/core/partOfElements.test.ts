import { describe, expect, it } from "vitest";
import { identityAlignment } from "../../engine/core/layouts.js";
import { differsInPart } from "../../engine/core/partOfElements.js";
import { noise, tensor } from "./tensors.js";

const shape = [8, 8];
const values = noise(64, 5);
const made = (change: (x: number, i: number) => number) =>
  differsInPart(
    tensor("float32", shape, values),
    tensor("float32", shape, values.map(change)),
    identityAlignment(shape),
  );

describe("differsInPart", () => {
  it("tells a wrong mask from wrong numbers", () => {
    expect(made((x, i) => (i % 8 > Math.floor(i / 8) ? 0 : x))).toBe(true);
    expect(made((x) => 1.01 * x)).toBe(false);
  });

  it("says nothing of samples that are right beside samples that are not", () => {
    expect(made((x, i) => (i < 32 ? x : 2 * x))).toBe(false);
  });

  it("says nothing of what is the same throughout", () => {
    expect(made((x) => x)).toBe(false);
  });

  it("takes no account of zeros on both sides", () => {
    const zeros = tensor(
      "float32",
      shape,
      values.map((x, i) => (i < 32 ? 0 : x)),
    );
    const twice = tensor(
      "float32",
      shape,
      values.map((x, i) => (i < 32 ? 0 : 2 * x)),
    );
    expect(differsInPart(zeros, twice, identityAlignment(shape))).toBe(false);
  });
});
