import { relL2 } from "../core/difference.js";
import { align } from "../core/layouts.js";
import type { Explanation, WrongRead } from "../core/explanation.js";
import type { Judgement } from "../core/judge.js";
import {
  consumers,
  type Observation,
  type ObservedOp,
  type TensorKey,
} from "../core/observation.js";
import { sameBytes } from "../core/integerComparison.js";
import { isRearrangement } from "../core/rearrangement.js";
import type { TensorPair } from "../core/pairing.js";
import type { ParameterFinding } from "../core/parameters.js";
import { segmentGraph, segmentOf, type Segment } from "../core/segments.js";
import { sameShape } from "../core/shapes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { ValueIndex } from "../core/valueIndex.js";
import { fromWire } from "../protocol/wire.js";
import { inShape, transposed } from "./operandForms.js";
import { evaluateTrial, type OperandValue, type Program, type Values } from "./program.js";
import { substitutionFor } from "./replay.js";
import { twinInputs } from "./twinInputs.js";

export interface ExplainOptions {
  readonly reference: Observation;
  readonly candidate: Observation;
  readonly program: Program;
  readonly index: ValueIndex;
  readonly pairs: readonly TensorPair[];
  readonly parameters: readonly ParameterFinding[];
  /** The reference's values for parameters that differ. */
  readonly repairs: Values;
  readonly signal: AbortSignal;
}

/** What is tried for one origin, and for all of them together: a fault must not cost more than the comparison. */
const limits = { evaluations: 40, inAll: 1200, segmentOps: 200, origins: 48, elsewhere: 8 };
/** What is left must be this much smaller than what was introduced. */
const explainedShare = 0.05;
/** Rounding of other kernels, as in the look-up of values. */
const leastGate = 2e-6;

/**
 * Tries for every origin whether its op is right and one of its operands is wrong: each operand is replaced by what the
 * reference reads at this place, turned round, and swapped with another one. What makes the reference's result explains it.
 */
export async function explainOrigins(
  judgements: readonly Judgement[],
  options: ExplainOptions,
): Promise<ReadonlyMap<TensorKey, ProvenExplanation>> {
  const { signal } = options;
  const explanations = new Map<TensorKey, ProvenExplanation>();
  const find = startExplaining(options);
  const suspects = judgements.filter(
    ({ verdict, pair, introducedByOps, gate }) =>
      verdict === "origin" &&
      (pair.fitsInPlace ||
        (pair.alignment !== undefined &&
          introducedByOps !== undefined &&
          !(introducedByOps <= fromWire(gate.value)))),
  );
  for (const suspect of suspects.slice(0, limits.origins)) {
    signal.throwIfAborted();
    const explanation = await find(suspect);
    if (explanation) explanations.set(suspect.pair.candidate, explanation);
  }
  return explanations;
}

/** An explanation with the operands that repair what it explains. */
export interface ProvenExplanation extends Explanation {
  readonly operands: readonly OperandValue[];
}

/** One operand of one op of a segment. */
interface Slot extends Omit<WrongRead, "wanted"> {
  readonly shape: readonly number[];
  readonly dtype: TensorValue["dtype"];
}

interface Hypothesis {
  readonly kind: Explanation["kind"];
  readonly changes: readonly { slot: Slot; wanted: TensorKey; value: TensorValue }[];
}

