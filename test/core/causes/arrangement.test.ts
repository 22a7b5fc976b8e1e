import { describe, expect, it } from "vitest";
import type { Layout } from "../../../engine/protocol/tensor.js";
import { noise, range } from "../tensors.js";
import { at, build, cause, jagged, kind, padded, r, shape } from "./causeOf.js";

describe("elements in another order", () => {
  it("transposed in two axes of one size", () => {
    const form = [3, 6, 6];
    const values = noise(108);
    const found = cause(
      form,
      values,
      build(form, (b, i, j) => at(form, values, b, j, i)),
    );
    expect(found).toMatchObject({ kind: "transposed", evidence: { axes: [1, 2] } });
    const layout: Layout = {
      kind: "padded",
      lengths: [6, 4, 3],
      batchAxis: 0,
      axes: [1, 2],
      pad: 0,
    };
    const inSamples = build(form, (b, i, j) => at(form, values, b, j, i));
    expect(kind(form, values, inSamples, { referenceLayout: layout })).toBe("transposed");
  });

  it("reshaped where axes of other sizes must be exchanged", () => {
    const other = [4, 16, 10];
    const turned = build(other, (b, d, n) => at(shape, r, b, n, d));
    expect(cause(shape, r, turned)).toMatchObject({
      kind: "transposed",
      evidence: { axes: [1, 2] },
    });
    const heads = [6, 3, 4];
    const values = noise(72);
    const moved = build([3, 6, 4], (h, n, d) => at(heads, values, n, h, d));
    expect(cause(heads, values, moved)?.evidence).toMatchObject({ axes: [0, 1] });
  });

  it("blocks of the last axis", () => {
    const order = [0, 3, 2, 1];
    const swapped = build(shape, (b, n, d) =>
      at(shape, r, b, n, 4 * (order[Math.floor(d / 4)] as number) + (d % 4)),
    );
    expect(cause(shape, r, swapped)).toMatchObject({
      kind: "blocks",
      evidence: { blocks: 4, size: 4, order },
    });
    expect(cause(shape, r, swapped)?.text).toContain("blocks 1 and 3 of 4");
    const halves = build(shape, (b, n, d) => at(shape, r, b, n, (d + 8) % 16));
    expect(cause(shape, r, halves)?.evidence).toMatchObject({ blocks: 2, order: [1, 0] });
    expect(kind([40, 16], r, halves, { referenceLayout: jagged })).toBe("blocks");
  });

  it("heads interleaved, and heads that were not moved behind the rows", () => {
    const interleaved = build(shape, (b, n, d) =>
      at(shape, r, b, n, (d % 4) * 4 + Math.floor(d / 4)),
    );
    expect(cause(shape, r, interleaved)).toMatchObject({
      kind: "headLayout",
      evidence: { heads: 4 },
    });
    const uneven = build(shape, (b, n, d) => at(shape, r, b, n, (d % 2) * 8 + Math.floor(d / 2)));
    expect(cause(shape, r, uneven)?.evidence).toMatchObject({ heads: 2, size: 8 });
    const early = build([4, 2, 10, 8], (b, h, n, d) => at(shape, r, b, n, h * 8 + d));
    expect(cause(shape, r, early)).toMatchObject({ kind: "headLayout", evidence: { heads: 2 } });
  });

  it("reversed and off by one, in each sample", () => {
    const { lengths } = padded;
    const reversed = build(shape, (b, n, d) =>
      n < (lengths[b] as number) ? at(shape, r, b, (lengths[b] as number) - 1 - n, d) : 0,
    );
    const found = cause(shape, r, reversed, { referenceLayout: padded });
    expect(found).toMatchObject({ kind: "reversed", text: "looks reversed along the sequence" });
    const rolled = build(shape, (b, n, d) => at(shape, r, b, (n + 9) % 10, d));
    expect(cause(shape, r, rolled, { referenceLayout: padded })).toMatchObject({
      kind: "shifted",
      text: "looks off by one position along the sequence: each element is the one before it",
    });
    const back = build(shape, (b, n, d) => at(shape, r, b, (n + 1) % 10, d));
    expect(cause(shape, r, back)?.evidence).toMatchObject({ axis: 1, by: -1 });
    const ends = [10, 17, 21, 40];
    const rows = build([40, 16], (n, d) => (ends.includes(n + 1) ? 0 : at([40, 16], r, n + 1, d)));
    expect(cause([40, 16], r, rows, { referenceLayout: jagged })).toMatchObject({
      kind: "shifted",
    });
  });

  it("is not any order at all, and not that of masks", () => {
    const shuffled = build(shape, (b, n, d) => at(shape, r, b, n, (d * d * 7 + 3) % 16));
    expect(kind(shape, r, shuffled)).toBeUndefined();
    const mask = range(64).map((i) => (i % 9 === 0 ? 1 : 0));
    expect(
      kind(
        [8, 8],
        mask,
        mask.map((x, i) => mask[i ^ 1] ?? x),
      ),
    ).toBeUndefined();
  });
});

