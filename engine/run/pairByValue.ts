import { mantissaBits } from "../core/dtypes.js";
import { sameBytes } from "../core/integerComparison.js";
import { isFaulty } from "../core/origins.js";
import {
  consumers,
  producers,
  type Observation,
  type ObservedOp,
  type TensorKey,
} from "../core/observation.js";
import { addPairs, type Pairing, type TensorPair } from "../core/pairing.js";
import { pairParameter, type ParameterComparison } from "../core/parameters.js";
import {
  implementationPrecision,
  isDataTensor,
  segmentGraph,
  segmentOf,
  type Segment,
} from "../core/segments.js";
import { sameShape } from "../core/shapes.js";
import type { TensorValue } from "../core/tensorValue.js";
import type { ValueIndex, ValueMatch } from "../core/valueIndex.js";
import { fittedParameters, substitutionFor } from "./replay.js";
import type { Program, Values } from "./program.js";

export interface PairByValueOptions {
  readonly reference: Observation;
  readonly candidate: Observation;
  /** Absent when nothing can execute the candidate's ops: then only its own values are looked up. */
  readonly program?: Program | undefined;
  readonly index: ValueIndex;
  readonly parameters: ParameterComparison;
  readonly signal: AbortSignal;
}

export interface PairedByValue {
  readonly pairing: Pairing;
  /** With the parameters that were paired by what reads them. */
  readonly parameters: ParameterComparison;
}

/** How far a hypothesis is followed, and how many are tried: a fault must not cost more than the comparison itself. */
const limits = { lookAhead: 24, perTensor: 26, tensors: 40, evaluations: 240, rounds: 64 };

/**
 * Adds pairs without names. First, candidate tensors whose own values are a reference tensor's ("signature"). Then, as
 * long as a pair differs, in lockstep: with the reference's values in place of every paired tensor, what follows a fault
 * is found as well, and within the ops that lead to a difference the first tensor is sought that, replaced by a tensor of
 * the reference, makes those after it match: it is the one that is wrong, and that tensor is its counterpart.
 */
export async function pairByValue(
  given: Pairing,
  options: PairByValueOptions,
): Promise<PairedByValue> {
  const { candidate, program, index, parameters, signal } = options;
  const precision = mantissaBits(implementationPrecision(candidate));
  // What is rounded further than the rest is not the reference's tensor, although it is near it.
  const made = [...producers(candidate).keys()].filter(
    (key) => mantissaBits(candidate.tensors.get(key)?.dtype) >= precision,
  );
  const pairs = new Map(given.pairs.map((pair) => [pair.candidate, pair]));
  const used = new Set(given.pairs.map((pair) => pair.reference));
  const found: TensorPair[] = [];
  const take = (
    { reference: r, alignment }: ValueMatch,
    c: TensorKey,
    by: "signature" | "lockstep",
  ) => {
    const pair: TensorPair = {
      reference: r,
      candidate: c,
      pairedBy: by,
      alignment,
      layoutFindings: [],
      isOutput: false,
    };
    pairs.set(c, pair);
    used.add(r);
    found.push(pair);
  };
  const lookUp = (
    keys: readonly TensorKey[],
    values: (key: TensorKey) => TensorValue | undefined,
    by: "signature" | "lockstep",
  ) => {
    for (const key of keys) {
      if (pairs.has(key)) continue;
      const value = values(key);
      const match = value && preferUnused(index.matches(value), used);
      if (match) take(match, key, by);
    }
  };
  const own = (key: TensorKey): TensorValue | undefined => candidate.tensors.get(key)?.value;
  lookUp(
    made.filter((key) => isDataTensor(candidate.tensors.get(key))),
    own,
    "signature",
  );
  if (
    !program ||
    !given.pairs.some((pair) => differs(pair, index, candidate.tensors.get(pair.candidate)?.value))
  ) {
    return { pairing: addPairs(given, found, candidate), parameters };
  }

  const walk = startWalk({
    ...options,
    program,
    pairs,
    repairs: fittedParameters(parameters.findings.filter(isFaulty), () => false),
  });
  const tried = new Set<TensorKey>();
  let differing = given.pairs.filter((pair) => differs(pair, index, own(pair.candidate)));
  for (let round = 0; round < limits.rounds && differing.length > 0; round++) {
    signal.throwIfAborted();
    const values = await walk.onReference(differing);
    const inQuestion = made.filter((key) => values.has(key));
    lookUp(inQuestion, (key) => values.get(key), "lockstep");
    differing = inQuestion
      .map((key) => pairs.get(key))
      .filter((pair) => pair !== undefined && !tried.has(pair.candidate))
      .filter((pair) =>
        differs(pair as TensorPair, index, values.get((pair as TensorPair).candidate)),
      ) as TensorPair[];
    let narrowed = false;
    for (const pair of differing) {
      if (await walk.isOfParameter(pair)) {
        tried.add(pair.candidate);
        continue;
      }
      const counterpart = await walk.firstWrong(pair, values);
      if (!counterpart) {
        tried.add(pair.candidate);
        continue;
      }
      take(counterpart.match, counterpart.candidate, "lockstep");
      tried.add(counterpart.candidate);
      narrowed = true;
    }
    if (!narrowed) break;
  }
  return { pairing: addPairs(given, found, candidate), parameters: walk.parameters() };
}

