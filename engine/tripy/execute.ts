import path from "node:path";
import { toBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema } from "onnx-buf";
import type { TensorValue } from "../core/tensorValue.js";
import type { TraceFile } from "../protocol/trace.js";
import { userError } from "../protocol/userError.js";
import type { Executor } from "../runner/executor.js";
import { readSafetensors, writeSafetensors } from "../trace/safetensors.js";
import { openTrace } from "../trace/traceReader.js";
import { lowerTripyTrace, valuesNeeded, type UnsupportedTraceOp } from "./lower.js";

/**
 * Runs a Tripy trace file on the inputs of one safetensors file and writes its outputs to another; both are keyed by the
 * names of the trace's ports. This answers the capture agent, which has no backend of its own.
 * @throws UserError when an op has no ONNX form, an input is missing, or a tensor's type cannot leave the runtime.
 * @throws RunnerFailure as `Executor.evaluate` does.
 */
export async function executeTripyTrace(
  traceFile: string,
  inputsFile: string,
  outputsFile: string,
  executor: Executor,
  signal: AbortSignal,
): Promise<void> {
  const opened = await openTrace(traceFile);
  try {
    const { trace } = opened;
    const values = new Map<number, TensorValue>();
    const recorded = new Set(
      trace.tensors.flatMap(({ id, key }) => (key === undefined ? [] : [id])),
    );
    for (const id of valuesNeeded(trace)) {
      if (recorded.has(id)) values.set(id, await opened.read(id));
    }
    const inputs =
      trace.inputs.length > 0 ? await readSafetensors(inputsFile) : new Map<string, TensorValue>();
    const outputs = await executeTrace(
      trace,
      (id) => values.get(id),
      inputs,
      executor,
      signal,
      path.basename(traceFile),
    );
    await writeSafetensors(outputsFile, outputs);
  } finally {
    await opened.close();
  }
}

/** Runs a trace that is in memory; inputs and outputs are keyed by the names of its ports. Throws as `executeTripyTrace` does. */
export async function executeTrace(
  trace: TraceFile,
  values: (tensorId: number) => TensorValue | undefined,
  inputs: ReadonlyMap<string, TensorValue>,
  executor: Executor,
  signal: AbortSignal,
  label = trace.label,
): Promise<Record<string, TensorValue>> {
  signal.throwIfAborted();
  const { model, unsupported, valueNames } = lowerTripyTrace(trace, values);
  if (unsupported.length > 0) throw unsupportedError(unsupported);
  const nameOf = (id: number): string => valueNames.get(id) as string;
  const feeds = Object.fromEntries(
    trace.inputs.map(({ name, tensor }): [string, TensorValue] => {
      const value = inputs.get(name);
      if (!value)
        throw userError(
          "tripy-input-missing",
          `${label} has the input "${name}", for which there is no value.`,
          "Pass a value for every argument that the program was compiled for.",
        );
      return [nameOf(tensor), value];
    }),
  );
  const names = [...new Set(trace.outputs.map((port) => nameOf(port.tensor)))];
  const results = await executor.evaluate(toBinary(ModelProtoSchema, model), feeds, names, signal);
  return Object.fromEntries(
    trace.outputs.map(({ name, tensor }): [string, TensorValue] => {
      const value = results[nameOf(tensor)];
      if (!value) throw new Error(`${executor.name} did not return "${nameOf(tensor)}"`);
      return [name, value];
    }),
  );
}

function unsupportedError(unsupported: readonly UnsupportedTraceOp[]): Error {
  const { op, reason, site } = unsupported[0] as UnsupportedTraceOp;
  const where = site ? ` at ${site.file}:${site.line}` : "";
  const more = unsupported.length > 1 ? ` (and ${unsupported.length - 1} more)` : "";
  return userError(
    "tripy-op-unsupported",
    `The Tripy op ${op.kind}${where} cannot run outside TensorRT: ${reason}${more}.`,
    "Run this program where NVIDIA's own backend is installed, or replace the op.",
    site,
  );
}
