import type { Expansion, Node, StepWriter } from "./builder.js";
import { map } from "./ndarray.js";

const complement = (x: number): number => (x === 0 ? 1 : 0);

/** A port may say which positions are kept where `masked_fill` is told which ones are filled. */
export function maskedFill(w: StepWriter): Expansion | undefined {
  const input = w.operand("input") ?? w.operand("self");
  const mask = w.operand("mask");
  return input && mask && w.end(input, kept(w, mask));
}

/** As `maskedFill`: which positions take the second value. */
export function where(w: StepWriter): Expansion | undefined {
  const condition = w.operand("condition");
  const others = ["input", "self", "other"].flatMap((role) => w.operand(role) ?? []);
  return condition && w.end(kept(w, condition), ...others);
}

function kept(w: StepWriter, mask: Node): Node {
  return w.mask("complement of the mask", map(mask, complement), mask);
}
