import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DType } from "../../../engine/protocol/tensor.js";
import { expectSame } from "./expectValues.js";
import { at, build, holds, product, shapes, tensors } from "./ndarray.js";
import { evaluate, values, type Values } from "./runTrace.js";

const MOVABLE: DType[] = ["float32", "float16", "bfloat16", "int8", "int32", "int64", "bool"];

describe("Shape and GetDimensionSize", () => {
  it("Shape gives int32 sizes, none of them for a 0-d tensor", async () => {
    await holds(
      shapes().chain((shape) => tensors("float32", shape)),
      async (x) => {
        const [got] = await evaluate({
          kind: "Shape",
          inputs: [x],
          outputs: [{ dtype: "int32", rank: 1 }],
        });
        expectSame(got, values("int32", [x.shape.length], [...x.shape]));
      },
    );
  });

  it.each([0, 1, 2])("GetDimensionSize picks size %i of a shape as a 0-d tensor", async (dim) => {
    const shape = values("int32", [3], [7, 0, 9]);
    const [got] = await evaluate({
      kind: "GetDimensionSize",
      inputs: [shape],
      attributes: { dim },
      outputs: [{ dtype: "int32", rank: 0 }],
    });
    expectSame(got, values("int32", [], [shape.data[dim] as number]));
  });
});

describe("Reshape", () => {
  for (const isConstant of [true, false]) {
    it.each(MOVABLE)(`%s to a ${isConstant ? "constant" : "computed"} shape`, async (dtype) => {
      await holds(
        shapes().chain((shape) =>
          fc.tuple(tensors(dtype, shape), fc.shuffledSubarray(shape, { minLength: shape.length })),
        ),
        async ([x, to]) => {
          const [got] = await evaluate({
            kind: "Reshape",
            inputs: [x, shapeInput(to, isConstant)],
            outputs: [{ dtype, rank: to.length }],
          });
          expectSame(got, { ...x, shape: to });
        },
        12,
      );
    });
  }

  it("one element to a 0-d tensor and back, and a size of 0 that is not the input's", async () => {
    const cases: [Values, number[]][] = [
      [values("int32", [1, 1], [5]), []],
      [values("int32", [], [5]), [1]],
      [values("float32", [2, 0], []), [0, 7]],
    ];
    for (const [x, to] of cases) {
      const [got] = await evaluate({
        kind: "Reshape",
        inputs: [x, shapeInput(to, true)],
        outputs: [{ dtype: x.dtype, rank: to.length }],
      });
      expectSame(got, { ...x, shape: to });
    }
  });
});

describe("Broadcast", () => {
  it.each(MOVABLE)("%s repeats along sizes of 1 and new leading axes", async (dtype) => {
    const cases = fc.tuple(
      shapes(0, 3),
      shapes(0, 1),
      fc.array(fc.boolean(), { minLength: 3, maxLength: 3 }),
    );
    await holds(
      cases.chain(([tail, lead, ones]) =>
        fc.tuple(
          tensors(
            dtype,
            tail.map((size, axis) => (ones[axis] ? 1 : size)),
          ),
          fc.constant([...lead, ...tail]),
        ),
      ),
      async ([x, to]) => {
        for (const isConstant of [true, false]) {
          const [got] = await evaluate({
            kind: "Broadcast",
            inputs: [x, shapeInput(to, isConstant)],
            outputs: [{ dtype, rank: to.length }],
          });
          expectSame(
            got,
            build(dtype, to, (index) => at(x, index)),
          );
        }
      },
      12,
    );
  });
});

