import type { Emitter } from "./emitter.js";
import type { Lowering } from "./opTable.js";
import {
  UnsupportedOp,
  intAttribute,
  operand,
  outputOf,
  type Operand,
  type SourceOp,
} from "./sourceOp.js";

/**
 * Quantisation to int8 (nvtripy/trace/ops/{quantize,dequantize}.py): data and a scale that is 0-d, or 1-D along `dim`.
 * Spelled out in float32 instead of as QuantizeLinear and DequantizeLinear, because ONNX Runtime fuses those two with
 * the ops between them into integer kernels, which compute something else than the program that is compared.
 */
export const QUANTIZE: Readonly<Record<string, Lowering>> = {
  Quantize: (op, emit) => {
    const input = operand(op, 0);
    const { dtype } = outputOf(op);
    if (dtype !== "int8") throw new UnsupportedOp(`Quantize to ${dtype}`);
    const scaled = emit.node("Div", [
      emit.cast(input.name, input.dtype, "float32"),
      scaleOf(op, emit, input),
    ]);
    const [low, high] = [emit.scalar("float32", -128), emit.scalar("float32", 127)];
    // ONNX's Round takes halves to even, as TensorRT's quantisation does.
    const clipped = emit.node("Clip", [emit.node("Round", [scaled]), low, high]);
    return emit.cast(clipped, "float32", dtype);
  },
  Dequantize: (op, emit) => {
    const input = operand(op, 0);
    if (input.dtype !== "int8") throw new UnsupportedOp(`Dequantize of ${input.dtype}`);
    const product = emit.node("Mul", [
      emit.cast(input.name, input.dtype, "float32"),
      scaleOf(op, emit, input),
    ]);
    return emit.cast(product, "float32", outputOf(op).dtype);
  },
};

/** The scale in float32, laid along `dim` of the data where there is one per channel. */
function scaleOf(op: SourceOp, emit: Emitter, data: Operand): string {
  const scale = operand(op, 1);
  const value = emit.cast(scale.name, scale.dtype, "float32");
  const dim = op.attributes["dim"];
  if (dim === null || dim === undefined) {
    if (scale.shape.length > 1) throw new UnsupportedOp(`${op.kind} with a scale per block`);
    return value;
  }
  const rank = data.shape.length;
  const axis = (intAttribute(op, "dim") + rank) % rank;
  const aligned = Array.from({ length: rank }, (_, other) => (other === axis ? -1 : 1));
  return emit.node("Reshape", [value, emit.int64s(aligned)]);
}