/** Several tensors of the reference may hold the same values: each candidate tensor gets one of its own, if it can. */
function preferUnused(
  matches: Iterable<ValueMatch>,
  used: ReadonlySet<TensorKey>,
): ValueMatch | undefined {
  let first: ValueMatch | undefined;
  for (const match of matches) {
    if (!used.has(match.reference)) return match;
    first ??= match;
  }
  return first;
}

function differs(pair: TensorPair, index: ValueIndex, value: TensorValue | undefined): boolean {
  const { reference, alignment } = pair;
  return value === undefined || !alignment || !index.isSame({ reference, alignment }, value);
}

interface WalkOptions extends PairByValueOptions {
  readonly program: Program;
  /** By candidate tensor; grows during the walk. */
  readonly pairs: ReadonlyMap<TensorKey, TensorPair>;
  readonly repairs: Values;
}

interface Walk {
  /**
   * Whether a pair differs because of a parameter without a counterpart: with the one that the reference reads there, and
   * that nothing was paired with either, it is the reference's. Then the two are a pair.
   */
  isOfParameter(pair: TensorPair): Promise<boolean>;
  parameters(): ParameterComparison;
  /** What the candidate's ops make of the reference's values, for these pairs and all that lies in their segments. */
  onReference(pairs: readonly TensorPair[]): Promise<Values>;
  /** The first tensor of a pair's segment that can be told to be wrong, and what it should have been. */
  firstWrong(
    pair: TensorPair,
    values: Values,
  ): Promise<{ candidate: TensorKey; match: ValueMatch } | undefined>;
}

