import type { GraphProto, ModelProto, NodeProto, TypeProto } from "onnx-buf";
import type { DType } from "../protocol/tensor.js";
import { attributeOf, graphOf } from "./fields.js";
import { dtypeOfOnnx } from "./tensorProto.js";

/**
 * The element type of each value of the main graph, as far as it follows from what the model declares and from the ops'
 * definitions. Values of ops that are not known here, of local functions and of loops stay out unless declared.
 */
export function inferDTypes(model: ModelProto): Map<string, DType> {
  return inferGraph(graphOf(model), new Map());
}

export function declaredDType(type: TypeProto | undefined): DType | undefined {
  return type?.value.case === "tensorType" ? dtypeOfOnnx(type.value.value.elemType) : undefined;
}

function inferGraph(graph: GraphProto, outer: ReadonlyMap<string, DType>): Map<string, DType> {
  const known = new Map(outer);
  const set = (name: string, dtype: DType | undefined): void => {
    if (dtype && name !== "") known.set(name, dtype);
  };
  for (const tensor of graph.initializer) set(tensor.name, dtypeOfOnnx(tensor.dataType));
  for (const port of [...graph.input, ...graph.valueInfo, ...graph.output]) {
    set(port.name, declaredDType(port.type));
  }
  for (const node of graph.node) {
    node.output.forEach((name, index) => {
      if (!known.has(name)) set(name, outputDType(node, index, known));
    });
  }
  return known;
}

function outputDType(
  node: NodeProto,
  index: number,
  known: ReadonlyMap<string, DType>,
): DType | undefined {
  const input = (position: number): DType | undefined => known.get(node.input[position] ?? "");
  const given = (attribute: string): DType | undefined => {
    const value = attributeOf(node, attribute);
    return value && dtypeOfOnnx(Number(value.i));
  };
  if (node.domain !== "" && node.domain !== "ai.onnx") return undefined;
  if (booleanOps.has(node.opType)) return "bool";
  if (int64Ops.has(node.opType)) return "int64";
  if (opsOfOtherValues.has(node.opType)) return undefined;
  switch (node.opType) {
    case "Cast":
      return given("to");
    case "CastLike":
    case "Where":
      return input(1);
    case "OneHot":
      return input(2);
    case "Constant":
      return constantDType(node);
    case "ConstantOfShape": {
      const value = attributeOf(node, "value")?.t;
      return value ? dtypeOfOnnx(value.dataType) : "float32";
    }
    case "RandomNormal":
    case "RandomUniform":
      return given("dtype") ?? "float32";
    case "EyeLike":
    case "Bernoulli":
    case "RandomNormalLike":
    case "RandomUniformLike":
      return given("dtype") ?? input(0);
    case "Multinomial":
      return given("dtype") ?? "int32";
    case "TopK":
    case "MaxPool":
      return index === 0 ? input(0) : "int64";
    case "Unique":
      return index === 0 ? input(0) : "int64";
    case "Dropout":
      return index === 0 ? input(0) : "bool";
    case "LayerNormalization":
      return index === 0 ? input(0) : (given("stash_type") ?? "float32");
    case "QuantizeLinear":
      return input(2) ?? given("output_dtype") ?? "uint8";
    case "DequantizeLinear":
      return input(1);
    case "DynamicQuantizeLinear":
      return index === 1 ? "float32" : "uint8";
    case "MatMulInteger":
    case "ConvInteger":
      return "int32";
    case "QLinearMatMul":
    case "QLinearConv":
      return input(7);
    case "If": {
      const branch = attributeOf(node, "then_branch")?.g;
      const name = branch?.output[index]?.name;
      return branch && name !== undefined ? inferGraph(branch, known).get(name) : undefined;
    }
    default:
      return input(0);
  }
}

function constantDType(node: NodeProto): DType | undefined {
  const tensor = attributeOf(node, "value")?.t;
  if (tensor) return dtypeOfOnnx(tensor.dataType);
  const name = node.attribute[0]?.name;
  if (name === "value_float" || name === "value_floats") return "float32";
  return name === "value_int" || name === "value_ints" ? "int64" : undefined;
}

const booleanOps = new Set(
  "Equal Greater Less GreaterOrEqual LessOrEqual And Or Not Xor IsNaN IsInf".split(" "),
);
const int64Ops = new Set("Shape Size NonZero ArgMax ArgMin NonMaxSuppression".split(" "));
/** Ops whose values are no tensors, or whose types their bodies decide. */
const opsOfOtherValues = new Set(
  [
    "Loop Scan SequenceMap SequenceConstruct SequenceEmpty SequenceInsert SequenceErase SequenceAt",
    "SequenceLength SplitToSequence ConcatFromSequence Optional OptionalGetElement",
    "OptionalHasElement StringSplit StringConcat StringNormalizer RegexFullMatch TfIdfVectorizer",
    "ImageDecoder",
  ]
    .join(" ")
    .split(" "),
);
