import type { Layout } from "../protocol/tensor.js";
import { lengthsOf } from "./inferredPadding.js";
import { opName, propagateLayouts } from "./layoutPropagation.js";
import { offsetsOf } from "./shapes.js";
import type { Observation, ObservedOp, ObservedTensor, TensorKey } from "./observation.js";

/**
 * An implementation with the layouts that follow from packing by a mask: `padded[mask] = packed` and `packed = padded[mask]`
 * say which rows of [sum of lengths, …] are which of [B, N, …]. Results of the whole stay as they are.
 */
export function withPackedLayouts(observation: Observation): Observation {
  const { tensors, ops, outputs } = observation;
  const told = new Map<TensorKey, Layout>();
  for (const op of ops) for (const [key, layout] of packing(op, tensors)) told.set(key, layout);
  if (told.size === 0) return observation;
  const all = [...tensors.values()];
  const layouts = propagateLayouts({
    tensors: all.map(({ key, shape, layout }) => ({
      id: key,
      shape,
      layout: layout.kind === "dense" ? told.get(key) : layout,
    })),
    ops: ops.map((op) => ({ ...op, attributes: op.attributes ?? {} })),
  });
  for (const { tensor } of outputs) layouts.delete(tensor);
  const laidOut = all.map((tensor) => ({
    ...tensor,
    layout: layouts.get(tensor.key) ?? tensor.layout,
  }));
  return { ...observation, tensors: new Map(laidOut.map((tensor) => [tensor.key, tensor])) };
}

/** What an op that packs or unpacks says of the tensors that it reads and makes. */
function packing(
  { kind, inputs, outputs, attributes }: ObservedOp,
  tensors: ReadonlyMap<TensorKey, ObservedTensor>,
): [TensorKey, Layout][] {
  const name = opName(kind);
  const [source, mask, values] = inputs;
  const [made] = outputs;
  if (source === undefined || mask === undefined || made === undefined) return [];
  if (attributes?.["index"] !== undefined) return [];
  const isUnpacked = name === "getitem" || name === "index";
  const isPacked = (name === "setitem" || name === "index_put") && values !== undefined;
  if (!isUnpacked && !isPacked) return [];
  const lengths = maskLengths(tensors.get(mask));
  if (!lengths) return [];
  // A number or a vector that fills all of the mask's rows packs nothing.
  const packed = tensors.get(isUnpacked ? made : (values as TensorKey))?.shape ?? [];
  const whole = tensors.get(source)?.shape ?? [];
  const rows = lengths.reduce((sum, length) => sum + length, 0);
  if (packed[0] !== rows || packed.length !== whole.length - 1) return [];
  const padded: Layout = { kind: "padded", lengths, batchAxis: 0, axes: [1], pad: "NaN" };
  const jagged: Layout = { kind: "jagged", offsets: offsetsOf(lengths) };
  return isUnpacked
    ? [
        [source, padded],
        [made, jagged],
      ]
    : [
        [values as TensorKey, jagged],
        [made, padded],
      ];
}

function maskLengths(mask: ObservedTensor | undefined): number[] | undefined {
  return mask?.dtype === "bool" ? lengthsOf(mask) : undefined;
}
