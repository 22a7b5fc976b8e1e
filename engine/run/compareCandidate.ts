import { relL2 } from "../core/difference.js";
import { judgePairs, type Judgement } from "../core/judge.js";
import { producers, type TensorKey } from "../core/observation.js";
import { findOrigins, type FoundOrigin } from "../core/origins.js";
import { pairTensors, type Pairing, type TensorPair } from "../core/pairing.js";
import {
  compareParameters,
  pairLeftoversByShape,
  type ParameterComparison,
  type ParameterFinding,
} from "../core/parameters.js";
import { makeRows, rowId, stageOfTensor } from "../core/rows.js";
import { coverage, segmentGraph, segmentOf, type Segment } from "../core/segments.js";
import type { StatementsOf } from "../core/statements.js";
import type { TensorValue } from "../core/tensorValue.js";
import { indexValues, type ValueIndex } from "../core/valueIndex.js";
import type { Implementation, Pair, Problem, Repair } from "../protocol/report.js";
import type { ComparisonRules } from "../protocol/runFile.js";
import { fromWire } from "../protocol/wire.js";
import { comparedOutputs, type ComparedOutput } from "./finalOutputs.js";
import type { ObservedImplementation } from "./observe.js";
import { requireSameInputs } from "./sameInputs.js";
import { reproOf, type OriginRepro } from "./repro.js";
import { pairByValue } from "./pairByValue.js";
import { explainOrigins, type ProvenExplanation } from "./explainOrigins.js";
import { declarationProblems, reportPair } from "./reportPair.js";
import { prove } from "./prove.js";
import { replayCandidate, runReplaced, type ReplayWithRepairs } from "./replay.js";
import { parameterProblems, reportParameters } from "./reportParameters.js";

export interface CompareOptions {
  readonly rules: ComparisonRules;
  readonly signal: AbortSignal;
  /** Whether both are known to have got the same inputs, under whatever names. */
  readonly inputsAreKnown?: boolean;
  /** For the lines in which nothing is computed. */
  readonly statementsOf: StatementsOf;
}

export interface ComparedCandidate {
  readonly pair: Pair;
  readonly parameters: Implementation["parameters"];
  readonly problems: readonly Problem[];
  /** Each origin alone, for those who want to see it so. */
  readonly repros: () => readonly OriginRepro[];
  readonly outputs: readonly ComparedOutput[];
}

/** Compares one candidate with the reference: parameters first, then every pair, origins, proof and coverage. */
export async function compareCandidate(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  { rules, signal, statementsOf, inputsAreKnown = false }: CompareOptions,
): Promise<ComparedCandidate> {
  if (!inputsAreKnown) requireSameInputs(reference, candidate);
  const r = reference.observation;
  const c = candidate.observation;
  const index = indexValues(r);
  const { judgements, pairing, parameters, replay, segments } = await judgeWithLeftovers(
    reference,
    candidate,
    compareParameters(r.parameters, c.parameters, rules.parameterPairs),
    { rules, signal, index },
  );
  const { program } = candidate;
  const explanations =
    program && replay
      ? await explainOrigins(judgements, {
          reference: r,
          candidate: c,
          program,
          index,
          pairs: pairing.pairs,
          parameters: parameters.findings,
          repairs: replay.repairs,
          signal,
        })
      : new Map<TensorKey, ProvenExplanation>();

  const pairOf = new Map(pairing.pairs.map((pair) => [pair.candidate, pair]));
  const findingOf = new Map(parameters.findings.map((f) => [f.candidate.tensor, f]));
  const supposed = findOrigins(judgements, {
    reference: r,
    candidate: c,
    parameters: findingOf,
    rowIdOf: (judgement) => rowId(judgement.pair.candidate),
    explanations,
    counterpartsOf: counterparts(pairing.pairs, parameters.findings, index),
    classOf: (key) => index.classOf(pairOf.get(key)?.reference ?? ""),
    twinOf: (key) => findingOf.get(key)?.reference?.tensor,
    statementsOf,
    ...(replay && { onReference: replay.onReferenceParameters }),
  });
  const covered = coverage(c, new Set(pairing.pairs.map((pair) => pair.candidate)), [
    ...segments.values(),
  ]);
  const proveWith = (origins: readonly FoundOrigin[]) =>
    prove(reference, candidate, judgements, origins, replay, explanations, signal);
  const { found, repair } = await leastProof(supposed, proveWith);
  const rows = makeRows(judgements, {
    reference: r,
    candidate: c,
    coverage: covered,
    refused: pairing.refused,
    stages: rules.stages ?? {},
  });
  const causeOf = new Map(
    found.flatMap(({ origin }) =>
      origin.cause ? origin.instances.map((i) => [i.row, origin.cause] as const) : [],
    ),
  );
  for (const row of rows) {
    const cause = causeOf.get(row.id);
    if (cause) row.cause = cause;
  }
  return {
    repros: () =>
      found.flatMap((one) => (replay && reproOf(reference, candidate, one, replay, pairOf)) ?? []),
    outputs: comparedOutputs(reference, candidate, judgements),
    parameters: reportParameters(reference, candidate, parameters),
    problems: [
      ...candidate.problems,
      ...parameterProblems(reference, candidate, parameters, found),
      ...declarationProblems(reference, candidate, parameters, pairing),
    ],
    pair: reportPair(reference, candidate, {
      rules,
      judgements,
      found,
      covered,
      rows,
      pairing,
      ...(repair && { repair }),
    }),
  };
}

