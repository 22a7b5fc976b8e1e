import { create } from "@bufbuild/protobuf";
import {
  AttributeProto_AttributeType,
  ModelProtoSchema,
  type GraphProto,
  type ModelProto,
  type TensorProto,
} from "onnx-buf";
import { fromFloat64 } from "../../engine/core/dtypes.js";
import type { TensorValue } from "../../engine/core/tensorValue.js";
import { onnxTypes, tensorProtoOf } from "../../engine/onnx/tensorProto.js";
import type { DType } from "../../engine/protocol/tensor.js";

type Attribute =
  number | bigint | string | readonly bigint[] | readonly number[] | TensorProto | GraphProto;

export interface SmallNode {
  readonly op: string;
  readonly in: readonly string[];
  readonly out: readonly string[];
  readonly domain?: string;
  readonly name?: string;
  readonly attributes?: Readonly<Record<string, Attribute>>;
  readonly metadata?: Readonly<Record<string, string>>;
}

export type Port = readonly [dtype: DType, shape?: readonly (number | string)[]];

export interface SmallModel {
  readonly inputs?: Readonly<Record<string, Port>>;
  readonly initializers?: Readonly<Record<string, TensorValue>>;
  readonly nodes: readonly SmallNode[];
  readonly outputs: readonly string[];
  readonly valueInfo?: Readonly<Record<string, Port>>;
  readonly metadata?: Readonly<Record<string, string>>;
  readonly producer?: string;
  /** Default 20. */
  readonly opset?: number;
}

/** An ONNX model of a few nodes; outputs carry no type. bigint attributes are INT, numbers FLOAT. */
export function smallModel(small: SmallModel): ModelProto {
  const domains = new Set(small.nodes.map((node) => node.domain ?? ""));
  domains.add("");
  return create(ModelProtoSchema, {
    irVersion: 10n,
    producerName: small.producer ?? "",
    opsetImport: [...domains].map((domain) => ({
      domain,
      version: domain === "" ? BigInt(small.opset ?? 20) : 1n,
    })),
    metadataProps: entries(small.metadata),
    graph: smallGraph(small),
  });
}

export function smallGraph(small: SmallModel): GraphProto {
  return create(ModelProtoSchema, {
    graph: {
      name: "small",
      input: Object.entries(small.inputs ?? {}).map(typed),
      output: small.outputs.map((name) => ({ name })),
      valueInfo: Object.entries(small.valueInfo ?? {}).map(typed),
      initializer: Object.entries(small.initializers ?? {}).map(([name, value]) =>
        tensorProtoOf(name, value),
      ),
      node: small.nodes.map((node) => ({
        name: node.name ?? "",
        opType: node.op,
        domain: node.domain ?? "",
        input: [...node.in],
        output: [...node.out],
        attribute: Object.entries(node.attributes ?? {}).map(attribute),
        metadataProps: entries(node.metadata),
      })),
    },
  }).graph as GraphProto;
}

export function floats(
  shape: readonly number[],
  values: readonly number[],
  dtype: DType = "float32",
): TensorValue {
  return { dtype, shape, bytes: fromFloat64(values, dtype) };
}

function entries(record: Readonly<Record<string, string>> = {}) {
  return Object.entries(record).map(([key, value]) => ({ key, value }));
}

function typed([name, [dtype, shape]]: [string, Port]) {
  const dim = shape?.map((size) => ({
    value:
      typeof size === "number"
        ? { case: "dimValue" as const, value: BigInt(size) }
        : { case: "dimParam" as const, value: size },
  }));
  return {
    name,
    type: {
      value: {
        case: "tensorType" as const,
        value: { elemType: onnxTypes[dtype], ...(dim && { shape: { dim } }) },
      },
    },
  };
}

function attribute([name, value]: [string, Attribute]) {
  const type = AttributeProto_AttributeType;
  if (typeof value === "bigint") return { name, type: type.INT, i: value };
  if (typeof value === "number") return { name, type: type.FLOAT, f: value };
  if (typeof value === "string") {
    return { name, type: type.STRING, s: new TextEncoder().encode(value) };
  }
  if ("node" in value) return { name, type: type.GRAPH, g: value };
  if ("dataType" in value) return { name, type: type.TENSOR, t: value };
  return typeof value[0] === "bigint"
    ? { name, type: type.INTS, ints: value as bigint[] }
    : { name, type: type.FLOATS, floats: value as number[] };
}
