import { ELEMENTWISE } from "./elementwise.js";
import type { Emitter } from "./emitter.js";
import { INDEX } from "./indexing.js";
import { LINALG } from "./linalg.js";
import { NORM } from "./norm.js";
import { QUANTIZE } from "./quantize.js";
import { REDUCE, REDUCE_BINARY_NAMESAKES } from "./reduce.js";
import { SHAPE } from "./shape.js";
import type { SourceOp } from "./sourceOp.js";
import { SPATIAL } from "./spatial.js";

/**
 * Lowers one Tripy op: emits ONNX nodes and returns the values that are its results.
 * @throws UnsupportedOp when it has no faithful ONNX form.
 */
export type Lowering = (op: SourceOp, emit: Emitter) => string | readonly string[];

/** The lowering of an op, by the name of its class in nvtripy.trace.ops; undefined for one that is not known. */
export function loweringOf(op: SourceOp): Lowering | undefined {
  // nvtripy has two classes named Max and two named Min; only the reductions have dimensions.
  if (op.attributes["dim"] !== undefined && Object.hasOwn(REDUCE_BINARY_NAMESAKES, op.kind))
    return REDUCE_BINARY_NAMESAKES[op.kind];
  return Object.hasOwn(TABLE, op.kind) ? TABLE[op.kind] : undefined;
}

const TABLE: Readonly<Record<string, Lowering>> = {
  ...ELEMENTWISE,
  ...SHAPE,
  ...INDEX,
  ...REDUCE,
  ...LINALG,
  ...NORM,
  ...QUANTIZE,
  ...SPATIAL,
};
