import type { ModelProto } from "onnx-buf";
import { isFloat } from "../core/dtypes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { DType } from "../protocol/tensor.js";
import { inferDTypes } from "./elementTypes.js";
import { graphOf } from "./fields.js";

/**
 * The tensors worth tapping, in execution order: every float tensor that an op makes. One whose type nobody knows is
 * tapped too; constants and integer arithmetic on shapes are not. After one run with these as outputs, the type and
 * shape of every float tensor are known.
 */
export function floatTaps(model: ModelProto): string[] {
  const dtypes = inferDTypes(model);
  return tensorTaps(model).filter((name) => {
    const dtype = dtypes.get(name);
    return dtype === undefined || isFloat(dtype);
  });
}

/** Every tensor that an op makes, in execution order, without constants and without sequences, maps and optionals. */
export function tensorTaps(model: ModelProto): string[] {
  return graphOf(model)
    .node.filter(({ opType }) => opType !== "Constant" && !makesNoTensor.has(opType))
    .flatMap((node) => node.output.filter((name) => name !== ""));
}

const makesNoTensor = new Set(
  "SequenceConstruct SequenceEmpty SequenceInsert SequenceErase SequenceMap SplitToSequence Optional".split(
    " ",
  ),
);

export interface TensorForm {
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** Type and shape of each tensor after a run: declared types stay where no value came back. */
export function formsOf(
  model: ModelProto,
  values: Readonly<Record<string, TensorValue>>,
): Map<string, Partial<TensorForm>> {
  const forms = new Map<string, Partial<TensorForm>>();
  for (const [name, dtype] of inferDTypes(model)) forms.set(name, { dtype });
  for (const [name, { dtype, shape }] of Object.entries(values)) forms.set(name, { dtype, shape });
  return forms;
}
