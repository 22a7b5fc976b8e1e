import type { ModelProto } from "onnx-buf";
import { convertFloats } from "../core/conversions.js";
import type { TensorKey } from "../core/observation.js";
import type { TensorValue } from "../core/tensorValue.js";
import { correctAt } from "../onnx/correct.js";
import {
  cutAt,
  extractSegment,
  feedOperands,
  opsWithoutDouble,
  parametersAsInputs,
  serialise,
  toDouble,
  withOutputs,
} from "../onnx/edit.js";
import type { DType } from "../protocol/tensor.js";
import type { Executor } from "../runner/executor.js";
import type { Evaluation, Program, Values } from "./program.js";

type Feeds = Readonly<Record<string, TensorValue>>;

/**
 * An ONNX model as a program: the graph is cut at every replaced tensor, corrections become additions.
 * @param dtypeOf element types of its tensors.
 */
export function onnxProgram(
  model: ModelProto,
  feeds: Feeds,
  dtypeOf: ReadonlyMap<TensorKey, DType>,
  executor: Executor,
): Program {
  const inSingle = tensorsInSingle(model);
  return {
    extract: (inputs, output) => serialise(extractSegment(model, inputs, [output], dtypeOf)),
    isDouble: (tensor) => !inSingle.has(tensor),
    evaluate: async (request, signal) => {
      if (request.outputs.length === 0) return new Map();
      const edited = edit(model, feeds, dtypeOf, request);
      const read = new Set(edited.model.graph?.input.map((input) => input.name));
      const wanted = Object.fromEntries(
        Object.entries(edited.feeds).filter(([name]) => read.has(name)),
      );
      const { outputs } = request;
      const values = await executor.evaluate(serialise(edited.model), wanted, outputs, signal);
      return new Map(Object.entries(values));
    },
  };
}

const none: Values = new Map();

function edit(
  original: ModelProto,
  given: Feeds,
  dtypeOf: ReadonlyMap<TensorKey, DType>,
  {
    outputs,
    replaced = none,
    corrected = none,
    parameters = none,
    operands = [],
    double = false,
  }: Evaluation,
): { model: ModelProto; feeds: Feeds } {
  const replacement = (tensor: TensorKey): string => `${tensor}@reference`;
  const correction = (tensor: TensorKey): string => `${tensor}@correction`;
  const corrections = [...corrected].map(([tensor, { dtype }]) => ({
    tensor,
    input: correction(tensor),
    dtype,
  }));
  const operand = (at: number): string => `@operand${at}`;
  let model = feedOperands(
    original,
    operands.map(({ reader, position, value }, at) => ({
      reader,
      position,
      input: operand(at),
      dtype: value.dtype,
    })),
  );
  if (corrections.length > 0) model = correctAt(model, corrections);
  model = parametersAsInputs(model, [...parameters.keys()]);
  model =
    replaced.size > 0
      ? cutAt(
          model,
          [...replaced.keys()].map((tensor) => ({ tensor, input: replacement(tensor) })),
          [...outputs],
          dtypeOf,
        )
      : withOutputs(model, [...outputs], { only: true });
  const feeds: Feeds = {
    ...given,
    ...Object.fromEntries(parameters),
    ...Object.fromEntries([...corrected].map(([tensor, value]) => [correction(tensor), value])),
    ...Object.fromEntries([...replaced].map(([tensor, value]) => [replacement(tensor), value])),
    ...Object.fromEntries(operands.map(({ value }, at) => [operand(at), value])),
  };
  if (!double) return { model, feeds };
  return {
    model: toDouble(model),
    feeds: Object.fromEntries(
      Object.entries(feeds).map(([name, value]) => [name, convertFloats(value, "float64")]),
    ),
  };
}

/** Ops without a float64 kernel run in float32 even then. */
function tensorsInSingle(model: ModelProto): ReadonlySet<TensorKey> {
  const types = new Set(opsWithoutDouble(model));
  const nodes = model.graph?.node.filter((node) => types.has(node.opType)) ?? [];
  return new Set(nodes.flatMap((node) => node.output));
}
