import { create } from "@bufbuild/protobuf";
import {
  AttributeProto_AttributeType,
  NodeProtoSchema,
  TensorProto_DataType,
  ValueInfoProtoSchema,
  type ModelProto,
  type NodeProto,
  type ValueInfoProto,
} from "onnx-buf";
import { declaredDType, inferDTypes } from "./elementTypes.js";
import { graphOf, withFields, withGraph, withReads } from "./fields.js";

/** The same model with float32 in place of bfloat16 at its inputs and outputs, under the same names. */
export function withFloat32Ports(model: ModelProto): {
  readonly model: ModelProto;
  /** The outputs that are bfloat16 by themselves. */
  readonly outputs: ReadonlySet<string>;
} {
  const graph = graphOf(model);
  const dtypes = inferDTypes(model);
  const stored = new Set(graph.initializer.map(({ name }) => name));
  const inputs = new Set(
    graph.input
      .filter(({ name, type }) => declaredDType(type) === "bfloat16" && !stored.has(name))
      .map(({ name }) => name),
  );
  const outputs = new Set(
    graph.output.map(({ name }) => name).filter((name) => dtypes.get(name) === "bfloat16"),
  );
  const inner = (name: string): string => `${name}@bfloat16`;
  const renamed = new Map([...inputs, ...outputs].map((name) => [name, inner(name)]));
  const node: NodeProto[] = [
    ...[...inputs].map((name) => cast(name, inner(name), TensorProto_DataType.BFLOAT16)),
    ...graph.node.map((one) => {
      const reading = withReads(one, renamed);
      return withFields(reading, {
        output: reading.output.map((name) => renamed.get(name) ?? name),
      });
    }),
    // An input that is an output too is float32 already.
    ...[...outputs]
      .filter((name) => !inputs.has(name))
      .map((name) => cast(inner(name), name, TensorProto_DataType.FLOAT)),
  ];
  return {
    outputs,
    model: withGraph(model, {
      node,
      initializer: graph.initializer.map((tensor) =>
        outputs.has(tensor.name) ? withFields(tensor, { name: inner(tensor.name) }) : tensor,
      ),
      input: graph.input.map((port) => (inputs.has(port.name) ? inFloat32(port) : port)),
      output: graph.output.map((port) => (outputs.has(port.name) ? inFloat32(port) : port)),
      valueInfo: graph.valueInfo.filter(({ name }) => !renamed.has(name)),
    }),
  };
}

function inFloat32(port: ValueInfoProto): ValueInfoProto {
  const value = port.type?.value;
  const shape = value?.case === "tensorType" ? value.value.shape : undefined;
  return create(ValueInfoProtoSchema, {
    name: port.name,
    type: {
      value: {
        case: "tensorType",
        value: { elemType: TensorProto_DataType.FLOAT, ...(shape && { shape }) },
      },
    },
  });
}

function cast(from: string, to: string, type: TensorProto_DataType): NodeProto {
  const attribute = [{ name: "to", type: AttributeProto_AttributeType.INT, i: BigInt(type) }];
  return create(NodeProtoSchema, {
    opType: "Cast",
    name: `${to}/cast`,
    input: [from],
    output: [to],
    attribute,
  });
}
