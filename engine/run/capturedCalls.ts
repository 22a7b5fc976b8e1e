import path from "node:path";
import type { Subject } from "../core/implementations.js";
import { isFloat } from "../core/dtypes.js";
import { propagateLayouts } from "../core/layoutPropagation.js";
import { isTelling } from "../core/sameTensor.js";
import type { ObservedParameter } from "../core/observation.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { CapturedTrace, CaptureIndex } from "../protocol/capture.js";
import type { TraceFile } from "../protocol/trace.js";
import { readSafetensors } from "../trace/safetensors.js";
import { joinEvaluations } from "./joinEvaluations.js";
import { openTrace, type OpenedTrace } from "../trace/traceReader.js";

/** One recorded call of a script: a call of a torch model or function, or one execution of a Tripy program. */
export interface CapturedCall extends Subject {
  readonly label: string;
  readonly entry: CapturedTrace;
  /** Absolute. */
  readonly file: string;
  /** Values of a Tripy program's input ports in this execution. */
  readonly feeds: ReadonlyMap<string, TensorValue>;
}

/** Executions of one program with different values that are looked at: a warm-up is not what the check compares. */
const mostExecutions = 8;

/** Reads what is needed to choose among the recorded calls: inputs and parameters, not what lies between them. */
export async function readCapturedCalls(
  capture: CaptureIndex,
  folder: string,
): Promise<CapturedCall[]> {
  const calls: CapturedCall[] = [];
  const idOf = uniqueIds();
  const expected = expectedIn(capture);
  const traces = await joinEvaluations(capture.traces, folder);
  const entries = traces
    .map((entry, index) => ({ entry, order: entry.order ?? index }))
    .sort((a, b) => a.order - b.order);
  for (const { entry, order } of entries) {
    const file = path.resolve(folder, entry.file);
    const opened = await openTrace(file);
    try {
      const { trace } = opened;
      const common = {
        framework: entry.framework,
        label: entry.label,
        entry,
        file,
        order,
        object: `${entry.framework} ${entry.object ?? `call ${order}`}`,
        isExpected: expected.has(entry.file),
        isJagged: [...propagateLayouts(trace).values()].some(({ kind }) => kind === "jagged"),
        dataOps: countDataOps(trace),
      };
      if (common.dataOps === 0 || !wasCalled(entry, trace)) continue;
      const parameters = await readParameters(opened);
      const outputs = await outputsOf(opened);
      for (const feeds of await feedsOf(entry, opened, folder)) {
        const inputs = [...feeds].map(([name, value]) => ({ name, value }));
        calls.push({ ...common, id: idOf(entry.label), parameters, inputs, outputs, feeds });
      }
    } finally {
      await opened.close();
    }
  }
  return calls;
}

/**
 * The trace with constants that hold values of their own as parameters: a compiled function's weights have no other form,
 * nor has a dictionary of weights that no module knows of.
 */
export function withConstantsAsParameters(
  trace: TraceFile,
  values: (tensor: number) => TensorValue | undefined,
): TraceFile {
  if (trace.parameters.length > 0) return trace;
  const namesOf = new Map(trace.tensors.map(({ id, names }) => [id, names]));
  const parameters = constantsOf(trace).flatMap(({ tensor, declaredAt }) => {
    const value = values(tensor);
    if (!value || !isFloat(value.dtype) || !isTelling(value)) return [];
    const name = namesOf.get(tensor)?.[0] ?? `constant ${tensor}`;
    return [{ name, tensor, ...(declaredAt !== undefined && { declaredAt }) }];
  });
  return { ...trace, parameters };
}

