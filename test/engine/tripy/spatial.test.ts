import { describe, expect, it } from "vitest";
import type { DType } from "../../../engine/protocol/tensor.js";
import { expectClose, expectSame, tolerance } from "./expectValues.js";
import { at, build, indicesOf, product } from "./ndarray.js";
import { evaluate, values, type OpCase, type Values } from "./runTrace.js";

describe("Convolution and Deconvolution", () => {
  for (const dtype of ["float32", "float16"] as DType[]) {
    it(`on ${dtype} with stride, dilation, groups and uneven padding`, async () => {
      const x = ramp(dtype, [1, 2, 4, 5]);
      const kernel = ramp(dtype, [4, 1, 2, 3]);
      const bias = values(dtype, [4], [1, 2, 3, 4]);
      const attributes = {
        stride: [2, 1],
        pre_padding: [1, 0],
        post_padding: [0, 2],
        groups: 2,
        dilation: [2, 1],
      };
      const [got] = await evaluate({
        ...op("Convolution", [x, kernel, bias], 4),
        attributes,
      });
      const size = (axis: 0 | 1): number => {
        const reach =
          ((kernel.shape[axis + 2] as number) - 1) * (attributes.dilation[axis] as number) + 1;
        const room =
          (x.shape[axis + 2] as number) +
          (attributes.pre_padding[axis] as number) +
          (attributes.post_padding[axis] as number);
        return Math.floor((room - reach) / (attributes.stride[axis] as number)) + 1;
      };
      const expected = build(dtype, [1, 4, size(0), size(1)], ([n, c, row, column]) => {
        let total = bias.data[c as number] as number;
        for (const [i, j] of indicesOf([2, 3]) as [number, number][]) {
          const y = (row as number) * 2 - 1 + i * 2;
          const z = (column as number) + j;
          if (y < 0 || y >= 4 || z < 0 || z >= 5) continue;
          total +=
            at(x, [n as number, Math.floor((c as number) / 2), y, z]) *
            at(kernel, [c as number, 0, i, j]);
        }
        return total;
      });
      expectClose(got, expected, tolerance(dtype, 1e-6), 1e-5);
    });

    it(`Deconvolution on ${dtype} scatters each element through the kernel and crops the padding`, async () => {
      const x = ramp(dtype, [1, 2, 2, 3]);
      const kernel = ramp(dtype, [2, 3, 2, 2]);
      const attributes = {
        stride: [2, 1],
        pre_padding: [1, 0],
        post_padding: [0, 1],
        groups: 1,
        dilation: [1, 1],
      };
      const [got] = await evaluate({
        ...op("Deconvolution", [x, kernel], 4),
        attributes,
      });
      const full = new Map<string, number>();
      for (const [c, i, j] of indicesOf([2, 2, 3]) as [number, number, number][]) {
        for (const [o, k, l] of indicesOf([3, 2, 2]) as [number, number, number][]) {
          const key = [o, i * 2 + k, j + l].join();
          full.set(key, (full.get(key) ?? 0) + at(x, [0, c, i, j]) * at(kernel, [c, o, k, l]));
        }
      }
      const expected = build(
        dtype,
        [1, 3, 3, 3],
        ([, o, y, z]) => full.get([o, (y as number) + 1, z].join()) ?? 0,
      );
      expectClose(got, expected, tolerance(dtype, 1e-6), 1e-5);
    });
  }
});

