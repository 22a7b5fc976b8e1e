import { causeOfOp, type CauseOptions } from "../../../engine/core/causes.js";
import { fromFloat64, toFloat64 } from "../../../engine/core/dtypes.js";
import { align, identityAlignment } from "../../../engine/core/layouts.js";
import type { Cause } from "../../../engine/protocol/report.js";
import type { DType, Layout } from "../../../engine/protocol/tensor.js";
import { noise, range, tensor } from "../tensors.js";

type Shape = readonly number[];

export const count = (shape: Shape): number => shape.reduce((a, b) => a * b, 1);

export function cause(
  shape: Shape,
  r: ArrayLike<number>,
  c: ArrayLike<number>,
  { dtype = "float32", ...options }: CauseOptions & { dtype?: DType } = {},
): Cause | undefined {
  const aligned = options.referenceLayout
    ? align({ shape, layout: options.referenceLayout }, { shape, layout: options.referenceLayout })
    : undefined;
  const alignment = aligned?.ok ? aligned.alignment : identityAlignment(shape);
  return causeOfOp(tensor(dtype, shape, r), tensor(dtype, shape, c), alignment, options);
}

export const kind = (...args: Parameters<typeof cause>): string | undefined => cause(...args)?.kind;

/** The element at these coordinates. */
export function at(shape: Shape, values: readonly number[], ...index: number[]): number {
  return values[index.reduce((flat, i, axis) => flat * (shape[axis] as number) + i, 0)] as number;
}

export function build(shape: Shape, value: (...index: number[]) => number): number[] {
  return range(count(shape)).map((flat) => {
    const index: number[] = [];
    for (const size of [...shape].reverse()) {
      index.unshift(flat % size);
      flat = Math.floor(flat / size);
    }
    return value(...index);
  });
}

export const rounded = (values: ArrayLike<number>, dtype: DType): Float64Array =>
  toFloat64({ dtype, shape: [values.length], bytes: fromFloat64(values, dtype) });

export const shape = [4, 10, 16];
export const r = noise(count(shape), 5);
export const padded: Layout & { kind: "padded" } = {
  kind: "padded",
  lengths: [10, 7, 4, 9],
  batchAxis: 0,
  axes: [1],
  pad: 0,
};
export const jagged: Layout = { kind: "jagged", offsets: [0, 10, 17, 21, 40] };
