import { create } from "@bufbuild/protobuf";
import {
  TensorProto_DataLocation,
  TensorProto_DataType,
  TensorProtoSchema,
  type TensorProto,
} from "onnx-buf";
import { elementCount, elementSize } from "../core/dtypes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { DType } from "../protocol/tensor.js";

/** ONNX element types by their NumPy name. */
export const onnxTypes: Readonly<Record<DType, TensorProto_DataType>> = {
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
const dtypes = new Map(Object.entries(onnxTypes).map(([dtype, type]) => [type, dtype as DType]));

/** undefined for the types that no tensor here can have: texts, complex numbers, 4- and 8-bit floats, 4-bit integers. */
export function dtypeOfOnnx(type: number | undefined): DType | undefined {
  return type === undefined ? undefined : dtypes.get(type as TensorProto_DataType);
}

/** undefined for a type that no tensor here can have, for external data, and where data and dims do not fit. */
export function tensorValueOf(proto: TensorProto): TensorValue | undefined {
  const dtype = dtypeOfOnnx(proto.dataType);
  if (!dtype || proto.dataLocation === TensorProto_DataLocation.EXTERNAL) return undefined;
  const shape = proto.dims.map(Number);
  const size = elementCount(shape) * elementSize[dtype];
  const bytes = proto.rawData.byteLength > 0 ? proto.rawData : typedBytes(proto, dtype);
  return bytes.byteLength === size ? { dtype, shape, bytes } : undefined;
}

/** Little-endian machines only, as ONNX Runtime itself. */
export function tensorProtoOf(name: string, { dtype, shape, bytes }: TensorValue): TensorProto {
  return create(TensorProtoSchema, {
    name,
    dims: shape.map(BigInt),
    dataType: onnxTypes[dtype],
    rawData: new Uint8Array(bytes),
  });
}

/** The fields for elements that are not stored raw; narrow types share `int32Data`, 16-bit floats by their bits. */
function typedBytes(proto: TensorProto, dtype: DType): Uint8Array {
  switch (dtype) {
    case "float64":
      return bytesOf(Float64Array.from(proto.doubleData));
    case "float32":
      return bytesOf(Float32Array.from(proto.floatData));
    case "int64":
      return bytesOf(BigInt64Array.from(proto.int64Data));
    case "uint64":
      return bytesOf(BigUint64Array.from(proto.uint64Data));
    case "uint32":
      return bytesOf(Uint32Array.from(proto.uint64Data, Number));
    case "int32":
      return bytesOf(Int32Array.from(proto.int32Data));
    case "int16":
      return bytesOf(Int16Array.from(proto.int32Data));
    case "uint16":
    case "float16":
    case "bfloat16":
      return bytesOf(Uint16Array.from(proto.int32Data));
    case "int8":
      return bytesOf(Int8Array.from(proto.int32Data));
    case "uint8":
    case "bool":
      return bytesOf(Uint8Array.from(proto.int32Data));
  }
}

function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
