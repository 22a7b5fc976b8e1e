import type { RowVerdict, Verdict } from "../protocol/report.js";

export interface RowEvidence {
  /** relL2 of f_c(x_c) against f_r(x_r); NaN when it is not defined, undefined when the row is not paired. */
  readonly total?: number | undefined;
  /** relL2 of f_c(x_r) against f_r(x_r); undefined when the op cannot be replayed. */
  readonly introduced?: number | undefined;
  /** ‖f_c(x_c) − f_c(x_r)‖₂ / ‖f_r(x_r)‖₂. */
  readonly inherited?: number | undefined;
  /** For `introduced`: honest rounding of this op alone. */
  readonly gate: number;
  /** For `total`: honest rounding from the inputs to here. Default: `gate`. */
  readonly accumulatedGate?: number | undefined;
  /** Largest `total` among the tensors that flow in. Default: 0. */
  readonly worstInputError?: number | undefined;
  /** NaN, ±Inf or masked fills disagree: no gate admits that. */
  readonly nanOrInfDisagree?: boolean | undefined;
  /** The padded elements differ from the pad value. */
  readonly paddingOnly?: boolean | undefined;
  /** The run file declares this difference. */
  readonly expected?: boolean | undefined;
  /** The user's rtol and atol, element by element; they decide instead of the gates. */
  readonly withinUserTolerance?: boolean | undefined;
}

/** An error that grows by more than this in one op is amplified there. */
export const amplificationLimit = 10;

/** The verdict on one row (numerics: who is to blame). A number that is not defined is over every gate. */
export function rowVerdict(evidence: RowEvidence): RowVerdict {
  const { total, introduced, inherited, gate, withinUserTolerance } = evidence;
  const declared = evidence.expected ?? false;
  if (total === undefined) return declared ? "expected" : "unknown";
  const totalGate = Math.max(gate, evidence.accumulatedGate ?? gate);
  const special = evidence.nanOrInfDisagree ?? false;
  const totalOver = special || !(withinUserTolerance ?? total <= totalGate);
  const introducedOver =
    introduced !== undefined && !(introduced <= gate) && withinUserTolerance !== true;
  if (declared && (totalOver || introducedOver)) return "expected";
  if (introducedOver) return "origin";

  const inputError = evidence.worstInputError ?? 0;
  // Inputs that differ by rounding alone have no error that could be masked.
  if (!special && inputError > totalGate && total < inputError / 10) return "masking";
  if (!totalOver) return evidence.paddingOnly ? "paddingOnly" : "match";
  if (introduced === undefined) return "unknown";
  const amplified = inputError > 0 && (inherited ?? total) > amplificationLimit * inputError;
  return amplified ? "amplifier" : "carrier";
}

export interface PairEvidence {
  readonly origins: number;
  /** An output differs, by its gate, its shape or its NaNs, and no declared difference explains it. */
  readonly outputOverGate: boolean;
  /** Every output of the candidate was compared. */
  readonly outputsCompared: boolean;
  /** A difference that no origin and no declaration explains. */
  readonly unexplained: boolean;
  /** Share of the candidate's float ops that were compared, 0 … 1. */
  readonly coverage: number;
  readonly coverageThreshold: number;
  /** Everything that was compared was empty. */
  readonly onlyVacuous: boolean;
  /** A difference in padding only, in dtype, or in the precision of the whole implementation. */
  readonly warnings: boolean;
}

/** FAIL > UNKNOWN > WARN > PASS. A declared difference alone is a PASS; it is listed. */
export function pairVerdict(evidence: PairEvidence): Verdict {
  if (evidence.origins > 0 || evidence.outputOverGate) return "fail";
  const covered = evidence.coverage >= evidence.coverageThreshold;
  if (!covered || !evidence.outputsCompared || evidence.unexplained || evidence.onlyVacuous) {
    return "unknown";
  }
  return evidence.warnings ? "warn" : "pass";
}

/** The worst of several; a run without any verdict compared nothing. */
export function worstVerdict(verdicts: readonly Verdict[]): Verdict {
  return order.find((verdict) => verdicts.includes(verdict)) ?? "unknown";
}

const order: readonly Verdict[] = ["fail", "unknown", "warn", "pass"];
