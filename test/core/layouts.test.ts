import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { relL2 } from "../../engine/core/difference.js";
import { toFloat64 } from "../../engine/core/dtypes.js";
import {
  align,
  checkLayout,
  paddingRegion,
  substitute,
  type LaidOut,
} from "../../engine/core/layouts.js";
import type { Layout } from "../../engine/protocol/tensor.js";
import { range, tensor } from "./tensors.js";

const lengthsAndWidth = fc.record({
  lengths: fc.array(fc.integer({ min: 0, max: 5 }), {
    minLength: 1,
    maxLength: 4,
  }),
  extra: fc.integer({ min: 0, max: 2 }),
  features: fc.integer({ min: 1, max: 3 }),
});

/** Where element (sample, position, feature) lies on each side, by plain arithmetic. */
function expectedRuns(lengths: readonly number[], width: number, features: number): string[] {
  const all: string[] = [];
  let row = 0;
  for (const [b, length] of lengths.entries()) {
    for (let j = 0; j < length; j++, row++) {
      for (let f = 0; f < features; f++) {
        all.push(`${row * features + f}:${(b * width + j) * features + f}`);
      }
    }
  }
  return all;
}

function elements(
  reference: LaidOut,
  candidate: LaidOut,
  permutation?: readonly number[],
): string[] {
  const aligned = align(reference, candidate, { permutation });
  if (!aligned.ok) throw new Error(aligned.reason);
  const all = aligned.alignment.runs.flatMap((run) =>
    range(run.length).map((i) => `${run.reference + i}:${run.candidate + i}`),
  );
  expect(all).toHaveLength(aligned.alignment.count);
  return all;
}

function transform(reference: LaidOut, candidate: LaidOut): string {
  const aligned = align(reference, candidate);
  return aligned.ok ? aligned.alignment.transform : aligned.reason;
}

const jagged = (lengths: readonly number[]): Layout => ({
  kind: "jagged",
  offsets: lengths.reduce<number[]>((o, l) => [...o, (o.at(-1) as number) + l], [0]),
});
const padded = (lengths: readonly number[], axes = [1]): Layout => ({
  kind: "padded",
  lengths: [...lengths],
  batchAxis: 0,
  axes,
  pad: 0,
});

