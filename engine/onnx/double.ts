import { create } from "@bufbuild/protobuf";
import {
  AttributeProto_AttributeType,
  AttributeProtoSchema,
  NodeProtoSchema,
  TensorProto_DataType,
  type AttributeProto,
  type GraphProto,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type TypeProto,
  type ValueInfoProto,
} from "onnx-buf";
import { fromFloat64, isFloat, toFloat64 } from "../core/dtypes.js";
import type { DType } from "../protocol/tensor.js";
import { inferDTypes } from "./elementTypes.js";
import { attributeOf, graphOf, subgraphsOf, withFields } from "./fields.js";
import { dtypeOfOnnx, tensorProtoOf, tensorValueOf } from "./tensorProto.js";

/**
 * The same computation in float64: parameters, inputs, constants, declared types and the targets of casts, so that
 * narrowing casts are left out. It measures what honest rounding does in the model's own precision. Ops without a
 * float64 kernel (`opsWithoutDouble`) are evaluated in float32 between two casts: the noise of their own arithmetic
 * stays unmeasured.
 */
export function toDouble(model: ModelProto): ModelProto {
  const context: Context = {
    dtypes: inferDTypes(model),
    isLocalFunction: localFunctions(model),
    opset: Number(model.opsetImport.find(({ domain }) => isOnnxDomain(domain))?.version ?? 0),
  };
  return withFields(model, {
    graph: graphInDouble(graphOf(model), context),
    functions: model.functions.map((one) =>
      withFields(one, {
        node: one.node.map((node) => nodeInDouble(node, context)),
        valueInfo: one.valueInfo.map(portInDouble),
      }),
    ),
  });
}

/** The op types of the model, sorted, that ONNX Runtime 1.30 cannot compute in float64 on the CPU. */
export function opsWithoutDouble(model: ModelProto): string[] {
  const isLocalFunction = localFunctions(model);
  const found = new Set<string>();
  const visit = (nodes: readonly NodeProto[]): void => {
    for (const node of nodes) {
      if (!isLocalFunction(node) && lacksDouble(node)) found.add(node.opType);
      for (const graph of subgraphsOf(node)) visit(graph.node);
    }
  };
  visit(graphOf(model).node);
  for (const one of model.functions) visit(one.node);
  return [...found].sort();
}

/**
 * Found by running every op in float32 and in float64 under ONNX Runtime 1.30.0; a test runs those again that a
 * recommender model is likely to have.
 */
const withoutDouble = new Set(
  [
    "Acos Acosh Asin Asinh Atan Atanh Cosh Sinh Tan Erf",
    "Celu Elu Gelu HardSigmoid HardSwish Hardmax LeakyRelu Mish PRelu Selu Softplus Softsign",
    "ThresholdedRelu InstanceNormalization LRN MeanVarianceNormalization",
    "AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxRoiPool MaxUnpool",
    "Conv ConvTranspose DeformConv Col2Im Resize Upsample GRU LSTM RNN",
    "QuantizeLinear DequantizeLinear DynamicQuantizeLinear QLinearMatMul QLinearConv",
    "Det Mean NonZero OneHot",
  ]
    .join(" ")
    .split(" "),
);

function lacksDouble(node: NodeProto): boolean {
  return !isOnnxDomain(node.domain) || withoutDouble.has(node.opType);
}

function isOnnxDomain(domain: string): boolean {
  return domain === "" || domain === "ai.onnx";
}

interface Context {
  readonly dtypes: ReadonlyMap<string, DType>;
  readonly isLocalFunction: IsLocalFunction;
  readonly opset: number;
}

type IsLocalFunction = (node: NodeProto) => boolean;

function localFunctions(model: ModelProto): IsLocalFunction {
  const names = new Set(model.functions.map(({ domain, name }) => `${domain}:${name}`));
  return ({ domain, opType }) => names.has(`${domain}:${opType}`);
}

function graphInDouble(graph: GraphProto, context: Context): GraphProto {
  return withFields(graph, {
    initializer: graph.initializer.map(tensorInDouble),
    input: graph.input.map(portInDouble),
    output: graph.output.map(portInDouble),
    valueInfo: graph.valueInfo.map(portInDouble),
    node: graph.node.flatMap((node, index) =>
      !context.isLocalFunction(node) && lacksDouble(node)
        ? inSingle(node, index, context.dtypes)
        : [nodeInDouble(node, context)],
    ),
  });
}

