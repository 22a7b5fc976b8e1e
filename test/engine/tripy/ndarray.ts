import fc from "fast-check";
import type { DType } from "../../../engine/protocol/tensor.js";
import { values, type Values } from "./runTrace.js";

/** Every index of a shape, in C order; one empty index for a 0-d tensor. */
export function indicesOf(shape: readonly number[]): number[][] {
  return shape.reduce<number[][]>(
    (all, size) => all.flatMap((index) => Array.from({ length: size }, (_, i) => [...index, i])),
    [[]],
  );
}

/** The element at an index, which broadcasts along sizes of 1 and has as many axes as the tensor or more. */
export function at(tensor: Values, index: readonly number[]): number {
  const own = index.slice(index.length - tensor.shape.length);
  const flat = tensor.shape.reduce(
    (offset, size, axis) => offset * size + (size === 1 ? 0 : (own[axis] as number)),
    0,
  );
  return tensor.data[flat] as number;
}

export function build(
  dtype: DType,
  shape: readonly number[],
  element: (index: number[]) => number,
): Values {
  return values(dtype, shape, indicesOf(shape).map(element));
}

export function product(list: readonly number[]): number {
  return list.reduce((a, b) => a * b, 1);
}

/** Ranks 0 to 4 with sizes 0 to 3. */
export function shapes(minRank = 0, maxRank = 4, minSize = 0): fc.Arbitrary<number[]> {
  return fc.array(fc.integer({ min: minSize, max: 3 }), {
    minLength: minRank,
    maxLength: maxRank,
  });
}

/** Elements that are hard for a type: signs, zeros, and values that do not fit a narrower one. */
export function elements(dtype: DType): fc.Arbitrary<number> {
  switch (dtype) {
    case "bool":
      return fc.constantFrom(0, 1);
    case "int8":
      return fc.integer({ min: -128, max: 127 });
    case "int32":
      return fc.oneof(
        fc.integer({ min: -9, max: 9 }),
        fc.integer({ min: -46340, max: 46340 }),
        fc.constantFrom(2 ** 24 + 1, -(2 ** 24) - 1),
      );
    case "int64":
      return fc.oneof(
        fc.integer({ min: -9, max: 9 }),
        fc.integer({ min: -(2 ** 25), max: 2 ** 25 }),
      );
    default:
      return fc.oneof(
        fc.double({ min: -40, max: 40, noNaN: true }),
        fc.integer({ min: -4, max: 4 }),
        fc.constantFrom(0, -0, 1e-3, -1e-3),
      );
  }
}

export function tensors(
  dtype: DType,
  shape: readonly number[],
  element = elements(dtype),
): fc.Arbitrary<Values> {
  const length = product(shape);
  return fc
    .array(element, { minLength: length, maxLength: length })
    .map((data) => values(dtype, shape, data));
}

/** Two tensors of one rank whose shapes broadcast. */
export function broadcastPairs(
  dtype: DType,
  element = elements(dtype),
): fc.Arbitrary<[Values, Values]> {
  const axis = fc.tuple(fc.integer({ min: 0, max: 3 }), fc.constantFrom("both", "left", "right"));
  return fc.array(axis, { maxLength: 4 }).chain((axes) =>
    fc.tuple(
      tensors(
        dtype,
        axes.map(([size, one]) => (one === "left" ? 1 : size)),
        element,
      ),
      tensors(
        dtype,
        axes.map(([size, one]) => (one === "right" ? 1 : size)),
        element,
      ),
    ),
  );
}

export function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  return a.map((size, axis) => (size === 1 ? (b[axis] as number) : size));
}

/** Runs an asynchronous property often enough to meet its edges, and with the same cases each time. */
export async function holds<T>(
  arbitrary: fc.Arbitrary<T>,
  property: (value: T) => Promise<void>,
  numRuns = 25,
): Promise<void> {
  await fc.assert(fc.asyncProperty(arbitrary, property), {
    numRuns,
    seed: 20261123,
  });
}
