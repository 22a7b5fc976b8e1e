import path from "node:path";
import { propagateLayouts } from "../core/layoutPropagation.js";
import type { ObservedOp, ObservedTensor, TensorKey } from "../core/observation.js";
import { withPackedLayouts } from "../core/packedLayouts.js";
import type { Site } from "../protocol/report.js";
import type { TraceFile } from "../protocol/trace.js";
import { fromWire } from "../protocol/wire.js";
import { openTrace } from "../trace/traceReader.js";
import { withConstantsAsParameters } from "./capturedCalls.js";
import type { ObservedImplementation } from "./observe.js";
import { rebase } from "./sources.js";
import { torchProgram, type TorchExecutor } from "./torchProgram.js";

export interface ObserveTraceOptions {
  readonly id: string;
  /** What lists and reports call it. Default: the trace's own label. */
  readonly label?: string;
  /** Absolute. */
  readonly file: string;
  readonly base: string;
  /** Evaluates the trace's ops again; without it nothing can tell what a difference was introduced by. */
  readonly torch?: TorchExecutor;
}

/** Reads a recorded trace with all its values. */
export async function observeTrace({
  id,
  label,
  file: absolute,
  base,
  torch,
}: ObserveTraceOptions): Promise<ObservedImplementation> {
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
      attributes: op.attributes,
      ...(op.call !== undefined && { call: op.call }),
      ...(op.constructedAt !== undefined && { constructedAt: siteOf(op.constructedAt) }),
    }));
    const ports = (list: TraceFile["inputs"]) =>
      list.map((port) => ({ name: port.name, tensor: String(port.tensor) }));
    const named = withConstantsAsParameters(trace, (id) => tensors.get(String(id))?.value);
    const read = new Set(ops.flatMap((op) => op.inputs));
    return {
      id,
      label: label ?? trace.label,
      kind: trace.framework === "torch" ? "torch" : "trace",
      framework: trace.framework,
      ranOn: trace.ranOn,
      observation: withPackedLayouts({
        ops,
        tensors,
        parameters: named.parameters.flatMap((parameter) => {
          const value = tensors.get(String(parameter.tensor))?.value;
          if (!value) return [];
          return [
            {
              name: parameter.name,
              tensor: String(parameter.tensor),
              value,
              ...(trace.parameters.length === 0 && { isConstant: true }),
              ...(parameter.declaredAt !== undefined && {
                declaredAt: siteOf(parameter.declaredAt),
              }),
            },
          ];
        }),
        inputs: ports(trace.inputs),
        outputs: ports(trace.outputs),
      }),
      sources: trace.sources.map((source) => ({
        file: rebase(source.file, path.dirname(absolute), base),
        sha256: source.sha256,
      })),
      unusedInputs: trace.inputs
        .filter((port) => !read.has(String(port.tensor)))
        .map((port) => port.name),
      ...(torch && trace.framework === "torch" && { program: torchProgram(absolute, torch) }),
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
