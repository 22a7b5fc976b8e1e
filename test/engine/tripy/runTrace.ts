import { toBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema } from "onnx-buf";
import * as ort from "onnxruntime-node";
import { lowerTripyTrace, type LoweredTrace } from "../../../engine/tripy/lower.js";
import type { TensorValue } from "../../../engine/core/tensorValue.js";
import type { DType } from "../../../engine/protocol/tensor.js";
import type { TraceFile, TraceOp, TraceTensor } from "../../../engine/protocol/trace.js";
import { fromHalfBits, halfBits, toBfloat16, toHalf } from "./halfPrecision.js";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

/** A tensor of a test: its elements as numbers in C order (int64 within ±2^53). */
export interface Values {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: readonly number[];
}

export function values(dtype: DType, shape: readonly number[], data: readonly number[]): Values {
  return { dtype, shape, data: data.map((value) => roundTo(dtype, value)) };
}

export interface OpCase {
  readonly kind: string;
  /** A constant input is a Constant op of the trace, any other one a port. */
  readonly inputs: readonly (Values | { readonly constant: Values })[];
  readonly attributes?: Record<string, unknown>;
  /** Rank and type of each output; the sizes are left open. */
  readonly outputs: readonly { readonly dtype: DType; readonly rank: number }[];
}

/** Runs one Tripy op through the lowering in ONNX Runtime. bfloat16 enters and leaves as float32 through Cast ops. */
export async function evaluate(testCase: OpCase): Promise<Values[]> {
  const { trace, constants, feeds } = traceOf(testCase);
  const lowered = lowerTripyTrace(trace, (id) => constants.get(id));
  if (lowered.unsupported.length > 0)
    throw new Error(lowered.unsupported.map((u) => u.reason).join());
  return run(lowered, trace, feeds);
}

/** The trace of one op, with what its constants and ports hold. */
export function traceOf(testCase: OpCase): {
  trace: TraceFile;
  constants: Map<number, TensorValue>;
  feeds: Record<string, Values>;
} {
  const tensors: TraceTensor[] = [];
  const ops: TraceOp[] = [];
  const constants = new Map<number, TensorValue>();
  const feeds: Record<string, Values> = {};
  const inputs: TraceFile["inputs"] = [];

  const operands = testCase.inputs.map((input, index) => {
    if ("constant" in input) {
      const id = tensor(input.constant.dtype, input.constant.shape);
      constants.set(id, encode(input.constant));
      push("Constant", [], [id], {});
      return id;
    }
    const { dtype, shape } = input;
    const open = shape.map(() => -1);
    const port = tensor(dtype === "bfloat16" ? "float32" : dtype, open);
    inputs.push({ name: `in${index}`, tensor: port });
    feeds[`in${index}`] = dtype === "bfloat16" ? { ...input, dtype: "float32" } : input;
    if (dtype !== "bfloat16") return port;
    const narrowed = tensor(dtype, open);
    push("Cast", [port], [narrowed], { dtype });
    return narrowed;
  });
  const results = testCase.outputs.map(({ dtype, rank }) =>
    tensor(
      dtype,
      Array.from({ length: rank }, () => -1),
    ),
  );
  push(testCase.kind, operands, results, testCase.attributes ?? {});
  const outputs = results.map((id, index) => {
    const { dtype, rank } = testCase.outputs[index] as {
      dtype: DType;
      rank: number;
    };
    if (dtype !== "bfloat16") return { name: `out${index}`, tensor: id };
    const widened = tensor(
      "float32",
      Array.from({ length: rank }, () => -1),
    );
    push("Cast", [id], [widened], { dtype: "float32" });
    return { name: `out${index}`, tensor: widened };
  });
  const trace: TraceFile = { ...EMPTY_TRACE, ops, tensors, inputs, outputs };
  return { trace, constants, feeds };

  function tensor(dtype: DType, shape: readonly number[]): number {
    tensors.push({ id: tensors.length, names: [], dtype, shape: [...shape] });
    return tensors.length - 1;
  }
  function push(
    kind: string,
    from: number[],
    to: number[],
    attributes: Record<string, unknown>,
  ): void {
    ops.push({
      id: ops.length,
      kind,
      inputs: from,
      outputs: to,
      attributes,
      stack: [],
      instance: "",
    });
  }
}

export const EMPTY_TRACE: TraceFile = {
  formatVersion: 1,
  label: "test",
  framework: "tripy",
  ranOn: {
    executor: "",
    provider: "cpu",
    device: "cpu",
    precision: "float32",
    versions: {},
    standIns: [],
    emulated: [],
  },
  sources: [],
  frames: [],
  ops: [],
  tensors: [],
  parameters: [],
  inputs: [],
  outputs: [],
};

export async function run(
  lowered: LoweredTrace,
  trace: TraceFile,
  feeds: Readonly<Record<string, Values>>,
): Promise<Values[]> {
  const session = await ort.InferenceSession.create(toBinary(ModelProtoSchema, lowered.model), {
    executionProviders: ["cpu"],
    logSeverityLevel: 4,
  });
  try {
    const results = await session.run(
      Object.fromEntries(Object.entries(feeds).map(([name, value]) => [name, toOrt(value)])),
    );
    return trace.outputs.map((port) =>
      fromOrt(results[lowered.valueNames.get(port.tensor) as string] as ort.Tensor),
    );
  } finally {
    await session.release();
  }
}

export function roundTo(dtype: DType, value: number): number {
  switch (dtype) {
    case "float32":
      return Math.fround(value);
    case "float16":
      return toHalf(value);
    case "bfloat16":
      return toBfloat16(value);
    case "int8":
      return Int8Array.of(Math.trunc(value))[0] as number;
    case "int32":
      return Math.trunc(value) | 0;
    case "bool":
      return value ? 1 : 0;
    default:
      return Math.trunc(value);
  }
}

export function encode({ dtype, shape, data }: Values): TensorValue {
  return { dtype, shape, bytes: new Uint8Array(storage(dtype, data).buffer) };
}

function toOrt({ dtype, shape, data }: Values): ort.Tensor {
  return new ort.Tensor(dtype as "float32", storage(dtype, data) as Float32Array, [...shape]);
}

function storage(
  dtype: DType,
  data: readonly number[],
): Float32Array | Uint16Array | BigInt64Array | Int32Array | Int8Array | Uint8Array {
  switch (dtype) {
    case "float32":
      return Float32Array.from(data);
    case "float16":
      return Uint16Array.from(data, halfBits);
    case "int64":
      return BigInt64Array.from(data, BigInt);
    case "int32":
      return Int32Array.from(data);
    case "int8":
      return Int8Array.from(data);
    case "bool":
      return Uint8Array.from(data);
    default:
      throw new Error(`the tests feed no ${dtype}`);
  }
}

function fromOrt(tensor: ort.Tensor): Values {
  const raw = tensor.data as Uint16Array | BigInt64Array;
  const data =
    tensor.type === "float16"
      ? Array.from(raw as Uint16Array, fromHalfBits)
      : Array.from(raw, Number);
  return { dtype: tensor.type as DType, shape: tensor.dims, data };
}