describe("the difference lies in one part", () => {
  const square = [2, 8, 8];
  const scores = noise(128, 2);
  const layout: Layout = { kind: "padded", lengths: [8, 6], batchAxis: 0, axes: [1, 2], pad: 0 };
  const changed = (where: (i: number, j: number) => boolean) =>
    build(square, (b, i, j) => (where(i, j) ? 0 : at(square, scores, b, i, j)));

  it.each([
    ["aboveDiagonal", (i: number, j: number) => j > i],
    ["belowDiagonal", (i: number, j: number) => j < i],
    ["diagonal", (i: number, j: number) => j === i],
  ])("%s", (name, where) => {
    const found = cause(square, scores, changed(where), { referenceLayout: layout });
    expect(found).toMatchObject({ kind: name, confidence: "likely" });
    expect(cause(square, scores, changed(where))?.confidence).toBe("possible");
  });

  it("boolean masks as well", () => {
    const causal = build(square, (_, i, j) => (j <= i ? 1 : 0));
    const all = causal.map(() => 1);
    expect(kind(square, causal, all, { dtype: "bool" })).toBe("aboveDiagonal");
  });

  it("a few places above the diagonal are no mask", () => {
    const few = changed((i, j) => i === 2 && (j === 4 || j === 6));
    expect(kind(square, scores, few)).toBeUndefined();
    expect(kind([4, 5, 5], noise(100), noise(100, 3))).toBeUndefined();
  });

  it("the last and the first row of each sample", () => {
    const { lengths } = padded;
    const last = build(shape, (b, n, d) =>
      n === (lengths[b] as number) - 1 ? (noise(16, b + 2)[d] ?? 0) : at(shape, r, b, n, d),
    );
    expect(cause(shape, r, last, { referenceLayout: padded })).toMatchObject({
      kind: "lastRow",
      confidence: "likely",
    });
    expect(kind(shape, r, last)).toBeUndefined();
    const first = build(shape, (b, n, d) => (n === 0 ? 3 * d : at(shape, r, b, n, d)));
    expect(kind(shape, r, first, { referenceLayout: padded })).toBe("firstRow");
    expect(cause(shape, r, first)).toMatchObject({ kind: "firstRow", confidence: "possible" });
    const middle = build(shape, (b, n, d) => (n === 2 ? 3 * d : at(shape, r, b, n, d)));
    expect(kind(shape, r, middle, { referenceLayout: padded })).toBeUndefined();
  });

  it("rows beyond the lengths, where the run's samples have lengths", () => {
    const lengths = [10, 7, 4, 9];
    const other = build(shape, (b, n, d) =>
      n >= (lengths[b] as number) ? 5 : at(shape, r, b, n, d),
    );
    expect(kind(shape, r, other, { lengths })).toBe("padding");
    expect(kind(shape, r, other)).not.toBe("padding");
    expect(
      kind(
        shape,
        r,
        other.map((x, i) => (i === 3 ? 9 : x)),
        { lengths },
      ),
    ).toBeUndefined();
  });
});
