import type { DType } from "../protocol/tensor.js";
import { isFloat } from "../core/dtypes.js";
import { computeType, parseDType } from "./dtypes.js";
import type { Emitter } from "./emitter.js";
import type { Lowering } from "./opTable.js";
import { UnsupportedOp, malformed, operand, outputOf, type SourceOp } from "./sourceOp.js";

/** Elementwise ops (nvtripy/trace/ops/{binary,unary,cast,where}.py). */
export const ELEMENTWISE: Readonly<Record<string, Lowering>> = {
  Add: arithmetic("Add"),
  Sub: arithmetic("Sub"),
  Mul: arithmetic("Mul"),
  Pow: arithmetic("Pow"),
  Max: arithmetic("Max"),
  Min: arithmetic("Min"),
  Div: (op, emit) =>
    isFloat(operand(op, 0).dtype)
      ? arithmetic("Div")(op, emit)
      : integerDivision(op, emit, "trunc"),
  FloorDiv: (op, emit) =>
    isFloat(operand(op, 0).dtype)
      ? widened(op, emit, (inputs) => emit.node("Floor", [emit.node("Div", inputs)]))
      : integerDivision(op, emit, "floor"),
  Less: comparison("Less"),
  Greater: comparison("Greater"),
  Equal: comparison("Equal"),
  LogicalOr: (op, emit) =>
    emit.node(
      "Or",
      op.inputs.map((input) => emit.cast(input.name, input.dtype, "bool")),
    ),
  Not: (op, emit) => {
    const input = operand(op, 0);
    return emit.node("Not", [emit.cast(input.name, input.dtype, "bool")]);
  },
  Neg: arithmetic("Neg"),
  Abs: arithmetic("Abs"),
  Exp: floatFunction("Exp"),
  Log: floatFunction("Log"),
  Sqrt: floatFunction("Sqrt"),
  Sin: floatFunction("Sin"),
  Cos: floatFunction("Cos"),
  Recip: floatFunction("Reciprocal"),
  Tanh: floatFunction("Tanh"),
  GeluErf: floatFunction("Gelu"),
  Sigmoid: sigmoid,
  Relu: (op, emit) => {
    const wide = computeType(operand(op, 0).dtype);
    if (isFloat(wide)) return widened(op, emit, (inputs) => emit.node("Relu", inputs));
    // There is no int64 kernel for Relu, and Max has one for every integer type.
    const zero = emit.scalar(wide === "int64" ? "int64" : "int32", 0);
    return widened(op, emit, ([x]) => emit.node("Max", [x, zero]));
  },
  Cast: (op, emit) => {
    const input = operand(op, 0);
    const target = parseDType(op.attributes["dtype"]);
    if (!target) throw malformed(op, "dtype", "a data type that ONNX Runtime can hold");
    return emit.cast(input.name, input.dtype, target);
  },
  Where: (op, emit) => {
    const [condition, chosen, other] = [operand(op, 0), operand(op, 1), operand(op, 2)];
    // ONNX Runtime's CPU provider selects between float, int32 and int64 only; the wider types hold the rest exactly.
    const wide = computeType(chosen.dtype);
    const selected = emit.node("Where", [
      emit.cast(condition.name, condition.dtype, "bool"),
      emit.cast(chosen.name, chosen.dtype, wide),
      emit.cast(other.name, other.dtype, wide),
    ]);
    return emit.cast(selected, wide, chosen.dtype);
  },
};

/** Runs `compute` on the inputs widened to their compute type and rounds the result to the output's type. */
export function widened(
  op: SourceOp,
  emit: Emitter,
  compute: (inputs: [string, ...string[]], type: DType) => string,
): string {
  const wide = computeType(operand(op, 0).dtype);
  const inputs = op.inputs.map((input) => emit.cast(input.name, input.dtype, wide));
  return emit.cast(compute(inputs as [string, ...string[]], wide), wide, outputOf(op).dtype);
}

function arithmetic(opType: string): Lowering {
  return (op, emit) => widened(op, emit, (inputs) => emit.node(opType, inputs));
}

function comparison(opType: string): Lowering {
  return (op, emit) => {
    const wide = computeType(operand(op, 0).dtype);
    return emit.node(
      opType,
      op.inputs.map((input) => emit.cast(input.name, input.dtype, wide)),
    );
  };
}

function floatFunction(opType: string): Lowering {
  return (op, emit) => {
    requireFloat(op);
    return widened(op, emit, (inputs) => emit.node(opType, inputs));
  };
}

/**
 * 1 / (1 + exp(−x)). ONNX Runtime's CPU kernel for Sigmoid is a rational approximation that ends at ±18: its relative
 * error is 2e-3 at −10 and 1 below −18, which would show as a difference of the user's line. This form keeps 1e-7
 * everywhere, and exp's overflow to infinity gives the right limit 0.
 */
function sigmoid(op: SourceOp, emit: Emitter): string {
  requireFloat(op);
  return widened(op, emit, ([x], type) => {
    const one = emit.scalar(type === "float64" ? "float64" : "float32", 1);
    return emit.node("Div", [
      one,
      emit.node("Add", [one, emit.node("Exp", [emit.node("Neg", [x])])]),
    ]);
  });
}

/** TensorRT gives an int8 activation its meaning through scales that the trace does not have. */
function requireFloat(op: SourceOp): void {
  const { dtype } = operand(op, 0);
  if (!isFloat(dtype))
    throw new UnsupportedOp(`${op.kind} of ${dtype} depends on TensorRT's quantisation scales`);
}

/**
 * Division of integers, rounded to zero (Div) or down (FloorDiv), in int64 so that no intermediate overflows. A zero
 * divisor traps the whole process in ONNX Runtime, and so does the lowest int64 by −1. Unless the divisor is a constant
 * that is neither, the quotient is 0 by zero, and by −1 the negative, which wraps as two's complement.
 */
function integerDivision(op: SourceOp, emit: Emitter, rounding: "trunc" | "floor"): string {
  const [dividend, divisor] = [operand(op, 0), operand(op, 1)];
  const a = emit.cast(dividend.name, dividend.dtype, "int64");
  const b = emit.cast(divisor.name, divisor.dtype, "int64");
  const mayBe = (value: bigint): boolean => divisor.constant?.includes(value) ?? true;
  const zero = emit.scalar("int64", 0);
  const one = emit.scalar("int64", 1);
  let quotient = (by: string): string => divide(emit, a, by, rounding);
  if (dividend.dtype === "int64" && mayBe(-1n)) {
    const plain = quotient;
    quotient = (by) => {
      const isMinusOne = emit.node("Equal", [by, emit.scalar("int64", -1)]);
      const safe = emit.node("Where", [isMinusOne, one, by]);
      return emit.node("Where", [isMinusOne, emit.node("Neg", [a]), plain(safe)]);
    };
  }
  if (mayBe(0n)) {
    const nonZero = quotient;
    quotient = (by) => {
      const isZero = emit.node("Equal", [by, zero]);
      const safe = emit.node("Where", [isZero, one, by]);
      return emit.node("Where", [isZero, zero, nonZero(safe)]);
    };
  }
  return emit.cast(quotient(b), "int64", outputOf(op).dtype);
}

function divide(emit: Emitter, a: string, b: string, rounding: "trunc" | "floor"): string {
  if (rounding === "trunc") return emit.node("Div", [a, b]);
  // ONNX's integer Mod has the divisor's sign, so that (a − a mod b) / b is exact and rounds down.
  return emit.node("Div", [emit.node("Sub", [a, emit.node("Mod", [a, b])]), b]);
}
