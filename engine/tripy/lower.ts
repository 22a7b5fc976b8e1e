import { create } from "@bufbuild/protobuf";
import {
  GraphProtoSchema,
  ModelProtoSchema,
  TensorProtoSchema,
  type ModelProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from "onnx-buf";
import type { TensorValue } from "../core/tensorValue.js";
import type { Site } from "../protocol/report.js";
import type { TraceFile, TraceOp, TraceTensor } from "../protocol/trace.js";
import { onnxTypes } from "../onnx/tensorProto.js";
import { parseDType } from "./dtypes.js";
import { ConstantPool, Emitter } from "./emitter.js";
import { modelMetadata, opMetadata } from "./metadata.js";
import { loweringOf } from "./opTable.js";
import { UnsupportedOp, type Operand, type SourceOp } from "./sourceOp.js";
import { nameValues } from "./valueNames.js";
import { valueInfo } from "./valueInfo.js";

/** The domain of nodes that stand for ops without an ONNX form: no runtime has a kernel for them. */
export const UNSUPPORTED_DOMAIN = "hstu_parity.unsupported";

export interface LoweredTrace {
  /** Opset 20, IR version 10; serialise it with `toBinary(ModelProtoSchema, model)`. The same trace gives the same bytes. */
  readonly model: ModelProto;
  /** Ops that no node computes; where there are any the model as a whole does not run, its other parts do. */
  readonly unsupported: readonly UnsupportedTraceOp[];
  /** The ONNX value name of each tensor of the trace, by tensor id. */
  readonly valueNames: ReadonlyMap<number, string>;
}

export interface UnsupportedTraceOp {
  readonly op: TraceOp;
  readonly reason: string;
  readonly site?: Site;
}

/**
 * Lowers a Tripy trace to ONNX. Graph inputs bear the names of the trace's input ports; every other value bears the
 * first name that the user's source gives it, made unique, or `t<id>`. Constants and parameters become initializers.
 * Each node says in its metadata which source op, line and module instance it came from.
 * @param values the recorded value of a tensor: needed for constants, parameters and nothing else.
 */
export function lowerTripyTrace(
  trace: TraceFile,
  values: (tensorId: number) => TensorValue | undefined,
): LoweredTrace {
  const tensors = new Map(trace.tensors.map((tensor) => [tensor.id, tensor]));
  const names = nameValues(trace);
  const inputIds = new Set(trace.inputs.map((port) => port.tensor));
  const constants = new ConstantPool();
  const initializers = new Map<number, TensorProto>();
  const integers = new Map<number, readonly bigint[]>();
  const nodes: NodeProto[] = [];
  const unsupported: UnsupportedTraceOp[] = [];

  for (const id of valuesNeeded(trace)) initialise(id);
  for (const op of trace.ops) {
    // A port's tensor may be made by a Constant while the program runs eagerly: its value is fed then.
    if (op.kind === "Constant") requireValue(op);
    else nodes.push(...lowerOp(op));
  }

  const model = create(ModelProtoSchema, {
    irVersion: 10n,
    producerName: "hstu_parity",
    opsetImport: [
      { domain: "", version: 20n },
      ...(nodes.some((node) => node.domain === UNSUPPORTED_DOMAIN)
        ? [{ domain: UNSUPPORTED_DOMAIN, version: 1n }]
        : []),
    ],
    graph: create(GraphProtoSchema, {
      name: trace.label || "tripy",
      node: nodes,
      initializer: [...initializers.values(), ...constants.tensors()],
      input: portInfos(trace.inputs),
      output: portInfos(trace.outputs),
      valueInfo: innerValueInfos(),
    }),
    metadataProps: modelMetadata(trace, names),
  });
  return { model, unsupported, valueNames: names };

  function initialise(id: number): void {
    const tensor = tensors.get(id);
    const value = values(id) ?? (tensor && emptyValue(tensor));
    if (!tensor || !value || !Object.hasOwn(onnxTypes, value.dtype)) return;
    initializers.set(
      id,
      create(TensorProtoSchema, {
        name: nameOf(id),
        dataType: onnxTypes[value.dtype],
        dims: value.shape.map(BigInt),
        rawData: new Uint8Array(value.bytes),
      }),
    );
    const elements = smallIntegers(value);
    if (elements) integers.set(id, elements);
  }

  function requireValue(op: TraceOp): void {
    for (const id of op.outputs) {
      const proto = initializers.get(id);
      if (proto) proto.metadataProps = opMetadata(op);
      else if (!inputIds.has(id)) report(op, "the value of this constant was not recorded");
    }
  }

  function lowerOp(op: TraceOp): NodeProto[] {
    const outputs = op.outputs.map(nameOf);
    let emitter = new Emitter(`op${op.id}`, constants);
    let lowered: NodeProto[];
    try {
      const source: SourceOp = {
        kind: op.kind,
        attributes: op.attributes,
        inputs: op.inputs.map((id, index) => operandOf(id, `input ${index}`)),
        outputs: op.outputs.map((id, index) => operandOf(id, `output ${index}`)),
      };
      const lowering = loweringOf(source);
      if (!lowering) throw new UnsupportedOp(`there is no ONNX form of ${op.kind}`);
      const results = lowering(source, emitter);
      lowered = emitter.finish(typeof results === "string" ? [results] : results, outputs);
    } catch (error) {
      if (!(error instanceof UnsupportedOp)) throw error;
      report(op, error.message);
      emitter = new Emitter(`op${op.id}`, constants);
      const inputs = op.inputs.map((id) => (id === null ? "" : nameOf(id)));
      const standIn = emitter.split(op.kind, inputs, outputs.length, {}, UNSUPPORTED_DOMAIN);
      lowered = emitter.finish(standIn, outputs);
    }
    const metadata = opMetadata(op);
    for (const node of lowered) node.metadataProps = metadata;
    return lowered;
  }

  function operandOf(id: number | null, role: string): Operand {
    const tensor = id === null ? undefined : tensors.get(id);
    if (!tensor || id === null) throw new UnsupportedOp(`${role} is not a tensor of the trace`);
    const dtype = parseDType(tensor.dtype);
    if (!dtype)
      throw new UnsupportedOp(
        `${role} has the type ${tensor.dtype}, which ONNX Runtime cannot hold`,
      );
    const constant = integers.get(id);
    return {
      name: nameOf(id),
      dtype,
      ...(tensor.narrow && { narrow: tensor.narrow }),
      shape: tensor.shape,
      ...(constant && { constant }),
    };
  }

  function report(op: TraceOp, reason: string): void {
    const site = siteOf(trace, op);
    unsupported.push({ op, reason, ...(site && { site }) });
  }

  function portInfos(ports: TraceFile["inputs"]): ValueInfoProto[] {
    const distinct = new Map(ports.map((port) => [nameOf(port.tensor), tensors.get(port.tensor)]));
    return [...distinct].flatMap(([name, tensor]) => (tensor ? [valueInfo(name, tensor)] : []));
  }

  function innerValueInfos(): ValueInfoProto[] {
    const outer = new Set([
      ...inputIds,
      ...trace.outputs.map((port) => port.tensor),
      ...initializers.keys(),
    ]);
    const produced = computedTensors(trace);
    return trace.tensors
      .filter(
        (tensor) => produced.has(tensor.id) && !outer.has(tensor.id) && parseDType(tensor.dtype),
      )
      .map((tensor) => valueInfo(nameOf(tensor.id), tensor));
  }

  function nameOf(id: number): string {
    return names.get(id) ?? `t${id}`;
  }
}

/** The tensors whose recorded values the lowering needs: those that no op computes and no port feeds. */
export function valuesNeeded(trace: TraceFile): number[] {
  const made = computedTensors(trace);
  for (const port of trace.inputs) made.add(port.tensor);
  return trace.tensors.flatMap(({ id }) => (made.has(id) ? [] : [id]));
}

function computedTensors(trace: TraceFile): Set<number> {
  return new Set(trace.ops.flatMap((op) => (op.kind === "Constant" ? [] : op.outputs)));
}

/** Where an op stands in the user's source: its innermost user frame. */
function siteOf(trace: TraceFile, op: TraceOp): Site | undefined {
  const frame = trace.frames[op.stack[0] ?? -1];
  const source = frame && trace.sources[frame.source];
  if (!frame || !source) return undefined;
  return {
    file: source.file,
    line: frame.line,
    ...(frame.column !== undefined && { column: frame.column }),
    ...(frame.endColumn !== undefined && { endColumn: frame.endColumn }),
    function: frame.function,
    ...(op.instance && { instance: op.instance }),
    ...(op.call !== undefined && { call: op.call }),
  };
}

/** A tensor without elements has a value even where none was recorded. */
function emptyValue(tensor: TraceTensor): TensorValue | undefined {
  const dtype = parseDType(tensor.dtype);
  if (!dtype || !tensor.shape.includes(0) || tensor.shape.some((size) => size < 0))
    return undefined;
  return { dtype, shape: tensor.shape, bytes: new Uint8Array(0) };
}

/** Shapes, starts and divisors are short; longer integer constants are data. */
const MAX_FOLDED = 64;

function smallIntegers(value: TensorValue): readonly bigint[] | undefined {
  if (value.dtype !== "int32" && value.dtype !== "int64") return undefined;
  const width = value.dtype === "int32" ? 4 : 8;
  const count = value.bytes.byteLength / width;
  if (count > MAX_FOLDED) return undefined;
  const view = new DataView(value.bytes.buffer, value.bytes.byteOffset, value.bytes.byteLength);
  return Array.from({ length: count }, (_, index) =>
    width === 4 ? BigInt(view.getInt32(index * 4, true)) : view.getBigInt64(index * 8, true),
  );
}
