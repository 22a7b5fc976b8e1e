import type { Observation, ObservedOp, TensorKey } from "../observation.js";
import type { TensorValue } from "../tensorValue.js";
import { stepWriter, type Expansion, type StepWriter } from "./builder.js";
import * as masks from "./masks.js";
import * as norms from "./norms.js";
import * as products from "./products.js";
import * as recurrent from "./recurrent.js";

/**
 * Ops of torch that do in one what ports often write out, by the last word of their kind: the formulas of torch's
 * documentation, step by step.
 */
const expansions: Readonly<Record<string, (w: StepWriter) => Expansion | undefined>> = {
  layer_norm: norms.layerNorm,
  group_norm: norms.groupNorm,
  batch_norm: norms.batchNorm,
  rms_norm: norms.rmsNorm,
  normalize: norms.normalize,
  norm: norms.vectorNorm,
  vector_norm: norms.vectorNorm,
  softmax: norms.softmax,
  log_softmax: norms.logSoftmax,
  linear: products.linear,
  addmm: products.addmm,
  masked_fill: masks.maskedFill,
  masked_fill_: masks.maskedFill,
  where: masks.where,
  silu: products.silu,
  gelu: products.gelu,
  softplus: products.softplus,
  glu: products.glu,
  scaled_dot_product_attention: products.attention,
  multi_head_attention_forward: products.multiHeadAttention,
  gru_cell: recurrent.gruCell,
  lstm_cell: recurrent.lstmCell,
  gru: recurrent.gruSequence,
  lstm: recurrent.lstmSequence,
};

export function isFused({ kind, attributes }: ObservedOp): boolean {
  return attributes !== undefined && Object.hasOwn(expansions, kind.split(".").at(-1) ?? "");
}

/** Whether an op's result can be made again of its steps with other values. */
export function isMadeOfSteps({ kind }: ObservedOp): boolean {
  return /\.(scaled_dot_product_attention|multi_head_attention_forward)$/.test(kind);
}

/** @param given Other values for some of its steps. */
export function expansionOf(
  op: ObservedOp,
  observation: Observation,
  given?: ReadonlyMap<TensorKey, TensorValue>,
): Expansion | undefined {
  if (!isFused(op)) return undefined;
  return expansions[op.kind.split(".").at(-1) ?? ""]?.(stepWriter(op, observation, given));
}

/** The observation with these ops written out, each step with its value; undefined where none of them can be. */
export function expandFused(
  observation: Observation,
  ops: ReadonlySet<ObservedOp>,
): Observation | undefined {
  const expanded = new Map<ObservedOp, Expansion>();
  for (const op of ops) {
    const expansion = expansionOf(op, observation);
    if (expansion) expanded.set(op, expansion);
  }
  if (expanded.size === 0) return undefined;
  const tensors = new Map<TensorKey, NonNullable<ReturnType<Observation["tensors"]["get"]>>>(
    observation.tensors,
  );
  for (const { tensors: more } of expanded.values()) {
    for (const tensor of more) tensors.set(tensor.key, tensor);
  }
  return {
    ...observation,
    ops: observation.ops.flatMap((op) => expanded.get(op)?.ops ?? [op]),
    tensors,
  };
}
