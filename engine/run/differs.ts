import { sameBytes } from "../core/integerComparison.js";
import type { TensorPair } from "../core/pairing.js";
import { sameShape } from "../core/shapes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { ValueIndex } from "../core/valueIndex.js";

/** Whether a value is not what the pair's reference holds, by the index's gates. */
export function differs(
  pair: TensorPair,
  index: ValueIndex,
  value: TensorValue | undefined,
): boolean {
  const { reference, alignment } = pair;
  return value === undefined || !alignment || !index.isSame({ reference, alignment }, value);
}

export function isSameTensor(a: TensorValue, b: TensorValue): boolean {
  return sameShape(a.shape, b.shape) && sameBytes(a.bytes, b.bytes);
}
