import { create } from "@bufbuild/protobuf";
import { ValueInfoProtoSchema, type ValueInfoProto } from "onnx-buf";
import type { TraceTensor } from "../protocol/trace.js";
import { onnxTypes } from "../onnx/tensorProto.js";
import { parseDType } from "./dtypes.js";

/** The type of a value, with each dimension that is known before the run. */
export function valueInfo(name: string, tensor: TraceTensor): ValueInfoProto {
  const dtype = parseDType(tensor.dtype);
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: "tensorType",
        value: {
          ...(dtype && { elemType: onnxTypes[dtype] }),
          shape: {
            dim: tensor.shape.map((size) => ({
              value:
                size >= 0
                  ? { case: "dimValue" as const, value: BigInt(size) }
                  : { case: undefined },
            })),
          },
        },
      },
    },
  });
}
