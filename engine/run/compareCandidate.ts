import { compareTensors } from "../core/compare.js";
import { relL2 } from "../core/difference.js";
import { isFloat } from "../core/dtypes.js";
import { judgePairs, type Judgement } from "../core/judge.js";
import { producers, type TensorKey } from "../core/observation.js";
import { findOrigins, type FoundOrigin } from "../core/origins.js";
import { pairTensors, type Pairing, type TensorPair } from "../core/pairing.js";
import {
  compareParameters,
  pairLeftoversByShape,
  type ParameterComparison,
} from "../core/parameters.js";
import { makeRows, rowId, stageOfTensor } from "../core/rows.js";
import {
  coverage,
  segmentGraph,
  segmentOf,
  type Coverage,
  type Segment,
} from "../core/segments.js";
import type { TensorValue } from "../core/tensorValue.js";
import { pairVerdict } from "../core/verdicts.js";
import type { Implementation, Pair, Problem, Repair } from "../protocol/report.js";
import type { ComparisonRules } from "../protocol/runFile.js";
import { fromWire } from "../protocol/wire.js";
import { comparedOutputs, type ComparedOutput } from "./finalOutputs.js";
import type { ObservedImplementation } from "./observe.js";
import { requireSameInputs } from "./sameInputs.js";
import { pairByValue } from "./pairByValue.js";
import { prove } from "./prove.js";
import { replayCandidate, runReplaced, type ReplayWithRepairs } from "./replay.js";
import { parameterProblems, reportParameters } from "./reportParameters.js";

export interface CompareOptions {
  readonly rules: ComparisonRules;
  readonly signal: AbortSignal;
  /** Whether both are known to have got the same inputs, under whatever names. */
  readonly inputsAreKnown?: boolean;
}

export interface ComparedCandidate {
  readonly pair: Pair;
  readonly parameters: Implementation["parameters"];
  readonly problems: readonly Problem[];
  readonly outputs: readonly ComparedOutput[];
}

