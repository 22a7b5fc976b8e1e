import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { convertFloats } from "../../engine/core/conversions.js";
import type { Observation, ObservedTensor } from "../../engine/core/observation.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import { indexValues, type ValueIndex } from "../../engine/core/valueIndex.js";
import type { Layout } from "../../engine/protocol/tensor.js";
import { int64, noise, tensor } from "./tensors.js";

const dense: Layout = { kind: "dense" };

function indexOf(
  tensors: Readonly<Record<string, TensorValue | { value: TensorValue; layout: Layout }>>,
): ValueIndex {
  const observed = Object.entries(tensors).map(([key, given]): ObservedTensor => {
    const { value, layout } = "layout" in given ? given : { value: given, layout: dense };
    return { key, names: [key], dtype: value.dtype, shape: value.shape, layout, value };
  });
  const observation: Observation = {
    ops: observed.map(({ key }) => ({
      id: key,
      kind: "op",
      sourceOp: key,
      inputs: [],
      outputs: [key],
      frames: [],
      instance: "",
    })),
    tensors: new Map(observed.map((one) => [one.key, one])),
    parameters: [],
    inputs: [],
    outputs: [],
  };
  return indexValues(observation);
}

const found = (index: ValueIndex, value: TensorValue): string[] =>
  [...index.matches(value)].map(({ reference }) => reference);

function transposed(value: TensorValue, order: readonly number[]): TensorValue {
  const shape = order.map((axis) => value.shape[axis] as number);
  const strides = value.shape.map((_, axis) =>
    value.shape.slice(axis + 1).reduce((product, size) => product * size, 1),
  );
  const source = new Float32Array(value.bytes.buffer, value.bytes.byteOffset);
  const values: number[] = [];
  const walk = (depth: number, offset: number): void => {
    if (depth === order.length) {
      values.push(source[offset] as number);
      return;
    }
    for (let i = 0; i < (shape[depth] as number); i++) {
      walk(depth + 1, offset + i * (strides[order[depth] as number] as number));
    }
  };
  walk(0, 0);
  return tensor(value.dtype, shape, values);
}

