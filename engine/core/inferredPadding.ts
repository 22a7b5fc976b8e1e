import type { Layout } from "../protocol/tensor.js";
import { elementCount, toFloat64 } from "./dtypes.js";
import { propagateLayouts } from "./layoutPropagation.js";
import type { Observation, ObservedTensor } from "./observation.js";

export interface InferredPadding {
  readonly observation: Observation;
  /** What the mask is called. */
  readonly mask: string;
}

/**
 * The reference with the layouts that a padding mask suggests: where a tensor [B, N] of zeros and ones begins with ones in
 * every row, and inputs are [B, N] as well, their rows behind the last one may be padding. It is a guess: a mask may mean
 * something else. Results of the whole stay dense, so that nothing of them is left out of the comparison.
 * @returns undefined where there is no such mask, or the layouts are known from jagged operators
 */
export function withInferredPadding(reference: Observation): InferredPadding | undefined {
  const { tensors, ops, inputs, outputs } = reference;
  const all = [...tensors.values()];
  if (all.some(({ layout }) => layout.kind !== "dense")) return undefined;
  const given = new Set(inputs.map(({ tensor }) => tensor));
  const masks = all
    .filter((tensor) => tensor.dtype === "bool" || given.has(tensor.key))
    .flatMap((tensor) => {
      const lengths = lengthsOf(tensor);
      return lengths ? [{ tensor, lengths }] : [];
    });
  const [mask] = masks;
  const isOne = masks.every(({ lengths }) => lengths.join() === mask?.lengths.join());
  if (!mask || !isOne) return undefined;
  const [batch, length] = mask.tensor.shape;
  const padded: Layout = {
    kind: "padded",
    lengths: mask.lengths,
    batchAxis: 0,
    axes: [1],
    pad: "NaN",
  };
  const isPadded = ({ key, shape }: ObservedTensor): boolean =>
    given.has(key) && shape[0] === batch && shape[1] === length;
  if (!all.some((tensor) => tensor !== mask.tensor && isPadded(tensor))) return undefined;
  const layouts = propagateLayouts({
    tensors: all.map((tensor) => ({
      id: tensor.key,
      shape: tensor.shape,
      ...(isPadded(tensor) && { layout: padded }),
    })),
    ops: ops.map((op) => ({ ...op, attributes: op.attributes ?? {} })),
  });
  for (const { tensor } of outputs) layouts.delete(tensor);
  if (layouts.size === 0) return undefined;
  const laidOut = all.map((tensor) => ({
    ...tensor,
    layout: layouts.get(tensor.key) ?? tensor.layout,
  }));
  const port = inputs.find(({ tensor }) => tensor === mask.tensor.key);
  return {
    observation: { ...reference, tensors: new Map(laidOut.map((tensor) => [tensor.key, tensor])) },
    mask: port?.name ?? mask.tensor.names[0] ?? "a mask",
  };
}

/**
 * How many ones each row of a mask [B, N] begins with, if nothing but zeros follows, and at least one row has some of these.
 */
export function lengthsOf({ shape, value }: ObservedTensor): number[] | undefined {
  const [batch = 0, length = 0] = shape;
  if (shape.length !== 2 || !value || elementCount(shape) === 0) return undefined;
  const elements = toFloat64(value);
  const lengths: number[] = [];
  for (let b = 0; b < batch; b++) {
    const row = elements.subarray(b * length, (b + 1) * length);
    const end = row.indexOf(0) < 0 ? length : row.indexOf(0);
    if (end === 0 || !row.every((x, i) => x === (i < end ? 1 : 0))) return undefined;
    lengths.push(end);
  }
  // A triangle says what may be seen from where.
  const isTriangle = batch === length && lengths.every((n, b) => n === b + 1 || n === length - b);
  return isTriangle || lengths.every((n) => n === length) ? undefined : lengths;
}
