import { describe, expect, it } from "vitest";
import { causeOfParameter } from "../../../engine/core/causes.js";
import type { ObservedParameter } from "../../../engine/core/observation.js";
import { compareParameters, pairLeftoversByShape } from "../../../engine/core/parameters.js";
import { noise, tensor } from "../tensors.js";
import { at, build, rounded } from "./causeOf.js";

const shape = [8, 12];
const w = noise(96, 2);

function parameter(name: string, form: number[], values: ArrayLike<number>): ObservedParameter {
  return { name, tensor: name, value: tensor("float32", form, values) };
}

function cause(candidate: ArrayLike<number>, reference: ArrayLike<number> = w, form = shape) {
  const others = [parameter("w", form, reference), parameter("v", form, noise(96, 77))];
  const found = compareParameters(others, [parameter("w", form, candidate)]);
  return causeOfParameter(pairLeftoversByShape(found).findings[0]!, others);
}

const rows = (row: (n: number) => number): number[] =>
  build(shape, (n, d) => at(shape, w, row(n), d));

describe("why a parameter is not the reference's", () => {
  it.each([
    ["scale", w.map((x) => x / 12)],
    ["offset", w.map((x) => x + 0.5)],
    ["sign", w.map((x) => -x)],
    ["rounding", Array.from(rounded(w, "bfloat16"))],
    ["reversed", rows((n) => 7 - n)],
    ["shifted", rows((n) => (n + 1) % 8)],
    ["blocks", build(shape, (n, d) => at(shape, w, n, (d + 6) % 12))],
    ["headLayout", build(shape, (n, d) => at(shape, w, n, (d % 3) * 4 + Math.floor(d / 3)))],
    ["transposed", build([12, 8], (d, n) => at(shape, w, n, d))],
    ["zero", rows((n) => n).map((x, i) => (i < 24 ? 0 : x))],
    ["groupScale", w.map((x, i) => x * (1 + 0.3 * (i % 12)))],
  ])("%s", (kind, candidate) => {
    const found = cause(candidate);
    expect(found).toMatchObject({ kind: "parameterDiffers", evidence: { looksLike: kind } });
    expect(found.text).toMatch(/^w differs from the reference's w: /);
  });

  it("it holds those of another one", () => {
    expect(cause(noise(96, 77))).toMatchObject({
      kind: "parameterOfAnother",
      text: "w holds the values of the reference's v instead of w",
      evidence: { other: "v" },
    });
  });

  it("it is constant, as it was made", () => {
    const found = cause(w.map(() => 0));
    expect(found.kind).toBe("parameterNotFromReference");
    expect(found.text).toContain("the reference's w (it is 0 everywhere)");
    expect(cause(w.map(() => 1)).evidence).toMatchObject({ constant: 1 });
  });

  it("unrelated values and noise look like nothing", () => {
    expect(cause(noise(96, 5))).toMatchObject({
      kind: "parameterNotFromReference",
      text: "w never came from the reference: its values have nothing to do with the reference's w",
    });
    const noisy = cause(w.map((x, i) => x + 0.1 * (noise(96, 6)[i] ?? 0)));
    expect(noisy).toMatchObject({ kind: "parameterDiffers" });
    expect(noisy.text).toBe("w differs from the reference's w");
  });

  it("two of ones are equal by chance: neither holds the other's", () => {
    const ones = w.map(() => 1);
    const others = [parameter("w", shape, w), parameter("scale", shape, ones)];
    const { findings } = compareParameters(others, [parameter("w", shape, ones)]);
    expect(causeOfParameter(findings[0]!, others).kind).toBe("parameterNotFromReference");
  });
});
