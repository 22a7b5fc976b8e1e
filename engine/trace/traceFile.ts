import type { DType, Layout, TensorStatistics } from "../protocol/tensor.js";
import type {
  TraceFile,
  TraceFrame,
  TraceOp,
  TraceParameter,
  TracePort,
  TraceRun,
  TraceSource,
  TraceTensor,
} from "../protocol/trace.js";
import type { WireNumber } from "../protocol/wire.js";
import {
  DecodeError,
  fields,
  flag,
  integer,
  list,
  nullable,
  oneOf,
  record,
  recordOf,
  text,
  type Decode,
} from "./decoder.js";

/** Reads the JSON of a trace and checks that every reference within it leads somewhere. @throws DecodeError */
export function decodeTrace(value: unknown): TraceFile {
  const f = fields(value, "");
  const trace: TraceFile = {
    formatVersion: f.required("formatVersion", oneOf(1)),
    label: f.required("label", text),
    framework: f.required("framework", oneOf("torch", "tripy", "onnx")),
    ranOn: f.required("ranOn", traceRun),
    ...f.optional("tensorsFile", text),
    sources: f.required("sources", list(source)),
    frames: f.required("frames", list(frame)),
    ops: f.required("ops", list(op)),
    tensors: f.required("tensors", list(tensor)),
    parameters: f.required("parameters", list(parameter)),
    inputs: f.required("inputs", list(port)),
    outputs: f.required("outputs", list(port)),
  };
  checkReferences(trace);
  return trace;
}

export const traceRun: Decode<TraceRun> = (value, path) => {
  const f = fields(value, path);
  return {
    executor: f.required("executor", text),
    provider: f.required("provider", text),
    device: f.required("device", text),
    precision: f.required("precision", text),
    versions: f.required("versions", recordOf(text)),
    standIns: f.required("standIns", list(text)),
    emulated: f.required("emulated", list(text)),
    ...f.optional("threads", integer(1)),
  };
};

export const source: Decode<TraceSource> = (value, path) => {
  const f = fields(value, path);
  return {
    file: f.required("file", text),
    ...f.optional("outside", flag),
    sha256: f.required("sha256", text),
  };
};

export const frame: Decode<TraceFrame> = (value, path) => {
  const f = fields(value, path);
  return {
    source: f.required("source", integer()),
    line: f.required("line", integer(1)),
    ...f.optional("column", integer(1)),
    ...f.optional("endColumn", integer(1)),
    function: f.required("function", text),
  };
};

const op: Decode<TraceOp> = (value, path) => {
  const f = fields(value, path);
  return {
    id: f.required("id", integer()),
    kind: f.required("kind", text),
    inputs: f.required("inputs", list(nullable(integer()))),
    outputs: f.required("outputs", list(integer())),
    attributes: f.required("attributes", record),
    stack: f.required("stack", list(integer())),
    instance: f.required("instance", text),
    ...f.optional("call", integer()),
    ...f.optional("constructedAt", integer()),
  };
};

const dtypes: Record<DType, true> = {
  float64: true,
  float32: true,
  float16: true,
  bfloat16: true,
  int64: true,
  int32: true,
  int16: true,
  int8: true,
  uint64: true,
  uint32: true,
  uint16: true,
  uint8: true,
  bool: true,
};

const wireNumber: Decode<WireNumber> = (value, path) => {
  if (typeof value === "number") return value;
  if (value === "NaN" || value === "Infinity" || value === "-Infinity" || value === "-0") {
    return value;
  }
  throw new DecodeError(path, "a number or one of NaN, Infinity, -Infinity, -0 as a text", value);
};

const layout: Decode<Layout> = (value, path) => {
  const f = fields(value, path);
  switch (f.required("kind", oneOf("dense", "jagged", "padded"))) {
    case "dense":
      return { kind: "dense" };
    case "jagged":
      return { kind: "jagged", offsets: f.required("offsets", list(integer())) };
    case "padded":
      return {
        kind: "padded",
        lengths: f.required("lengths", list(integer())),
        batchAxis: f.required("batchAxis", integer()),
        axes: f.required("axes", list(integer())),
        pad: f.required("pad", wireNumber),
      };
  }
};

const statistics: Decode<TensorStatistics> = (value, path) => {
  const f = fields(value, path);
  return {
    min: f.required("min", wireNumber),
    max: f.required("max", wireNumber),
    mean: f.required("mean", wireNumber),
    rms: f.required("rms", wireNumber),
    nan: f.required("nan", integer()),
    inf: f.required("inf", integer()),
    zeros: f.required("zeros", integer()),
  };
};

const sample: Decode<NonNullable<TraceTensor["sample"]>> = (value, path) => {
  const f = fields(value, path);
  return { rows: f.required("rows", list(integer())), key: f.required("key", text) };
};

const tensor: Decode<TraceTensor> = (value, path) => {
  const f = fields(value, path);
  return {
    id: f.required("id", integer()),
    names: f.required("names", list(text)),
    dtype: f.required("dtype", oneOf(...(Object.keys(dtypes) as DType[]))),
    ...f.optional("narrow", oneOf("float8", "int4")),
    shape: f.required("shape", list(integer(-1))),
    ...f.optional("layout", layout),
    ...f.optional("key", text),
    ...f.optional("statistics", statistics),
    ...f.optional("sample", sample),
    ...f.optional("nonDeterminism", wireNumber),
  };
};

const parameter: Decode<TraceParameter> = (value, path) => {
  const f = fields(value, path);
  return {
    name: f.required("name", text),
    tensor: f.required("tensor", integer()),
    ...f.optional("declaredAt", integer()),
    ...f.optional("buffer", flag),
  };
};

const port: Decode<TracePort> = (value, path) => {
  const f = fields(value, path);
  return { name: f.required("name", text), tensor: f.required("tensor", integer()) };
};

function checkReferences(trace: TraceFile): void {
  const ids = new Set<number>();
  trace.tensors.forEach(({ id, key }, i) => {
    if (ids.has(id)) throw new DecodeError(`tensors[${i}].id`, "an id of its own", id);
    ids.add(id);
    if (key !== undefined && trace.tensorsFile === undefined) {
      throw new DecodeError("tensorsFile", "the file that holds the values", undefined);
    }
  });
  const known = (id: number | null, path: string): void => {
    if (id !== null && !ids.has(id)) throw new DecodeError(path, "the id of a tensor", id);
  };
  const below = (index: number | undefined, count: number, path: string): void => {
    if (index !== undefined && index >= count) {
      throw new DecodeError(path, `an index below ${count}`, index);
    }
  };
  trace.frames.forEach((f, i) => below(f.source, trace.sources.length, `frames[${i}].source`));
  trace.ops.forEach((o, i) => {
    o.inputs.forEach((id, j) => known(id, `ops[${i}].inputs[${j}]`));
    o.outputs.forEach((id, j) => known(id, `ops[${i}].outputs[${j}]`));
    below(o.constructedAt, trace.frames.length, `ops[${i}].constructedAt`);
    o.stack.forEach((index, j) => below(index, trace.frames.length, `ops[${i}].stack[${j}]`));
  });
  trace.parameters.forEach((p, i) => {
    known(p.tensor, `parameters[${i}].tensor`);
    below(p.declaredAt, trace.frames.length, `parameters[${i}].declaredAt`);
  });
  trace.inputs.forEach((p, i) => known(p.tensor, `inputs[${i}].tensor`));
  trace.outputs.forEach((p, i) => known(p.tensor, `outputs[${i}].tensor`));
}