describe("a candidate tensor", () => {
  it("is found by its values, and by nothing else", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1e6 }),
        fc.tuple(fc.integer({ min: 2, max: 5 }), fc.integer({ min: 2, max: 7 })),
        (seed, [n, d]) => {
          const [a, b] = [seed, seed + 1].map((s) => tensor("float32", [n, d], noise(n * d, s)));
          const index = indexOf({ a: a as TensorValue, b: b as TensorValue });
          expect(found(index, a as TensorValue)).toEqual(["a"]);
          expect(found(index, b as TensorValue)).toEqual(["b"]);
        },
      ),
    );
  });

  it("is found with the rounding of another order of summation, not with a small fault", () => {
    const values = noise(64, 3);
    const index = indexOf({ a: tensor("float32", [8, 8], values) });
    const scaled = (factor: number): TensorValue =>
      tensor(
        "float32",
        [8, 8],
        values.map((v) => v * factor),
      );
    expect(found(index, scaled(1 + 5e-7))).toEqual(["a"]);
    expect(found(index, scaled(1 + 5e-6))).toEqual([]);
  });

  it("is not found where one element of many is wrong, even one that no sample looks at", () => {
    const values = noise(4096, 5);
    const index = indexOf({ a: tensor("float32", [64, 64], values) });
    for (const at of [0, 1, 17, 2049, 4095]) {
      const wrong = values.map((v, i) => (i === at ? v + 0.01 : v));
      expect(found(index, tensor("float32", [64, 64], wrong))).toEqual([]);
    }
  });

  it("is found with its axes in another order, unless two of the same size were swapped", () => {
    const value = tensor("float32", [2, 3, 4], noise(24, 7));
    const index = indexOf({ a: value });
    for (const order of [
      [0, 1, 2],
      [0, 2, 1],
      [1, 0, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
    ]) {
      expect(found(index, transposed(value, order))).toEqual(["a"]);
    }
    const square = tensor("float32", [3, 3], noise(9, 8));
    expect(found(indexOf({ a: square }), transposed(square, [1, 0]))).toEqual([]);
  });

  it("is found padded where the reference is jagged, whatever stands in the padding", () => {
    const rows = noise(3 * 4, 9);
    const value = tensor("float32", [3, 4], rows);
    const index = indexOf({ a: { value, layout: { kind: "jagged", offsets: [0, 1, 3] } } });
    const garbage = noise(4, 10);
    const padded = [...rows.slice(0, 4), ...garbage, ...rows.slice(4)];
    expect(found(index, tensor("float32", [2, 2, 4], padded))).toEqual(["a"]);
    const wrong = padded.map((v, i) => (i === 9 ? v + 1 : v));
    expect(found(index, tensor("float32", [2, 2, 4], wrong))).toEqual([]);
  });

  it("is nobody's where its elements are all the same, or too few", () => {
    const ones = tensor("float32", [4, 4], Array<number>(16).fill(1));
    expect(found(indexOf({ a: ones }), ones)).toEqual([]);
    const few = tensor("float32", [1, 1], [3]);
    expect(found(indexOf({ a: few }), few)).toEqual([]);
  });

  it("of integers is found exactly, whatever their width, and never among floats", () => {
    const index = indexOf({ ids: int64([5n, 6n, 7n, 9n]) });
    expect(found(index, tensor("int32", [4], [5, 6, 7, 9]))).toEqual(["ids"]);
    expect(found(index, tensor("int32", [4], [5, 6, 7, 8]))).toEqual([]);
    expect(found(index, tensor("float32", [4], [5, 6, 7, 9]))).toEqual([]);
  });

  it("of many integers is not found where one that no sample looks at is another", () => {
    const ids = Array.from({ length: 200 }, (_, i) => BigInt((i * 37) % 101));
    const index = indexOf({ ids: int64(ids) });
    for (let at = 0; at < ids.length; at += 7) {
      const other = ids.map((id, i) => (i === at ? id + 1n : id));
      expect(found(index, int64(other))).toEqual([]);
    }
    expect(found(index, int64(ids))).toEqual(["ids"]);
  });

  it("in a narrower type is found rounded", () => {
    const value = tensor("float32", [4, 8], noise(32, 11));
    expect(found(indexOf({ a: value }), convertFloats(value, "float16"))).toEqual(["a"]);
  });

  it("with masked fills is compared by what is not masked", () => {
    const values = noise(16, 12).map((v, i) => (i % 3 === 0 ? -3e38 : v));
    const index = indexOf({ a: tensor("float32", [4, 4], values) });
    expect(found(index, tensor("float32", [4, 4], values))).toEqual(["a"]);
    const wrong = values.map((v, i) => (i === 1 ? v + 0.1 : v));
    expect(found(index, tensor("float32", [4, 4], wrong))).toEqual([]);
    const both = indexOf({
      a: tensor("float32", [4, 4], values),
      wrong: tensor("float32", [4, 4], wrong),
    });
    expect(both.classOf("a")).not.toBe(both.classOf("wrong"));
  });
});

describe("what is found", () => {
  const value = tensor("float32", [2, 6], noise(12, 13));

  it("comes in the same shape first, then in the order of the reference", () => {
    const index = indexOf({
      turned: transposed(value, [1, 0]),
      first: value,
      second: value,
    });
    expect(found(index, value)).toEqual(["first", "second", "turned"]);
  });

  it("is of one class with its views and transposes", () => {
    const index = indexOf({
      a: value,
      turned: transposed(value, [1, 0]),
      flat: { value: { ...value, shape: [12] }, layout: dense },
      other: tensor("float32", [2, 6], noise(12, 14)),
    });
    expect(index.classOf("turned")).toBe(index.classOf("a"));
    expect(index.classOf("flat")).toBe(index.classOf("a"));
    expect(index.classOf("other")).not.toBe(index.classOf("a"));
    expect(index.classOf("absent")).toBeUndefined();
  });

  it("could be any tensor whose shape fits, when the values are not asked for", () => {
    const index = indexOf({
      a: value,
      turned: transposed(value, [1, 0]),
      ids: int64([1n, 2n, 3n, 4n]),
    });
    const fitting = [...index.fitting({ shape: [2, 6], dtype: "float32" })];
    expect(fitting.map(({ reference }) => reference)).toEqual(["a", "turned"]);
  });
});
