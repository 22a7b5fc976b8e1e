import path from "node:path";
import type { Observation } from "../core/observation.js";
import type { TensorValue } from "../core/tensorValue.js";
import { loadModel } from "../onnx/model.js";
import type { Problem } from "../protocol/report.js";
import type { OnnxModelSource, RecordedTraceSource } from "../protocol/runFile.js";
import type { TraceRun } from "../protocol/trace.js";
import { userError } from "../protocol/userError.js";
import { RunnerFailure, type Executor } from "../runner/executor.js";
import { observeModel } from "./observeModel.js";
import { observeTrace } from "./observeTrace.js";
import type { Program } from "./program.js";
import type { RecordedSource } from "./sources.js";

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
  /** Present when an executor can evaluate its ops again. */
  readonly program?: Program;
  readonly problems: readonly Problem[];
}

export interface ObserveOptions {
  readonly id: string;
  readonly source: RecordedTraceSource | OnnxModelSource;
  /** Folder of the run file. */
  readonly folder: string;
  readonly base: string;
  readonly executor: Executor;
  readonly signal: AbortSignal;
  /** Inputs by name; absent while the reference's own are still unknown. */
  readonly inputs?: ReadonlyMap<string, TensorValue>;
}

/** Observes what a run file names: reads a recorded trace, or runs an ONNX model with taps. */
export async function observe(options: ObserveOptions): Promise<ObservedImplementation> {
  const { id, source, folder, base, executor, signal, inputs = new Map() } = options;
  if ("trace" in source) {
    const file = path.resolve(folder, source.trace);
    return observeTrace({ id, file, base, ...(source.label && { label: source.label }) });
  }
  const file = path.resolve(folder, source.onnx);
  return observeModel({
    id,
    label: source.label ?? path.basename(source.onnx),
    model: await loadModel(file),
    folder: path.dirname(file),
    base,
    executor,
    signal,
    inputs,
  });
}

/** What ONNX Runtime refuses is a mistake in the model or its inputs; a crash or a time-out is not. */
export async function inUsersTerms<T>(id: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof RunnerFailure)) throw error;
    if (error.code === "runner-crashed" || error.code === "runner-timeout") throw error;
    throw userError(error.code, `${id}: ${error.message}`, error.nextStep);
  }
}