describe("Concatenate", () => {
  it.each(MOVABLE)("%s joins one to three tensors, empty ones among them", async (dtype) => {
    const cases = shapes(1, 4).chain((shape) =>
      fc
        .tuple(fc.nat(shape.length - 1), fc.array(fc.nat(2), { minLength: 1, maxLength: 3 }))
        .chain(([dim, sizes]) =>
          fc.tuple(
            fc.constant(dim),
            fc.tuple(...sizes.map((size) => tensors(dtype, shape.with(dim, size)))),
          ),
        ),
    );
    await holds(cases, async ([dim, parts]) => {
      const first = parts[0] as Values;
      const total = parts.reduce((sum, part) => sum + (part.shape[dim] as number), 0);
      const [got] = await evaluate({
        kind: "Concatenate",
        inputs: parts,
        attributes: { dim },
        outputs: [{ dtype, rank: first.shape.length }],
      });
      expectSame(
        got,
        build(dtype, [...first.shape].with(dim, total), (index) => {
          let position = index[dim] as number;
          const part = parts.find((candidate) => {
            const size = candidate.shape[dim] as number;
            if (position < size) return true;
            position -= size;
            return false;
          });
          return indexed(part as Values, index.with(dim, position));
        }),
      );
    });
  });
});

describe("Permute", () => {
  it.each(MOVABLE)("%s axis i of the result is axis permutation[i]", async (dtype) => {
    const cases = shapes(0, 4).chain((shape) =>
      fc.tuple(
        tensors(dtype, shape),
        fc.shuffledSubarray([...shape.keys()], { minLength: shape.length }),
      ),
    );
    await holds(
      cases,
      async ([x, permutation]) => {
        const shape = permutation.map((axis) => x.shape[axis] as number);
        const [got] = await evaluate({
          kind: "Permute",
          inputs: [x],
          attributes: { permutation },
          outputs: [{ dtype, rank: shape.length }],
        });
        expectSame(
          got,
          build(dtype, shape, (index) =>
            indexed(
              x,
              x.shape.map((_, axis) => index[permutation.indexOf(axis)] as number),
            ),
          ),
        );
      },
      12,
    );
  });
});

describe("Linspace", () => {
  it.each(["int32", "int64", "float32"] as DType[])(
    "%s counts from start by one step per axis",
    async (dtype) => {
      const cases = shapes(0, 3).chain((shape) =>
        fc.tuple(
          fc.constant(shape),
          tensors(dtype, [], fc.integer({ min: -5, max: 5 })),
          tensors(dtype, [shape.length], fc.integer({ min: -3, max: 3 })),
        ),
      );
      await holds(cases, async ([shape, start, step]) => {
        for (const isConstant of [true, false]) {
          const [got] = await evaluate({
            kind: "Linspace",
            inputs: [shapeInput(shape, isConstant), start, isConstant ? { constant: step } : step],
            attributes: { dtype },
            outputs: [{ dtype, rank: shape.length }],
          });
          const expected = build(dtype, shape, (index) =>
            index.reduce(
              (sum, i, axis) => sum + i * (step.data[axis] as number),
              start.data[0] as number,
            ),
          );
          expectSame(got, expected);
        }
      });
    },
  );

  it("a long float32 range does not add up its step's rounding", async () => {
    const count = 1000;
    const step = Math.fround(0.1);
    const [got] = await evaluate({
      kind: "Linspace",
      inputs: [
        shapeInput([count], true),
        values("float32", [], [1]),
        values("float32", [1], [step]),
      ],
      attributes: { dtype: "float32" },
      outputs: [{ dtype: "float32", rank: 1 }],
    });
    expect(got?.data[count - 1]).toBe(Math.fround(1 + Math.fround((count - 1) * step)));
  });
});

function shapeInput(shape: readonly number[], isConstant: boolean): Values | { constant: Values } {
  const value = values("int32", [shape.length], shape);
  return isConstant ? { constant: value } : value;
}

/** The element at an index of the tensor itself, without broadcasting. */
function indexed(x: Values, index: readonly number[]): number {
  const flat = x.shape.reduce((offset, size, axis) => offset * size + (index[axis] as number), 0);
  if (flat >= product(x.shape)) throw new Error("index outside the tensor");
  return x.data[flat] as number;
}
