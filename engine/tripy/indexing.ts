import type { DType } from "../protocol/tensor.js";
import type { Emitter } from "./emitter.js";
import type { Lowering } from "./opTable.js";
import { sizesOf } from "./shape.js";
import { intAttribute, operand, type Operand, type SourceOp } from "./sourceOp.js";

/**
 * Ops that pick elements by position (nvtripy/trace/ops/{gather,slice}.py). The three slices take data, start, size and
 * stride; element y of the output is element start + y · stride of the data, and they differ in what lies outside.
 * TensorRT's documentation of the Slice operator has the formulas.
 */
export const INDEX: Readonly<Record<string, Lowering>> = {
  // An index outside the axis is undefined in TensorRT; ONNX Runtime refuses one and names the node.
  Gather: (op, emit) =>
    emit.node("Gather", [operand(op, 0).name, operand(op, 1).name], {
      axis: intAttribute(op, "dim"),
    }),
  Slice: (op, emit) => {
    const data = operand(op, 0);
    if (data.shape.length === 0) return data.name;
    const [start, size, stride] = windowOf(op, emit);
    return slice(emit, data.name, start, size, stride, data.shape.length);
  },
  SliceFill: (op, emit) => {
    const data = operand(op, 0);
    const fill = operand(op, 4);
    const rank = data.shape.length;
    if (rank === 0) return data.name;
    const carrier: DType = data.dtype === "bfloat16" ? "float32" : data.dtype;
    const [start, size, stride] = windowOf(op, emit);
    // Pad until the window lies inside the data, then slice it: right for any start, size and stride.
    const last = emit.node("Add", [
      start.name,
      emit.node("Mul", [emit.node("Sub", [size.name, emit.scalar("int64", 1)]), stride.name]),
    ]);
    const zero = emit.scalar("int64", 0);
    const shape = emit.node("Shape", [data.name]);
    const before = emit.node("Max", [
      zero,
      emit.node("Neg", [start.name]),
      emit.node("Neg", [last]),
    ]);
    const overhang = (end: string): string =>
      emit.node("Add", [emit.node("Sub", [end, shape]), emit.scalar("int64", 1)]);
    const after = emit.node("Max", [zero, overhang(start.name), overhang(last)]);
    const padded = emit.node("Pad", [
      emit.cast(data.name, data.dtype, carrier),
      emit.node("Concat", [before, after], { axis: 0 }),
      emit.cast(fill.name, fill.dtype, carrier),
    ]);
    const shifted: Bound = { name: emit.node("Add", [start.name, before]) };
    return emit.cast(slice(emit, padded, shifted, size, stride, rank), carrier, data.dtype);
  },
  SliceReflect: (op, emit) => {
    const data = operand(op, 0);
    const [start, size, stride] = windowOf(op, emit);
    const shape = emit.node("Shape", [data.name]);
    return data.shape.reduce((value, _, axis) => {
      const at = (list: string): string =>
        emit.node("Gather", [list, emit.scalar("int64", axis)], { axis: 0 });
      const [zero, one, two] = [0, 1, 2].map((n) => emit.scalar("int64", n)) as [
        string,
        string,
        string,
      ];
      const position = emit.node("Add", [
        at(start.name),
        emit.node("Mul", [emit.node("Range", [zero, at(size.name), one]), at(stride.name)]),
      ]);
      const length = at(shape);
      const period = emit.node("Sub", [emit.node("Mul", [length, two]), two]);
      // A dimension of one element reflects onto itself; its period of 0 must not become a divisor.
      const folded = emit.node("Mod", [
        emit.node("Abs", [position]),
        emit.node("Max", [period, one]),
      ]);
      const index = emit.node("Where", [
        emit.node("Less", [folded, length]),
        folded,
        emit.node("Sub", [period, folded]),
      ]);
      return emit.node("Gather", [value, index], { axis });
    }, data.name);
  },
};

/** One of start, size and stride: an int64 value, and its elements where they are constant. */
interface Bound {
  readonly name: string;
  readonly constant?: readonly bigint[];
}

function windowOf(op: SourceOp, emit: Emitter): [Bound, Bound, Bound] {
  return [operand(op, 1), operand(op, 2), operand(op, 3)].map((bound: Operand): Bound => ({
    name: sizesOf(emit, bound),
    ...(bound.constant && { constant: bound.constant }),
  })) as [Bound, Bound, Bound];
}

/** Below any index: ONNX reads it as "to the front, inclusive" for a negative stride. */
const BEFORE_FIRST = -(2n ** 62n);

/**
 * Tripy's slice has a size, ONNX's an exclusive end. Going backwards to element 0 ends at −1, which ONNX would count
 * from the back, so that any negative end of a negative stride is moved before the front.
 */
function slice(
  emit: Emitter,
  data: string,
  start: Bound,
  size: Bound,
  stride: Bound,
  rank: number,
): string {
  const axes = emit.int64s(Array.from({ length: rank }, (_, axis) => axis));
  return emit.node("Slice", [data, start.name, end(), axes, stride.name]);

  function end(): string {
    if (start.constant && size.constant && stride.constant) {
      const [starts, sizes, strides] = [start.constant, size.constant, stride.constant];
      return emit.int64s(
        starts.map((first, axis) => {
          const step = strides[axis] as bigint;
          const past = first + (sizes[axis] as bigint) * step;
          return step < 0n && past < 0n ? BEFORE_FIRST : past;
        }),
      );
    }
    const unit = stride.constant?.every((step) => step === 1n);
    const past = emit.node("Add", [
      start.name,
      unit ? size.name : emit.node("Mul", [size.name, stride.name]),
    ]);
    if (stride.constant?.every((step) => step > 0n)) return past;
    const zero = emit.scalar("int64", 0);
    const backwards = emit.node("And", [
      emit.node("Less", [stride.name, zero]),
      emit.node("Less", [past, zero]),
    ]);
    return emit.node("Where", [backwards, emit.int64s([BEFORE_FIRST]), past]);
  }
}
