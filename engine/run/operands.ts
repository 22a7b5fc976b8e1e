import type { WrongRead } from "../core/explanation.js";
import type { Observation, TensorKey } from "../core/observation.js";
import type { TensorPair } from "../core/pairing.js";
import type { ParameterFinding } from "../core/parameters.js";
import { isRearrangement } from "../core/rearrangement.js";
import { segmentGraph, segmentOf, type Segment } from "../core/segments.js";
import { sameShape } from "../core/shapes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { ValueIndex } from "../core/valueIndex.js";
import { inShape } from "./operandForms.js";
import type { OperandValue, Values } from "./program.js";
import { substitutionFor } from "./replay.js";
import { twinInputs } from "./twinInputs.js";

export interface OperandsOptions {
  readonly reference: Observation;
  readonly candidate: Observation;
  readonly index: ValueIndex;
  readonly pairs: readonly TensorPair[];
  readonly parameters: readonly ParameterFinding[];
  /** The reference's values for parameters that differ. */
  readonly repairs: Values;
}

/** One operand of one op of a segment. */
export interface Slot extends Omit<WrongRead, "wanted"> {
  readonly shape: readonly number[];
  readonly dtype: TensorValue["dtype"];
}

/** What the candidate's ops read, and what they could read instead. */
export interface Operands {
  readonly pairOf: ReadonlyMap<TensorKey, TensorPair>;
  /** The reference's ops between a paired tensor and the paired ones before it. */
  readonly behind: (reference: TensorKey) => Segment;
  /** Whether the candidate has a tensor, input or parameter with the values of one of the reference's. */
  readonly exists: (reference: TensorKey) => boolean;
  readonly classOf: (reference: TensorKey) => string;
  /** Whether the reference makes one tensor out of the other. */
  readonly leadsTo: (from: TensorKey, to: TensorKey) => boolean;
  /** The operands of a segment that come from outside. */
  readonly slotsOf: (segment: Segment) => Slot[];
  /** What the segment's ops read of these after a view of them: `own` is what it is a view of. */
  readonly viewsIn: (segment: Segment) => Slot[];
  /** A tensor of the reference as this operand would hold it, in each way that its shape admits. */
  readonly fittedTo: (slot: Slot, wanted: TensorKey) => TensorValue[];
  /** What the operand should hold if it is the right one. */
  readonly ownValue: (slot: Slot) => TensorValue | undefined;
}

