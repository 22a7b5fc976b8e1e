import type { Alignment } from "./alignment.js";
import { elementCount, isComplete } from "./dtypes.js";
import { sameShape } from "./shapes.js";
import type { TensorValue } from "./tensorValue.js";

/** `error`: the tensors do not match, whatever the metrics say. `warning`: matching is in doubt or needs a word. */
export interface Finding {
  readonly code: FindingCode;
  readonly severity: "error" | "warning" | "information";
  readonly text: string;
}

export type FindingCode =
  | "shape-mismatch"
  | "incomplete-tensor"
  | "alignment-out-of-range"
  | "dtype-mismatch"
  | "rounded-integer"
  | "nan-disagreement"
  | "nan-on-both-sides"
  | "inf-disagreement"
  | "fill-disagreement"
  | "masked-fill"
  | "subnormal-flush"
  | "padding-differs"
  | "vacuous";

/** What forbids a comparison: shapes that nothing explains, bytes that are missing, runs that leave the tensors. */
export function findObstacle(
  reference: TensorValue,
  candidate: TensorValue,
  alignment: Alignment | undefined,
): Finding | undefined {
  for (const [side, value] of [
    ["reference", reference],
    ["candidate", candidate],
  ] as const) {
    if (isComplete(value)) continue;
    const text = `the ${side} has ${value.bytes.byteLength} bytes, which is not what ${value.dtype} [${value.shape.join(", ")}] needs`;
    return { code: "incomplete-tensor", severity: "error", text };
  }
  if (!alignment) {
    if (sameShape(reference.shape, candidate.shape)) return undefined;
    const text = `[${reference.shape.join(", ")}] against [${candidate.shape.join(", ")}]: no layout explains the shapes`;
    return { code: "shape-mismatch", severity: "error", text };
  }
  const sizes = [elementCount(reference.shape), elementCount(candidate.shape)] as const;
  const inside = alignment.runs.every(
    (run) =>
      run.length >= 0 &&
      run.reference >= 0 &&
      run.candidate >= 0 &&
      run.reference + run.length <= sizes[0] &&
      run.candidate + run.length <= sizes[1],
  );
  const counted = alignment.runs.reduce((sum, run) => sum + run.length, 0);
  if (inside && counted === alignment.count) return undefined;
  const text = "the alignment of the two tensors points outside them";
  return { code: "alignment-out-of-range", severity: "error", text };
}
