import { create } from "@bufbuild/protobuf";
import { StringStringEntryProtoSchema, type StringStringEntryProto } from "onnx-buf";
import type { TraceFile, TraceOp } from "../protocol/trace.js";

/** What a node says about the op of the trace that it was lowered from. */
export function opMetadata(op: TraceOp): StringStringEntryProto[] {
  return entries({
    "hstu_parity.op": String(op.id),
    "hstu_parity.kind": op.kind,
    "hstu_parity.stack": JSON.stringify(op.stack),
    "hstu_parity.instance": op.instance,
    "hstu_parity.call": String(op.call ?? 0),
    ...(op.constructedAt !== undefined && {
      "hstu_parity.constructedAt": JSON.stringify(op.constructedAt),
    }),
  });
}

/** What the model says about the trace: enough to attribute every node without the trace at hand. */
export function modelMetadata(
  trace: TraceFile,
  valueNames: ReadonlyMap<number, string>,
): StringStringEntryProto[] {
  const nameOf = (id: number): string => valueNames.get(id) ?? `t${id}`;
  const aliases = trace.tensors
    .map((tensor): [string, string[]] => [nameOf(tensor.id), tensor.names])
    .filter(([own, names]) => names.some((name) => name !== own));
  const parameters = trace.parameters.map(({ name, tensor, declaredAt }) => ({
    name,
    tensor: nameOf(tensor),
    ...(declaredAt !== undefined && { declaredAt }),
  }));
  return entries({
    "hstu_parity.framework": trace.framework,
    "hstu_parity.run": JSON.stringify(trace.ranOn),
    "hstu_parity.sources": JSON.stringify(trace.sources),
    "hstu_parity.frames": JSON.stringify(trace.frames),
    "hstu_parity.names": JSON.stringify(Object.fromEntries(aliases)),
    "hstu_parity.parameters": JSON.stringify(parameters),
  });
}

function entries(values: Record<string, string>): StringStringEntryProto[] {
  return Object.entries(values).map(([key, value]) =>
    create(StringStringEntryProtoSchema, { key, value }),
  );
}
