import type { DType } from "../protocol/tensor.js";
import { elementCount, float64Reader, floatFormats, isFloat } from "./dtypes.js";
import type { TensorValue } from "./tensorValue.js";

/** Beyond this a number is a mask's fill whatever stands beside it: it says "not this one" and nothing else. */
export const fillThreshold = 1e30;

/**
 * The magnitude over which a tensor's numbers are masked fills. −1e9 in attention scores is one as much as −3e38: beside it
 * every norm is blind to the scores. It shows by a gap: at least two numbers, and one in two hundred, of one sign, about
 * 1e4 at least and within two hundredths of one another (a score was added to each), a hundred times beyond all others.
 */
export function fillsBeyond(value: TensorValue): number {
  if (!isFloat(value.dtype)) return fillThreshold;
  let limit = known.get(value);
  if (limit === undefined) known.set(value, (limit = findGap(value)));
  return limit;
}

/** From here on a candidate's number is a masked fill where the reference's is one: float16 has none over 65504. */
export function fillLimitOf(dtype: DType, beyond: number): number {
  return isFloat(dtype) ? Math.min(beyond, floatFormats[dtype].max) : beyond;
}

const known = new WeakMap<TensorValue, number>();
const leastFill = 9.9e3;
const gap = 100;
const spread = 0.02;
const leastShare = 1 / 200;

function findGap(value: TensorValue): number {
  const count = elementCount(value.shape);
  let largest = 0;
  const visit = (take: (x: number) => void): void => {
    const read = float64Reader(value);
    const chunk = new Float64Array(4096);
    for (let done = 0; done < count; done += chunk.length) {
      const length = Math.min(chunk.length, count - done);
      read(done, length, chunk, 0);
      for (let i = 0; i < length; i++) take(chunk[i] as number);
    }
  };
  visit((x) => {
    const size = Math.abs(x);
    if (size > largest && size <= fillThreshold) largest = size;
  });
  if (largest < leastFill) return fillThreshold;
  let fills = 0;
  let negative = 0;
  let others = 0;
  visit((x) => {
    const size = Math.abs(x);
    if (!(size <= fillThreshold)) return;
    if (size < largest * (1 - spread)) others = Math.max(others, size);
    else {
      fills++;
      if (x < 0) negative++;
    }
  });
  const isCluster =
    fills >= 2 &&
    fills >= count * leastShare &&
    (negative === 0 || negative === fills) &&
    others > 0 &&
    largest >= gap * others;
  return isCluster ? Math.sqrt(others * largest) : fillThreshold;
}