describe("align", () => {
  it("jagged → padded puts row offsets[b] + j at [b, j]", () => {
    fc.assert(
      fc.property(lengthsAndWidth, ({ lengths, extra, features }) => {
        const width = Math.max(1, ...lengths) + extra;
        const rows = lengths.reduce((a, b) => a + b, 0);
        const r = { shape: [rows, features], layout: jagged(lengths) };
        const shape = [lengths.length, width, features];
        // A candidate of the reference's own rank would be read as jagged; this one has one axis more.
        expect(elements(r, { shape })).toEqual(expectedRuns(lengths, width, features));
        expect(elements(r, { shape, layout: padded(lengths) })).toEqual(
          expectedRuns(lengths, width, features),
        );
      }),
    );
  });

  it("padded → jagged is the way back", () => {
    fc.assert(
      fc.property(lengthsAndWidth, ({ lengths, extra, features }) => {
        const width = Math.max(1, ...lengths) + extra;
        const rows = lengths.reduce((a, b) => a + b, 0);
        const back = elements(
          { shape: [lengths.length, width, features], layout: padded(lengths) },
          { shape: [rows, features], layout: jagged(lengths) },
        ).map((pair) => pair.split(":").reverse().join(":"));
        expect(back).toEqual(expectedRuns(lengths, width, features));
      }),
    );
  });

  it("padded → padded of another width keeps the valid rows", () => {
    expect(elements({ shape: [2, 3, 2], layout: padded([1, 2]) }, { shape: [2, 5, 2] })).toEqual([
      "0:0",
      "1:1",
      "6:10",
      "7:11",
      "8:12",
      "9:13",
    ]);
  });

  it("padded on two axes keeps valid × valid, also where the widths differ", () => {
    const layout = padded([1, 2], [2, 3]);
    expect(elements({ shape: [2, 1, 2, 2], layout }, { shape: [2, 1, 3, 3] })).toEqual([
      "0:0",
      "4:9",
      "5:10",
      "6:12",
      "7:13",
    ]);
  });

  it("splits and merges heads on the last axis", () => {
    const same = range(24).map((i) => `${i}:${i}`);
    const dense: Layout = { kind: "dense" };
    expect(elements({ shape: [4, 6], layout: dense }, { shape: [4, 2, 3] })).toEqual(same);
    expect(elements({ shape: [4, 2, 3], layout: dense }, { shape: [4, 6] })).toEqual(same);
    expect(elements({ shape: [3, 4], layout: jagged([1, 2]) }, { shape: [2, 2, 2, 2] })).toEqual(
      expectedRuns([1, 2], 2, 4),
    );
    expect(
      elements({ shape: [2, 2, 2, 2], layout: padded([1, 2]) }, { shape: [3, 4] }).length,
    ).toBe(12);
    expect(transform({ shape: [4, 6], layout: dense }, { shape: [4, 2, 3] })).toBe("heads split");
    expect(transform({ shape: [4, 2, 3], layout: dense }, { shape: [4, 6] })).toBe("heads merged");
  });

  it("splits any axis where values decide, and only on one side", () => {
    const dense: Layout = { kind: "dense" };
    const regrouped = (r: readonly number[], c: readonly number[], layout = dense) =>
      align({ shape: r, layout }, { shape: c }, { regroups: true });
    expect(regrouped([2, 3, 5, 5], [6, 5, 5])).toMatchObject({
      ok: true,
      alignment: { transform: "axes merged", count: 150 },
    });
    expect(regrouped([6, 5], [1, 2, 3, 5])).toMatchObject({
      ok: true,
      alignment: { transform: "axes split", count: 30 },
    });
    expect(align({ shape: [6, 5], layout: dense }, { shape: [1, 2, 3, 5] }).ok).toBe(false);
    expect(regrouped([4, 6], [2, 2, 3, 2]).ok).toBe(true);
    expect(regrouped([4, 6], [3, 4, 2]).ok).toBe(false);
    expect(regrouped([4, 6], [2, 12]).ok).toBe(false);
  });

  it("keeps padded axes apart where others are merged", () => {
    const layout: Layout = { kind: "padded", lengths: [2, 1], batchAxis: 0, axes: [3, 4], pad: 0 };
    const aligned = align(
      { shape: [2, 2, 3, 2, 2], layout },
      { shape: [2, 6, 2, 2] },
      { regroups: true },
    );
    if (!aligned.ok) throw new Error(aligned.reason);
    expect(aligned.alignment.count).toBe(6 * 4 + 6);
    // The first sample is whole; of the second one, one element of each head is valid.
    expect(aligned.alignment.runs[0]).toEqual({ reference: 0, candidate: 0, length: 25 });
    expect(aligned.alignment.runs[1]).toEqual({ reference: 28, candidate: 28, length: 1 });
  });

  it("never takes a padded axis for a part of another one", () => {
    const layout: Layout = { kind: "padded", lengths: [2, 1], batchAxis: 0, axes: [2], pad: 0 };
    const r = { shape: [2, 2, 3, 2], layout };
    expect(align(r, { shape: [2, 6, 2] }, { regroups: true }).ok).toBe(false);
  });

  it("names the transform that it proved", () => {
    const r = { shape: [3, 4], layout: jagged([1, 2]) };
    expect(transform(r, { shape: [3, 4] })).toBe("identical");
    expect(transform(r, { shape: [2, 2, 4] })).toBe("jagged → padded");
    expect(transform(r, { shape: [2, 2, 2, 2] })).toBe("jagged → padded, heads split");
    expect(transform({ shape: [2, 2, 4], layout: padded([1, 2]) }, { shape: [3, 4] })).toBe(
      "padded → jagged",
    );
  });

  it("composes a declared permutation with padding: [ΣL, H·d] against [B, H, N, d]", () => {
    const lengths = [1, 2];
    const expected: string[] = [];
    let row = 0;
    for (const [b, length] of lengths.entries()) {
      for (let j = 0; j < length; j++, row++) {
        for (let h = 0; h < 2; h++) {
          for (let f = 0; f < 3; f++) {
            expected.push(`${row * 6 + h * 3 + f}:${((b * 2 + h) * 4 + j) * 3 + f}`);
          }
        }
      }
    }
    const r = { shape: [3, 6], layout: jagged(lengths) };
    expect(elements(r, { shape: [2, 2, 4, 3] }, [0, 2, 1, 3])).toEqual(expected);
    expect(align(r, { shape: [2, 2, 4, 3] }).ok).toBe(false);
    expect(align(r, { shape: [2, 2, 4, 3] }, { permutation: [0, 2, 2, 3] }).ok).toBe(false);
  });

  it("refuses samples of other lengths, other numbers of samples and other features", () => {
    const r = { shape: [3, 4], layout: jagged([1, 2]) };
    expect(align(r, { shape: [2, 2, 4], layout: padded([2, 1]) }).ok).toBe(false);
    expect(align(r, { shape: [3, 2, 4] }).ok).toBe(false);
    expect(align(r, { shape: [2, 2, 5] }).ok).toBe(false);
    expect(align(r, { shape: [12] }).ok).toBe(false);
    expect(align(r, { shape: [6, 2] }).ok).toBe(false);
    expect(align(r, { shape: [2, 2, 4], layout: padded([1]) }).ok).toBe(false);
  });
});

