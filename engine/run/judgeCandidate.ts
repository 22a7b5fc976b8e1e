import { relL2 } from "../core/difference.js";
import { expandFused, isFused } from "../core/fused/expand.js";
import { withInferredPadding } from "../core/inferredPadding.js";
import { judgePairs, type Judgement } from "../core/judge.js";
import {
  producers,
  type Observation,
  type ObservedOp,
  type TensorKey,
} from "../core/observation.js";
import { pairTensors, type Pairing, type TensorPair } from "../core/pairing.js";
import { joinedInOtherOrder, pairLeftovers, type ParameterComparison } from "../core/parameters.js";
import { stageOfTensor } from "../core/rows.js";
import { isDataTensor, segmentGraph, segmentOf, type Segment } from "../core/segments.js";
import type { TensorValue } from "../core/tensorValue.js";
import { indexValues, type ValueIndex } from "../core/valueIndex.js";
import type { ComparisonRules } from "../protocol/runFile.js";
import { fromWire } from "../protocol/wire.js";
import type { ObservedImplementation } from "./observe.js";
import { pairByValue } from "./pairByValue.js";
import type { Walk } from "./walk.js";
import { withStepsOf } from "./writtenOut.js";
import { withRowPlacement } from "../core/rowPlacement.js";
import { replayCandidate, runReplaced, type ReplayWithRepairs } from "./replay.js";

/** Pairs with their verdicts, and what they were judged by. */
export interface Judged {
  /** With the fused ops behind a difference written out. */
  readonly reference: ObservedImplementation;
  /** With its attention written out, where a difference lies in it and around it. */
  readonly candidate: ObservedImplementation;
  readonly index: ValueIndex;
  readonly judgements: readonly Judgement[];
  readonly pairing: Pairing;
  readonly segments: ReadonlyMap<TensorKey, Segment>;
  readonly replay?: ReplayWithRepairs;
  readonly parameters: ParameterComparison;
  readonly readsTooEarly: Walk["readsTooEarly"];
  /** The mask by which padding was told that nothing declares. */
  readonly paddedBy?: string;
}

type IndexedReference = Pick<Judged, "reference" | "index">;

interface JudgeOptions {
  readonly rules: ComparisonRules;
  readonly signal: AbortSignal;
  readonly index: ValueIndex;
}

/**
 * Judges every pair. Where a difference lies in several ops of the candidate and in one of the reference that does the
 * same at once, that op's steps are looked at too.
 */
export async function judgeCandidate(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  parameters: ParameterComparison,
  { rules, signal }: Pick<JudgeOptions, "rules" | "signal">,
): Promise<Judged> {
  const indexed = (laidOut: Observation): IndexedReference => {
    const observation = withRowPlacement(laidOut, candidate.observation);
    return {
      reference: { ...reference, observation },
      index: indexValues(observation, keptWithoutTwin(observation, parameters)),
    };
  };
  const judgeWith = ({ reference: side, index }: IndexedReference): Promise<Judged> =>
    judgeWithLeftovers(side, candidate, parameters, { rules, signal, index });
  const found = ({ index }: IndexedReference): number => foundIn(index, candidate.observation);
  const whole = indexed(reference.observation);
  const inferred = withInferredPadding(reference.observation);
  const padded = inferred && { ...indexed(inferred.observation), paddedBy: inferred.mask };
  const isPadded = padded !== undefined && found(padded) >= found(whole);
  const side = isPadded ? padded : whole;
  const first = await judgeWith(side);
  const judged = isPadded ? { ...first, paddedBy: padded.paddedBy } : first;
  const fused = fusedBehindOrigins(judged);
  let best = judged;
  for (const ops of [fused, ofTheirLines(fused, side.reference.observation)]) {
    const observation = expandFused(side.reference.observation, ops);
    const again = observation && { ...judged, ...(await judgeWith(indexed(observation))) };
    if (again && isNarrower(again, best)) best = again;
    if (widestOrigin(best) <= fewOps) break;
  }
  const { reference: expanded, index } = best;
  const steps = withStepsOf(candidate, opsOfOrigins(best));
  if (!steps) return best;
  const options = { rules, signal, index };
  const apart = { ...best, ...(await judgeWithLeftovers(expanded, steps, parameters, options)) };
  return isNarrower(apart, best) ? apart : best;
}

/** What an op as a whole was found to introduce must not be lost among its steps. */
function isNarrower(again: Judged, before: Judged): boolean {
  const spread = widestOrigin(again);
  return spread > 0 && spread <= widestOrigin(before);
}

/** The candidate's ops of origins that several ops make. */
function opsOfOrigins({ judgements }: Judged): Set<ObservedOp> {
  return new Set(
    judgements
      .filter(({ verdict, segment }) => verdict === "origin" && segment.ops.length > 1)
      .flatMap(({ segment }) => segment.ops),
  );
}

