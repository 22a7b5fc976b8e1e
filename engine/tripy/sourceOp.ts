import { fromWire, type WireNumber } from "../protocol/wire.js";
import type { DType } from "../protocol/tensor.js";

/** One Tripy op as a lowering sees it: operands by their ONNX value names, attributes still undecoded. */
export interface SourceOp {
  readonly kind: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly inputs: readonly Operand[];
  readonly outputs: readonly Operand[];
}

export interface Operand {
  readonly name: string;
  readonly dtype: DType;
  /** Where `dtype` only carries the values of a type that ONNX Runtime cannot hold. */
  readonly narrow?: "float8" | "int4";
  /** −1 where the size is known at run time only. */
  readonly shape: readonly number[];
  /** The elements of a small integer constant, so that shapes known now need no nodes. */
  readonly constant?: readonly bigint[];
}

/** Says why one op cannot be lowered; the rest of the trace still is. */
export class UnsupportedOp extends Error {
  constructor(reason: string) {
    super(reason);
    this.name = "UnsupportedOp";
  }
}

/** @throws UnsupportedOp when the op has fewer inputs. */
export function operand(op: SourceOp, index: number): Operand {
  const input = op.inputs[index];
  if (!input) throw new UnsupportedOp(`${op.kind} has no input ${index}`);
  return input;
}

/** @throws UnsupportedOp when the op has fewer outputs. */
export function outputOf(op: SourceOp, index = 0): Operand {
  const output = op.outputs[index];
  if (!output) throw new UnsupportedOp(`${op.kind} has no output ${index}`);
  return output;
}

/** @throws UnsupportedOp when it is absent or no integer. */
export function intAttribute(op: SourceOp, name: string): number {
  const value = op.attributes[name];
  if (typeof value !== "number" || !Number.isInteger(value))
    throw malformed(op, name, "an integer");
  return value;
}

/** @throws UnsupportedOp when it is absent or no number. */
export function numberAttribute(op: SourceOp, name: string): number {
  const value = op.attributes[name];
  const wired = ["NaN", "Infinity", "-Infinity", "-0"].includes(value as string);
  if (typeof value !== "number" && !wired) throw malformed(op, name, "a number");
  return fromWire(value as WireNumber);
}

/** False where it is absent or null, as Tripy's optional flags are. @throws UnsupportedOp when it is something else. */
export function booleanAttribute(op: SourceOp, name: string): boolean {
  const value = op.attributes[name];
  if (value === undefined || value === null) return false;
  if (typeof value !== "boolean") throw malformed(op, name, "a boolean");
  return value;
}

/** @throws UnsupportedOp when it is absent or no list of integers. */
export function intListAttribute(op: SourceOp, name: string): number[] {
  const value = op.attributes[name];
  const list: unknown[] = Array.isArray(value)
    ? value
    : typeof value === "number"
      ? [value]
      : [NaN];
  if (!list.every((item): item is number => Number.isInteger(item)))
    throw malformed(op, name, "a list of integers");
  return list;
}

/** Undefined where it is absent or null. @throws UnsupportedOp when it is no list of numbers. */
export function optionalNumberList(op: SourceOp, name: string): number[] | undefined {
  const value = op.attributes[name];
  if (value === undefined || value === null) return undefined;
  if (!Array.isArray(value) || !value.every((item): item is number => typeof item === "number"))
    throw malformed(op, name, "a list of numbers");
  return value;
}

export function malformed(op: SourceOp, name: string, wanted: string): UnsupportedOp {
  return new UnsupportedOp(
    `attribute "${name}" of ${op.kind} is ${JSON.stringify(op.attributes[name]) ?? "absent"}, not ${wanted}`,
  );
}
