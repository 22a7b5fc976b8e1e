import { compareTensors } from "../core/compare.js";
import { isFloat } from "../core/dtypes.js";
import type { Judgement } from "../core/judge.js";
import type { FoundOrigin } from "../core/origins.js";
import type { Pairing } from "../core/pairing.js";
import type { ParameterComparison } from "../core/parameters.js";
import { rowId } from "../core/rows.js";
import type { Coverage } from "../core/segments.js";
import { pairVerdict } from "../core/verdicts.js";
import type { Pair, Problem, Repair } from "../protocol/report.js";
import type { ComparisonRules } from "../protocol/runFile.js";
import { fromWire } from "../protocol/wire.js";
import type { ObservedImplementation } from "./observe.js";

interface PairParts {
  readonly rules: ComparisonRules;
  readonly judgements: readonly Judgement[];
  readonly found: readonly FoundOrigin[];
  readonly covered: Coverage;
  readonly rows: Pair["rows"];
  readonly pairing: Pairing;
  readonly repair?: Repair;
}

/** The report of one candidate: its verdict, and what led to it. */
export function reportPair(
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

/** Declarations that pair nothing, and outputs without a counterpart. */
export function declarationProblems(
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
