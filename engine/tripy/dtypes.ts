import { TensorProto_DataType } from "onnx-buf";
import type { DType } from "../protocol/tensor.js";

/** ONNX element types by their NumPy name. */
export const ONNX_TYPE: Readonly<Record<DType, TensorProto_DataType>> = {
  float64: TensorProto_DataType.DOUBLE,
  float32: TensorProto_DataType.FLOAT,
  float16: TensorProto_DataType.FLOAT16,
  bfloat16: TensorProto_DataType.BFLOAT16,
  int64: TensorProto_DataType.INT64,
  int32: TensorProto_DataType.INT32,
  int16: TensorProto_DataType.INT16,
  int8: TensorProto_DataType.INT8,
  uint64: TensorProto_DataType.UINT64,
  uint32: TensorProto_DataType.UINT32,
  uint16: TensorProto_DataType.UINT16,
  uint8: TensorProto_DataType.UINT8,
  bool: TensorProto_DataType.BOOL,
};

/** The data type that Tripy writes as "float32" or "tp.float32"; undefined for one that has no tensor here (int4, float8). */
export function parseDType(text: unknown): DType | undefined {
  if (typeof text !== "string") return undefined;
  const name = text.slice(text.lastIndexOf(".") + 1);
  return Object.hasOwn(ONNX_TYPE, name) ? (name as DType) : undefined;
}

export function isFloat(dtype: DType): boolean {
  return dtype.startsWith("float") || dtype === "bfloat16";
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
