import type { Site } from "../protocol/report.js";
import type { DType, Layout } from "../protocol/tensor.js";
import type { RowPlacement } from "./rowPlacement.js";
import type { TensorValue } from "./tensorValue.js";

/**
 * One implementation as the comparison sees it, whatever it came from: its ops in execution order and the values of
 * its tensors. A recorded trace and an ONNX model that was run with taps both become one.
 */
export interface Observation {
  readonly ops: readonly ObservedOp[];
  readonly tensors: ReadonlyMap<TensorKey, ObservedTensor>;
  readonly parameters: readonly ObservedParameter[];
  readonly inputs: readonly ObservedPort[];
  readonly outputs: readonly ObservedPort[];
}

/** Identifies a tensor within its implementation: the trace's tensor id, or the name in the ONNX graph. */
export type TensorKey = string;

export interface ObservedOp {
  readonly id: string;
  /** The framework's word: "LayerNorm", "torch.mm". */
  readonly kind: string;
  /** Ops that one source op was lowered to share this; otherwise it is the id. */
  readonly sourceOp: string;
  readonly inputs: readonly TensorKey[];
  /** What it reads as a whole, where its steps are written out and `inputs` are what the last of them reads. */
  readonly wholeInputs?: readonly TensorKey[];
  readonly outputs: readonly TensorKey[];
  /** User frames, innermost first, relative to the run's base. */
  readonly frames: readonly Site[];
  readonly instance: string;
  readonly call?: number;
  /** Where the user made the library's module in whose code the op ran. */
  readonly constructedAt?: Site;
  /** What a recorded op got beside tensors; `operands` names the tensors' places in its signature. */
  readonly attributes?: Readonly<Record<string, unknown>>;
}

export interface ObservedTensor {
  readonly key: TensorKey;
  /** Names in the user's source, best first; see `TraceTensor.names`. */
  readonly names: readonly string[];
  /** What it is where the source has no name for it. */
  readonly description?: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly layout: Layout;
  /** Where the implementation that it is compared with keeps its rows, if not at the front. */
  readonly placement?: RowPlacement;
  /** Absent when it was not observed. */
  readonly value?: TensorValue;
  /** relL2 between two runs of the implementation; 0 when bit-identical. */
  readonly nonDeterminism?: number;
}

export interface ObservedParameter {
  readonly name: string;
  readonly tensor: TensorKey;
  readonly value: TensorValue;
  readonly declaredAt?: Site;
  /** A constant that no module declares: perhaps a weight, perhaps a mask. */
  readonly isConstant?: boolean;
}

export interface ObservedPort {
  readonly name: string;
  readonly tensor: TensorKey;
}

/** The op that makes each tensor. */
export function producers(observation: Observation): Map<TensorKey, ObservedOp> {
  const producerOf = new Map<TensorKey, ObservedOp>();
  for (const op of observation.ops) for (const output of op.outputs) producerOf.set(output, op);
  return producerOf;
}

/** The ops that read each tensor, in execution order. */
export function consumers(observation: Observation): Map<TensorKey, ObservedOp[]> {
  const consumersOf = new Map<TensorKey, ObservedOp[]>();
  for (const op of observation.ops) {
    for (const input of new Set(op.inputs)) {
      const list = consumersOf.get(input);
      if (list) list.push(op);
      else consumersOf.set(input, [op]);
    }
  }
  return consumersOf;
}
