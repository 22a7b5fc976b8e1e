import path from "node:path";
import type { ModelProto } from "onnx-buf";
import { propagateLayouts } from "../core/layoutPropagation.js";
import { normalisedName } from "../core/names.js";
import type { Observation, ObservedOp, ObservedTensor, TensorKey } from "../core/observation.js";
import { convertIntegers } from "../core/conversions.js";
import { isFloat } from "../core/dtypes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { CandidateGraph } from "../onnx/candidateGraph.js";
import { serialise, withOutputs } from "../onnx/edit.js";
import { readCandidateGraph } from "../onnx/graphReader.js";
import { loadModel } from "../onnx/model.js";
import { tensorTaps } from "../onnx/shapes.js";
import type { Problem, Site } from "../protocol/report.js";
import type { ImplementationSource } from "../protocol/runFile.js";
import type { DType } from "../protocol/tensor.js";
import type { TraceFile, TraceRun } from "../protocol/trace.js";
import { userError } from "../protocol/userError.js";
import { fromWire } from "../protocol/wire.js";
import type { Executor } from "../runner/executor.js";
import { openTrace } from "../trace/traceReader.js";
import { relativeToBase, type RecordedSource } from "./sources.js";

/** An implementation that has been loaded and observed. */
export interface ObservedImplementation {
  readonly id: string;
  readonly label: string;
  readonly kind: "torch" | "tripy" | "onnx" | "trace";
  readonly framework: string;
  readonly ranOn: Pick<
    TraceRun,
    "executor" | "provider" | "device" | "precision" | "standIns" | "emulated" | "versions"
  >;
  readonly observation: Observation;
  readonly sources: readonly RecordedSource[];
  readonly unusedInputs: readonly string[];
  /** Present when an executor can run its ops. */
  readonly replayable?: { model: ModelProto; feeds: Record<string, TensorValue> };
  readonly problems: readonly Problem[];
}

export interface ObserveOptions {
  readonly id: string;
  readonly source: ImplementationSource;
  /** Folder of the run file. */
  readonly folder: string;
  readonly base: string;
  readonly executor: Executor;
  readonly signal: AbortSignal;
  /** Inputs by name; absent while the reference's own are still unknown. */
  readonly inputs?: ReadonlyMap<string, TensorValue>;
}

export async function observe(options: ObserveOptions): Promise<ObservedImplementation> {
  return "trace" in options.source
    ? observeTrace(options, options.source.trace, options.source.label)
    : observeModel(options, options.source.onnx, options.source.label);
}

async function observeTrace(
  { id, folder, base }: ObserveOptions,
  file: string,
  label: string | undefined,
): Promise<ObservedImplementation> {
  const absolute = path.resolve(folder, file);
  const opened = await openTrace(absolute);
  try {
    const { trace } = opened;
    const siteOf = traceSites(trace, path.dirname(absolute), base);
    const layouts = propagateLayouts(trace);
    const tensors = new Map<TensorKey, ObservedTensor>();
    for (const tensor of trace.tensors) {
      const value = tensor.key === undefined ? undefined : await opened.read(tensor.id);
      tensors.set(String(tensor.id), {
        key: String(tensor.id),
        names: tensor.names,
        dtype: tensor.dtype,
        shape: value?.shape ?? tensor.shape,
        layout: tensor.layout ?? layouts.get(tensor.id) ?? { kind: "dense" },
        ...(value && { value }),
        ...(tensor.nonDeterminism !== undefined && {
          nonDeterminism: fromWire(tensor.nonDeterminism),
        }),
      });
    }
    const ops = trace.ops.map((op): ObservedOp => ({
      id: String(op.id),
      kind: op.kind,
      sourceOp: String(op.id),
      inputs: op.inputs.filter((input) => input !== null).map(String),
      outputs: op.outputs.map(String),
      frames: op.stack.map(siteOf),
      instance: op.instance,
      ...(op.call !== undefined && { call: op.call }),
    }));
    const ports = (list: TraceFile["inputs"]) =>
      list.map((port) => ({ name: port.name, tensor: String(port.tensor) }));
    const read = new Set(ops.flatMap((op) => op.inputs));
    return {
      id,
      label: label ?? trace.label,
      kind: trace.framework === "torch" ? "torch" : "trace",
      framework: trace.framework,
      ranOn: trace.ranOn,
      observation: {
        ops,
        tensors,
        parameters: trace.parameters.flatMap((parameter) => {
          const value = tensors.get(String(parameter.tensor))?.value;
          if (!value) return [];
          return [
            {
              name: parameter.name,
              tensor: String(parameter.tensor),
              value,
              ...(parameter.declaredAt !== undefined && {
                declaredAt: siteOf(parameter.declaredAt),
              }),
            },
          ];
        }),
        inputs: ports(trace.inputs),
        outputs: ports(trace.outputs),
      },
      sources: trace.sources.map((source) => ({
        file: rebase(source.file, path.dirname(absolute), base),
        sha256: source.sha256,
      })),
      unusedInputs: trace.inputs
        .filter((port) => !read.has(String(port.tensor)))
        .map((port) => port.name),
      problems: [],
    };
  } finally {
    await opened.close();
  }
}

function traceSites(trace: TraceFile, folder: string, base: string): (frame: number) => Site {
  const files = trace.sources.map((source) => rebase(source.file, folder, base));
  return (index) => {
    const frame = trace.frames[index];
    if (!frame) return { file: "", line: 0, function: "" };
    return {
      file: files[frame.source] ?? "",
      line: frame.line,
      ...(frame.column !== undefined && { column: frame.column }),
      ...(frame.endColumn !== undefined && { endColumn: frame.endColumn }),
      function: frame.function,
    };
  };
}

async function observeModel(
  { id, folder, base, executor, signal, inputs }: ObserveOptions,
  file: string,
  label: string | undefined,
): Promise<ObservedImplementation> {
  const absolute = path.resolve(folder, file);
  const model = await loadModel(absolute);
  const graph = readCandidateGraph(model);
  const { feeds, problems } = feedsFor(graph, inputs ?? new Map(), id);
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
    file: rebase(site.file, path.dirname(absolute), base),
  });
  const read = new Set(graph.nodes.flatMap((node) => node.inputs));
  return {
    id,
    label: label ?? path.basename(file),
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
      file: rebase(source.file, path.dirname(absolute), base),
    })),
    unusedInputs: graph.inputs.filter((port) => !read.has(port.name)).map((port) => port.name),
    replayable: { model, feeds },
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

function rebase(file: string, folder: string, base: string): string {
  return file === "" ? "" : relativeToBase(base, path.resolve(folder, file));
}
