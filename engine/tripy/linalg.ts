import { widened } from "./elementwise.js";
import type { Lowering } from "./opTable.js";
import { intAttribute, intListAttribute } from "./sourceOp.js";

/** Products and convolutions (nvtripy/trace/ops/{matmul,convolution,deconvolution}.py): data, kernel, bias where there is one. */
export const LINALG: Readonly<Record<string, Lowering>> = {
  MatrixMultiply: (op, emit) => widened(op, emit, (inputs) => emit.node("MatMul", inputs)),
  Convolution: convolution("Conv"),
  Deconvolution: convolution("ConvTranspose"),
};

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
