import fc from "fast-check";
import { describe, it } from "vitest";
import type { DType } from "../../../engine/protocol/tensor.js";
import { expectClose, expectSame, tolerance } from "./expectValues.js";
import { roundHalfEven } from "./halfPrecision.js";
import { at, build, holds, indicesOf, shapes, tensors } from "./ndarray.js";
import { evaluate, values, type OpCase, type Values } from "./runTrace.js";

const FLOATS: DType[] = ["float32", "float16", "bfloat16"];
const moderate = fc.double({ min: -2, max: 2, noNaN: true });

describe("MatrixMultiply", () => {
  it.each(FLOATS)(
    "%s with broadcast batches, and with empty sizes where none broadcasts",
    async (dtype) => {
      // ONNX Runtime's MatMul gives a broadcast product without elements a wrong shape; no port multiplies one.
      const sized = (min: number, single: boolean): fc.Arbitrary<[Values, Values]> => {
        const size = fc.integer({ min, max: 3 });
        return fc
          .tuple(size, size, size, shapes(0, 2, min))
          .chain(([m, k, n, batch]) =>
            fc.tuple(
              tensors(dtype, [...batch.map((s) => (single ? 1 : s)), m, k], moderate),
              tensors(dtype, [...batch, k, n], moderate),
            ),
          );
      };
      const cases = fc.oneof(sized(1, true), sized(0, false));
      await holds(cases, async ([a, b]) => {
        const rank = a.shape.length;
        const shape = [
          ...b.shape.slice(0, -2),
          a.shape[rank - 2] as number,
          b.shape[rank - 1] as number,
        ];
        const expected = build(dtype, shape, (index) => {
          const [lead, row, column] = [
            index.slice(0, -2),
            index[rank - 2] as number,
            index[rank - 1] as number,
          ];
          return sum(
            b.shape[rank - 2] as number,
            (k) => at(a, [...lead, row, k]) * at(b, [...lead, k, column]),
          );
        });
        expectClose(
          (await evaluate(op("MatrixMultiply", [a, b], rank)))[0],
          expected,
          tolerance(dtype, 1e-6),
          1e-6,
        );
      });
    },
  );

  it("takes vectors on either side", async () => {
    const [v, m] = [values("float32", [2], [1, 2]), values("float32", [2, 2], [1, 2, 3, 4])];
    expectSame((await evaluate(op("MatrixMultiply", [v, v], 0)))[0], values("float32", [], [5]));
    expectSame(
      (await evaluate(op("MatrixMultiply", [v, m], 1)))[0],
      values("float32", [2], [7, 10]),
    );
    expectSame(
      (await evaluate(op("MatrixMultiply", [m, v], 1)))[0],
      values("float32", [2], [5, 11]),
    );
  });
});

describe("LayerNorm", () => {
  it.each(FLOATS)("%s over one or two last axes, with weight, bias and eps", async (dtype) => {
    const cases = shapes(2, 4, 1).chain((shape) =>
      fc.integer({ min: 1, max: Math.min(2, shape.length) }).chain((normalised) => {
        const affine = [...shape.slice(0, -normalised).fill(1), ...shape.slice(-normalised)];
        return fc.tuple(
          fc.constant(normalised),
          tensors(dtype, shape, moderate),
          tensors(dtype, affine, moderate),
          tensors(dtype, affine, moderate),
        );
      }),
    );
    await holds(cases, async ([normalised, x, weight, bias]) => {
      const tail = x.shape.slice(-normalised);
      const eps = 0.0625;
      const expected = build(dtype, x.shape, (index) => {
        const row = indicesOf(tail).map((end) => at(x, [...index.slice(0, -normalised), ...end]));
        return normal(at(x, index), row, eps) * at(weight, index) + at(bias, index);
      });
      const attributes = { normalized_shape: tail, eps };
      const [got] = await evaluate({
        ...op("LayerNorm", [x, weight, bias], x.shape.length),
        attributes,
      });
      expectClose(got, expected, tolerance(dtype, 2e-6), dtype === "float32" ? 1e-6 : 8e-3);
    });
  });

  it("has the variance of N, not of N − 1, and its eps inside the root", async () => {
    const x = values("float32", [1, 2], [1, 3]);
    const [one, zero] = [values("float32", [1, 2], [1, 1]), values("float32", [1, 2], [0, 0])];
    const attributes = { normalized_shape: [2], eps: 3 };
    const [got] = await evaluate({
      ...op("LayerNorm", [x, one, zero], 2),
      attributes,
    });
    expectSame(got, values("float32", [1, 2], [-0.5, 0.5]));
  });

  it("accepts a batch without rows", async () => {
    const x = values("float32", [0, 2], []);
    const one = values("float32", [1, 2], [1, 1]);
    const attributes = { normalized_shape: [2], eps: 1e-5 };
    expectSame((await evaluate({ ...op("LayerNorm", [x, one, one], 2), attributes }))[0], x);
  });
});

