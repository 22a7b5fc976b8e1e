import { widened } from "./elementwise.js";
import type { Lowering } from "./opTable.js";
import {
  UnsupportedOp,
  intAttribute,
  numberAttribute,
  operand,
  type SourceOp,
} from "./sourceOp.js";

/** Normalisations (nvtripy/trace/ops/{layernorm,instancenorm,softmax}.py): data, weight, bias. */
export const NORM: Readonly<Record<string, Lowering>> = {
  LayerNorm: (op, emit) => {
    const normalised = normalisedRank(op);
    const leading = operand(op, 0).shape.length - normalised;
    // Tripy gives weight and bias leading ones up to the data's rank; ONNX wants the normalised dimensions alone.
    const affine = (value: string): string =>
      leading === 0
        ? value
        : emit.node("Squeeze", [
            value,
            emit.int64s(Array.from({ length: leading }, (_, axis) => axis)),
          ]);
    return widened(op, emit, ([x, weight, bias]) =>
      emit.node("LayerNormalization", [x, affine(weight as string), affine(bias as string)], {
        axis: -normalised,
        epsilon: { float: numberAttribute(op, "eps") },
      }),
    );
  },
  InstanceNorm: (op, emit) =>
    widened(op, emit, ([x, weight, bias]) => {
      const flat = (value: string | undefined): string =>
        emit.node("Reshape", [value as string, emit.int64s([-1])]);
      return emit.node("InstanceNormalization", [x, flat(weight), flat(bias)], {
        epsilon: { float: numberAttribute(op, "eps") },
      });
    }),
  Softmax: (op, emit) =>
    widened(op, emit, (inputs) => emit.node("Softmax", inputs, { axis: intAttribute(op, "dim") })),
};

/** Only the length counts: the sizes are the data's, and may be dimensions that the frontend has not evaluated. */
function normalisedRank(op: SourceOp): number {
  const shape = op.attributes["normalized_shape"];
  if (!Array.isArray(shape) || shape.length === 0 || shape.length > operand(op, 0).shape.length)
    throw new UnsupportedOp('attribute "normalized_shape" of LayerNorm does not fit its data');
  return shape.length;
}
