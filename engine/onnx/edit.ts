import { create } from "@bufbuild/protobuf";
import { ValueInfoProtoSchema, type ModelProto, type ValueInfoProto } from "onnx-buf";
import type { DType } from "../protocol/tensor.js";
import { inferDTypes } from "./elementTypes.js";
import { graphOf, readsOf, withFields, withGraph, withReads } from "./fields.js";
import { onnxTypes } from "./tensorProto.js";

export { opsWithoutDouble, toDouble } from "./double.js";
export { serialise } from "./model.js";

// Every function here returns a new model that shares what did not change with the old one, which stays as it was.

/**
 * Makes tensors observable: they become graph outputs. With `only` they replace the model's own outputs, and what none
 * of them needs is dropped. The model's inputs stay.
 * @throws Error for a tensor that the graph does not have.
 */
export function withOutputs(
  model: ModelProto,
  tensors: readonly string[],
  { only = false }: { only?: boolean } = {},
): ModelProto {
  const { output } = graphOf(model);
  const kept = only ? [] : output.map(({ name }) => name);
  const names = [...new Set([...kept, ...tensors])];
  const changed = withGraph(model, { output: portsOf(model, names) });
  return only ? withoutDeadNodes(changed) : changed;
}

export interface Cut {
  readonly tensor: string;
  /** Name of the graph input that everything which reads `tensor` reads instead. */
  readonly input: string;
}

/**
 * Feeds tensors from outside: whatever reads `tensor` reads the new input `input`, while `tensor` itself is computed as
 * before where an output asks for it. What the outputs do not need is dropped, unused inputs too.
 * @param dtypeOf element types of the cut tensors; what is not in it is inferred.
 * @throws Error for a tensor that the graph does not have or whose type nobody knows.
 */
export function cutAt(
  model: ModelProto,
  cuts: readonly Cut[],
  outputs: readonly string[],
  dtypeOf: ReadonlyMap<string, DType> = new Map(),
): ModelProto {
  const graph = graphOf(model);
  requireTensors(model, [...cuts.map(({ tensor }) => tensor), ...outputs]);
  const dtypes = typesFor(
    model,
    cuts.map(({ tensor }) => tensor),
    dtypeOf,
  );
  const renamed = new Map(cuts.map(({ tensor, input }) => [tensor, input]));
  return pruned(
    withGraph(model, {
      node: graph.node.map((node) => withReads(node, renamed)),
      input: [
        ...graph.input,
        ...cuts.map(({ tensor, input }) => typedPort(input, dtypes.get(tensor) as DType)),
      ],
      output: portsOf(model, outputs),
    }),
  );
}

/** One operand of one node. */
export interface FedOperand {
  /** An output of the node. */
  readonly reader: string;
  /** Counts the inputs that are not absent from 0. */
  readonly position: number;
  /** Name of the graph input that the node reads there. */
  readonly input: string;
  readonly dtype: DType;
}

/** Feeds single operands from outside; what else reads the tensors that they were is left alone. */
export function feedOperands(model: ModelProto, operands: readonly FedOperand[]): ModelProto {
  if (operands.length === 0) return model;
  const graph = graphOf(model);
  return withGraph(model, {
    node: graph.node.map((node) => {
      const fed = operands.filter(({ reader }) => node.output.includes(reader));
      if (fed.length === 0) return node;
      let position = 0;
      return withFields(node, {
        input: node.input.map((name) => {
          if (name === "") return name;
          const at = position++;
          return fed.find((operand) => operand.position === at)?.input ?? name;
        }),
      });
    }),
    input: [...graph.input, ...operands.map(({ input, dtype }) => typedPort(input, dtype))],
  });
}

/**
 * The ops between `inputs` and `outputs` as a model of their own. Each tensor of `inputs` becomes a graph input under
 * its own name, and what makes it is left out.
 * @throws Error for a tensor that the graph does not have, whose type nobody knows, or that is both input and output.
 */
export function extractSegment(
  model: ModelProto,
  inputs: readonly string[],
  outputs: readonly string[],
  dtypeOf: ReadonlyMap<string, DType> = new Map(),
): ModelProto {
  requireTensors(model, [...inputs, ...outputs]);
  const both = inputs.find((tensor) => outputs.includes(tensor));
  if (both !== undefined) throw new Error(`"${both}" is both an input and an output`);
  const dtypes = typesFor(model, inputs, dtypeOf);
  const graph = graphOf(model);
  const fed = new Set(inputs);
  const own = new Map(graph.input.map((port) => [port.name, port]));
  return pruned(
    withGraph(model, {
      // A node may make a fed tensor and a needed one: its fed output then gets a name that nobody reads.
      node: graph.node.map((node) =>
        node.output.some((name) => fed.has(name))
          ? withFields(node, {
              output: node.output.map((name) => (fed.has(name) ? `${name}@unused` : name)),
            })
          : node,
      ),
      initializer: graph.initializer.filter(({ name }) => !fed.has(name)),
      input: [
        ...graph.input.filter(({ name }) => !fed.has(name)),
        ...inputs.map((name) => own.get(name) ?? typedPort(name, dtypes.get(name) as DType)),
      ],
      output: portsOf(model, outputs),
    }),
  );
}

