import { TensorProto_DataType } from "onnx-buf";
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
 * Quantisation to int8, int4 and float8 (nvtripy/trace/ops/{quantize,dequantize}.py): data and a scale that is 0-d, 1-D
 * along `dim`, or of the data's rank with one element per block. Spelled out in float32 instead of as QuantizeLinear and
 * DequantizeLinear, because ONNX Runtime fuses those two with the ops between them into integer kernels, which compute
 * something else than the program that is compared.
 */
export const QUANTIZE: Readonly<Record<string, Lowering>> = {
  Quantize: (op, emit) => {
    const input = operand(op, 0);
    const { dtype, narrow } = outputOf(op);
    const scaled = emit.node("Div", [
      emit.cast(input.name, input.dtype, "float32"),
      scaleOf(op, emit, input),
    ]);
    if (narrow === "float8") return roundToFloat8(emit, scaled);
    if (dtype !== "int8") throw new UnsupportedOp(`Quantize to ${dtype}`);
    const [lowest, highest] = narrow === "int4" ? [-8, 7] : [-128, 127];
    const [low, high] = [emit.scalar("float32", lowest), emit.scalar("float32", highest)];
    // ONNX's Round takes halves to even, as TensorRT's quantisation does.
    const clipped = emit.node("Clip", [emit.node("Round", [scaled]), low, high]);
    return emit.cast(clipped, "float32", dtype);
  },
  Dequantize: (op, emit) => {
    const input = operand(op, 0);
    if (input.dtype !== "int8" && !input.narrow)
      throw new UnsupportedOp(`Dequantize of ${input.dtype}`);
    const product = emit.node("Mul", [
      emit.cast(input.name, input.dtype, "float32"),
      scaleOf(op, emit, input),
    ]);
    return emit.cast(product, "float32", outputOf(op).dtype);
  },
};

/** To the nearest value of float8 (E4M3, finite), beyond ±448 to those; the result is carried in float32. */
function roundToFloat8(emit: Emitter, value: string): string {
  const rounded = emit.node("Cast", [value], {
    to: TensorProto_DataType.FLOAT8E4M3FN,
    saturate: 1,
  });
  return emit.node("Cast", [rounded], { to: TensorProto_DataType.FLOAT });
}

/** The scale in float32, laid along `dim` of the data where there is one per channel, or over the blocks. */
function scaleOf(op: SourceOp, emit: Emitter, data: Operand): string {
  const scale = operand(op, 1);
  const value = emit.cast(scale.name, scale.dtype, "float32");
  const dim = op.attributes["dim"];
  if (dim === null || dim === undefined) {
    return scale.shape.length > 1 ? perBlock(op, emit, value, scale.shape, data.shape) : value;
  }
  const rank = data.shape.length;
  const axis = (intAttribute(op, "dim") + rank) % rank;
  const aligned = Array.from({ length: rank }, (_, other) => (other === axis ? -1 : 1));
  return emit.node("Reshape", [value, emit.int64s(aligned)]);
}

/** Repeats each element of the scale over its block of the data: [a, b] → [a, 1, b, 1] → [a, n, b, m] → [a·n, b·m]. */
function perBlock(
  op: SourceOp,
  emit: Emitter,
  value: string,
  scale: readonly number[],
  data: readonly number[],
): string {
  const fits =
    scale.length === data.length &&
    scale.every((blocks, axis) => blocks > 0 && (data[axis] as number) % blocks === 0);
  if (!fits || data.some((size) => size < 0))
    throw new UnsupportedOp(
      `${op.kind} of [${data.join(", ")}] with a scale per block of [${scale.join(", ")}]`,
    );
  const apart = emit.node("Reshape", [value, emit.int64s(scale.flatMap((blocks) => [blocks, 1]))]);
  const repeated = emit.node("Expand", [
    apart,
    emit.int64s(scale.flatMap((blocks, axis) => [blocks, (data[axis] as number) / blocks])),
  ]);
  return emit.node("Reshape", [repeated, emit.int64s(data)]);
}
