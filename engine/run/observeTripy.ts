import path from "node:path";
import type { TensorValue } from "../core/tensorValue.js";
import type { Problem } from "../protocol/report.js";
import type { Executor } from "../runner/executor.js";
import { openTrace } from "../trace/traceReader.js";
import { lowerTripyTrace, valuesNeeded } from "../tripy/lower.js";
import { runnablePart } from "../tripy/runnablePart.js";
import type { ObservedImplementation } from "./observe.js";
import { withConstantsAsParameters } from "./capturedCalls.js";
import { observeModel } from "./observeModel.js";
import { rebase } from "./sources.js";

export interface ObserveTripyOptions {
  readonly id: string;
  readonly label: string;
  /** The trace, absolute. */
  readonly file: string;
  readonly base: string;
  /** Values of the program's input ports. */
  readonly feeds: ReadonlyMap<string, TensorValue>;
  readonly executor: Executor;
  readonly signal: AbortSignal;
}

/** Lowers a recorded Tripy program to ONNX and runs it with every tensor tapped. */
export async function observeTripy({
  file,
  feeds,
  ...options
}: ObserveTripyOptions): Promise<ObservedImplementation> {
  const folder = path.dirname(file);
  const opened = await openTrace(file);
  try {
    const values = new Map<number, TensorValue>();
    for (const id of valuesNeeded(opened.trace)) {
      if (opened.ref(id)) values.set(id, await opened.read(id));
    }
    const trace = withConstantsAsParameters(opened.trace, (id) => values.get(id));
    const lowered = lowerTripyTrace(trace, (id) => values.get(id));
    const { unsupported } = lowered;
    const { model } = unsupported.length > 0 ? runnablePart(lowered) : lowered;
    const observed = await observeModel({ ...options, model, folder, inputs: feeds });
    const problems = unsupported.map(({ op, reason, site }): Problem => ({
      severity: "warning",
      code: "tripy-op-unsupported",
      message: `the Tripy op ${op.kind} cannot run outside TensorRT: ${reason}; what depends on it is not compared`,
      nextStep: "Run where NVIDIA's own backend is installed, or replace the op.",
      ...(site && { site: { ...site, file: rebase(site.file, folder, options.base) } }),
    }));
    return { ...observed, problems: [...observed.problems, ...problems] };
  } finally {
    await opened.close();
  }
}