function nodeInDouble(node: NodeProto, context: Context): NodeProto {
  const attribute = node.attribute.map((one) =>
    attributeInDouble(one, node.opType, (graph) => graphInDouble(graph, context)),
  );
  // These make float32 where nothing else is asked for.
  if (node.opType === "ConstantOfShape" && !attributeOf(node, "value")) {
    const zero = { dtype: "float64" as const, shape: [1], bytes: new Uint8Array(8) };
    attribute.push(tensorAttribute("value", tensorProtoOf("", zero)));
  }
  if (/^Random(Normal|Uniform)$/.test(node.opType) && !attributeOf(node, "dtype")) {
    attribute.push(typeAttribute("dtype", TensorProto_DataType.DOUBLE));
  }
  // From opset 21 on its mean and variance are taken in float32 otherwise (measured: 1.1e-7 off instead of 4e-16).
  const takesStash = node.opType === "GroupNormalization" && context.opset >= 21;
  if (takesStash && !attributeOf(node, "stash_type")) {
    attribute.push(typeAttribute("stash_type", TensorProto_DataType.DOUBLE));
  }
  return withFields(node, { attribute });
}

function attributeInDouble(
  attribute: AttributeProto,
  opType: string,
  convert: (graph: GraphProto) => GraphProto,
): AttributeProto {
  const { name } = attribute;
  if (name === "to" || name === "dtype" || name === "stash_type") {
    const isTypeOfFloats = isFloatType(Number(attribute.i));
    return isTypeOfFloats ? typeAttribute(name, TensorProto_DataType.DOUBLE) : attribute;
  }
  if (opType === "Constant" && (name === "value_float" || name === "value_floats")) {
    const list = name === "value_floats";
    // They are float32 in the file; a model that never was in a file may hold more digits.
    const values = (list ? attribute.floats : [attribute.f]).map(Math.fround);
    return tensorAttribute(
      "value",
      tensorProtoOf("", {
        dtype: "float64",
        shape: list ? [values.length] : [],
        bytes: fromFloat64(values, "float64"),
      }),
    );
  }
  if (!attribute.t && !attribute.g && attribute.graphs.length === 0) return attribute;
  return withFields(attribute, {
    ...(attribute.t && { t: tensorInDouble(attribute.t) }),
    ...(attribute.g && { g: convert(attribute.g) }),
    graphs: attribute.graphs.map(convert),
  });
}

/** The node as it is, between casts of its float inputs to float32 and of its float outputs back. */
function inSingle(node: NodeProto, index: number, dtypes: ReadonlyMap<string, DType>): NodeProto[] {
  const isFloatValue = (name: string): boolean => {
    const dtype = dtypes.get(name);
    return dtype !== undefined && isFloat(dtype);
  };
  const single = (name: string): string => `${name}@float32/${index}`;
  const inputs = [...new Set(node.input.filter(isFloatValue))];
  const outputs = node.output.filter(isFloatValue);
  return [
    ...inputs.map((name) => cast(name, single(name), TensorProto_DataType.FLOAT)),
    withFields(node, {
      input: node.input.map((name) => (isFloatValue(name) ? single(name) : name)),
      output: node.output.map((name) => (isFloatValue(name) ? single(name) : name)),
    }),
    ...outputs.map((name) => cast(single(name), name, TensorProto_DataType.DOUBLE)),
  ];
}

function cast(from: string, to: string, type: TensorProto_DataType): NodeProto {
  return create(NodeProtoSchema, {
    opType: "Cast",
    name: `${to}/cast`,
    input: [from],
    output: [to],
    attribute: [typeAttribute("to", type)],
  });
}

function tensorInDouble(tensor: TensorProto): TensorProto {
  if (!isFloatType(tensor.dataType)) return tensor;
  const value = tensorValueOf(tensor);
  if (!value) return tensor;
  const bytes = fromFloat64(toFloat64(value), "float64");
  return tensorProtoOf(tensor.name, { dtype: "float64", shape: value.shape, bytes });
}

function portInDouble(port: ValueInfoProto): ValueInfoProto {
  return port.type ? withFields(port, { type: typeInDouble(port.type) }) : port;
}

function typeInDouble(type: TypeProto): TypeProto {
  const { value } = type;
  switch (value.case) {
    case "tensorType":
      if (!isFloatType(value.value.elemType)) return type;
      return withFields(type, {
        value: {
          case: "tensorType",
          value: withFields(value.value, { elemType: TensorProto_DataType.DOUBLE }),
        },
      });
    case "sequenceType":
    case "optionalType": {
      const { elemType } = value.value;
      if (!elemType) return type;
      const inner = { elemType: typeInDouble(elemType) };
      return withFields(type, {
        value:
          value.case === "sequenceType"
            ? { case: value.case, value: withFields(value.value, inner) }
            : { case: value.case, value: withFields(value.value, inner) },
      });
    }
    default:
      return type;
  }
}

function isFloatType(type: number): boolean {
  const dtype = dtypeOfOnnx(type);
  return dtype !== undefined && isFloat(dtype);
}

function typeAttribute(name: string, type: TensorProto_DataType): AttributeProto {
  const { INT } = AttributeProto_AttributeType;
  return create(AttributeProtoSchema, { name, type: INT, i: BigInt(type) });
}

function tensorAttribute(name: string, t: TensorProto): AttributeProto {
  return create(AttributeProtoSchema, { name, type: AttributeProto_AttributeType.TENSOR, t });
}
