import type { WrongRead } from "../core/explanation.js";
import type { Judgement } from "../core/judge.js";
import type { ObservedOp, TensorKey } from "../core/observation.js";
import { isRearrangement } from "../core/rearrangement.js";
import { placeOf, type Operands, type OperandsOptions } from "./operands.js";
import type { OperandValue } from "./program.js";

/** A tensor of the reference that an op would make with these operands, if it is the counterpart of the one that makes it. */
export interface OtherTarget {
  readonly target: TensorKey;
  readonly operands: readonly OperandValue[];
}

/** More is not tried for one op. */
const mostTargets = 8;

/** What a segment may rightly make that is not its pair's: the reference makes it of what the segment reads. */
export function otherTargets(
  { pair, segment }: Judgement,
  { reference, candidate, index }: Pick<OperandsOptions, "reference" | "candidate" | "index">,
  { exists, leadsTo, classOf, slotsOf, fittedTo }: Operands,
  /** Whether what was paired with a class of tensors is wrong itself. */
  isOpen: (referenceClass: string) => boolean,
): readonly OtherTarget[] {
  const slots = slotsOf(segment);
  const laidOut = slots.find(
    ({ reader, operand }) =>
      reader === segment.ops.at(-1) && isRearrangement(reader, pair.candidate, operand, candidate),
  );
  // A view makes nothing.
  if (laidOut?.own !== undefined && classOf(laidOut.own) !== classOf(pair.reference)) {
    return [{ target: laidOut.own, operands: [] }];
  }
  const held = new Set(slots.map(({ own }) => (own === undefined ? "" : classOf(own))));
  const found: OtherTarget[] = [];
  for (const op of reference.ops) {
    const [target] = op.outputs;
    if (target === undefined || index.classOf(target) === undefined) continue;
    if (exists(target) && !isOpen(classOf(target))) continue;
    if (classOf(target) === classOf(pair.reference)) continue;
    if (!op.inputs.some((key) => held.has(classOf(key)))) continue;
    const [wanted, ...others] = op.inputs.filter((key) => !held.has(classOf(key)));
    if (wanted === undefined) found.push({ target, operands: [] });
    if (wanted === undefined || others.length > 0) continue;
    const read = new Set(op.inputs.map(classOf));
    for (const slot of slots) {
      if (slot.own === undefined || read.has(classOf(slot.own))) continue;
      // Done after instead of before what follows it: then it is the order that is wrong.
      if (leadsTo(target, slot.own)) continue;
      const [value] = fittedTo(slot, wanted);
      if (value) found.push({ target, operands: [{ ...placeOf(slot), value }] });
    }
  }
  return found.slice(0, mostTargets);
}

/** All that reads a tensor that is made rightly, in the place of another one. */
export function readsOf(
  { pair }: Judgement,
  target: TensorKey,
  readers: readonly ObservedOp[],
): WrongRead[] {
  const operand = pair.candidate;
  return readers.flatMap((reader) =>
    reader.inputs.flatMap((key, position) =>
      key === operand ? [{ reader, position, operand, own: target, wanted: pair.reference }] : [],
    ),
  );
}
