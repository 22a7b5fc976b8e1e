import { computeType } from "./dtypes.js";
import type { Lowering } from "./opTable.js";
import { booleanAttribute, intAttribute, intListAttribute, operand, outputOf } from "./sourceOp.js";

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
  Max: reduction("ReduceMax"),
  Min: reduction("ReduceMin"),
};

function reduction(opType: string): Lowering {
  return (op, emit) => {
    const input = operand(op, 0);
    const wide = computeType(input.dtype);
    const reduced = emit.node(
      opType,
      [emit.cast(input.name, input.dtype, wide), emit.int64s(intListAttribute(op, "dim"))],
      // Without the flag ONNX reads an empty list of axes as all of them.
      {
        keepdims: booleanAttribute(op, "keepdim") ? 1 : 0,
        noop_with_empty_axes: 1,
      },
    );
    return emit.cast(reduced, wide, outputOf(op).dtype);
  };
}

function topK(largest: 0 | 1): Lowering {
  return (op, emit) => {
    const input = operand(op, 0);
    const wide = computeType(input.dtype);
    const [values, indices] = emit.split(
      "TopK",
      [emit.cast(input.name, input.dtype, wide), emit.int64s([intAttribute(op, "k")])],
      2,
      { axis: intAttribute(op, "dim"), largest, sorted: 1 },
    ) as [string, string];
    return [
      emit.cast(values, wide, input.dtype),
      emit.cast(indices, "int64", outputOf(op, 1).dtype),
    ];
  };
}