/**
 * Lets parameters be fed: initializers become graph inputs of the same type and shape; a tensor that an op makes
 * (`zeros`, for example) becomes an input too. Names that are inputs already stay.
 * @throws Error for a tensor that the graph does not have.
 */
export function parametersAsInputs(model: ModelProto, names: readonly string[]): ModelProto {
  if (names.length === 0) return model;
  requireTensors(model, names);
  const graph = graphOf(model);
  const wanted = new Set(names);
  const declared = new Set(graph.input.map(({ name }) => name));
  const dtypes = typesFor(model, names, new Map());
  const shapes = new Map(graph.initializer.map(({ name, dims }) => [name, dims]));
  return withGraph(model, {
    node: graph.node.map((node) =>
      node.output.some((name) => wanted.has(name))
        ? withFields(node, {
            output: node.output.map((name) => (wanted.has(name) ? `${name}@unused` : name)),
          })
        : node,
    ),
    initializer: graph.initializer.filter(({ name }) => !wanted.has(name)),
    input: [
      ...graph.input,
      ...[...wanted]
        .filter((name) => !declared.has(name))
        .map((name) => typedPort(name, dtypes.get(name) as DType, shapes.get(name))),
    ],
  });
}

/** Drops the nodes, initializers, declared types and inputs that no output needs. */
export function pruned(model: ModelProto): ModelProto {
  const live = withoutDeadNodes(model);
  const graph = graphOf(live);
  const read = new Set([...graph.node.flatMap(readsOf), ...graph.output.map(({ name }) => name)]);
  return withGraph(live, { input: graph.input.filter(({ name }) => read.has(name)) });
}

function withoutDeadNodes(model: ModelProto): ModelProto {
  const graph = graphOf(model);
  const needed = new Set(graph.output.map(({ name }) => name));
  const node = graph.node
    .toReversed()
    .filter((one) => {
      if (!one.output.some((name) => needed.has(name))) return false;
      for (const name of readsOf(one)) needed.add(name);
      return true;
    })
    .reverse();
  const made = new Set(node.flatMap((one) => one.output));
  return withGraph(model, {
    node,
    initializer: graph.initializer.filter(({ name }) => needed.has(name)),
    valueInfo: graph.valueInfo.filter(({ name }) => made.has(name)),
  });
}

/** Output ports; a tensor without a declared type gets none, and ONNX Runtime infers it. */
function portsOf(model: ModelProto, names: readonly string[]): ValueInfoProto[] {
  requireTensors(model, names);
  const graph = graphOf(model);
  const declared = new Map(
    [...graph.valueInfo, ...graph.input, ...graph.output].map((port) => [port.name, port]),
  );
  return [...new Set(names)].map(
    (name) => declared.get(name) ?? create(ValueInfoProtoSchema, { name }),
  );
}

function requireTensors(model: ModelProto, names: readonly string[]): void {
  const graph = graphOf(model);
  const known = new Set([
    ...graph.input.map(({ name }) => name),
    ...graph.initializer.map(({ name }) => name),
    ...graph.node.flatMap((node) => node.output),
  ]);
  const missing = names.find((name) => name === "" || !known.has(name));
  if (missing !== undefined) throw new Error(`the graph has no tensor "${missing}"`);
}

function typesFor(
  model: ModelProto,
  tensors: readonly string[],
  given: ReadonlyMap<string, DType>,
): Map<string, DType> {
  const inferred = tensors.every((name) => given.has(name))
    ? new Map<string, DType>()
    : inferDTypes(model);
  return new Map(
    tensors.map((name) => {
      const dtype = given.get(name) ?? inferred.get(name);
      if (!dtype) throw new Error(`nobody knows the element type of "${name}"`);
      return [name, dtype];
    }),
  );
}

export function typedPort(name: string, dtype: DType, dims?: readonly bigint[]): ValueInfoProto {
  return create(ValueInfoProtoSchema, {
    name,
    type: {
      value: {
        case: "tensorType",
        value: {
          elemType: onnxTypes[dtype],
          ...(dims && {
            shape: { dim: dims.map((value) => ({ value: { case: "dimValue" as const, value } })) },
          }),
        },
      },
    },
  });
}
