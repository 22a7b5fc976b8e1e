import { align } from "../core/layouts.js";
import { twinInputs } from "./explainOrigins.js";
import { elementCount, isFloat, mantissaBits } from "../core/dtypes.js";
import { sameBytes } from "../core/integerComparison.js";
import { isRearrangement, isSelection } from "../core/rearrangement.js";
import { isFaulty } from "../core/origins.js";
import {
  consumers,
  type Observation,
  type ObservedOp,
  type ObservedTensor,
  type TensorKey,
} from "../core/observation.js";
import type { TensorPair } from "../core/pairing.js";
import { pairParameter, type ParameterComparison } from "../core/parameters.js";
import {
  implementationPrecision,
  segmentGraph,
  segmentOf,
  type Segment,
} from "../core/segments.js";
import { sameShape } from "../core/shapes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { ValueIndex, ValueMatch } from "../core/valueIndex.js";
import { evaluateTrial, type Program, type Values } from "./program.js";
import { fittedParameters, substitutionFor } from "./replay.js";

/** How far a hypothesis is followed, and how many are tried: a fault must not cost more than the comparison itself. */
const limits = {
  lookAhead: 24,
  perTensor: 26,
  tensors: 40,
  perQuestion: 80,
  together: 200,
  otherShapes: 4,
  evaluations: 600,
};

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

export interface Walk {
  /**
   * Whether a pair differs because of a parameter without a counterpart: with the one that the reference reads there, and
   * that nothing was paired with either, it is the reference's. Then the two are a pair.
   */
  isOfParameter(pair: TensorPair): Promise<boolean>;
  parameters(): ParameterComparison;
  /** What the candidate's ops make of the reference's values, for these pairs and all that lies in their segments. */
  onReference(pairs: readonly TensorPair[]): Promise<Values>;
  /** The first tensors of a pair's segment that can be told to be wrong, and what they should have been. */
  firstWrong(pair: TensorPair, values: Values): Promise<readonly Counterpart[]>;
}

/**
 * What a tensor may be the counterpart of, the likeliest first: what is made from the same (0), what goes in (1), what is
 * made from the same in another shape (2), anything of this shape (3), what is reduced further (4).
 */
interface Option {
  readonly match: Counterpart["match"];
  readonly rank: number;
}