/** An origin of more ops is a list of lines. */
const fewOps = 8;

/** Of how many ops the least certain origin is one. */
function widestOrigin({ judgements }: Judged): number {
  const origins = judgements.filter(({ verdict }) => verdict === "origin");
  return Math.max(0, ...origins.map(({ segment }) => segment.ops.length));
}

/** How many of the candidate's tensors hold what one of the reference's does. */
function foundIn(index: ValueIndex, { ops, tensors }: Observation): number {
  const made = ops.flatMap((op) => op.outputs.map((key) => tensors.get(key)));
  return made.filter(
    (tensor) =>
      isDataTensor(tensor) &&
      tensor.value &&
      !index.matches(tensor.value)[Symbol.iterator]().next().done,
  ).length;
}

/** Buffers and constants of the reference that no parameter of the candidate was paired with. */
function keptWithoutTwin(
  { tensors, ops, inputs }: Observation,
  { findings }: ParameterComparison,
): TensorKey[] {
  const known = new Set([
    ...ops.flatMap((op) => op.outputs),
    ...inputs.map(({ tensor }) => tensor),
    ...findings.flatMap(({ reference }) => (reference ? [reference.tensor] : [])),
  ]);
  return [...tensors.values()]
    .filter(({ key, value }) => value && !known.has(key))
    .map(({ key }) => key);
}

/** Fused ops of the reference between the last paired tensors and one that differs because of several ops. */
function fusedBehindOrigins({ judgements, pairing, reference }: Judged): Set<ObservedOp> {
  const graph = segmentGraph(reference.observation);
  const matched = new Set(pairing.pairs.map((pair) => pair.reference));
  return new Set(
    judgements
      .filter(({ verdict, segment }) => verdict === "origin" && segment.ops.length > 1)
      // A parameter that was not copied is no step that was left out.
      .filter((judgement) => !isOfParameters(judgement))
      .flatMap(({ pair }) => segmentOf(pair.reference, matched, graph).ops)
      .filter(isFused),
  );
}

/** With the others of their lines: steps that one layer shows and the next one does not make the next look like the first. */
function ofTheirLines(fused: ReadonlySet<ObservedOp>, { ops }: Observation): Set<ObservedOp> {
  const lineOf = ({ kind, frames: [site] }: ObservedOp): string =>
    `${kind} ${site?.file ?? ""}:${site?.line ?? ""}`;
  const lines = new Set([...fused].map(lineOf));
  return new Set(ops.filter((op) => isFused(op) && lines.has(lineOf(op))));
}

/**
 * Judges, and where a difference comes from ops that read a parameter without a counterpart, judges again with those
 * that are left over paired by shape. That holds if the reference's values in their place explain every such difference.
 */
async function judgeWithLeftovers(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  parameters: ParameterComparison,
  options: JudgeOptions,
): Promise<Judged> {
  const compared = await judge(reference, candidate, parameters, options);
  const unpaired = new Set(
    compared.parameters.findings
      .filter((f) => f.reference === undefined)
      .map((f) => f.candidate.tensor),
  );
  const suspects = compared.judgements.filter(
    ({ verdict, segment }) =>
      verdict === "origin" && segment.parameters.some((parameter) => unpaired.has(parameter)),
  );
  if (suspects.length === 0) return compared;
  const guessed = pairLeftovers(compared.parameters, reference.observation.parameters);
  const again = await judge(reference, candidate, guessed, options);
  const judgedAgain = new Map(again.judgements.map((j) => [j.pair.candidate, j]));
  const areExplained = suspects.every(({ pair }) => {
    const judgement = judgedAgain.get(pair.candidate);
    return judgement !== undefined && isOfParameters(judgement);
  });
  return areExplained ? again : compared;
}

/**
 * Joined parameters that hold their parts in another order than the reference declares them are a fault where that order
 * explains differences and makes none: `cat([k, q, v])` where the result is split into q, k, v.
 */
export async function judgeInOrder(
  compared: Judged,
  options: Pick<JudgeOptions, "rules" | "signal">,
): Promise<Judged> {
  let best = compared;
  const { reference, candidate, index, parameters } = compared;
  const guesses = joinedInOtherOrder(parameters, reference.observation.parameters);
  let tried = 0;
  for (const guessed of guesses) {
    const open = unexplained(best);
    if (open.size === 0 || tried++ >= mostOrders) break;
    const again = await judge(reference, candidate, guessed, { ...options, index });
    const left = unexplained(again);
    const isBetter = left.size < open.size && [...left].every((key) => open.has(key));
    if (isBetter) best = { ...compared, ...again };
  }
  return best;
}

/** Each is a comparison of its own. */
const mostOrders = 4;

/** Whether nothing is left of what a pair introduces with the parameters that it should have. */
function isOfParameters({ introducedByOps, gate }: Judgement): boolean {
  return introducedByOps !== undefined && introducedByOps <= fromWire(gate.value);
}

