import { create, toBinary } from "@bufbuild/protobuf";
import {
  AttributeProto_AttributeType,
  ModelProtoSchema,
  TensorProto_DataType,
  type ModelProto,
} from "onnx-buf";

/** A small ONNX model in the form in which our own lowering writes them: names, parameters and source frames. */
export interface StoryNode {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly output: string;
  /** 1-based line in `file`. */
  readonly line: number;
  readonly attributes?: Readonly<Record<string, number | readonly number[]>>;
}

export interface StoryTensor {
  readonly shape: readonly number[];
  readonly values: readonly number[];
}

export interface StoryModel {
  readonly file: string;
  readonly inputs: Readonly<Record<string, readonly number[]>>;
  readonly parameters: Readonly<Record<string, StoryTensor & { line: number; tensor: string }>>;
  readonly constants?: Readonly<Record<string, StoryTensor>>;
  readonly nodes: readonly StoryNode[];
  readonly outputs: readonly string[];
}

export function storyModelProto(story: StoryModel): ModelProto {
  const frames = [
    ...Object.values(story.parameters).map((p) => ({
      source: 0,
      line: p.line,
      function: "__init__",
    })),
    ...story.nodes.map((node) => ({ source: 0, line: node.line, function: "forward" })),
  ];
  const parameters = Object.entries(story.parameters);
  const tensors: [string, StoryTensor][] = [
    ...parameters.map(([, p]) => [p.tensor, p] as [string, StoryTensor]),
    ...Object.entries(story.constants ?? {}),
  ];
  return create(ModelProtoSchema, {
    irVersion: 9n,
    opsetImport: [{ domain: "", version: 20n }],
    metadataProps: Object.entries({
      "hstu_parity.framework": "tripy",
      "hstu_parity.run": JSON.stringify({
        executor: "",
        provider: "cpu",
        device: "cpu",
        precision: "float32",
        versions: {},
        standIns: [],
        emulated: [],
      }),
      "hstu_parity.sources": JSON.stringify([{ file: story.file, sha256: "" }]),
      "hstu_parity.frames": JSON.stringify(frames),
      "hstu_parity.names": "{}",
      "hstu_parity.parameters": JSON.stringify(
        parameters.map(([name, p], index) => ({ name, tensor: p.tensor, declaredAt: index })),
      ),
    }).map(([key, value]) => ({ key, value })),
    graph: {
      name: "story",
      input: Object.entries(story.inputs).map(([name, shape]) => valueInfo(name, shape)),
      output: story.outputs.map((name) => valueInfo(name)),
      initializer: tensors.map(([name, tensor]) => ({
        name,
        dims: tensor.shape.map(BigInt),
        dataType: TensorProto_DataType.FLOAT,
        rawData: new Uint8Array(Float32Array.from(tensor.values).buffer),
      })),
      node: story.nodes.map((node, index) => ({
        name: `n${index}`,
        opType: node.op,
        input: [...node.inputs],
        output: [node.output],
        attribute: Object.entries(node.attributes ?? {}).map(([name, value]) =>
          typeof value === "number"
            ? Number.isInteger(value)
              ? { name, type: AttributeProto_AttributeType.INT, i: BigInt(value) }
              : { name, type: AttributeProto_AttributeType.FLOAT, f: value }
            : { name, type: AttributeProto_AttributeType.INTS, ints: value.map(BigInt) },
        ),
        metadataProps: [
          { key: "hstu_parity.op", value: String(index) },
          { key: "hstu_parity.kind", value: node.op },
          { key: "hstu_parity.stack", value: JSON.stringify([parameters.length + index]) },
          { key: "hstu_parity.instance", value: "" },
        ],
      })),
    },
  });
}

export function storyModel(story: StoryModel): Uint8Array {
  return toBinary(ModelProtoSchema, storyModelProto(story));
}

function valueInfo(name: string, shape?: readonly number[]) {
  return {
    name,
    type: {
      value: {
        case: "tensorType" as const,
        value: {
          elemType: TensorProto_DataType.FLOAT,
          ...(shape && {
            shape: {
              dim: shape.map((size) => ({
                value: { case: "dimValue" as const, value: BigInt(size) },
              })),
            },
          }),
        },
      },
    },
  };
}

/** Deterministic values in (−1, 1) that look random. */
export function pseudoRandom(count: number, seed: number): number[] {
  let state = (seed * 2654435761) >>> 0 || 1;
  return Array.from({ length: count }, () => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return Math.fround((state / 2 ** 32) * 2 - 1);
  });
}
