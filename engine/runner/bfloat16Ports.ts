import { fromFloat64, toFloat64 } from "../core/dtypes.js";
import type { TensorValue } from "../core/tensorValue.js";
import { withFloat32Ports } from "../onnx/floatPorts.js";
import { readModel, serialise } from "../onnx/model.js";

export interface WithoutBfloat16Ports {
  readonly model: Uint8Array;
  readonly feeds: Readonly<Record<string, TensorValue>>;
  /** Gives the outputs their own type back; float32 holds every bfloat16 exactly, so that nothing is rounded. */
  restore(values: Record<string, TensorValue>): Record<string, TensorValue>;
}

/** onnxruntime-node cannot hand over bfloat16: its inputs and outputs cross the border as float32. */
export function withoutBfloat16Ports(
  model: Uint8Array,
  feeds: Readonly<Record<string, TensorValue>>,
): WithoutBfloat16Ports {
  const { model: changed, outputs } = withFloat32Ports(readModel(model, "the model"));
  return {
    model: serialise(changed),
    feeds: Object.fromEntries(
      Object.entries(feeds).map(([name, value]) => [
        name,
        value.dtype === "bfloat16" ? as(value, "float32") : value,
      ]),
    ),
    restore: (values) =>
      Object.fromEntries(
        Object.entries(values).map(([name, value]) => [
          name,
          outputs.has(name) ? as(value, "bfloat16") : value,
        ]),
      ),
  };
}

function as(value: TensorValue, dtype: "float32" | "bfloat16"): TensorValue {
  return { dtype, shape: value.shape, bytes: fromFloat64(toFloat64(value), dtype) };
}
