import { relL2 } from "../core/difference.js";
import type { Explanation } from "../core/explanation.js";
import type { Judgement } from "../core/judge.js";
import { align } from "../core/layouts.js";
import { consumers, producers, type ObservedOp, type TensorKey } from "../core/observation.js";
import { isRearrangement } from "../core/rearrangement.js";
import { isDataOp } from "../core/segments.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { ValueMatch } from "../core/valueIndex.js";
import { whereComputed } from "../core/whereComputed.js";
import { fromWire } from "../protocol/wire.js";
import { startHypotheses } from "./hypotheses.js";
import { operandsOf, placeOf, type OperandsOptions } from "./operands.js";
import { onlyOutput, otherConstants, times } from "./otherConstant.js";
import { evaluateTrial, type OperandValue, type Program, type Values } from "./program.js";
import { otherTargets, readsOf } from "./readElsewhere.js";
import { substitutionFor } from "./replay.js";
import type { Walk } from "./walk.js";

export interface ExplainOptions extends OperandsOptions {
  readonly program: Program;
  readonly readsTooEarly: Walk["readsTooEarly"];
  readonly signal: AbortSignal;
}

/** What is tried for one origin, and for all of them together: a fault must not cost more than the comparison. */
const limits = { constants: 12, evaluations: 40, inAll: 1200, segmentOps: 200, origins: 48 };
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
  const origins = judgements.filter(({ verdict }) => verdict === "origin");
  const find = startExplaining(origins, options);
  const suspects = origins.filter(
    ({ pair, introducedByOps, gate }) =>
      pair.fitsInPlace ||
      (pair.alignment !== undefined &&
        introducedByOps !== undefined &&
        !(introducedByOps <= fromWire(gate.value))),
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

function startExplaining(
  origins: readonly Judgement[],
  options: ExplainOptions,
): (judgement: Judgement) => Promise<ProvenExplanation | undefined> {
  const { reference, candidate, program, index, repairs, signal } = options;
  const operandsFor = operandsOf(options);
  const { pairOf, classOf, leadsTo } = operandsFor;
  const hypotheses = startHypotheses(reference, index, operandsFor, options.readsTooEarly);
  const wrongClasses = new Set(origins.map(({ pair }) => classOf(pair.reference)));
  const targetsOf = (judgement: Judgement) =>
    otherTargets(judgement, options, operandsFor, (own) => wrongClasses.has(own));
  const readersOf = consumers(candidate);
  const makerOf = producers(reference);
  let evaluations = 0;

  const given = new WeakMap<Judgement, ReadonlyMap<TensorKey, TensorValue>>();
  /** The reference's values for what a segment reads. */
  const replacedFor = (judgement: Judgement): ReadonlyMap<TensorKey, TensorValue> => {
    const known = given.get(judgement);
    if (known) return known;
    const replaced = new Map<TensorKey, TensorValue>();
    for (const key of judgement.segment.frontier) {
      const pair = pairOf.get(key);
      const value = pair && substitutionFor(pair, reference, candidate);
      if (value) replaced.set(key, value);
    }
    given.set(judgement, replaced);
    return replaced;
  };

  /** What the pair's ops make of the reference's values and these operands. */
  const evaluate = async (
    judgement: Judgement,
    operands: readonly OperandValue[],
    others: Values = new Map(),
  ): Promise<TensorValue | undefined> => {
    evaluations++;
    signal.throwIfAborted();
    const { pair } = judgement;
    const replaced = new Map([...replacedFor(judgement), ...others]);
    const request = { outputs: [pair.candidate], replaced, parameters: repairs, operands };
    return (await evaluateTrial(program, request, signal)).get(pair.candidate);
  };

  /**
   * An op that makes what another one of the reference makes, or would with the right operand, is not wrong: what reads its
   * result is. So it is with layers in another order.
   */
  const readElsewhere = async (judgement: Judgement): Promise<ProvenExplanation | undefined> => {
    const { pair } = judgement;
    const readers = readersOf.get(pair.candidate) ?? [];
    const maker = judgement.segment.ops.at(-1);
    if (pair.pairedBy === "declared" || !pair.alignment || !maker) return undefined;
    if (readers.length === 0) return handedOut(judgement, maker);
    for (const { target, operands } of targetsOf(judgement)) {
      if (evaluations >= limits.inAll) return undefined;
      const made = await evaluate(judgement, operands);
      const isMade = ({ reference: key }: ValueMatch): boolean => classOf(key) === classOf(target);
      if (!made || ![...index.matches(made)].some(isMade)) continue;
      const reads = readsOf(judgement, target, readers);
      return { kind: "operand", reads, remaining: 0, operands: [] };
    }
    return undefined;
  };

  /** An output that the reference computes further before it hands it out. */
  const handedOut = async (
    judgement: Judgement,
    maker: ObservedOp,
  ): Promise<ProvenExplanation | undefined> => {
    const { pair } = judgement;
    const made = await evaluate(judgement, []);
    const own =
      made && [...index.matches(made)].find(({ reference: key }) => leadsTo(key, pair.reference));
    if (!own) return undefined;
    const operand = pair.candidate;
    const read = {
      reader: maker,
      position: 0,
      operand,
      own: own.reference,
      wanted: pair.reference,
    };
    return { kind: "missingStep", reads: [read], remaining: 0, operands: [] };
  };

  /** What comes out where the reference has what goes in: a step that is not there. */
  const extraStep = ({ pair, segment }: Judgement): ProvenExplanation | undefined => {
    const own = index.classOf(pair.reference);
    const entering = segment.frontier.find(
      (key) => own !== undefined && index.classOf(pairOf.get(key)?.reference ?? "") === own,
    );
    if (entering === undefined) return undefined;
    const reader = segment.ops.at(-1) as ObservedOp;
    const isView = isRearrangement(reader, pair.candidate, entering, candidate);
    const operand = isView ? pair.candidate : entering;
    const read = { reader, position: 0, operand, wanted: pair.reference };
    const kind = isView ? "layout" : "extraStep";
    return { kind, reads: [read], remaining: 0, operands: [] };
  };

  /** A factor that is another number than the reference's. */
  const otherConstant = async (
    judgement: Judgement,
    isExplained: (value: TensorValue | undefined) => number | undefined,
  ): Promise<ProvenExplanation | undefined> => {
    const { pair, segment } = judgement;
    const { ops } = operandsFor.behind(pair.reference);
    const found = [...otherConstants(segment.ops, candidate, ops, reference)];
    const tried = found.slice(0, limits.constants);
    if (tried.length === 0 || evaluations >= limits.inAll) return undefined;
    const request = {
      outputs: [...new Set(tried.flatMap(({ op }) => onlyOutput(op) ?? []))],
      replaced: replacedFor(judgement),
      parameters: repairs,
    };
    const products = await evaluateTrial(program, request, signal);
    for (const { op, like, constant } of tried) {
      if (evaluations >= limits.inAll) break;
      const product = onlyOutput(op) ?? "";
      const value = products.get(product);
      if (!value) continue;
      const other = times(value, constant.wanted / constant.own);
      const made =
        product === pair.candidate
          ? other
          : await evaluate(judgement, [], new Map([[product, other]]));
      const remaining = isExplained(made);
      if (remaining === undefined) continue;
      const operand = op.inputs[0] ?? product;
      const wanted = like?.outputs[0] ?? pair.reference;
      const reads = [{ reader: op, position: 0, operand, wanted }];
      return { kind: "constant", reads, remaining, constant, operands: [] };
    }
    return undefined;
  };

  return async (judgement) => {
    const { pair, segment, introducedByOps = Infinity } = judgement;
    const tensor = reference.tensors.get(pair.reference);
    const r = tensor?.value;
    if (!r) return undefined;
    const alignmentFor = (shape: readonly number[]) => {
      const aligned = pair.alignment ? undefined : align(tensor, { shape });
      return pair.alignment ?? (aligned?.ok ? aligned.alignment : undefined);
    };
    const extra = extraStep(judgement);
    if (extra) return (await readElsewhere(judgement)) ?? extra;
    const isKnown = options.readsTooEarly.has(pair.candidate);
    if (segment.ops.length > limits.segmentOps && !isKnown) return undefined;
    const enough = Math.max(fromWire(judgement.gate.value), leastGate);
    const isExplained = (value: TensorValue | undefined): number | undefined => {
      const alignment = value && alignmentFor(value.shape);
      const remaining = alignment ? relL2(r, value, alignment) : NaN;
      return remaining <= enough && remaining <= introducedByOps * explainedShare
        ? remaining
        : undefined;
    };
    let tried = 0;
    for (const { kind, changes } of hypotheses(judgement)) {
      if (tried++ >= limits.evaluations || evaluations >= limits.inAll) break;
      const operands = changes.map(({ slot, value }) => ({ ...placeOf(slot), value }));
      const remaining = isExplained(await evaluate(judgement, operands));
      if (remaining === undefined) continue;
      // What only asks for a tensor's shape reads nothing of it.
      const read = changes.filter(({ slot }) => isDataOp(slot.reader, candidate));
      const reads = (read.length > 0 ? read : changes).map(({ slot, wanted }) => {
        const { reader, position, operand, own } = slot;
        const right =
          kind === "missingStep" ? whereComputed(wanted, makerOf, index.classOf) : wanted;
        return { reader, position, operand, own, wanted: right };
      });
      return { kind, reads, remaining, operands };
    }
    return (await otherConstant(judgement, isExplained)) ?? readElsewhere(judgement);
  };
}
