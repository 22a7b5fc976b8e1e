import { computeType } from "./dtypes.js";
import type { Emitter } from "./emitter.js";
import type { Lowering } from "./opTable.js";
import {
  booleanAttribute,
  intAttribute,
  intListAttribute,
  operand,
  outputOf,
  type SourceOp,
} from "./sourceOp.js";

/** Reductions (nvtripy/trace/ops/{reduce,topk}.py) whose names are theirs alone. */
export const REDUCE: Readonly<Record<string, Lowering>> = {
  Sum: reduction("ReduceSum"),
  Prod: reduction("ReduceProd"),
  Avg: reduction("ReduceMean"),
  TopKMax: topK(1),
  TopKMin: topK(0),
};

/** The reductions that share a name with a binary op. */
export const REDUCE_BINARY_NAMESAKES: Readonly<Record<string, Lowering>> = {
  Max: extremum("ReduceMax"),
  Min: extremum("ReduceMin"),
};

function reduction(opType: string): Lowering {
  return (op, emit) => {
    const input = operand(op, 0);
    const wide = computeType(input.dtype);
    const reduced = reduce(op, emit, opType, emit.cast(input.name, input.dtype, wide));
    return emit.cast(reduced, wide, outputOf(op).dtype);
  };
}

function reduce(op: SourceOp, emit: Emitter, opType: string, value: string): string {
  return emit.node(opType, [value, emit.int64s(intListAttribute(op, "dim"))], {
    keepdims: booleanAttribute(op, "keepdim") ? 1 : 0,
    // Without the flag ONNX reads an empty list of axes as all of them.
    noop_with_empty_axes: 1,
  });
}

/**
 * What ONNX Runtime's kernels give for elements among which is NaN depends on where it stands; sometimes it is neither
 * NaN nor the extremum of the others. As in torch, NaN is passed on.
 */
function extremum(opType: "ReduceMax" | "ReduceMin"): Lowering {
  return (op, emit) => {
    const input = operand(op, 0);
    const wide = computeType(input.dtype);
    const value = emit.cast(input.name, input.dtype, wide);
    const reduced = reduce(op, emit, opType, value);
    if (wide !== "float32") return emit.cast(reduced, wide, outputOf(op).dtype);
    const isNaN = emit.cast(emit.node("IsNaN", [value]), "bool", "int32");
    const anyNaN = emit.cast(reduce(op, emit, "ReduceMax", isNaN), "int32", "bool");
    const passedOn = emit.node("Where", [anyNaN, emit.scalar("float32", NaN), reduced]);
    return emit.cast(passedOn, wide, outputOf(op).dtype);
  };
}

function topK(largest: 0 | 1): Lowering {
  return (op, emit) => {
    const input = operand(op, 0);
    const [axis, k] = [intAttribute(op, "dim"), intAttribute(op, "k")];
    if (input.shape.includes(0) && input.shape.every((size) => size >= 0)) {
      // ONNX Runtime's kernel ends the process when there is nothing to choose from.
      const sizes = input.shape.with(axis, k).map(BigInt);
      return [emit.empty(input.dtype, sizes), emit.empty(outputOf(op, 1).dtype, sizes)];
    }
    const wide = computeType(input.dtype);
    const [values, indices] = emit.split(
      "TopK",
      [emit.cast(input.name, input.dtype, wide), emit.int64s([k])],
      2,
      { axis, largest, sorted: 1 },
    ) as [string, string];
    return [
      emit.cast(values, wide, input.dtype),
      emit.cast(indices, "int64", outputOf(op, 1).dtype),
    ];
  };
}
