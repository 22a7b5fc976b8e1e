import {
  counterpartOptions,
  eachItsOwn,
  type Counterpart,
  type Option,
  type Question,
} from "./counterpartOptions.js";
import { elementCount, mantissaBits } from "../core/dtypes.js";
import { isFaulty } from "../core/origins.js";
import {
  consumers,
  type Observation,
  type ObservedTensor,
  type TensorKey,
} from "../core/observation.js";
import type { TensorPair } from "../core/pairing.js";
import { pairParameter, pairRearranged, type ParameterComparison } from "../core/parameters.js";
import {
  implementationPrecision,
  segmentGraph,
  segmentOf,
  tensorsAfter,
  type Segment,
} from "../core/segments.js";
import { sameShape } from "../core/shapes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { ValueIndex, ValueMatch } from "../core/valueIndex.js";
import { differs, isSameTensor } from "./differs.js";
import { evaluateTrial, type Program, type Values } from "./program.js";
import { fittedParameters, substitutionFor } from "./replay.js";
import { supposedByLine } from "./supposedByLine.js";

/** How far a hypothesis is followed, and how many are tried: a fault must not cost more than the comparison itself. */
const limits = {
  lookAhead: 24,
  tensors: 40,
  perQuestion: 80,
  together: 200,
  tooEarly: 12,
  near: 16,
  evaluations: 600,
};

/** That the end of the segment matches says more than all that lies before it. */
const scoreOfAll = 100;
/** What is not there is seen by more than one tensor after it, or by the end. */
const leastOfExtra = 1;

export interface WalkOptions {
  readonly reference: Observation;
  readonly candidate: Observation;
  readonly index: ValueIndex;
  readonly parameters: ParameterComparison;
  readonly signal: AbortSignal;
  readonly program: Program;
  /** By candidate tensor; grows during the walk. */
  readonly pairs: ReadonlyMap<TensorKey, TensorPair>;
  readonly repairs: Values;
}

/** What is read, and what of the reference in its place explains the difference. */
export interface ReadTooEarly {
  readonly operand: TensorKey;
  readonly wanted: TensorKey;
}

export interface Walk {
  /**
   * Whether a pair differs because of a parameter without a counterpart: with the one that the reference reads there, and
   * that nothing was paired with either, it is the reference's. Then the two are a pair.
   */
  isOfParameter(pair: TensorPair): Promise<boolean>;
  parameters(): ParameterComparison;
  /** By candidate tensor: a tensor that the ops leading to it read where the reference reads another one. */
  readonly readsTooEarly: ReadonlyMap<TensorKey, ReadTooEarly>;
  /** What the candidate's ops make of the reference's values, for these pairs and all that lies in their segments. */
  onReference(pairs: readonly TensorPair[]): Promise<Values>;
  /** The first tensors of a pair's segment that can be told to be wrong, and what they should have been. */
  firstWrong(pair: TensorPair, values: Values): Promise<readonly Counterpart[]>;
}

