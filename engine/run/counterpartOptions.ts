import { isFloat } from "../core/dtypes.js";
import { sameBytes } from "../core/integerComparison.js";
import { align } from "../core/layouts.js";
import type { Observation, ObservedTensor, TensorKey } from "../core/observation.js";
import type { TensorPair } from "../core/pairing.js";
import type { ParameterComparison } from "../core/parameters.js";
import { isRearrangement, isSelection } from "../core/rearrangement.js";
import { segmentGraph, segmentOf, type Segment } from "../core/segments.js";
import { sameShape } from "../core/shapes.js";
import type { ValueIndex, ValueMatch } from "../core/valueIndex.js";
import type { Values } from "./program.js";
import { twinInputs } from "./twinInputs.js";

const limits = { perTensor: 26, otherShapes: 4 };

/** A pair that differs on the reference's values, and what is known about the ops that lead to it. */
export interface Question {
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

export interface Counterpart {
  readonly candidate: TensorKey;
  /** Without an alignment the shapes differ. */
  readonly match: Pick<TensorPair, "reference" | "alignment">;
}

/**
 * What a tensor may be the counterpart of, the likeliest first: what is made from the same (0), what goes in (1), what is
 * made from the same in another shape (2), anything of this shape (3), what is reduced further (4).
 */
export interface Option {
  readonly match: Counterpart["match"];
  readonly rank: number;
}

export interface CounterpartOptions {
  /** What a tensor should perhaps have been, the likeliest first. */
  optionsFor(key: TensorKey, question: Question): Option[];
  /** What an op would give that should not be there: one of the tensors at which its segment begins. */
  entering(key: TensorKey, segment: Segment): ValueMatch[];
  /** Whether a reference tensor is made from all that a candidate tensor is made from, and from more. */
  readsMore(other: TensorKey, key: TensorKey, question: Question): boolean;
  /** Reference tensors on the way to a pair's. */
  between(pair: TensorPair): Question["between"];
  /** The reference tensors of all pairs, with all that hold the same: each layer may make a table that others make once. */
  matched(): Set<TensorKey>;
}

export interface OptionsSource {
  readonly reference: Observation;
  readonly candidate: Observation;
  readonly index: ValueIndex;
  readonly parameters: ParameterComparison;
  /** By candidate tensor; grows. */
  readonly pairs: ReadonlyMap<TensorKey, TensorPair>;
}

/** Which tensors of the reference a tensor of the candidate could stand for, by what both are made from. */
export function counterpartOptions({
  reference,
  candidate,
  index,
  parameters,
  pairs,
}: OptionsSource): CounterpartOptions {
  const graph = segmentGraph(candidate);
  const referenceGraph = segmentGraph(reference);
  const classOf = (tensor: TensorKey): string => index.classOf(tensor) ?? tensor;
  const twinOf = new Map(
    parameters.findings.map(({ candidate: { tensor }, reference: r }) => [tensor, r?.tensor]),
  );
  const missing = new Set(parameters.missing.map(({ tensor }) => tensor));
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
  const segments = new WeakMap<Question, Cached>();
  const segmentsOf = (question: Question): Cached => {
    const known: Cached = segments.get(question) ?? { own: new Map(), wanted: new Map() };
    segments.set(question, known);
    return known;
  };

  function ownSegment(key: TensorKey, question: Question): Segment {
    const { own } = segmentsOf(question);
    const segment = own.get(key) ?? segmentOf(key, question.cuts, graph);
    own.set(key, segment);
    return segment;
  }

  function referenceSegment(key: TensorKey, question: Question): Segment {
    const { wanted } = segmentsOf(question);
    const segment = wanted.get(key) ?? segmentOf(key, question.matched, referenceGraph);
    wanted.set(key, segment);
    return segment;
  }

  function pairedReferences(): Set<TensorKey> {
    return new Set([...pairs.values()].map((p) => p.reference));
  }

  function matched(): Set<TensorKey> {
    const keys = pairedReferences();
    const classes = new Set([...keys].map(classOf));
    const others = [...reference.tensors.keys()].filter((key) => classes.has(classOf(key)));
    return new Set([...keys, ...others]);
  }

  function between({ reference: end }: TensorPair): Question["between"] {
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

  function optionsFor(key: TensorKey, question: Question): Option[] {
    const { segment, between: ways } = question;
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
      const others = [...ways.all].map((other) => ({ reference: other }));
      return (
        [...fitting, ...others.filter(isOfOtherShape(own))]
          // What one side lays out anew the other may keep as it is.
          .filter(({ reference: r }) => ways.all.has(r) || r === paired.reference)
          .filter(({ reference: r }) => index.classOf(r) === ownClass)
          .map((match) => ({ match, rank: 0 }))
      );
    }
    const rank = ({ reference: r }: ValueMatch): number =>
      haveSameInputs(key, r, question) || haveSameParameters(key, r) ? 0 : 3;
    const alike = index
      .fitting(own)
      .filter((match) => ways.unmatched.has(match.reference))
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
        // The same sizes in another order are a permutation, and padding to another width is none of either.
        !sameShape(other.shape.toSorted(), own.shape.toSorted()) &&
        !isOtherWidth(other, own.shape)
      );
    };
  }

  /** Whether a candidate and a reference tensor are made from the same matched tensors and parameters. */
  function haveSameInputs(key: TensorKey, other: TensorKey, question: Question): boolean {
    const own = ownSegment(key, question);
    const wanted = referenceSegment(other, question);
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

  /** Whether two ops read the same parameters: what else they read may be what is wrong. */
  function haveSameParameters(key: TensorKey, other: TensorKey): boolean {
    const own = (graph.producerOf.get(key)?.inputs ?? []).flatMap((one) => twinOf.get(one) ?? []);
    const read = new Set(referenceGraph.producerOf.get(other)?.inputs);
    return own.length > 0 && own.every((twin) => read.has(twin));
  }

  /** Whether one class of reference tensors is selected out of another: a half of a head. */
  function isPartOf(part: string, whole: string): boolean {
    return partsOf.get(whole)?.has(part) ?? false;
  }

  function readsMore(other: TensorKey, key: TensorKey, question: Question): boolean {
    const own = ownSegment(key, question).frontier;
    const read = new Set(referenceSegment(other, question).frontier.map(classOf));
    return (
      own.length > 0 &&
      own.length < read.size &&
      own.every((tensor) => read.has(classOf(pairs.get(tensor)?.reference ?? "")))
    );
  }

  function entering(key: TensorKey, { frontier }: Segment): ValueMatch[] {
    const { shape = [] } = candidate.tensors.get(key) ?? {};
    return frontier.flatMap((input) => {
      const pair = pairs.get(input) ?? inputPairs.get(input);
      return pair?.alignment && sameShape(candidate.tensors.get(input)?.shape ?? [], shape)
        ? [{ reference: pair.reference, alignment: pair.alignment }]
        : [];
    });
  }

  return { optionsFor, entering, readsMore, between, matched };
}

function isOtherWidth({ layout, shape }: ObservedTensor, own: readonly number[]): boolean {
  return (
    layout.kind === "padded" &&
    layout.axes.some((axis) => own[axis] !== 1 && own[axis] !== shape[axis])
  );
}

interface Cached {
  readonly own: Map<TensorKey, Segment>;
  readonly wanted: Map<TensorKey, Segment>;
}

function isSameSet<T>(a: ReadonlySet<T>, b: ReadonlySet<T>): boolean {
  return a.size === b.size && [...b].every((one) => a.has(one));
}

/** A tensor of a line with all that is made from the same. */
export interface Supposed extends Counterpart {
  readonly likely: readonly Counterpart["match"][];
}

/** The results of a split are several tensors of the reference, not all the first of them; none where it makes no difference. */
export function eachItsOwn(group: readonly Supposed[]): readonly Supposed[] {
  const used = new Set<TensorKey>();
  const own = group.map((one) => {
    const match = one.likely.find(({ reference }) => !used.has(reference)) ?? one.match;
    used.add(match.reference);
    return { ...one, match };
  });
  return own.some(({ match }, at) => match !== group[at]?.match) ? own : [];
}
