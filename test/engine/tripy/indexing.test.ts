import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DType } from "../../../engine/protocol/tensor.js";
import { expectSame } from "./expectValues.js";
import { build, holds, shapes, tensors } from "./ndarray.js";
import { evaluate, values, type OpCase, type Values } from "./runTrace.js";

const TYPES: DType[] = ["float32", "float16", "bfloat16", "int8", "int32", "int64", "bool"];

describe("Gather", () => {
  it.each(TYPES)("%s puts the index's axes in place of the gathered one", async (dtype) => {
    const cases = shapes(1, 3, 1).chain((shape) =>
      fc.nat(shape.length - 1).chain((dim) =>
        fc.tuple(
          tensors(dtype, shape),
          fc.constant(dim),
          shapes(0, 2).chain((index) =>
            tensors("int32", index, fc.nat((shape[dim] as number) - 1)),
          ),
        ),
      ),
    );
    await holds(
      cases,
      async ([data, dim, index]) => {
        const shape = [...data.shape.slice(0, dim), ...index.shape, ...data.shape.slice(dim + 1)];
        const [got] = await evaluate({
          kind: "Gather",
          inputs: [data, index],
          attributes: { dim },
          outputs: [{ dtype, rank: shape.length }],
        });
        const expected = build(dtype, shape, (position) => {
          const picked = element(index, position.slice(dim, dim + index.shape.length));
          return element(data, [
            ...position.slice(0, dim),
            picked,
            ...position.slice(dim + index.shape.length),
          ]);
        });
        expectSame(got, expected);
      },
      12,
    );
  });

  it("takes int64 indices and refuses one outside the axis instead of reading elsewhere", async () => {
    const gather = (index: number): Promise<Values[]> =>
      evaluate({
        kind: "Gather",
        inputs: [values("float32", [2], [1, 2]), values("int64", [1], [index])],
        attributes: { dim: 0 },
        outputs: [{ dtype: "float32", rank: 1 }],
      });
    expect((await gather(1))[0]?.data).toEqual([2]);
    await expect(gather(2)).rejects.toThrow("out of data bounds");
  });
});

/** Start, size and stride of one axis of `length` elements, all of whose positions lie inside. */
function insideWindow(length: number): fc.Arbitrary<[number, number, number]> {
  return fc
    .tuple(fc.integer({ min: 0, max: length }), fc.constantFrom(1, 2, -1, -2))
    .chain(([start, stride]) => {
      const room = stride > 0 ? length - start : start < length ? start + 1 : 0;
      return fc.tuple(
        fc.constant(start),
        fc.nat(Math.ceil(room / Math.abs(stride))),
        fc.constant(stride),
      );
    });
}

const anyWindow = fc.tuple(
  fc.integer({ min: -4, max: 4 }),
  fc.nat(5),
  fc.constantFrom(1, 1, 1, 2, -1, -2),
) as fc.Arbitrary<[number, number, number]>;

describe("Slice", () => {
  it.each(TYPES)("%s takes size elements from start by stride, backwards too", async (dtype) => {
    const cases = shapes(1, 3).chain((shape) =>
      fc.tuple(tensors(dtype, shape), fc.tuple(...shape.map(insideWindow))),
    );
    await holds(
      cases,
      async ([data, window]) => {
        await checkSlice("Slice", data, window, [], (positions) => element(data, positions));
      },
      15,
    );
  });

  it("reaches element 0 backwards", async () => {
    const data = values("int32", [4], [10, 11, 12, 13]);
    await checkSlice("Slice", data, [[3, 4, -1]], [], (positions) => element(data, positions));
    await checkSlice("Slice", data, [[2, 2, -2]], [], (positions) => element(data, positions));
  });
});

describe("SliceFill", () => {
  it.each(TYPES)("%s fills what lies outside, before, after or everywhere", async (dtype) => {
    const cases = shapes(1, 3).chain((shape) =>
      fc.tuple(tensors(dtype, shape), fc.tuple(...shape.map(() => anyWindow)), tensors(dtype, [])),
    );
    await holds(
      cases,
      async ([data, window, fill]) => {
        await checkSlice("SliceFill", data, window, [fill], (positions) =>
          isInside(data, positions) ? element(data, positions) : (fill.data[0] as number),
        );
      },
      15,
    );
  });
});

describe("SliceReflect", () => {
  it.each(["float32", "float16", "int32", "int64", "bool"] as DType[])(
    "%s reflects without repeating the edge, as often as it takes",
    async (dtype) => {
      const cases = shapes(1, 3, 1).chain((shape) =>
        fc.tuple(tensors(dtype, shape), fc.tuple(...shape.map(() => anyWindow))),
      );
      await holds(
        cases,
        async ([data, window]) => {
          await checkSlice("SliceReflect", data, window, [], (positions) =>
            element(
              data,
              positions.map((x, axis) => reflected(x, data.shape[axis] as number)),
            ),
          );
        },
        15,
      );
    },
  );
});

/** Walks one step at a time and turns at the ends: independent of the formula with a modulus. */
function reflected(position: number, length: number): number {
  let [at, step] = [0, 1];
  for (let walked = 0; walked < Math.abs(position) && length > 1; walked++) {
    if (at + step < 0 || at + step >= length) step = -step;
    at += step;
  }
  return at;
}

/** Runs the slice with its window computed, constant, and with only the stride constant. */
async function checkSlice(
  kind: string,
  data: Values,
  window: readonly (readonly [number, number, number])[],
  rest: readonly Values[],
  expected: (positions: number[]) => number,
): Promise<void> {
  const rank = data.shape.length;
  const bounds = [0, 1, 2].map((part) =>
    values(
      "int32",
      [rank],
      window.map((axis) => axis[part] as number),
    ),
  );
  const shape = window.map(([, size]) => size);
  const want = build(data.dtype, shape, (index) =>
    expected(
      index.map((i, axis) => {
        const [start, , stride] = window[axis] as [number, number, number];
        return start + i * stride;
      }),
    ),
  );
  for (const constants of [[], [0, 1, 2], [2]]) {
    const inputs: OpCase["inputs"] = bounds.map((bound, part) =>
      constants.includes(part) ? { constant: bound } : bound,
    );
    const [got] = await evaluate({
      kind,
      inputs: [data, ...inputs, ...rest],
      outputs: [{ dtype: data.dtype, rank }],
    });
    expectSame(got, want);
  }
}

function isInside(x: Values, index: readonly number[]): boolean {
  return index.every((i, axis) => i >= 0 && i < (x.shape[axis] as number));
}

function element(x: Values, index: readonly number[]): number {
  if (!isInside(x, index))
    throw new Error(`the test asks for ${index.join()} of ${x.shape.join()}`);
  return x.data[
    x.shape.reduce((offset, size, axis) => offset * size + (index[axis] as number), 0)
  ] as number;
}