/** Compares one candidate with the reference: parameters first, then every pair, origins, proof and coverage. */
export async function compareCandidate(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  { rules, signal, inputsAreKnown = false }: CompareOptions,
): Promise<ComparedCandidate> {
  if (!inputsAreKnown) requireSameInputs(reference, candidate);
  const r = reference.observation;
  const c = candidate.observation;
  const { parameters, compared } = await judgeWithLeftovers(
    reference,
    candidate,
    compareParameters(r.parameters, c.parameters, rules.parameterPairs),
    { rules, signal },
  );
  const { judgements, pairing, replay, segments } = compared;

  const findingOf = new Map(parameters.findings.map((f) => [f.candidate.tensor, f]));
  const found = findOrigins(judgements, {
    reference: r,
    candidate: c,
    parameters: findingOf,
    rowIdOf: (judgement) => rowId(judgement.pair.candidate),
    ...(replay && { onReference: replay.onReferenceParameters }),
  });
  const covered = coverage(c, new Set(pairing.pairs.map((pair) => pair.candidate)), [
    ...segments.values(),
  ]);
  const repair = await prove(reference, candidate, judgements, found, replay, signal);
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

interface Judged {
  readonly judgements: readonly Judgement[];
  readonly pairing: Pairing;
  readonly segments: ReadonlyMap<TensorKey, Segment>;
  readonly replay?: ReplayWithRepairs;
}

/**
 * Judges, and where a difference comes from ops that read a parameter without a counterpart, judges again with those
 * that are left over paired by shape. That holds if the reference's values in their place explain every such difference.
 */
async function judgeWithLeftovers(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  parameters: ParameterComparison,
  options: CompareOptions,
): Promise<{ parameters: ParameterComparison; compared: Judged }> {
  const compared = await judge(reference, candidate, parameters, options);
  const unpaired = new Set(
    parameters.findings.filter((f) => f.reference === undefined).map((f) => f.candidate.tensor),
  );
  const suspects = compared.judgements.filter(
    ({ verdict, segment }) =>
      verdict === "origin" && segment.parameters.some((parameter) => unpaired.has(parameter)),
  );
  if (suspects.length === 0) return { parameters, compared };
  const guessed = pairLeftoversByShape(parameters);
  const again = await judge(reference, candidate, guessed, options);
  const judgedAgain = new Map(again.judgements.map((j) => [j.pair.candidate, j]));
  const areExplained = suspects.every(({ pair }) => {
    const judgement = judgedAgain.get(pair.candidate);
    return (
      judgement?.introducedByOps !== undefined &&
      judgement.introducedByOps <= fromWire(judgement.gate.value)
    );
  });
  return areExplained ? { parameters: guessed, compared: again } : { parameters, compared };
}

async function judge(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  parameters: ParameterComparison,
  { rules, signal }: CompareOptions,
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
    return { judgements, pairing, segments, ...(replay && { replay }) };
  };

  const pairing = await pairByValue(pairTensors(r, c, rules.pairs), {
    reference: r,
    candidate: c,
    program,
    parameters: parameters.findings,
    signal,
  });
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

interface PairParts {
  readonly rules: ComparisonRules;
  readonly judgements: readonly Judgement[];
  readonly found: readonly FoundOrigin[];
  readonly covered: Coverage;
  readonly rows: Pair["rows"];
  readonly pairing: Pairing;
  readonly repair?: Repair;
}

function reportPair(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  { rules, judgements, found, covered, rows, pairing, repair }: PairParts,
): Pair {
  const threshold = rules.coverageThreshold ?? 0.9;
  const outputs = judgements.filter((judgement) => judgement.pair.isOutput);
  // A difference that is not defined is the worst.
  const size = ({ total }: Judgement): number => (Number.isNaN(total) ? Infinity : total);
  const worst = [...outputs].sort((a, b) => (size(a) < size(b) ? 1 : -1))[0];
  const expected = judgements.filter((judgement) => judgement.verdict === "expected");
  const outputOverGate = outputs.some((o) => o.isOver && o.verdict !== "expected");
  const wasCompared = ({ comparison, verdict }: Judgement): boolean =>
    comparison ? !comparison.vacuous : verdict !== "unknown";
  const explainedByExpected =
    found.length === 0 &&
    expected.length > 0 &&
    repair !== undefined &&
    repair.unexplained.length === 0;
  const verdict = pairVerdict({
    // An origin without a recorded line is one all the same.
    origins: judgements.filter((judgement) => judgement.verdict === "origin").length,
    outputOverGate: outputOverGate && !explainedByExpected,
    outputsCompared:
      outputs.some(wasCompared) &&
      outputs.every((o) => o.comparison !== undefined || wasCompared(o)) &&
      pairing.unpairedOutputs.length === 0 &&
      pairing.unpairedReferenceOutputs.length === 0,
    unexplained:
      found.length === 0 &&
      expected.length === 0 &&
      judgements.some((j) => j.verdict === "carrier" || j.verdict === "amplifier"),
    coverage: covered.total === 0 ? 0 : covered.covered / covered.total,
    coverageThreshold: threshold,
    onlyVacuous: judgements.every((j) => j.comparison?.vacuous ?? true),
    warnings: judgements.some(
      (j) =>
        (j.pair.isOutput && j.verdict === "paddingOnly") ||
        hasFloatTypeMismatch(j, reference, candidate),
    ),
  });
  const ownCheck = worst && rules.ownCheck && checkOwn(reference, candidate, worst, rules.ownCheck);
  return {
    reference: reference.id,
    candidate: candidate.id,
    verdict,
    coverage: {
      covered: covered.covered,
      total: covered.total,
      paired: covered.paired,
      threshold,
    },
    output: worst?.comparison?.metrics ?? {},
    noiseFloor: worst ? (worst.accumulatedGate.noise ?? worst.accumulatedGate.value) : 0,
    ...(worst && { outputGate: worst.accumulatedGate }),
    ...(ownCheck && { ownCheck }),
    ...(found[0] && { firstDivergence: found[0].origin.id }),
    origins: found.map(({ origin }) => origin),
    ...(repair && { repair }),
    rows,
    declared: (rules.expected ?? []).map((e) => ({
      pattern: e.rows,
      reason: e.reason,
      rows: expected.filter((j) => j.expected === e).map((j) => rowId(j.pair.candidate)),
    })),
  };
}

/** Integers of another width hold the same values exactly; a float of another type does not, which is worth a warning. */
function hasFloatTypeMismatch(
  { pair, comparison }: Judgement,
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
): boolean {
  const r = reference.observation.tensors.get(pair.reference)?.dtype ?? "float32";
  const c = candidate.observation.tensors.get(pair.candidate)?.dtype ?? "float32";
  return comparison !== undefined && r !== c && (isFloat(r) || isFloat(c));
}

function checkOwn(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  { pair }: Judgement,
  { atol, rtol = 0 }: NonNullable<ComparisonRules["ownCheck"]>,
): Pair["ownCheck"] {
  const r = reference.observation.tensors.get(pair.reference)?.value;
  const c = candidate.observation.tensors.get(pair.candidate)?.value;
  if (!r || !c || !pair.alignment) return undefined;
  const { metrics } = compareTensors(r, c, { alignment: pair.alignment, atol, rtol });
  const violations = metrics.violations ?? 0;
  return { atol, rtol, violations, passes: fromWire(violations) === 0 };
}

function declarationProblems(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
  parameters: ParameterComparison,
  pairing: Pairing,
): Problem[] {
  const unused = [
    ...pairing.unusedDeclarations.map((d) => ["pairs", d] as const),
    ...parameters.unusedDeclarations.map((d) => ["parameterPairs", d] as const),
  ];
  return [
    ...unused.map(([field, declaration]): Problem => ({
      severity: "warning",
      code: "declared-pair-unused",
      message: `${field}: "${declaration.reference}" with "${declaration.candidate}" pairs nothing in ${candidate.id}`,
      nextStep: "Check both patterns against the names in the layer diff.",
    })),
    ...pairing.unpairedOutputs.map((name): Problem => ({
      severity: "warning",
      code: "output-unpaired",
      message: `the output "${name}" of ${candidate.id} has no counterpart`,
      nextStep: 'Declare its counterpart in "pairs".',
    })),
    ...pairing.unpairedReferenceOutputs.map((name): Problem => ({
      severity: "warning",
      code: "output-missing",
      message: `the output "${name}" of ${reference.id} has no counterpart in ${candidate.id}`,
      nextStep: 'Declare its counterpart in "pairs", or let the candidate return it.',
    })),
  ];
}
