import { widened } from "./elementwise.js";
import type { Lowering } from "./opTable.js";
import { intAttribute, intListAttribute, operand, outputOf } from "./sourceOp.js";

/** Products and convolutions (nvtripy/trace/ops/{matmul,convolution,deconvolution}.py): data, kernel, bias where there is one. */
export const LINALG: Readonly<Record<string, Lowering>> = {
  MatrixMultiply: (op, emit) => {
    const empty = emptyProduct(operand(op, 0).shape, operand(op, 1).shape);
    // ONNX Runtime cannot broadcast a batch of one over a batch of none.
    if (empty) return emit.empty(outputOf(op).dtype, empty.map(BigInt));
    return widened(op, emit, (inputs) => emit.node("MatMul", inputs));
  },
  Convolution: convolution("Conv"),
  Deconvolution: convolution("ConvTranspose"),
};

/** The shape of a product whose batch has a size of 0; undefined where there is none, or where it is not known yet. */
function emptyProduct(a: readonly number[], b: readonly number[]): number[] | undefined {
  if (a.length !== b.length || a.length < 3 || [...a, ...b].some((size) => size < 0))
    return undefined;
  const batch = a.slice(0, -2).map((size, axis) => (size === 1 ? (b[axis] as number) : size));
  return batch.includes(0) ? [...batch, a.at(-2) as number, b.at(-1) as number] : undefined;
}

function convolution(opType: "Conv" | "ConvTranspose"): Lowering {
  return (op, emit) =>
    widened(op, emit, (inputs) =>
      emit.node(opType, inputs, {
        strides: intListAttribute(op, "stride"),
        pads: [...intListAttribute(op, "pre_padding"), ...intListAttribute(op, "post_padding")],
        dilations: intListAttribute(op, "dilation"),
        group: intAttribute(op, "groups"),
      }),
    );
}
