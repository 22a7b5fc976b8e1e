import { fromFloat64, toFloat64 } from "../dtypes.js";
import type { TensorValue } from "../tensorValue.js";

/** Row-major float64: what the steps of a fused op are computed in. */
export interface NdArray {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

export function fromTensor(value: TensorValue): NdArray {
  return { shape: value.shape, data: toFloat64(value) };
}

export function toTensor({ shape, data }: NdArray, dtype: TensorValue["dtype"]): TensorValue {
  return { dtype, shape, bytes: fromFloat64(data, dtype) };
}

export function map(a: NdArray, f: (x: number) => number): NdArray {
  return { shape: a.shape, data: a.data.map((x) => f(x)) };
}

/** Element by element, with NumPy's broadcasting. */
export function zip(a: NdArray, b: NdArray, f: (x: number, y: number) => number): NdArray {
  const rank = Math.max(a.shape.length, b.shape.length);
  const padded = ({ shape }: NdArray): number[] => [
    ...Array.from({ length: rank - shape.length }, () => 1),
    ...shape,
  ];
  const [sa, sb] = [padded(a), padded(b)];
  const shape = sa.map((n, axis) => (n === 1 ? (sb[axis] as number) : n));
  const [ta, tb] = [broadcastStrides(sa), broadcastStrides(sb)];
  const data = new Float64Array(product(shape));
  const at = shape.map(() => 0);
  let [i, j] = [0, 0];
  for (let n = 0; n < data.length; n++) {
    data[n] = f(a.data[i] as number, b.data[j] as number);
    for (let axis = rank - 1; axis >= 0; axis--) {
      i += ta[axis] as number;
      j += tb[axis] as number;
      at[axis] = (at[axis] as number) + 1;
      if ((at[axis] as number) < (shape[axis] as number)) break;
      i -= (ta[axis] as number) * (shape[axis] as number);
      j -= (tb[axis] as number) * (shape[axis] as number);
      at[axis] = 0;
    }
  }
  return { shape, data };
}

/** Folds the last `count` axes into one of size 1 each. */
export function foldLast(
  a: NdArray,
  count: number,
  start: number,
  f: (folded: number, x: number) => number,
): NdArray {
  const kept = a.shape.slice(0, a.shape.length - count);
  const size = product(a.shape.slice(a.shape.length - count));
  const data = new Float64Array(product(kept));
  for (let n = 0; n < data.length; n++) {
    let folded = start;
    for (let i = n * size; i < (n + 1) * size; i++) folded = f(folded, a.data[i] as number);
    data[n] = folded;
  }
  return { shape: [...kept, ...Array.from({ length: count }, () => 1)], data };
}

/** Folds one axis, which stays with size 1. */
export function fold(
  a: NdArray,
  axis: number,
  start: number,
  f: (folded: number, x: number) => number,
): NdArray {
  const last = a.shape.length - 1;
  const order = [...a.shape.keys()];
  [order[axis], order[last]] = [last, axis];
  return permute(foldLast(permute(a, order), 1, start, f), order);
}

export function permute(a: NdArray, order: readonly number[]): NdArray {
  const own = strides(a.shape);
  const shape = order.map((axis) => a.shape[axis] as number);
  const steps = order.map((axis) => own[axis] as number);
  const data = new Float64Array(a.data.length);
  const at = shape.map(() => 0);
  let from = 0;
  for (let n = 0; n < data.length; n++) {
    data[n] = a.data[from] as number;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += steps[axis] as number;
      at[axis] = (at[axis] as number) + 1;
      if ((at[axis] as number) < (shape[axis] as number)) break;
      from -= (steps[axis] as number) * (shape[axis] as number);
      at[axis] = 0;
    }
  }
  return { shape, data };
}

export function reshape(a: NdArray, shape: readonly number[]): NdArray {
  const open = shape.indexOf(-1);
  const known = product(shape.filter((n) => n !== -1));
  return {
    shape: open < 0 ? shape : shape.with(open, a.data.length / known),
    data: a.data,
  };
}

/** Elements `from` up to `to` of one axis. */
export function slice(a: NdArray, axis: number, from: number, to: number): NdArray {
  const size = a.shape[axis] as number;
  const inner = product(a.shape.slice(axis + 1));
  const outer = product(a.shape.slice(0, axis));
  const length = (to - from) * inner;
  const data = new Float64Array(outer * length);
  for (let n = 0; n < outer; n++) {
    const start = (n * size + from) * inner;
    data.set(a.data.subarray(start, start + length), n * length);
  }
  return { shape: a.shape.with(axis, to - from), data };
}

/** a[…, n, k] · b[…, k, m] with equal leading axes, or b of rank 2 for all. */
export function matmul(a: NdArray, b: NdArray): NdArray {
  const [n, k] = a.shape.slice(-2) as [number, number];
  const m = b.shape.at(-1) as number;
  const lead = a.shape.slice(0, -2);
  const count = product(lead);
  const isShared = b.shape.length === 2;
  const data = new Float64Array(count * n * m);
  for (let matrix = 0; matrix < count; matrix++) {
    const right = isShared ? 0 : matrix * k * m;
    for (let row = 0; row < n; row++) {
      const out = (matrix * n + row) * m;
      for (let inner = 0; inner < k; inner++) {
        const x = a.data[(matrix * n + row) * k + inner] as number;
        const from = right + inner * m;
        for (let column = 0; column < m; column++) {
          data[out + column] =
            (data[out + column] as number) + x * (b.data[from + column] as number);
        }
      }
    }
  }
  return { shape: [...lead, n, m], data };
}

export function product(shape: readonly number[]): number {
  return shape.reduce((p, n) => p * n, 1);
}

function strides(shape: readonly number[]): number[] {
  const own = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis--) {
    own[axis] = (own[axis + 1] as number) * (shape[axis + 1] as number);
  }
  return own;
}

function broadcastStrides(shape: readonly number[]): number[] {
  return strides(shape).map((stride, axis) => (shape[axis] === 1 ? 0 : stride));
}
