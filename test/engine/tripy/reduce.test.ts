import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DType } from "../../../engine/protocol/tensor.js";
import { expectClose, expectSame, tolerance } from "./expectValues.js";
import { build, elements, holds, indicesOf, shapes, tensors } from "./ndarray.js";
import { evaluate, values, type Values } from "./runTrace.js";

const TYPES: DType[] = ["float32", "float16", "bfloat16", "int32", "int64"];

const ORACLES: Record<string, { f: (list: number[]) => number; minSize: number }> = {
  Sum: { f: (list) => list.reduce((a, b) => a + b, 0), minSize: 0 },
  Prod: { f: (list) => list.reduce((a, b) => a * b, 1), minSize: 0 },
  Avg: {
    f: (list) => list.reduce((a, b) => a + b, 0) / list.length,
    minSize: 1,
  },
  Max: { f: (list) => Math.max(...list), minSize: 1 },
  Min: { f: (list) => Math.min(...list), minSize: 1 },
};

for (const [kind, { f, minSize }] of Object.entries(ORACLES)) {
  describe(`the reduction ${kind}`, () => {
    it.each(TYPES)("%s over any dimensions, kept or not", async (dtype) => {
      const element = kind === "Prod" ? fc.integer({ min: -2, max: 2 }) : elements(dtype);
      const cases = shapes(1, 4, minSize).chain((shape) =>
        fc.tuple(
          tensors(dtype, shape, element),
          fc.subarray([...shape.keys()], { minLength: 1 }),
          fc.boolean(),
        ),
      );
      await holds(cases, async ([x, dim, keepdim]) => {
        const expected = reduced(x, dim, keepdim, f);
        const [got] = await evaluate({
          kind,
          inputs: [x],
          attributes: { dim, keepdim },
          outputs: [{ dtype, rank: expected.shape.length }],
        });
        // Sums cancel, so the error is absolute: of the size of the largest term.
        expectClose(got, expected, tolerance(dtype, 1e-6), dtype.startsWith("int") ? 0 : 1e-3);
      });
    });
  });
}

describe("extrema of lines with NaN and infinities", () => {
  const special = fc.constantFrom(NaN, Infinity, -Infinity, 0, -0, 1, -2);
  const floats: DType[] = ["float32", "float16", "bfloat16"];
  it.each(["Max", "Min"].flatMap((kind) => floats.map((dtype) => [kind, dtype] as const)))(
    "%s on %s passes NaN on wherever it stands",
    async (kind, dtype) => {
      const { f } = ORACLES[kind] as { f: (list: number[]) => number };
      const cases = fc
        .tuple(
          fc.integer({ min: 1, max: 3 }),
          fc.integer({ min: 1, max: 37 }),
          fc.constantFrom(0, 1),
        )
        .chain(([rows, columns, axis]) =>
          fc.tuple(tensors(dtype, [rows, columns], special), fc.constant(axis), fc.boolean()),
        );
      await holds(cases, async ([x, axis, keepdim]) => {
        const expected = reduced(x, [axis], keepdim, f);
        const [got] = await evaluate({
          kind,
          inputs: [x],
          attributes: { dim: [axis], keepdim },
          outputs: [{ dtype, rank: expected.shape.length }],
        });
        expectClose(got, expected, 0, 0);
      });
    },
  );
});

describe("integer means", () => {
  const top = 2 ** 31 - 1;
  it.each([
    [[0], [top, 0, 1073741820]],
    [[1], [top, -2]],
    [[0, 1], [1073741822]],
  ])(
    "over %j do not overflow where the sum of int32 does, and round to zero",
    async (dim, expected) => {
      const [got] = await evaluate({
        kind: "Avg",
        inputs: [values("int32", [2, 3], [top, top, top, top, -top, -7])],
        attributes: { dim, keepdim: false },
        outputs: [{ dtype: "int32", rank: 2 - dim.length }],
      });
      expect(got?.data).toEqual(expected);
    },
  );
});

describe("TopK", () => {
  it("of nothing is nothing", async () => {
    const [got, positions] = await evaluate({
      kind: "TopKMax",
      inputs: [{ constant: values("float32", [0, 3], []) }],
      attributes: { dim: 1, k: 2 },
      outputs: [
        { dtype: "float32", rank: 2 },
        { dtype: "int32", rank: 2 },
      ],
    });
    expect(got).toEqual(values("float32", [0, 2], []));
    expect(positions).toEqual(values("int32", [0, 2], []));
  });

  for (const kind of ["TopKMax", "TopKMin"]) {
    it.each(TYPES)(
      `${kind} on %s is sorted, with int32 indices of the first of equals`,
      async (dtype) => {
        const cases = shapes(2, 3, 1).chain((shape) =>
          fc
            .nat(shape.length - 1)
            .chain((dim) =>
              fc.tuple(
                tensors(dtype, shape, fc.integer({ min: -3, max: 3 })),
                fc.constant(dim),
                fc.integer({ min: 1, max: shape[dim] as number }),
              ),
            ),
        );
        await holds(cases, async ([x, dim, k]) => {
          const shape = [...x.shape].with(dim, k);
          const ranked = (index: number[]): { value: number; position: number } => {
            const line = Array.from({ length: x.shape[dim] as number }, (_, position) => ({
              position,
              value: x.data[flat(x, index.with(dim, position))] as number,
            }));
            line.sort((a, b) => (kind === "TopKMax" ? b.value - a.value : a.value - b.value));
            return line[index[dim] as number] as {
              value: number;
              position: number;
            };
          };
          const [got, indices] = await evaluate({
            kind,
            inputs: [x],
            attributes: { dim, k },
            outputs: [
              { dtype, rank: shape.length },
              { dtype: "int32", rank: shape.length },
            ],
          });
          expectSame(
            got,
            build(dtype, shape, (index) => ranked(index).value),
          );
          expectSame(
            indices,
            build("int32", shape, (index) => ranked(index).position),
          );
        });
      },
    );
  }
});

function reduced(
  x: Values,
  dim: readonly number[],
  keepdim: boolean,
  f: (list: number[]) => number,
): Values {
  const kept = x.shape.map((size, axis) => (dim.includes(axis) ? 1 : size));
  const span = x.shape.map((size, axis) => (dim.includes(axis) ? size : 1));
  const result = build(x.dtype, kept, (index) =>
    f(
      indicesOf(span).map(
        (offset) =>
          x.data[
            flat(
              x,
              index.map((i, axis) => i + (offset[axis] as number)),
            )
          ] as number,
      ),
    ),
  );
  return keepdim ? result : { ...result, shape: kept.filter((_, axis) => !dim.includes(axis)) };
}

function flat(x: Values, index: readonly number[]): number {
  return x.shape.reduce((offset, size, axis) => offset * size + (index[axis] as number), 0);
}