describe("checkLayout", () => {
  it("accepts what fits and a dense tensor of any shape", () => {
    expect(checkLayout({ kind: "dense" }, [])).toEqual([]);
    expect(checkLayout(jagged([1, 2]), [3, 4])).toEqual([]);
    expect(checkLayout(padded([1, 2]), [2, 2, 4])).toEqual([]);
  });

  it.each([
    ["as many lengths as samples", padded([1]), [2, 2], "lengths-invalid"],
    ["lengths that are counts", padded([-1, 2]), [2, 2], "lengths-invalid"],
    ["axes within the tensor", padded([1, 2], [3]), [2, 2], "axes-invalid"],
    ["a batch axis that is no padded axis", padded([1, 2], [0]), [2, 2], "axes-invalid"],
    ["widths no less than the lengths", padded([1, 3]), [2, 2], "truncation"],
    ["rows for jagged", jagged([0]), [], "offsets-invalid"],
  ] as const)("asks for %s", (_, layout, shape, code) => {
    expect(checkLayout(layout, shape)).toMatchObject([{ code, severity: "error" }]);
  });
});

describe("substitute", () => {
  it("puts the reference's values in the valid region and leaves the padding and the type", () => {
    const lengths = [1, 2];
    const r = tensor("float64", [3, 2], [1.1, 2, 3, 4, 5, 6]);
    const c = tensor("float16", [2, 3, 2], range(12, 100));
    const aligned = align({ shape: r.shape, layout: jagged(lengths) }, { shape: c.shape });
    if (!aligned.ok) throw new Error(aligned.reason);
    const before = c.bytes.slice();
    const s = substitute(r, c, aligned.alignment);
    expect(s.dtype).toBe("float16");
    expect([...toFloat64(s)]).toEqual([1.099609375, 2, 102, 103, 104, 105, 3, 4, 5, 6, 110, 111]);
    expect(relL2(r, s, aligned.alignment)).toBeLessThan(1e-3);
    expect(c.bytes).toEqual(before);
  });

  it("copies bytes where the types agree and leaves integers that do not fit", () => {
    const r = tensor("int64", [2], [1, 2]);
    const alignment = {
      runs: [{ reference: 0, candidate: 0, length: 2 }],
      count: 2,
      transform: "",
    };
    expect(substitute(r, tensor("int64", [2], [8, 9]), alignment).bytes).toEqual(r.bytes);
    expect([...toFloat64(substitute(r, tensor("int32", [2], [8, 9]), alignment))]).toEqual([1, 2]);
    const wide = tensor("int64", [2], [2 ** 40, 2]);
    expect([...toFloat64(substitute(wide, tensor("int32", [2], [8, 9]), alignment))]).toEqual([
      8, 9,
    ]);
  });
});

describe("paddingRegion", () => {
  it("is all that the alignment does not reach", () => {
    const aligned = align({ shape: [3, 2], layout: jagged([1, 2]) }, { shape: [2, 3, 2] });
    if (!aligned.ok) throw new Error(aligned.reason);
    expect(paddingRegion(aligned.alignment, [2, 3, 2], 0).runs).toEqual([
      { offset: 2, length: 4 },
      { offset: 10, length: 2 },
    ]);
  });
});