/** What differs by its ops, with the parameters that it should have. */
function unexplained({ judgements }: Judged): Set<TensorKey> {
  return new Set(
    judgements
      .filter((judgement) => judgement.verdict === "origin" && !isOfParameters(judgement))
      .map(({ pair }) => pair.candidate),
  );
}

async function judge(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  given: ParameterComparison,
  { rules, signal, index }: JudgeOptions,
): Promise<Judged> {
  const r = reference.observation;
  const c = candidate.observation;
  const { program } = candidate;
  const makerOf = producers(r);
  const stageOf = (pair: TensorPair): string => {
    const tensor = r.tensors.get(pair.reference);
    return tensor ? stageOfTensor(tensor, makerOf.get(pair.reference), rules.stages) : "";
  };
  const run = program && { program, observation: c };
  const { pairing, parameters, readsTooEarly } = await pairByValue(pairTensors(r, c, rules.pairs), {
    reference: r,
    candidate: c,
    program,
    index,
    parameters: given,
    signal,
  });
  const judgeWith = async (pairing: Pairing): Promise<Judged> => {
    const segments = segmentsOf(pairing.pairs, candidate);
    const replay =
      run && (await replayCandidate(run, r, pairing.pairs, parameters.findings, segments, signal));
    const judgements = judgePairs(pairing.pairs, {
      reference: r,
      candidate: c,
      segments,
      stageOf,
      ...(replay && { replay }),
      tolerances: rules.tolerances ?? {},
      expected: rules.expected ?? [],
    });
    return {
      reference,
      candidate,
      index,
      judgements,
      pairing,
      segments,
      parameters,
      readsTooEarly,
      ...(replay && { replay }),
    };
  };

  const first = await judgeWith(pairing);
  const supposed = first.judgements.filter(
    ({ pair, verdict }) => verdict === "origin" && !pair.isOutput && pair.pairedBy !== "declared",
  );
  if (!run || !first.replay || supposed.length === 0) return first;
  const suspects = new Set(supposed.map((judgement) => judgement.pair));
  const without = await runReplaced(
    run,
    r,
    first.pairing.pairs.filter((pair) => !suspects.has(pair)),
    first.replay.repairs,
    first.pairing.pairs.map((pair) => pair.candidate),
    signal,
  );
  const mistaken = supposed.filter((suspect) => isMistakenPair(suspect, first, without, r));
  if (mistaken.length === 0) return first;
  const dropped = new Set(mistaken.map((judgement) => judgement.pair));
  return judgeWith({
    ...first.pairing,
    pairs: first.pairing.pairs.filter((pair) => !dropped.has(pair)),
    refused: new Map([
      ...first.pairing.refused,
      ...mistaken.map(
        ({ pair }) =>
          [
            pair.candidate,
            `${isByName(pair) ? "same name" : "nearly the same values"} as a reference tensor, but another quantity: what follows matches with the candidate's value and not with the reference's`,
          ] as const,
      ),
    ]),
  });
}

/**
 * A pair that nobody declared is a hypothesis. It is given up when what follows matches with the candidate's own value and
 * breaks with the reference's: then the two tensors only look alike.
 */
function isMistakenPair(
  suspect: Judgement,
  { judgements }: Judged,
  without: ReadonlyMap<TensorKey, TensorValue>,
  reference: ObservedImplementation["observation"],
): boolean {
  const followers = judgements.filter((judgement) =>
    judgement.segment.frontier.includes(suspect.pair.candidate),
  );
  let restored = 0;
  for (const follower of followers) {
    const { pair } = follower;
    const r = reference.tensors.get(pair.reference)?.value;
    const c = without.get(pair.candidate);
    if (!r || !c || !pair.alignment) return false;
    const gate = fromWire(follower.gate.value);
    const nan = { equalNan: follower.tolerance?.equalNan ?? false };
    const matchesWithout = relL2(r, c, pair.alignment, nan) <= gate;
    const matchesWith = (follower.introducedByOps ?? Infinity) <= gate;
    if (!matchesWithout) return false;
    if (!matchesWith) restored++;
  }
  return restored > 0;
}

function segmentsOf(
  pairs: readonly TensorPair[],
  candidate: ObservedImplementation,
): Map<TensorKey, Segment> {
  const graph = segmentGraph(candidate.observation);
  const cuts = new Set(
    pairs.filter((pair) => pair.alignment ?? pair.fitsInPlace).map((pair) => pair.candidate),
  );
  return new Map(
    pairs.map((pair) => [pair.candidate, segmentOf(pair.candidate, cuts, graph)] as const),
  );
}

function isByName({ pairedBy }: TensorPair): boolean {
  return pairedBy === "name" || pairedBy === "normalisedName";
}
