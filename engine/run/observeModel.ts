import type { ModelProto } from "onnx-buf";
import { convertIntegers } from "../core/conversions.js";
import { isFloat } from "../core/dtypes.js";
import { normalisedName } from "../core/names.js";
import type { ObservedTensor, TensorKey } from "../core/observation.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { CandidateGraph } from "../onnx/candidateGraph.js";
import { serialise, withOutputs } from "../onnx/edit.js";
import { readCandidateGraph } from "../onnx/graphReader.js";
import { tensorTaps } from "../onnx/shapes.js";
import type { Problem, Site } from "../protocol/report.js";
import type { DType } from "../protocol/tensor.js";
import { userError } from "../protocol/userError.js";
import type { Executor } from "../runner/executor.js";
import type { ObservedImplementation } from "./observe.js";
import { onnxProgram } from "./onnxProgram.js";
import { rebase } from "./sources.js";

export interface ObserveModelOptions {
  readonly id: string;
  readonly label: string;
  readonly model: ModelProto;
  /** The folder that the model's source files are named from. */
  readonly folder: string;
  readonly base: string;
  readonly executor: Executor;
  readonly signal: AbortSignal;
  readonly inputs: ReadonlyMap<string, TensorValue>;
}

/** Runs an ONNX model with every tensor tapped. */
export async function observeModel({
  id,
  label,
  model,
  folder,
  base,
  executor,
  signal,
  inputs,
}: ObserveModelOptions): Promise<ObservedImplementation> {
  const graph = readCandidateGraph(model);
  const { feeds, problems } = feedsFor(graph, inputs, id);
  const taps = tensorTaps(model);
  const values = await executor.evaluate(
    serialise(withOutputs(model, taps, { only: true })),
    feeds,
    taps,
    signal,
  );
  const tensors = new Map<TensorKey, ObservedTensor>();
  const add = (key: TensorKey, value: TensorValue): void => {
    tensors.set(key, {
      key,
      names: graph.namesOf.get(key) ?? [key],
      dtype: value.dtype,
      shape: value.shape,
      layout: { kind: "dense" },
      value,
    });
  };
  for (const [key, value] of Object.entries(feeds)) add(key, value);
  for (const [key, value] of Object.entries(values)) add(key, value);
  for (const parameter of graph.parameters) add(parameter.tensor, parameter.value);
  const move = (site: Site): Site => ({
    ...site,
    file: rebase(site.file, folder, base),
  });
  const dtypes = new Map([...tensors].map(([key, { dtype }]) => [key, dtype]));
  const read = new Set(graph.nodes.flatMap((node) => node.inputs));
  return {
    id,
    label,
    kind: graph.framework === "tripy" ? "tripy" : "onnx",
    framework: graph.framework,
    ranOn: {
      executor: executor.name,
      provider: executor.provider,
      device: executor.provider === "cpu" ? "cpu" : "gpu",
      precision: precisionOf(graph.parameters.map((parameter) => parameter.value.dtype)),
      standIns: [...graph.standIns],
      emulated: [...graph.emulated],
      versions: {},
    },
    observation: {
      ops: graph.nodes.map((node) => ({
        id: node.id,
        kind: node.kind,
        sourceOp: node.sourceOp,
        inputs: node.inputs.filter((input) => input !== ""),
        outputs: node.outputs.filter((output) => output !== ""),
        frames: node.frames.map(move),
        instance: node.instance,
        ...(node.call !== undefined && { call: node.call }),
        ...(node.constructedAt && { constructedAt: move(node.constructedAt) }),
      })),
      tensors,
      parameters: graph.parameters.map((parameter) => ({
        name: parameter.name,
        tensor: parameter.tensor,
        value: parameter.value,
        ...(parameter.declaredAt && { declaredAt: move(parameter.declaredAt) }),
      })),
      inputs: graph.inputs.map((port) => ({ name: port.name, tensor: port.name })),
      outputs: graph.outputs.map((name) => ({ name, tensor: name })),
    },
    sources: graph.sources.map((source) => ({
      ...source,
      file: rebase(source.file, folder, base),
    })),
    unusedInputs: graph.inputs.filter((port) => !read.has(port.name)).map((port) => port.name),
    program: onnxProgram(model, feeds, dtypes, executor),
    problems,
  };
}

/** The reference's inputs under the candidate's names, checked for shape and type. */
function feedsFor(
  graph: CandidateGraph,
  inputs: ReadonlyMap<string, TensorValue>,
  id: string,
): { feeds: Record<string, TensorValue>; problems: Problem[] } {
  const byNormalisedName = new Map(
    [...inputs].map(([name, value]) => [normalisedName(name), value]),
  );
  const feeds: Record<string, TensorValue> = {};
  const problems: Problem[] = [];
  for (const port of graph.inputs) {
    const value = inputs.get(port.name) ?? byNormalisedName.get(normalisedName(port.name));
    if (!value) {
      throw userError(
        "input-missing",
        `${id} needs the input "${port.name}", which is not among the inputs: ${[...inputs.keys()].join(", ") || "none"}`,
        `Name the input "${port.name}" in the inputs file, or compare another model.`,
      );
    }
    const wanted = port.shape;
    const fits =
      !wanted ||
      (wanted.length === value.shape.length &&
        wanted.every((size, axis) => size === undefined || size === value.shape[axis]));
    if (!fits) {
      throw userError(
        "input-shape",
        `the input "${port.name}" of ${id} has shape [${value.shape.join(", ")}], but the model takes [${wanted.map((size) => size ?? "?").join(", ")}]`,
        "Record the reference on inputs of the shape that the model takes.",
      );
    }
    const { value: fed, note } = fitDType(value, port.dtype as DType | undefined, port.name, id);
    if (note) problems.push(note);
    feeds[port.name] = fed;
  }
  return { feeds, problems };
}

function fitDType(
  value: TensorValue,
  dtype: DType | undefined,
  name: string,
  id: string,
): { value: TensorValue; note?: Problem } {
  if (dtype === undefined || dtype === value.dtype) return { value };
  const converted =
    isFloat(dtype) || isFloat(value.dtype) ? undefined : convertIntegers(value, dtype);
  if (!converted) {
    throw userError(
      "input-type",
      `the input "${name}" of ${id} is ${value.dtype}, but the model takes ${dtype}`,
      `Give "${name}" as ${dtype} in the inputs file.`,
    );
  }
  return { value: converted };
}

function precisionOf(dtypes: readonly DType[]): string {
  const floats = [...new Set(dtypes.filter(isFloat))];
  return floats.length === 0 ? "float32" : floats.join(" and ");
}
