/** The index of a flat offset in C order; [] for a 0-d tensor. */
export function unravel(offset: number, shape: readonly number[]): number[] {
  const index = new Array<number>(shape.length);
  let rest = offset;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const size = shape[axis] as number;
    index[axis] = rest % size;
    rest = Math.floor(rest / size);
  }
  return index;
}

/** Elements from one index of an axis to the next, in C order. */
export function stridesOf(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis] as number;
  }
  return strides;
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, axis) => size === b[axis]);
}

/** Where each sample's rows begin in a jagged tensor, and where the last one's end. */
export function offsetsOf(lengths: readonly number[]): number[] {
  const offsets = [0];
  for (const length of lengths) offsets.push((offsets.at(-1) as number) + length);
  return offsets;
}

/** Whether one shape is the other with axes split: [15] and [3, 5], [6, 7, 7] and [2, 3, 7, 7]. The elements lie alike. */
export function isRegrouped(a: readonly number[], b: readonly number[]): boolean {
  const [coarse, fine] = a.length <= b.length ? [a, b] : [b, a];
  let at = 0;
  for (const size of coarse) {
    let product = 1;
    do product *= fine[at++] ?? NaN;
    while (product < size);
    if (product !== size) return false;
  }
  return fine.slice(at).every((size) => size === 1);
}