export function operandsOf({
  reference,
  candidate,
  index,
  pairs,
  parameters,
  repairs,
}: OperandsOptions): Operands {
  const pairOf = new Map(pairs.map((pair) => [pair.candidate, pair]));
  const findingOf = new Map(parameters.map((finding) => [finding.candidate.tensor, finding]));
  const matched = new Set(pairs.filter((pair) => pair.alignment).map((pair) => pair.reference));
  const matchedClasses = new Set([...matched].map((key) => index.classOf(key)));
  const referenceValues = new Map(
    [...reference.parameters, ...reference.inputs].map(({ tensor }) => [
      tensor,
      reference.tensors.get(tensor)?.value,
    ]),
  );
  for (const { tensor, value } of reference.parameters) referenceValues.set(tensor, value);
  const inputOf = twinInputs(reference, candidate);
  const slotsOf = ({ ops, frontier, parameters: read }: Segment): Slot[] => {
    const known = new Set([...frontier, ...read]);
    return ops.flatMap((reader) =>
      reader.inputs.flatMap((operand, position): Slot[] => {
        if (!known.has(operand)) return [];
        const finding = findingOf.get(operand);
        const value = finding?.candidate.value ?? candidate.tensors.get(operand)?.value;
        if (!value) return [];
        const own =
          pairOf.get(operand)?.reference ?? finding?.reference?.tensor ?? inputOf.get(operand);
        return [{ reader, position, operand, own, shape: value.shape, dtype: value.dtype }];
      }),
    );
  };

  const viewsIn = (segment: Segment): Slot[] => {
    const ownOf = new Map(slotsOf(segment).map(({ operand, own }) => [operand, own]));
    const views = new Set<TensorKey>();
    for (const op of segment.ops) {
      const [base] = op.inputs;
      const [output] = op.outputs;
      if (base === undefined || output === undefined || !ownOf.has(base)) continue;
      if (!isRearrangement(op, output, base, candidate)) continue;
      ownOf.set(output, ownOf.get(base));
      views.add(output);
    }
    return segment.ops.flatMap((reader) =>
      reader.inputs.flatMap((operand, position): Slot[] => {
        const value = candidate.tensors.get(operand)?.value;
        if (!views.has(operand) || !value) return [];
        const { shape, dtype } = value;
        return [{ reader, position, operand, own: ownOf.get(operand), shape, dtype }];
      }),
    );
  };

  const fittedTo = (slot: Slot, wanted: TensorKey): TensorValue[] => {
    const given = referenceValues.get(wanted);
    if (given) {
      const forms = inShape(given, slot);
      return findingOf.get(slot.operand)?.status === "transposed" ? forms.reverse() : forms;
    }
    const own = candidate.tensors.get(slot.operand);
    const other = reference.tensors.get(wanted)?.value;
    if (!own?.value) return [];
    const fitting = index
      .fitting(slot)
      .filter((match) => match.reference === wanted)
      .map((match) => substitutionFor({ ...match, candidate: slot.operand }, reference, candidate))
      .filter((value) => value !== undefined);
    // Laid out in another shape, or reduced on the way.
    const isOther = other && !sameShape(other.shape, own.shape) && other.dtype === own.dtype;
    const isKnown = isOther && (isOfClass(slot, wanted) || isReduced(other.shape, own.shape));
    return isKnown ? [...fitting, other] : fitting;
  };

  const isOfClass = ({ own }: Slot, wanted: TensorKey): boolean =>
    own !== undefined &&
    index.classOf(own) !== undefined &&
    index.classOf(own) === index.classOf(wanted);

  const ownValue = (slot: Slot): TensorValue | undefined => {
    const pair = pairOf.get(slot.operand);
    if (pair) return substitutionFor(pair, reference, candidate);
    return (
      repairs.get(slot.operand) ??
      findingOf.get(slot.operand)?.candidate.value ??
      candidate.tensors.get(slot.operand)?.value
    );
  };

  const graph = segmentGraph(reference);
  const behind = (key: TensorKey): Segment => {
    const others = new Set(matched);
    others.delete(key);
    return segmentOf(key, others, graph);
  };

  /** Whether the reference makes one tensor out of the other. */
  function leadsTo(from: TensorKey, to: TensorKey): boolean {
    const seen = new Set([to]);
    const open = [to];
    while (open.length > 0) {
      for (const input of graph.producerOf.get(open.pop() as TensorKey)?.inputs ?? []) {
        if (input === from || (index.classOf(input) ?? input) === index.classOf(from)) return true;
        if (!seen.has(input)) open.push(input);
        seen.add(input);
      }
    }
    return false;
  }

  return {
    pairOf,
    behind,
    exists: (key) =>
      referenceValues.has(key) || matched.has(key) || matchedClasses.has(index.classOf(key)),
    leadsTo,
    classOf: (key) => index.classOf(key) ?? key,
    slotsOf,
    viewsIn,
    fittedTo,
    ownValue,
  };
}

/** A mean in the place of what it is the mean of. */
function isReduced(shape: readonly number[], own: readonly number[]): boolean {
  return (
    shape.length === own.length && shape.every((size, axis) => size === own[axis] || size === 1)
  );
}

export function placeOf({ reader, position }: Slot): Pick<OperandValue, "reader" | "position"> {
  return { reader: reader.outputs[0] as TensorKey, position };
}