/** Pairs by value are no nearer than this: what is introduced below it, and is not needed for the proof, is no origin. */
const leastTelling = 2e-6;

async function leastProof(
  supposed: readonly FoundOrigin[],
  proveWith: (origins: readonly FoundOrigin[]) => Promise<Repair | undefined>,
): Promise<{ found: readonly FoundOrigin[]; repair: Repair | undefined }> {
  const repair = await proveWith(supposed);
  const telling = supposed.filter(
    ({ origin, judgements }) =>
      fromWire(origin.introduced) > leastTelling ||
      judgements.some(({ pair }) => pair.pairedBy === "declared"),
  );
  const isMore = telling.length > 0 && telling.length < supposed.length;
  if (!repair?.proves || repair.minimal || !isMore) return { found: supposed, repair };
  const less = await proveWith(telling);
  return less?.proves ? { found: telling, repair: less } : { found: supposed, repair };
}

interface Judged {
  readonly judgements: readonly Judgement[];
  readonly pairing: Pairing;
  readonly segments: ReadonlyMap<TensorKey, Segment>;
  readonly replay?: ReplayWithRepairs;
  readonly parameters: ParameterComparison;
}

interface JudgeOptions extends Pick<CompareOptions, "rules" | "signal"> {
  readonly index: ValueIndex;
}

/** Candidate tensors by what they hold of the reference. */
function counterparts(
  pairs: readonly TensorPair[],
  findings: readonly ParameterFinding[],
  index: ValueIndex,
): (reference: TensorKey) => readonly TensorKey[] {
  const classOf = (key: TensorKey): string => index.classOf(key) ?? key;
  const found = new Map<string, TensorKey[]>();
  const add = (reference: TensorKey, candidate: TensorKey): void => {
    const known = found.get(classOf(reference));
    if (known) known.push(candidate);
    else found.set(classOf(reference), [candidate]);
  };
  for (const { reference, candidate } of pairs) add(reference, candidate);
  for (const { reference, candidate } of findings) {
    if (reference) add(reference.tensor, candidate.tensor);
  }
  return (reference) => found.get(classOf(reference)) ?? [];
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
  const guessed = pairLeftoversByShape(compared.parameters);
  const again = await judge(reference, candidate, guessed, options);
  const judgedAgain = new Map(again.judgements.map((j) => [j.pair.candidate, j]));
  const areExplained = suspects.every(({ pair }) => {
    const judgement = judgedAgain.get(pair.candidate);
    return (
      judgement?.introducedByOps !== undefined &&
      judgement.introducedByOps <= fromWire(judgement.gate.value)
    );
  });
  return areExplained ? again : compared;
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
  const { pairing, parameters } = await pairByValue(pairTensors(r, c, rules.pairs), {
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
    return { judgements, pairing, segments, parameters, ...(replay && { replay }) };
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
  const cuts = new Set(pairs.filter((pair) => pair.alignment).map((pair) => pair.candidate));
  return new Map(
    pairs.map((pair) => [pair.candidate, segmentOf(pair.candidate, cuts, graph)] as const),
  );
}

function isByName({ pairedBy }: TensorPair): boolean {
  return pairedBy === "name" || pairedBy === "normalisedName";
}
