import type { TensorKey } from "../core/observation.js";
import type { TensorValue } from "../core/tensorValue.js";
import { RunnerFailure } from "../runner/executor.js";

export type Values = ReadonlyMap<TensorKey, TensorValue>;

/**
 * A candidate whose ops can be evaluated again on other values, whatever executes them: a model in ONNX Runtime, the ops
 * of a torch trace in the user's own torch.
 */
export interface Program {
  /**
   * Evaluates what `outputs` need. An output that cannot be evaluated is left out.
   * @throws RunnerFailure when the executor refuses, dies or does not answer; the signal's reason when cancelled.
   */
  evaluate(request: Evaluation, signal: AbortSignal): Promise<Values>;
  /** The ops between tensors as an ONNX model; absent where it is no model that is run. */
  extract?(inputs: readonly TensorKey[], output: TensorKey): Uint8Array;
  /** Whether what `double` gives for the outputs of these ops was computed in float64 throughout. */
  isDouble(tensor: TensorKey): boolean;
}

export interface Evaluation {
  readonly outputs: readonly TensorKey[];
  /** What reads one of these tensors gets the given value, while the tensor itself is computed as before. */
  readonly replaced?: Values;
  /** What reads one of these tensors gets the computed value plus the given one. */
  readonly corrected?: Values;
  /** Values for parameters instead of the candidate's own. */
  readonly parameters?: Values;
  /**
   * For a hypothesis that is tested by a gate: what only makes replaced tensors need not run. Replaced tensors may lie
   * otherwise in memory than computed ones, which rounds sums differently.
   */
  readonly isTrial?: boolean;
  /** Single operands: other readers of the tensors that they are keep reading these. */
  readonly operands?: readonly OperandValue[];
  /** All floats in float64, casts to narrower ones left out. */
  readonly double?: boolean;
}

/** Another value for one operand of one op. */
export interface OperandValue {
  /** An output of the op. */
  readonly reader: TensorKey;
  /** Counts the op's inputs from 0, absent ones left out. */
  readonly position: number;
  readonly value: TensorValue;
}

/**
 * Evaluates with values that may not fit: an index beyond its table, or what is left of a shape when one of two faults is
 * repaired. Nothing comes out of that.
 * @throws as `evaluate` when the executor dies or does not answer.
 */
export async function evaluateIfPossible(
  program: Program,
  request: Evaluation,
  signal: AbortSignal,
): Promise<Values> {
  try {
    return await program.evaluate(request, signal);
  } catch (error) {
    if (error instanceof RunnerFailure && refusals.has(error.code)) return new Map();
    throw error;
  }
}

/** Evaluates a hypothesis. */
export function evaluateTrial(
  program: Program,
  request: Omit<Evaluation, "isTrial">,
  signal: AbortSignal,
): Promise<Values> {
  return evaluateIfPossible(program, { ...request, isTrial: true }, signal);
}

const refusals: ReadonlySet<RunnerFailure["code"]> = new Set(["model-refused", "bad-feeds"]);