function startExplaining({
  reference,
  candidate,
  program,
  index,
  pairs,
  parameters,
  repairs,
  signal,
}: ExplainOptions): (judgement: Judgement) => Promise<ProvenExplanation | undefined> {
  const referenceGraph = segmentGraph(reference);
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
  let evaluations = 0;

  const readersOf = consumers(candidate);
  const classOf = (key: TensorKey): string => index.classOf(key) ?? key;
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

  /** A tensor of the reference as this operand would hold it, in each way that its shape admits. */
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
    // Laid out in another shape.
    const isOther = other && !sameShape(other.shape, own.shape) && other.dtype === own.dtype;
    return isOther && isOfClass(slot, wanted) ? [...fitting, other] : fitting;
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

  function* hypotheses(judgement: Judgement): Iterable<Hypothesis> {
    const { pair, segment } = judgement;
    const slots = slotsOf(segment);
    const others = new Set(matched);
    others.delete(pair.reference);
    const read = segmentOf(pair.reference, others, referenceGraph);
    const between = read.ops.flatMap((op) => op.outputs).filter((key) => key !== pair.reference);
    const ownClass = index.classOf(pair.reference);
    const isOther = (key: TensorKey): boolean =>
      index.classOf(key) === undefined || index.classOf(key) !== ownClass;
    const reads = new Set(slots.map((slot) => slot.own));
    // In the order in which they are read: weights of one shape are told apart by it.
    const order = new Set(read.ops.flatMap((op) => op.inputs));
    const entering = new Set([...read.frontier, ...read.parameters]);
    const open = [...order].filter((key) => entering.has(key) && !reads.has(key));
    const known = [...read.frontier, ...read.parameters].filter((key) => reads.has(key));
    const replaceBy = function* (wanted: TensorKey): Iterable<Hypothesis> {
      for (const slot of slots) {
        if (!isOther(wanted)) continue;
        const kind = kindOf(slot, wanted);
        const alike = slots.filter(({ operand }) => operand === slot.operand);
        const own = ownValue(slot);
        for (const value of fittedTo(slot, wanted)) {
          if (own && sameShape(own.shape, value.shape) && sameBytes(own.bytes, value.bytes))
            continue;
          // Once for all that reads the tensor, then for each of its readers alone.
          for (const taken of alike.length > 1 && alike[0] === slot ? [alike, [slot]] : [[slot]]) {
            yield { kind, changes: taken.map((one) => ({ slot: one, wanted, value })) };
          }
        }
      }
    };
    if (open.length > 1) yield* wrongTogether(slots, open);
    for (const wanted of open) yield* replaceBy(wanted);
    // The nearest to the result first: what was left out is all that lies between it and the operand.
    // What lies within a fused op is no step that somebody leaves out by itself.
    const isWithin = (key: TensorKey): boolean =>
      reference.tensors.get(key)?.description !== undefined;
    const nearest = between.toReversed();
    for (const wanted of nearest.filter((key) => !isWithin(key))) yield* replaceBy(wanted);
    for (const wanted of nearest.filter(isWithin)) yield* replaceBy(wanted);
    for (const slot of slots) {
      const own = ownValue(slot);
      const value = own && transposed(own);
      const wanted = slot.own;
      if (value && wanted !== undefined) {
        yield { kind: "transposed", changes: [{ slot, wanted, value }] };
      }
    }
    for (const [i, first] of slots.entries()) {
      for (const second of slots.slice(i + 1)) {
        if (first.reader !== second.reader || first.operand === second.operand) continue;
        if (first.own === undefined || second.own === undefined) continue;
        const [a] = fittedTo(first, second.own);
        const [b] = fittedTo(second, first.own);
        if (!a || !b) continue;
        const changes = [
          { slot: first, wanted: second.own, value: a },
          { slot: second, wanted: first.own, value: b },
        ];
        yield { kind: "swapped", changes };
      }
    }
    for (const wanted of known) yield* replaceBy(wanted);
  }

  /** Weight and bias of another layer, or both factors, are wrong together: each by itself explains nothing. */
  function* wrongTogether(
    slots: readonly Slot[],
    open: readonly TensorKey[],
  ): Iterable<Hypothesis> {
    const wrong = slots.filter(({ own }) => own === undefined || !open.includes(own));
    for (const order of open.length <= 3 ? permutations(open) : [open]) {
      const left = [...order];
      const changes = wrong.flatMap((slot) => {
        const at = left.findIndex((wanted) => fittedTo(slot, wanted).length > 0);
        const [wanted] = at < 0 ? [] : left.splice(at, 1);
        const value = wanted === undefined ? undefined : fittedTo(slot, wanted)[0];
        return wanted !== undefined && value ? [{ slot, wanted, value }] : [];
      });
      if (changes.length > 1) yield { kind: "operand", changes };
    }
  }

  function kindOf(slot: Slot, wanted: TensorKey): Explanation["kind"] {
    const ownClass = slot.own === undefined ? undefined : index.classOf(slot.own);
    if (ownClass !== undefined && index.classOf(wanted) === ownClass) return "layout";
    const exists =
      referenceValues.has(wanted) ||
      matched.has(wanted) ||
      matchedClasses.has(index.classOf(wanted));
    return exists || slot.own === undefined || !leadsTo(slot.own, wanted)
      ? "operand"
      : "missingStep";
  }

  /** The first tensor with these values: what follows it only lays them out in another way. */
  function whereComputed(key: TensorKey): TensorKey {
    const own = index.classOf(key);
    const base = referenceGraph.producerOf
      .get(key)
      ?.inputs.find((input) => own !== undefined && index.classOf(input) === own);
    return base === undefined ? key : whereComputed(base);
  }

  /** Whether the reference makes one tensor out of the other. */
  function leadsTo(from: TensorKey, to: TensorKey): boolean {
    const seen = new Set([to]);
    const open = [to];
    while (open.length > 0) {
      for (const input of referenceGraph.producerOf.get(open.pop() as TensorKey)?.inputs ?? []) {
        if (input === from || (index.classOf(input) ?? input) === index.classOf(from)) return true;
        if (!seen.has(input)) open.push(input);
        seen.add(input);
      }
    }
    return false;
  }

  /**
   * An op that makes what another one of the reference makes, or would with the right operand, is not wrong: what reads its
   * result is. So it is with layers in another order.
   */
  const readElsewhere = async (
    { pair, segment }: Judgement,
    replaced: ReadonlyMap<TensorKey, TensorValue>,
  ): Promise<ProvenExplanation | undefined> => {
    const readers = readersOf.get(pair.candidate) ?? [];
    if (pair.pairedBy === "declared" || !pair.alignment || readers.length === 0) return undefined;
    const slots = slotsOf(segment);
    const held = new Set(slots.map(({ own }) => (own === undefined ? "" : classOf(own))));
    const wantedClass = classOf(pair.reference);
    const trials: { target: TensorKey; operands: OperandValue[] }[] = [];
    for (const op of reference.ops) {
      const [target] = op.outputs;
      if (target === undefined || matched.has(target) || classOf(target) === wantedClass) continue;
      if (index.classOf(target) === undefined || matchedClasses.has(classOf(target))) continue;
      if (!op.inputs.some((key) => held.has(classOf(key)))) continue;
      const others = op.inputs.filter((key) => !held.has(classOf(key)));
      if (others.length === 0) trials.push({ target, operands: [] });
      const [wanted] = others;
      if (wanted === undefined || others.length > 1) continue;
      const read = new Set(op.inputs.map(classOf));
      for (const slot of slots.filter(({ own }) => own !== undefined && !read.has(classOf(own)))) {
        const [value] = fittedTo(slot, wanted);
        if (value) trials.push({ target, operands: [{ ...placeOf(slot), value }] });
      }
    }
    for (const { target, operands } of trials.slice(0, limits.elsewhere)) {
      if (evaluations++ >= limits.inAll) return undefined;
      const outputs = [pair.candidate];
      const request = { outputs, replaced, parameters: repairs, operands };
      const made = (await evaluateTrial(program, request, signal)).get(pair.candidate);
      if (!made || ![...index.matches(made)].some((match) => match.reference === target)) continue;
      const operand = pair.candidate;
      const reads = readers.flatMap((reader) =>
        reader.inputs.flatMap((key, position) =>
          key === operand
            ? [{ reader, position, operand, own: target, wanted: pair.reference }]
            : [],
        ),
      );
      return { kind: "operand", reads, remaining: 0, operands: [] };
    }
    return undefined;
  };

  return async (judgement) => {
    const { pair, segment, introducedByOps = Infinity } = judgement;
    const r = reference.tensors.get(pair.reference)?.value;
    const tensor = reference.tensors.get(pair.reference);
    if (!r || !tensor) return undefined;
    const alignmentFor = (shape: readonly number[]) => {
      const aligned = pair.alignment ? undefined : align(tensor, { shape });
      return pair.alignment ?? (aligned?.ok ? aligned.alignment : undefined);
    };
    const replaced = new Map<TensorKey, TensorValue>();
    for (const key of segment.frontier) {
      const known = pairOf.get(key);
      const value = known && substitutionFor(known, reference, candidate);
      if (value) replaced.set(key, value);
    }
    // What comes out where the reference has what goes in: a step that is not there.
    const entering = segment.frontier.find(
      (key) => index.classOf(pairOf.get(key)?.reference ?? "") === index.classOf(pair.reference),
    );
    if (entering !== undefined && index.classOf(pair.reference) !== undefined) {
      const elsewhere = await readElsewhere(judgement, replaced);
      if (elsewhere) return elsewhere;
      const reader = segment.ops.at(-1) as ObservedOp;
      const isView = isRearrangement(reader, pair.candidate, entering, candidate);
      const operand = isView ? pair.candidate : entering;
      const read = { reader, position: 0, operand, wanted: pair.reference };
      const kind = isView ? "layout" : "extraStep";
      return { kind, reads: [read], remaining: 0, operands: [] };
    }
    if (segment.ops.length > limits.segmentOps) return undefined;
    const enough = Math.max(fromWire(judgement.gate.value), leastGate);
    let tried = 0;
    for (const { kind, changes } of hypotheses(judgement)) {
      if (tried++ >= limits.evaluations || evaluations++ >= limits.inAll) break;
      signal.throwIfAborted();
      const operands = changes.map(({ slot, value }) => ({ ...placeOf(slot), value }));
      const outputs = [pair.candidate];
      const made = await evaluateTrial(
        program,
        { outputs, replaced, parameters: repairs, operands },
        signal,
      );
      const value = made.get(pair.candidate);
      const alignment = value && alignmentFor(value.shape);
      const remaining = alignment ? relL2(r, value, alignment) : NaN;
      const isLeft = introducedByOps * explainedShare;
      if (!(remaining <= enough) || remaining > isLeft) continue;
      const reads = changes.map(({ slot, wanted }) => {
        const { reader, position, operand, own } = slot;
        const right = kind === "missingStep" ? whereComputed(wanted) : wanted;
        return { reader, position, operand, own, wanted: right };
      });
      return { kind, reads, remaining, operands };
    }
    return readElsewhere(judgement, replaced);
  };
}

function placeOf({ reader, position }: Slot): { reader: TensorKey; position: number } {
  return { reader: reader.outputs[0] as TensorKey, position };
}

function permutations<T>(items: readonly T[]): T[][] {
  return items.length === 0
    ? [[]]
    : items.flatMap((item, at) =>
        permutations(items.filter((_, i) => i !== at)).map((rest) => [item, ...rest]),
      );
}