export function startWalk({
  reference,
  candidate,
  program,
  index,
  pairs,
  parameters: given,
  repairs: known,
  signal,
}: WalkOptions): Walk {
  let parameters = given;
  let repairs = known;
  const graph = segmentGraph(candidate);
  const referenceGraph = segmentGraph(reference);
  const readers = consumers(candidate);
  const substitutions = new WeakMap<TensorPair, TensorValue>();
  const substitutionOf = (pair: TensorPair): TensorValue | undefined => {
    const known = substitutions.get(pair) ?? substitutionFor(pair, reference, candidate);
    if (known) substitutions.set(pair, known);
    return known;
  };
  const replacements = (keys: Iterable<TensorKey>): Map<TensorKey, TensorValue> => {
    const replaced = new Map<TensorKey, TensorValue>();
    for (const key of keys) {
      const pair = pairs.get(key);
      const value = pair && substitutionOf(pair);
      if (value) replaced.set(key, value);
    }
    return replaced;
  };
  const options = counterpartOptions({ reference, candidate, index, pairs, parameters: given });
  const precision = mantissaBits(implementationPrecision(candidate));
  const readsTooEarly = new Map<TensorKey, ReadTooEarly>();
  let evaluations = 0;

  const onReference: Walk["onReference"] = (ends) => {
    const cuts = new Set(pairs.keys());
    const segments = ends.map((pair) => segmentOf(pair.candidate, cuts, graph));
    const keys = new Set(segments.flatMap(({ ops }) => ops.flatMap((op) => op.outputs)));
    const outputs = [...keys].filter((key) => candidate.tensors.get(key)?.value);
    const replaced = replacements(new Set(segments.flatMap(({ frontier }) => frontier)));
    return evaluateTrial(program, { outputs, replaced, parameters: repairs }, signal);
  };

  const isOfParameter: Walk["isOfParameter"] = async (pair) => {
    const segment = segmentOf(pair.candidate, new Set(pairs.keys()), graph);
    const read = segmentOf(
      pair.reference,
      new Set([...pairs.values()].map((one) => one.reference)),
      referenceGraph,
    ).parameters;
    const wanted = parameters.missing.filter(({ tensor }) => read.includes(tensor));
    const open = parameters.findings.filter(
      ({ reference: r, candidate: c }) => !r && segment.parameters.includes(c.tensor),
    );
    for (const { candidate: own } of open) {
      const guesses = [
        ...wanted.map((one) => pairParameter(parameters, own.tensor, one, "use")),
        ...pairRearranged(parameters, own),
      ];
      for (const paired of guesses) {
        const repaired = fittedParameters(paired.findings.filter(isFaulty), () => false);
        if (!repaired.has(own.tensor)) continue;
        if (evaluations++ >= limits.evaluations) return false;
        const made = await evaluateTrial(
          program,
          {
            outputs: [pair.candidate],
            replaced: replacements(segment.frontier),
            parameters: repaired,
          },
          signal,
        );
        if (differs(pair, index, made.get(pair.candidate))) continue;
        parameters = paired;
        repairs = repaired;
        return true;
      }
    }
    return false;
  };

  const firstWrong: Walk["firstWrong"] = async (pair, values) => {
    const cuts = new Set(pairs.keys());
    const segment = segmentOf(pair.candidate, cuts, graph);
    const pending = segment.ops
      .flatMap((op) => op.outputs)
      .filter((key) => key !== pair.candidate && !pairs.has(key) && values.has(key))
      .filter((key) => isTellable(candidate.tensors.get(key)))
      // What is rounded further than the rest is not the reference's tensor, although it is near it.
      .filter((key) => mantissaBits(candidate.tensors.get(key)?.dtype) >= precision);
    if (pending.length === 0) return [];
    const question: Question = {
      cuts,
      matched: options.matched(),
      pair,
      segment,
      between: options.between(pair),
      replaced: replacements(segment.frontier),
      values,
    };
    if (await isReadTooEarly(question)) return [];
    // First what is made from the same: that is few, and likelier than anything else.
    const alone = await wrongAlone(pending, question, (rank) => rank <= 1);
    if (alone) return [alone];
    const together = await wrongTogether(pending, question);
    if (together.length > 0) return together;
    for (const wanted of [2, 3]) {
      const other = await wrongAlone(pending, question, (rank) => rank === wanted);
      if (other) return [other];
    }
    const last = await wrongAlone(pending.toReversed(), question, (rank) => rank === 4);
    return last ? [last] : [];
  };

  /**
   * Whether several ops read a tensor where the reference reads what it makes further out of it: then none of them is
   * wrong, and mending one of them mends nothing.
   */
  async function isReadTooEarly({ pair, segment, between, replaced }: Question): Promise<boolean> {
    const readHere = (key: TensorKey): number =>
      segment.ops.filter((op) => op.inputs.includes(key)).length;
    const isWithin = (key: TensorKey) => reference.tensors.get(key)?.description !== undefined;
    // What lies within a fused op is no step that somebody leaves out by itself: a norm of a norm is that norm.
    const nearest = [...between.unmatched].toReversed().filter((key) => !isWithin(key));
    let tried = 0;
    for (const key of segment.frontier.filter((one) => readHere(one) > 1)) {
      const own = candidate.tensors.get(key);
      if (!own || !isTellable(own)) continue;
      const fitting = new Map(index.fitting(own).map((match) => [match.reference, match]));
      for (const match of nearest.flatMap((wanted) => fitting.get(wanted) ?? [])) {
        if (tried++ >= limits.tooEarly || evaluations++ >= limits.evaluations) return false;
        const value = substitutionFor({ ...match, candidate: key }, reference, candidate);
        if (!value) continue;
        const request = {
          outputs: [pair.candidate],
          replaced: new Map([...replaced, [key, value]]),
          parameters: repairs,
        };
        const made = await evaluateTrial(program, request, signal);
        if (differs(pair, index, made.get(pair.candidate))) continue;
        readsTooEarly.set(pair.candidate, { operand: key, wanted: match.reference });
        return true;
      }
    }
    return false;
  }

  async function wrongAlone(
    pending: readonly TensorKey[],
    question: Question,
    isTried: (rank: number) => boolean,
  ): Promise<Counterpart | undefined> {
    const most = evaluations + limits.perQuestion;
    let tried = 0;
    for (const key of pending) {
      let best: (Option & { score: number }) | undefined;
      const open = options.optionsFor(key, question).filter(({ rank }) => isTried(rank));
      if (open.length > 0 && tried++ >= limits.tensors) break;
      for (const { match, rank } of open) {
        if (evaluations >= Math.min(most, limits.evaluations)) break;
        const score = await scoreOf([{ candidate: key, match }], question);
        // The mean of what goes in is the mean of what goes in, whatever stands in between.
        const least = rank !== 1 ? 0 : isFar(key, question) ? scoreOfAll : leastOfExtra;
        if (score <= Math.max(least, best?.score ?? 0)) continue;
        if (match.alignment || (await fitsEverywhere(key, match))) best = { match, rank, score };
      }
      if (best) return furtherOn({ candidate: key, ...best }, question);
    }
    return undefined;
  }

  /**
   * Whether all ops run with a tensor of another shape in place, and results keep their shapes or get the reference's: a
   * range of another length mends one op and breaks the next.
   */
  async function fitsEverywhere(key: TensorKey, match: Counterpart["match"]): Promise<boolean> {
    const pair = { ...match, candidate: key, fitsInPlace: true };
    const value = substitutionFor(pair, reference, candidate);
    if (!value) return false;
    const outputs = [...graph.producerOf.keys()].filter((one) => candidate.tensors.get(one)?.value);
    const replaced = new Map([...replacements(pairs.keys()), [key, value]]);
    for (const output of candidate.outputs) replaced.delete(output.tensor);
    evaluations++;
    const made = await evaluateTrial(program, { outputs, replaced, parameters: repairs }, signal);
    return candidate.outputs.every(({ tensor }) => {
      const twin = pairs.get(tensor)?.reference;
      const wanted = [candidate.tensors.get(tensor), twin && reference.tensors.get(twin)];
      const shape = made.get(tensor)?.shape;
      return shape && wanted.some((one) => one && sameShape(one.shape, shape));
    });
  }

  /** What went in many ops ago is not what should come out, unless that explains it all. */
  function isFar(key: TensorKey, { cuts }: Question): boolean {
    return segmentOf(key, cuts, graph).ops.length > limits.near;
  }

  /**
   * What follows may match although it is the next op that should give this: a bias on all keys of an attention leaves its
   * softmax as it is. Then more matches with the tensor in the place of that op's result. And what is left as it is by all
   * that is done to it, a norm's scale, must not hide where a step too much ends.
   */
  async function furtherOn(
    { candidate: key, match, rank, score }: Option & Counterpart & { readonly score: number },
    question: Question,
  ): Promise<Counterpart> {
    const shape = candidate.tensors.get(key)?.shape ?? [];
    const next = keptAfter([key], question.segment)
      .filter((other) => !pairs.has(other) && other !== question.pair.candidate)
      .filter((other) => sameShape(candidate.tensors.get(other)?.shape ?? [], shape))
      .slice(0, 2);
    for (const other of next) {
      const further = await scoreOf([{ candidate: other, match }], question);
      const isFurther = rank === 1 || addsUnknownParameter(other, key, question);
      if (further > score || (isFurther && further === score)) return { candidate: other, match };
    }
    return { candidate: key, match };
  }

  /** A bias of zeros leaves what it is added to as it is, and yet the layer ends only there. */
  function addsUnknownParameter(key: TensorKey, after: TensorKey, { cuts }: Question): boolean {
    const added = segmentOf(key, new Set([...cuts, after]), graph).parameters;
    return parameters.findings.some(
      ({ reference: r, candidate: c }) => !r && added.includes(c.tensor),
    );
  }

  /** Turns of a loop do the same wrong thing several times, and mending one of them mends nothing after it. */
  async function wrongTogether(
    pending: readonly TensorKey[],
    question: Question,
  ): Promise<readonly Counterpart[]> {
    const supposed = supposedByLine(pending.slice(0, limits.together), question, options, graph);
    for (const all of supposed) {
      const sure = all.filter(({ likely }) => likely.length > 0);
      const each = eachItsOwn(sure);
      for (const group of [sure, each, ...(sure.length < all.length ? [all] : [])]) {
        if (group.length < 2 || evaluations >= limits.evaluations) continue;
        // What is only supposed must explain it all.
        const { pair } = question;
        const asked = group === all ? { ...question, after: [pair.candidate] } : question;
        if ((await scoreOf(group, asked)) > 0) return group;
      }
    }
    return [];
  }

  /** How many of the reference's tensors are found after tensors when they are replaced, and were not before. */
  async function scoreOf(
    group: readonly Counterpart[],
    { pair, segment, between, replaced, values, after }: Question,
  ): Promise<number> {
    signal.throwIfAborted();
    const given = new Map(replaced);
    const own = new Set<string | undefined>();
    for (const { candidate: key, match } of group) {
      const before = values.get(key);
      const value = substitutionFor(
        { ...match, candidate: key, fitsInPlace: true },
        reference,
        candidate,
      );
      if (!value || !before || isSameTensor(value, before)) continue;
      given.set(key, value);
      own.add(index.classOf(match.reference));
    }
    if (own.size === 0) return 0;
    evaluations++;
    const keys = group.map(({ candidate: key }) => key);
    const outputs = after ?? keptAfter(keys, segment);
    const request = { outputs, replaced: given, parameters: repairs };
    const among = new Set([...between.unmatched, pair.reference]);
    const classes = new Set<string>();
    let isAll = false;
    for (const [tensor, result] of await evaluateTrial(program, request, signal)) {
      const before = values.get(tensor);
      if (before && isSameTensor(before, result)) continue;
      const isEnd = tensor === pair.candidate;
      const rejoined =
        isEnd && pair.alignment
          ? !differs(pair, index, result) && index.classOf(pair.reference)
          : firstClass(index.matches(result), among);
      if (!rejoined || own.has(rejoined)) continue;
      // What is rounded further was the reference's tensor all along, as far as it can tell.
      if (!isEnd && before && firstClass(index.matches(before), among) === rejoined) continue;
      classes.add(rejoined);
      if (isEnd) isAll = true;
    }
    return classes.size + (isAll ? scoreOfAll : 0);
  }

  /** The nearest tensors with values that depend on some of them. */
  function keptAfter(keys: readonly TensorKey[], segment: Segment): TensorKey[] {
    const kept: TensorKey[] = [];
    for (const key of tensorsAfter(keys, segment, readers)) {
      if (candidate.tensors.get(key)?.value) kept.push(key);
      if (kept.length === limits.lookAhead) break;
    }
    return kept;
  }

  function firstClass(
    matches: Iterable<ValueMatch>,
    among: ReadonlySet<TensorKey>,
  ): string | undefined {
    for (const { reference: r } of matches) if (among.has(r)) return index.classOf(r);
    return undefined;
  }

  return { onReference, isOfParameter, parameters: () => parameters, readsTooEarly, firstWrong };
}

/** Single numbers say nothing. */
function isTellable(tensor: ObservedTensor | undefined): boolean {
  return tensor !== undefined && elementCount(tensor.shape) > 1;
}