describe("InstanceNorm and Softmax", () => {
  it.each(["float32", "float16"] as DType[])(
    "InstanceNorm on %s normalises each channel of each sample",
    async (dtype) => {
      await holds(
        shapes(3, 4, 1).chain((shape) => tensors(dtype, shape, moderate)),
        async (x) => {
          const channels = x.shape[1] as number;
          const affine = [1, channels, ...x.shape.slice(2).fill(1)];
          const weight = values(
            dtype,
            affine,
            Array.from({ length: channels }, (_, i) => 1 + i),
          );
          const bias = values(
            dtype,
            affine,
            Array.from({ length: channels }, (_, i) => i / 2),
          );
          const eps = 0.125;
          const expected = build(dtype, x.shape, (index) => {
            const row = indicesOf(x.shape.slice(2)).map((end) =>
              at(x, [...index.slice(0, 2), ...end]),
            );
            return normal(at(x, index), row, eps) * at(weight, index) + at(bias, index);
          });
          const attributes = { num_channels: channels, eps };
          const [got] = await evaluate({
            ...op("InstanceNorm", [x, weight, bias], x.shape.length),
            attributes,
          });
          expectClose(got, expected, tolerance(dtype, 2e-6), dtype === "float32" ? 2e-6 : 4e-3);
        },
      );
    },
  );

  it.each(FLOATS)("Softmax on %s sums to one along its axis", async (dtype) => {
    const cases = shapes(2, 4).chain((shape) =>
      fc.tuple(
        tensors(dtype, shape, fc.double({ min: -30, max: 90, noNaN: true })),
        fc.nat(shape.length - 1),
      ),
    );
    await holds(cases, async ([x, dim]) => {
      const expected = build(dtype, x.shape, (index) => {
        const line = Array.from({ length: x.shape[dim] as number }, (_, i) =>
          at(x, index.with(dim, i)),
        );
        const top = Math.max(...line);
        return Math.exp(at(x, index) - top) / line.reduce((s, v) => s + Math.exp(v - top), 0);
      });
      const [got] = await evaluate({
        ...op("Softmax", [x], x.shape.length),
        attributes: { dim },
      });
      expectClose(got, expected, tolerance(dtype, 5e-6), 1e-7);
    });
  });
});

describe("Quantize and Dequantize", () => {
  it.each(FLOATS)("Quantize from %s rounds halves to even and saturates", async (dtype) => {
    const x = values(dtype, [2, 4], [0.5, 1.5, 2.5, -0.5, -1.5, 300, -300, 12]);
    const scale = values(dtype, [], [1]);
    const [got] = await evaluate({
      ...op("Quantize", [x, scale], 2, "int8"),
      attributes: { dtype: "int8", dim: null },
    });
    expectSame(got, values("int8", [2, 4], [0, 2, 2, 0, -2, 127, -128, 12]));
  });

  it("both take one scale per channel of dim", async () => {
    const x = values("float32", [2, 3], [1, 2, 3, 4, 5, 6]);
    const scale = values("float32", [3], [1, 0.5, 2]);
    const [quantised] = await evaluate({
      ...op("Quantize", [x, scale], 2, "int8"),
      attributes: { dtype: "int8", dim: 1 },
    });
    const steps = build("int8", [2, 3], (i) =>
      roundHalfEven(at(x, i) / (scale.data[i[1] as number] as number)),
    );
    expectSame(quantised, steps);
    const [back] = await evaluate({
      ...op("Dequantize", [steps, scale], 2, "float32"),
      attributes: { dtype: "float32", dim: 1 },
    });
    expectSame(
      back,
      build("float32", [2, 3], (i) => at(steps, i) * (scale.data[i[1] as number] as number)),
    );
  });

  it.each(FLOATS)("Dequantize to %s multiplies by a 0-d scale", async (dtype) => {
    const q = values("int8", [], [-100]);
    const [got] = await evaluate({
      ...op("Dequantize", [q, values(dtype, [], [0.25])], 0, dtype),
      attributes: { dtype, dim: null },
    });
    expectSame(got, values(dtype, [], [-25]));
  });
});

function op(kind: string, inputs: readonly Values[], rank: number, dtype?: DType): OpCase {
  return {
    kind,
    inputs,
    outputs: [{ dtype: dtype ?? (inputs[0] as Values).dtype, rank }],
  };
}

function sum(count: number, term: (index: number) => number): number {
  return Array.from({ length: count }, (_, index) => term(index)).reduce((a, b) => a + b, 0);
}

function normal(x: number, row: readonly number[], eps: number): number {
  const mean = sum(row.length, (i) => row[i] as number) / row.length;
  const variance = sum(row.length, (i) => ((row[i] as number) - mean) ** 2) / row.length;
  return (x - mean) / Math.sqrt(variance + eps);
}
