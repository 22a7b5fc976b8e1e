import type { Emitter } from "./emitter.js";
import type { Lowering } from "./opTable.js";
import { intAttribute, intListAttribute, operand, outputOf, type Operand } from "./sourceOp.js";
import { computeType } from "./dtypes.js";

/** Ops that move elements without computing (nvtripy/trace/ops/{shape,reshape,broadcast,concatenate,permute,linspace}.py). */
export const SHAPE: Readonly<Record<string, Lowering>> = {
  Shape: (op, emit) =>
    emit.cast(emit.node("Shape", [operand(op, 0).name]), "int64", outputOf(op).dtype),
  // Its input is the shape already; a 0-d index makes a 0-d result.
  GetDimensionSize: (op, emit) =>
    emit.node("Gather", [operand(op, 0).name, emit.scalar("int64", intAttribute(op, "dim"))], {
      axis: 0,
    }),
  // With allowzero a 0 is a size, as in Tripy, and not "as in the input".
  Reshape: (op, emit) =>
    emit.node("Reshape", [operand(op, 0).name, sizesOf(emit, operand(op, 1))], {
      allowzero: 1,
    }),
  Broadcast: (op, emit) => {
    const input = operand(op, 0);
    const sizes = operand(op, 1);
    // ONNX Runtime's optimiser removes an Expand from 1 to a constant 0, and one element remains.
    if (sizes.constant?.includes(0n)) return emit.empty(input.dtype, sizes.constant);
    const carrier = input.dtype === "bfloat16" ? "float32" : input.dtype;
    const value = emit.cast(input.name, input.dtype, carrier);
    return emit.cast(emit.node("Expand", [value, sizesOf(emit, sizes)]), carrier, input.dtype);
  },
  Concatenate: (op, emit) =>
    emit.node(
      "Concat",
      op.inputs.map((input) => input.name),
      { axis: intAttribute(op, "dim") },
    ),
  Permute: (op, emit) =>
    emit.node("Transpose", [operand(op, 0).name], {
      perm: intListAttribute(op, "permutation"),
    }),
  Linspace: (op, emit) => {
    const [shape, start, step] = [operand(op, 0), operand(op, 1), operand(op, 2)];
    const { dtype, shape: outputShape } = outputOf(op);
    const wide = computeType(dtype);
    const sizes = sizesOf(emit, shape);
    const rank = outputShape.length;
    let sum = emit.cast(start.name, start.dtype, wide);
    let covered = 0;
    for (let axis = 0; axis < rank; axis++) {
      // iota() counts along one axis and steps by 0 on the others.
      if (step.constant?.[axis] === 0n) continue;
      covered++;
      const at = emit.scalar("int64", axis);
      const index = emit.node("Range", [
        emit.scalar("int64", 0),
        emit.node("Gather", [sizes, at], { axis: 0 }),
        emit.scalar("int64", 1),
      ]);
      // A product per element, because ONNX Runtime's Range adds the step again and again and so adds its rounding.
      const offset = emit.node("Mul", [
        emit.cast(index, "int64", wide),
        emit.node("Gather", [emit.cast(step.name, step.dtype, wide), at], {
          axis: 0,
        }),
      ]);
      const aligned = Array.from({ length: rank }, (_, other) => (other === axis ? -1 : 1));
      const placed = rank === 1 ? offset : emit.node("Reshape", [offset, emit.int64s(aligned)]);
      sum = emit.node("Add", [sum, placed]);
    }
    // An axis without an offset, or no axis at all, leaves the sum smaller than the shape.
    const whole = rank > 0 && covered === rank ? sum : emit.node("Expand", [sum, sizes]);
    return emit.cast(whole, wide, dtype);
  },
};

/** A shape operand as ONNX wants it, int64; a constant one needs no Cast. */
export function sizesOf(emit: Emitter, sizes: Operand): string {
  return sizes.constant ? emit.int64s(sizes.constant) : emit.cast(sizes.name, sizes.dtype, "int64");
}
