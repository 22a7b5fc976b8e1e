import type { Explanation } from "../core/explanation.js";
import { sameBytes } from "../core/integerComparison.js";
import type { Judgement } from "../core/judge.js";
import { producers, type Observation, type TensorKey } from "../core/observation.js";
import { sameShape } from "../core/shapes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { ValueIndex } from "../core/valueIndex.js";
import { transposed } from "./operandForms.js";
import type { Operands, Slot } from "./operands.js";
import type { Walk } from "./walk.js";

/** Other operands with which an op may make the reference's result. */
export interface Hypothesis {
  readonly kind: Explanation["kind"];
  readonly changes: readonly { slot: Slot; wanted: TensorKey; value: TensorValue }[];
}

/** Pairs of operands that are tried in one another's place. */
const mostExchanges = 6;

/** What the ops that lead to a tensor could read instead, the likeliest first. */
export function startHypotheses(
  reference: Observation,
  index: ValueIndex,
  { exists, leadsTo, behind, slotsOf, viewsIn, fittedTo, ownValue }: Operands,
  readsTooEarly: Walk["readsTooEarly"],
): (judgement: Judgement) => Iterable<Hypothesis> {
  const makerOf = producers(reference);
  function* hypotheses(judgement: Judgement): Iterable<Hypothesis> {
    const { pair, segment } = judgement;
    const slots = slotsOf(segment);
    const read = behind(pair.reference);
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
    const replaceBy = function* (
      wanted: TensorKey,
      among: readonly Slot[] = slots,
    ): Iterable<Hypothesis> {
      for (const slot of among) {
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
    const early = readsTooEarly.get(pair.candidate);
    if (early) {
      yield* replaceBy(
        early.wanted,
        slots.filter(({ operand }) => operand === early.operand),
      );
    }
    if (open.length > 1) yield* wrongTogether(slots, open);
    // As the op reads them: what enters the steps before may be laid out otherwise.
    const direct = makerOf.get(pair.reference)?.inputs ?? [];
    const unread = direct.filter((key) => !reads.has(key));
    const isOpen = unread.every((key) => open.includes(key));
    if (unread.length > 1 && !isOpen) yield* wrongTogether(slots, unread);
    yield* exchanged(slots);
    for (const wanted of open) yield* replaceBy(wanted);
    // The nearest to the result first: what was left out is all that lies between it and the operand.
    // What lies within a fused op is no step that somebody leaves out by itself: it is asked for last.
    const isWithin = (key: TensorKey): boolean =>
      reference.tensors.get(key)?.description !== undefined;
    const nearest = between.toReversed();
    for (const wanted of nearest.filter((key) => !isWithin(key))) yield* replaceBy(wanted);
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
    // Laid out wrongly on the way: as the reference's, it makes the right result.
    for (const slot of viewsIn(segment)) {
      const wanted = slot.own;
      if (wanted === undefined) continue;
      for (const value of fittedTo(slot, wanted))
        yield { kind: "layout", changes: [{ slot, wanted, value }] };
    }
    for (const wanted of nearest.filter(isWithin)) yield* replaceBy(wanted);
  }

  /** Two tensors that are read in one another's place wherever they are read: `sin, cos = tables()`. */
  function* exchanged(slots: readonly Slot[]): Iterable<Hypothesis> {
    const read = [...new Map(slots.map((slot) => [slot.operand, slot])).values()];
    const pairs = read
      .filter(({ own }) => own !== undefined)
      .flatMap((one, at, all) => all.slice(at + 1).map((other) => [one, other] as const))
      .filter(([one, other]) => sameShape(one.shape, other.shape));
    for (const [one, other] of pairs.slice(0, mostExchanges)) {
      const changes = slots.flatMap((slot) => {
        const twin =
          slot.operand === one.operand ? other : slot.operand === other.operand ? one : undefined;
        const wanted = twin?.own;
        const value = wanted === undefined ? undefined : fittedTo(slot, wanted)[0];
        return wanted !== undefined && value ? [{ slot, wanted, value }] : [];
      });
      // Two operands of one op are exchanged below.
      const readers = new Set(changes.map(({ slot }) => slot.reader));
      if (changes.length > 2 || readers.size > 1) yield { kind: "swapped", changes };
    }
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
    return exists(wanted) || slot.own === undefined || !leadsTo(slot.own, wanted)
      ? "operand"
      : "missingStep";
  }

  return hypotheses;
}

function permutations<T>(items: readonly T[]): T[][] {
  return items.length === 0
    ? [[]]
    : items.flatMap((item, at) =>
        permutations(items.filter((_, i) => i !== at)).map((rest) => [item, ...rest]),
      );
}