/** Tensors that a constant makes, or that come from outside and are no input. */
export function constantsOf({ ops, tensors, inputs }: TraceFile): {
  readonly tensor: number;
  readonly declaredAt?: number | undefined;
}[] {
  const made = new Set([...ops.flatMap((op) => op.outputs), ...inputs.map(({ tensor }) => tensor)]);
  return [
    ...ops.flatMap(({ kind, outputs: [tensor], stack: [declaredAt] }) =>
      kind === "Constant" && tensor !== undefined ? [{ tensor, declaredAt }] : [],
    ),
    ...tensors.flatMap(({ id }) => (made.has(id) ? [] : [{ tensor: id }])),
  ];
}

async function feedsOf(
  entry: CapturedTrace,
  opened: OpenedTrace,
  folder: string,
): Promise<ReadonlyMap<string, TensorValue>[]> {
  if (entry.framework === "torch" || !entry.executions) {
    const inputs = new Map<string, TensorValue>();
    for (const { name, tensor } of opened.trace.inputs) {
      if (opened.ref(tensor)) inputs.set(name, await opened.read(tensor));
    }
    return [inputs];
  }
  const different = new Map<string, ReadonlyMap<string, TensorValue>>();
  for (const { inputs } of entry.executions.slice(0, 64)) {
    if (different.size === mostExecutions) break;
    const feeds = await readSafetensors(path.resolve(folder, inputs));
    const key = [...feeds].map(([name, { bytes }]) => `${name}:${checksum(bytes)}`).join();
    if (!different.has(key)) different.set(key, feeds);
  }
  return [...different.values()];
}

/** Checks that name one side the expected one: their arguments are (actual, expected). */
const checksWithExpected = /\b(?:assert_close|assert_allclose|assert_array_almost_equal)$/;

function expectedIn({ comparisons }: CaptureIndex): ReadonlySet<string> {
  const checks = comparisons.filter(({ op }) => checksWithExpected.test(op));
  return new Set(checks.map(({ traces }) => traces[1]));
}

/** A program that was compiled and never called computes nothing; in NVIDIA's own backend nobody counts the calls. */
function wasCalled({ calls }: CapturedTrace, { ranOn }: TraceFile): boolean {
  return calls > 0 || ranOn.standIns.length === 0;
}

async function outputsOf(opened: OpenedTrace): Promise<Subject["outputs"]> {
  const shapeOf = new Map(opened.trace.tensors.map(({ id, shape }) => [id, shape]));
  const outputs: Subject["outputs"][number][] = [];
  for (const { tensor } of opened.trace.outputs) {
    const value = opened.ref(tensor) ? await opened.read(tensor) : undefined;
    const shape = value?.shape ?? shapeOf.get(tensor) ?? [];
    outputs.push({ shape, ...(value && { value }) });
  }
  return outputs;
}

async function readParameters(opened: OpenedTrace): Promise<ObservedParameter[]> {
  const constants = new Map<number, TensorValue>();
  if (opened.trace.parameters.length === 0) {
    for (const { tensor } of constantsOf(opened.trace)) {
      if (opened.ref(tensor)) constants.set(tensor, await opened.read(tensor));
    }
  }
  const trace = withConstantsAsParameters(opened.trace, (tensor) => constants.get(tensor));
  const parameters: ObservedParameter[] = [];
  for (const { name, tensor } of trace.parameters) {
    if (!opened.ref(tensor)) continue;
    parameters.push({ name, tensor: String(tensor), value: await opened.read(tensor) });
  }
  return parameters;
}

function countDataOps({ ops, tensors }: TraceFile): number {
  const data = new Set(
    tensors.filter(({ dtype, shape }) => isFloat(dtype) && shape.length >= 2).map(({ id }) => id),
  );
  return ops.filter((op) => op.kind !== "Constant" && op.outputs.some((id) => data.has(id))).length;
}

function uniqueIds(): (label: string) => string {
  const used = new Set<string>();
  return (label) => {
    let id = label;
    for (let count = 2; used.has(id); count++) id = `${label}.${count}`;
    used.add(id);
    return id;
  };
}

/** FNV-1a, enough to tell executions apart whose values differ at all: a clash only compares one of them less. */
function checksum(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