function startWalk({
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
  const substitutions = new Map<TensorKey, TensorValue>();
  const substitutionOf = (pair: TensorPair): TensorValue | undefined => {
    const known = substitutions.get(pair.candidate) ?? substitutionFor(pair, reference, candidate);
    if (known) substitutions.set(pair.candidate, known);
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
  let evaluations = 0;

  const onReference: Walk["onReference"] = (ends) => {
    const cuts = new Set(pairs.keys());
    const segments = ends.map((pair) => segmentOf(pair.candidate, cuts, graph));
    const keys = new Set(segments.flatMap(({ ops }) => ops.flatMap((op) => op.outputs)));
    const outputs = [...keys].filter((key) => candidate.tensors.get(key)?.value);
    const replaced = replacements(new Set(segments.flatMap(({ frontier }) => frontier)));
    return program.evaluate({ outputs, replaced, parameters: repairs }, signal);
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
        const made = await program.evaluate(
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
    const between = referenceBetween(pair);
    const pending = segment.ops
      .flatMap((op) => op.outputs)
      .filter((key) => key !== pair.candidate && !pairs.has(key) && values.has(key));
    if (pending.length === 0 || between.size === 0) return undefined;
    const replaced = replacements(segment.frontier);
    for (const key of pending.slice(0, limits.tensors)) {
      const best = await bestCounterpart(key, { pair, segment, between, replaced, values });
      if (best) return { candidate: key, match: best };
    }
    return undefined;
  };

  function pairedReferences(): Set<TensorKey> {
    return new Set([...pairs.values()].map((p) => p.reference));
  }

  /** Reference tensors on the way to a pair's, for which nothing was found yet. */
  function referenceBetween({ reference: end }: TensorPair): Set<TensorKey> {
    const matched = pairedReferences();
    const matchedClasses = new Set([...matched].map((key) => index.classOf(key)));
    const { ops } = segmentOf(end, matched, referenceGraph);
    return new Set(
      ops
        .flatMap((op) => op.outputs)
        .filter((key) => key !== end)
        .filter((key) => {
          const own = index.classOf(key);
          return own !== undefined && !matchedClasses.has(own);
        }),
    );
  }

  async function bestCounterpart(
    key: TensorKey,
    { pair, segment, between, replaced, values }: Hypotheses,
  ): Promise<ValueMatch | undefined> {
    const own = candidate.tensors.get(key);
    if (!own?.value) return undefined;
    const after = tensorsAfter(key, segment);
    const options = [
      ...index
        .fitting(own)
        .filter((match) => between.has(match.reference))
        .slice(0, limits.perTensor),
      ...readsOf(key),
    ];
    let best: { match: ValueMatch; score: number } | undefined;
    for (const match of options) {
      if (evaluations++ >= limits.evaluations) break;
      signal.throwIfAborted();
      const value = substitutionFor({ ...match, candidate: key }, reference, candidate);
      if (!value) continue;
      const made = await program.evaluate(
        { outputs: after, replaced: new Map([...replaced, [key, value]]), parameters: repairs },
        signal,
      );
      const classes = new Set<string>();
      for (const [tensor, result] of made) {
        const before = values.get(tensor);
        if (before && sameBytes(before.bytes, result.bytes)) continue;
        const rejoined =
          tensor === pair.candidate
            ? !differs(pair, index, result) && index.classOf(pair.reference)
            : firstClass(index.matches(result), between);
        if (rejoined && rejoined !== index.classOf(match.reference)) classes.add(rejoined);
      }
      if (classes.size > (best?.score ?? 0)) best = { match, score: classes.size };
    }
    return best?.match;
  }

  /** What an op would give that should not be there: one of the tensors that it reads. */
  function readsOf(key: TensorKey): ValueMatch[] {
    const { shape = [] } = candidate.tensors.get(key) ?? {};
    return (graph.producerOf.get(key)?.inputs ?? []).flatMap((input) => {
      const pair = pairs.get(input);
      return pair?.alignment && sameShape(candidate.tensors.get(input)?.shape ?? [], shape)
        ? [{ reference: pair.reference, alignment: pair.alignment }]
        : [];
    });
  }

  function firstClass(matches: Iterable<ValueMatch>, among: ReadonlySet<TensorKey>) {
    for (const { reference: r } of matches) if (among.has(r)) return index.classOf(r);
    return undefined;
  }

  /** The segment's tensors that depend on one of them, the nearest first, and its end. */
  function tensorsAfter(key: TensorKey, segment: Segment): TensorKey[] {
    const within = new Set<ObservedOp>(segment.ops);
    const after: TensorKey[] = [];
    const open = [key];
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

interface Hypotheses {
  readonly pair: TensorPair;
  readonly segment: Segment;
  readonly between: ReadonlySet<TensorKey>;
  readonly replaced: Values;
  readonly values: Values;
}