export interface Counterpart {
  readonly candidate: TensorKey;
  /** Without an alignment the shapes differ. */
  readonly match: Pick<TensorPair, "reference" | "alignment">;
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
  const classOf = (tensor: TensorKey): string => index.classOf(tensor) ?? tensor;
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
  const twinOf = new Map(
    parameters.findings.map(({ candidate: { tensor }, reference: r }) => [tensor, r?.tensor]),
  );
  const missing = new Set(given.missing.map(({ tensor }) => tensor));
  const inputPairs = new Map(
    [...twinInputs(reference, candidate)].flatMap(([own, twin]) => {
      const tensor = reference.tensors.get(twin);
      const aligned = tensor && align(tensor, { shape: candidate.tensors.get(own)?.shape ?? [] });
      return aligned?.ok ? [[own, { reference: twin, alignment: aligned.alignment }] as const] : [];
    }),
  );
  const partsOf = new Map<string, Set<string>>();
  for (const op of reference.ops) {
    const [base] = op.inputs;
    if (base === undefined || !isSelection(op)) continue;
    const parts = partsOf.get(classOf(base)) ?? new Set();
    for (const output of op.outputs) parts.add(classOf(output));
    partsOf.set(classOf(base), parts);
  }
  const precision = mantissaBits(implementationPrecision(candidate));
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
    const read = segmentOf(pair.reference, pairedReferences(), referenceGraph).parameters;
    const wanted = parameters.missing.filter(({ tensor }) => read.includes(tensor));
    const open = parameters.findings.filter(
      ({ reference: r, candidate: c }) => !r && segment.parameters.includes(c.tensor),
    );
    for (const { candidate: own } of open) {
      for (const counterpart of wanted) {
        if (evaluations++ >= limits.evaluations) return false;
        const paired = pairParameter(parameters, own.tensor, counterpart, "use");
        const repaired = fittedParameters(paired.findings.filter(isFaulty), () => false);
        if (!repaired.has(own.tensor)) continue;
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
      matched: alike(pairedReferences()),
      pair,
      segment,
      between: referenceBetween(pair),
      replaced: replacements(segment.frontier),
      values,
    };
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

  async function wrongAlone(
    pending: readonly TensorKey[],
    question: Question,
    isTried: (rank: number) => boolean,
  ): Promise<Counterpart | undefined> {
    const most = evaluations + limits.perQuestion;
    for (const key of pending.slice(0, limits.tensors)) {
      let best: { match: Option["match"]; score: number } | undefined;
      for (const { match, rank } of optionsFor(key, question)) {
        if (!isTried(rank)) continue;
        if (evaluations >= Math.min(most, limits.evaluations)) break;
        const score = await scoreOf([{ candidate: key, match }], question);
        if (score > (best?.score ?? 0)) best = { match, score };
      }
      if (best) return furtherOn({ candidate: key, ...best }, question);
    }
    return undefined;
  }

  /**
   * What follows may match although it is the next op that should give this: a bias on all keys of an attention leaves its
   * softmax as it is. Then more matches with the tensor in the place of that op's result.
   */
  async function furtherOn(
    { candidate: key, match, score }: Counterpart & { readonly score: number },
    question: Question,
  ): Promise<Counterpart> {
    const shape = candidate.tensors.get(key)?.shape ?? [];
    const next = tensorsAfter([key], question.segment)
      .filter((other) => !pairs.has(other) && other !== question.pair.candidate)
      .filter((other) => sameShape(candidate.tensors.get(other)?.shape ?? [], shape))
      .slice(0, 2);
    for (const other of next) {
      if ((await scoreOf([{ candidate: other, match }], question)) > score)
        return { candidate: other, match };
    }
    return { candidate: key, match };
  }

  /** Turns of a loop do the same wrong thing several times, and mending one of them mends nothing after it. */
  async function wrongTogether(
    pending: readonly TensorKey[],
    question: Question,
  ): Promise<readonly Counterpart[]> {
    const byLine = new Map<string, (Counterpart & { readonly isSure: boolean })[]>();
    for (const key of pending.slice(0, limits.together)) {
      const maker = graph.producerOf.get(key);
      const site = maker?.frames[0];
      const own = entering(key, segmentOf(key, question.cuts, graph));
      const options = optionsFor(key, question);
      const sure = options.find(({ rank }) => rank === 0)?.match;
      const match =
        sure ??
        (own.length === 1 ? own[0] : undefined) ??
        onlyOne(options.filter(({ match: m }) => readsMore(m.reference, key, question)))?.match;
      if (!site || !match) continue;
      const line = `${site.file}:${site.line} ${maker.kind}`;
      const found = { candidate: key, match, isSure: sure !== undefined };
      const known = byLine.get(line);
      if (known) known.push(found);
      else byLine.set(line, [found]);
    }
    for (const all of byLine.values()) {
      const sure = all.filter(({ isSure }) => isSure);
      for (const group of sure.length < all.length ? [sure, all] : [all]) {
        if (group.length < 2 || evaluations >= limits.evaluations) continue;
        // What is only supposed must explain it all.
        const { pair } = question;
        const asked =
          group === sure || sure.length === all.length
            ? question
            : { ...question, after: [pair.candidate] };
        if ((await scoreOf(group, asked)) > 0) return group;
      }
    }
    return [];
  }

  function pairedReferences(): Set<TensorKey> {
    return new Set([...pairs.values()].map((p) => p.reference));
  }

  /** With all that hold the same: each layer may make the tables anew that another makes once. */
  function alike(keys: ReadonlySet<TensorKey>): Set<TensorKey> {
    const classes = new Set([...keys].map(classOf));
    const others = [...reference.tensors.keys()].filter((key) => classes.has(classOf(key)));
    return new Set([...keys, ...others]);
  }

  /** Reference tensors on the way to a pair's. */
  function referenceBetween({ reference: end }: TensorPair): Question["between"] {
    const matched = pairedReferences();
    const matchedClasses = new Set([...matched].map((key) => index.classOf(key)));
    const { ops, parameters: read } = segmentOf(end, matched, referenceGraph);
    const made = ops.flatMap((op) => op.outputs).filter((key) => key !== end);
    // What one side keeps the other may compute.
    const keys = [...made, ...read.filter((key) => index.classOf(key) !== undefined)];
    const isNew = (key: TensorKey): boolean => {
      const own = index.classOf(key);
      if (own === undefined) return false;
      return !matchedClasses.has(own) || isMadeAnew(key);
    };
    return { all: new Set(keys), unmatched: new Set(keys.filter(isNew)) };
  }

  /** Whether an op of the reference makes more than a copy or another view of what it reads. */
  function isMadeAnew(key: TensorKey): boolean {
    const maker = referenceGraph.producerOf.get(key);
    const own = reference.tensors.get(key)?.value;
    if (!maker) return true;
    if (!own || maker.inputs.length === 0) return false;
    return maker.inputs.every((input) => {
      if (isRearrangement(maker, key, input, reference)) return false;
      const value = reference.tensors.get(input)?.value;
      return !value || !sameBytes(value.bytes, own.bytes);
    });
  }

  /** What a tensor should perhaps have been, the likeliest first. */
  function optionsFor(key: TensorKey, question: Question): Option[] {
    const { segment, between } = question;
    const own = candidate.tensors.get(key);
    if (!own) return [];
    const maker = graph.producerOf.get(key);
    const base = maker?.inputs[0];
    const paired = base === undefined ? undefined : pairs.get(base);
    // What only lays out a tensor that matches can be wrong in nothing but the layout.
    const isView = maker && base !== undefined && isRearrangement(maker, key, base, candidate);
    if (isView && paired) {
      const ownClass = index.classOf(paired.reference);
      const fitting: readonly Option["match"][] = index.fitting(own);
      const others = [...between.all].map((other) => ({ reference: other }));
      return [...fitting, ...others.filter(isOfOtherShape(own))]
        .filter(({ reference: r }) => between.all.has(r) && index.classOf(r) === ownClass)
        .map((match) => ({ match, rank: 0 }));
    }
    const rank = ({ reference: r }: ValueMatch): number =>
      haveSameInputs(key, r, question) ? 0 : 3;
    const alike = index
      .fitting(own)
      .filter((match) => between.unmatched.has(match.reference))
      .map((match) => ({ match, rank: rank(match) }))
      .sort((a, b) => a.rank - b.rank)
      .slice(0, limits.perTensor);
    return [
      ...alike,
      ...(alike[0]?.rank === 0 ? [] : ofOtherShape(key, own, question)),
      ...entering(key, segment).map((match) => ({ match, rank: 1 })),
    ];
  }

  /** A reduction over another axis, or a loop of fewer turns, makes another shape of the same. */
  function ofOtherShape(key: TensorKey, own: ObservedTensor, question: Question): Option[] {
    return [...question.between.unmatched]
      .map((other) => ({ reference: other }))
      .filter(isOfOtherShape(own))
      .filter(
        ({ reference: other }) =>
          haveSameInputs(key, other, question) || readsMore(other, key, question),
      )
      .slice(0, limits.otherShapes)
      .map((match) => {
        // What is only not reduced yet is rather another step of the same.
        const shape = reference.tensors.get(match.reference)?.shape ?? [];
        const isReduced = shape.every((size, axis) => size === own.shape[axis] || size === 1);
        return { match, rank: isReduced ? 4 : 2 };
      });
  }

  function isOfOtherShape(own: ObservedTensor): (match: Option["match"]) => boolean {
    return ({ reference: key }) => {
      const other = reference.tensors.get(key);
      return (
        other?.value !== undefined &&
        isFloat(other.dtype) === isFloat(own.dtype) &&
        other.shape.length === own.shape.length &&
        !sameShape(other.shape, own.shape)
      );
    };
  }

  /** Whether a candidate and a reference tensor are made from the same matched tensors and parameters. */
  function haveSameInputs(key: TensorKey, other: TensorKey, { cuts, matched }: Question): boolean {
    const own = segmentOf(key, cuts, graph);
    const wanted = segmentOf(other, matched, referenceGraph);
    const held = new Set(own.frontier.map((tensor) => classOf(pairs.get(tensor)?.reference ?? "")));
    const read = new Set(wanted.frontier.map(classOf));
    const twins = own.parameters.map((tensor) => twinOf.get(tensor));
    // What one side keeps as a buffer the other may compute.
    const kept = wanted.parameters.filter((tensor) => !missing.has(tensor));
    const isIn = (own: string, all: ReadonlySet<string>): boolean =>
      all.has(own) || [...all].some((other) => isPartOf(own, other) || isPartOf(other, own));
    return (
      [...held].every((own) => isIn(own, read)) &&
      [...read].every((own) => isIn(own, held)) &&
      isSameSet(new Set(twins), new Set(kept))
    );
  }

  /** Whether one class of reference tensors is selected out of another: a half of a head. */
  function isPartOf(part: string, whole: string): boolean {
    return partsOf.get(whole)?.has(part) ?? false;
  }

  /** Whether a reference tensor is made from all that a candidate tensor is made from, and from more. */
  function readsMore(other: TensorKey, key: TensorKey, { cuts, matched }: Question): boolean {
    const own = segmentOf(key, cuts, graph).frontier;
    const read = new Set(
      segmentOf(other, matched, referenceGraph).frontier.map((tensor) => classOf(tensor)),
    );
    return (
      own.length > 0 &&
      own.length < read.size &&
      own.every((tensor) => read.has(classOf(pairs.get(tensor)?.reference ?? "")))
    );
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
    const outputs = after ?? tensorsAfter(keys, segment);
    const request = { outputs, replaced: given, parameters: repairs };
    const classes = new Set<string>();
    for (const [tensor, result] of await evaluateTrial(program, request, signal)) {
      const before = values.get(tensor);
      if (before && isSameTensor(before, result)) continue;
      const rejoined =
        tensor === pair.candidate && pair.alignment
          ? !differs(pair, index, result) && index.classOf(pair.reference)
          : firstClass(index.matches(result), between.unmatched, pair.reference);
      if (rejoined && !own.has(rejoined)) classes.add(rejoined);
    }
    return classes.size;
  }

  /** What an op would give that should not be there: one of the tensors at which its segment begins. */
  function entering(key: TensorKey, { frontier }: Segment): ValueMatch[] {
    const { shape = [] } = candidate.tensors.get(key) ?? {};
    return frontier.flatMap((input) => {
      const pair = pairs.get(input) ?? inputPairs.get(input);
      return pair?.alignment && sameShape(candidate.tensors.get(input)?.shape ?? [], shape)
        ? [{ reference: pair.reference, alignment: pair.alignment }]
        : [];
    });
  }

  function firstClass(
    matches: Iterable<ValueMatch>,
    among: ReadonlySet<TensorKey>,
    end: TensorKey,
  ): string | undefined {
    for (const { reference: r } of matches) if (among.has(r) || r === end) return index.classOf(r);
    return undefined;
  }

  /** The segment's tensors that depend on some of them, the nearest first. */
  function tensorsAfter(keys: readonly TensorKey[], segment: Segment): TensorKey[] {
    const within = new Set<ObservedOp>(segment.ops);
    const after: TensorKey[] = [];
    const open = [...keys];
    const seen = new Set(open);
    while (open.length > 0 && after.length < limits.lookAhead) {
      for (const op of readers.get(open.shift() as TensorKey) ?? []) {
        if (!within.has(op)) continue;
        for (const output of op.outputs) {
          if (seen.has(output)) continue;
          seen.add(output);
          open.push(output);
          if (candidate.tensors.get(output)?.value) after.push(output);
        }
      }
    }
    return after;
  }

  return { onReference, isOfParameter, parameters: () => parameters, firstWrong };
}

function isSameTensor(a: TensorValue, b: TensorValue): boolean {
  return sameShape(a.shape, b.shape) && sameBytes(a.bytes, b.bytes);
}

/** Single numbers and what arithmetic on shapes makes say nothing. */
function isTellable(tensor: ObservedTensor | undefined): boolean {
  const count = elementCount(tensor?.shape ?? []);
  return tensor !== undefined && count > 1 && (isFloat(tensor.dtype) || tensor.shape.length > 1);
}

function onlyOne<T>(items: readonly T[]): T | undefined {
  return items.length === 1 ? items[0] : undefined;
}

function isSameSet<T>(a: ReadonlySet<T>, b: ReadonlySet<T>): boolean {
  return a.size === b.size && [...b].every((one) => a.has(one));
}

/** A pair that differs on the reference's values, and what is known about the ops that lead to it. */
interface Question {
  /** Paired tensors of either side. */
  readonly cuts: ReadonlySet<TensorKey>;
  readonly matched: ReadonlySet<TensorKey>;
  readonly pair: TensorPair;
  readonly segment: Segment;
  /** Reference tensors on the way to the pair's: all, and those of whose values nothing was found yet. */
  readonly between: {
    readonly all: ReadonlySet<TensorKey>;
    readonly unmatched: ReadonlySet<TensorKey>;
  };
  readonly replaced: Values;
  readonly values: Values;
  /** Where something must match again, if not anywhere. */
  readonly after?: readonly TensorKey[];
}

/** Whether a value is not what the pair's reference holds, by the index's gates. */
export function differs(
  pair: TensorPair,
  index: ValueIndex,
  value: TensorValue | undefined,
): boolean {
  const { reference, alignment } = pair;
  return value === undefined || !alignment || !index.isSame({ reference, alignment }, value);
}