describe("pooling and resizing", () => {
  const x = values("float32", [1, 1, 3, 3], [1, -2, 3, -4, 5, -6, 7, -8, 9]);
  const windowed = {
    kernel_dims: [2, 2],
    stride: [1, 2],
    pre_padding: [1, 0],
    post_padding: [0, 1],
  };

  it.each([
    ["MaxPooling", undefined],
    ["AvgPooling", true],
    ["AvgPooling", false],
  ])("%s with padding excluded from the mean: %s", async (kind, excludes) => {
    const attributes = { ...windowed, avg_excludes_padding: excludes ?? null };
    const [got] = await evaluate({ ...op(kind, [x], 4), attributes });
    const expected = build("float32", [1, 1, 3, 2], ([, , row, column]) => {
      const cells = (indicesOf([2, 2]) as [number, number][])
        .map(([i, j]): [number, number] => [(row as number) - 1 + i, (column as number) * 2 + j])
        .filter(([y, z]) => y >= 0 && z < 3)
        .map(([y, z]) => at(x, [0, 0, y, z]));
      if (kind === "MaxPooling") return Math.max(...cells);
      return cells.reduce((a, b) => a + b, 0) / (excludes ? cells.length : 4);
    });
    expectClose(got, expected, 1e-6);
  });

  it.each(["float32", "float16", "int8"] as DType[])(
    "ResizeNearest on %s repeats the element at the floor",
    async (dtype) => {
      const small = values(dtype, [1, 1, 2, 2], [1, 2, 3, 4]);
      const expected = build(dtype, [1, 1, 3, 4], ([, , y, z]) =>
        at(small, [0, 0, Math.floor(((y as number) * 2) / 3), Math.floor((z as number) / 2)]),
      );
      const shape = { constant: values("int32", [4], [1, 1, 3, 4]) };
      const bySize: OpCase = {
        ...op("ResizeNearest", [small], 4, dtype),
        inputs: [small, shape],
        attributes: { scales: null },
      };
      expectSame((await evaluate(bySize))[0], expected);
      const byScale = {
        ...op("ResizeNearest", [small], 4, dtype),
        attributes: { scales: [1, 1, 1.5, 2] },
      };
      expectSame((await evaluate(byScale))[0], expected);
    },
  );

  it.each([true, false])("ResizeLinear with aligned corners: %s", async (align) => {
    const line = values("float32", [1, 1, 1, 3], [0, 6, 12]);
    const attributes = { scales: [1, 1, 1, 2], align_corners: align };
    const [got] = await evaluate({
      ...op("ResizeLinear", [line], 4),
      attributes,
    });
    const expected = build("float32", [1, 1, 1, 6], ([, , , i]) => {
      const position = align ? ((i as number) * 2) / 5 : ((i as number) + 0.5) / 2 - 0.5;
      return 6 * Math.min(Math.max(position, 0), 2);
    });
    expectClose(got, expected, 1e-6, 1e-5);
  });

  it("ResizeCubic interpolates with coefficient −0.75", async () => {
    const line = ramp("float32", [1, 1, 5, 5]);
    const attributes = { scales: [1, 1, 2, 2], align_corners: false };
    const [got] = await evaluate({
      ...op("ResizeCubic", [line], 4),
      attributes,
    });
    const weight = (distance: number): number => {
      const [d, a] = [Math.abs(distance), -0.75];
      if (d <= 1) return (a + 2) * d ** 3 - (a + 3) * d ** 2 + 1;
      return d < 2 ? a * (d ** 3 - 5 * d ** 2 + 8 * d - 4) : 0;
    };
    const taps = (i: number): [number, number][] => {
      const position = (i + 0.5) / 2 - 0.5;
      return [-1, 0, 1, 2].map((step) => {
        const tap = Math.floor(position) + step;
        return [Math.min(Math.max(tap, 0), 4), weight(position - tap)];
      });
    };
    const expected = build("float32", [1, 1, 10, 10], ([, , y, z]) =>
      taps(y as number).reduce(
        (total, [row, a]) =>
          total +
          a *
            taps(z as number).reduce((s, [column, b]) => s + b * at(line, [0, 0, row, column]), 0),
        0,
      ),
    );
    expectClose(got, expected, 1e-5, 1e-5);
    expect(got?.data.length).toBe(100);
  });
});

function op(kind: string, inputs: readonly Values[], rank: number, dtype?: DType): OpCase {
  return {
    kind,
    inputs,
    outputs: [{ dtype: dtype ?? (inputs[0] as Values).dtype, rank }],
  };
}

/** Small numbers without a pattern that a wrong axis could share. */
function ramp(dtype: DType, shape: readonly number[]): Values {
  return values(
    dtype,
    shape,
    Array.from({ length: product(shape) }, (_, i) => ((i * 7) % 11) / 4 - 1),
  );
}
