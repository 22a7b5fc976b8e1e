import { onnxTypes } from "../onnx/tensorProto.js";
import type { DType } from "../protocol/tensor.js";

/** The data type that Tripy writes as "float32" or "tp.float32"; undefined for one that has no tensor here (int4, float8). */
export function parseDType(text: unknown): DType | undefined {
  if (typeof text !== "string") return undefined;
  const name = text.slice(text.lastIndexOf(".") + 1);
  return Object.hasOwn(onnxTypes, name) ? (name as DType) : undefined;
}

/**
 * The type in which arithmetic on `dtype` is done. ONNX Runtime's CPU provider has no bfloat16 arithmetic, emulates
 * float16 by itself in places of its own choosing, and its other providers lack int8: a wider type holds every operand
 * exactly, and one rounding on the way back gives the result that a kernel of the narrow type would give.
 */
export function computeType(dtype: DType): DType {
  switch (dtype) {
    case "float16":
    case "bfloat16":
      return "float32";
    case "int8":
    case "uint8":
    case "int16":
    case "uint16":
    case "bool":
      return "int32";
    default:
      return dtype;
  }
}
