import type { Layout } from "../protocol/tensor.js";
import { stridesOf } from "./shapes.js";

/** One side as samples of rows: where each sample starts and how its other axes are walked. */
export interface View {
  readonly kind: "jagged" | "padded" | "dense";
  /** Undefined for a dense tensor, and for a side whose lengths the other side knows. */
  readonly lengths: readonly number[] | undefined;
  readonly samples: number;
  base(sample: number): number;
  readonly axes: readonly ViewAxis[];
}

export interface ViewAxis {
  readonly size: number;
  readonly stride: number;
  /** Only the first lengths[b] positions are valid. */
  readonly ragged: boolean;
}

export interface Strided {
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly layout: Layout | undefined;
}

/** The candidate with its axes in the reference's order; undefined when the permutation does not fit. */
export function permute(
  { shape, layout }: Pick<Strided, "shape" | "layout">,
  permutation: readonly number[] | undefined,
): Strided | undefined {
  const strides = stridesOf(shape);
  if (!permutation) return { shape, strides, layout };
  const sorted = [...permutation].sort((a, b) => a - b);
  if (sorted.length !== shape.length || sorted.some((axis, i) => axis !== i)) return undefined;
  return {
    shape: permutation.map((axis) => shape[axis] as number),
    strides: permutation.map((axis) => strides[axis] as number),
    layout:
      layout?.kind === "padded"
        ? {
            ...layout,
            batchAxis: permutation.indexOf(layout.batchAxis),
            axes: layout.axes.map((axis) => permutation.indexOf(axis)),
          }
        : layout,
  };
}

type ShapeAndStrides = Pick<Strided, "shape" | "strides">;

export function denseView({ shape, strides }: ShapeAndStrides): View {
  return {
    kind: "dense",
    lengths: undefined,
    samples: 1,
    base: () => 0,
    axes: shape.map((size, axis) => ({
      size,
      stride: strides[axis] as number,
      ragged: false,
    })),
  };
}

export function jaggedView({ shape, strides }: ShapeAndStrides, offsets: readonly number[]): View {
  return {
    kind: "jagged",
    lengths: offsets.slice(1).map((end, b) => end - (offsets[b] as number)),
    samples: offsets.length - 1,
    base: (b) => (offsets[b] as number) * (strides[0] as number),
    axes: shape.map((size, axis) => ({
      size,
      stride: strides[axis] as number,
      ragged: axis === 0,
    })),
  };
}

export function paddedView(
  { shape, strides }: ShapeAndStrides,
  { lengths, batchAxis, axes }: Layout & { kind: "padded" },
): View {
  return {
    kind: "padded",
    lengths,
    samples: lengths.length,
    base: (b) => b * (strides[batchAxis] as number),
    axes: shape.flatMap((size, axis) =>
      axis === batchAxis
        ? []
        : [
            {
              size,
              stride: strides[axis] as number,
              ragged: axes.includes(axis),
            },
          ],
    ),
  };
}
