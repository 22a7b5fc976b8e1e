import type { Gate } from "../protocol/report.js";
import type { Tolerance } from "../protocol/runFile.js";
import type { DType } from "../protocol/tensor.js";
import { fromWire, toWire } from "../protocol/wire.js";
import { isFloat, type FloatDType } from "./dtypes.js";

export interface ElementTolerance {
  readonly rtol: number;
  readonly atol: number;
}

/** What torch.testing.assert_close allows for one op; integers and booleans are exact. */
export const dtypeTolerances: Readonly<Record<FloatDType, ElementTolerance>> = {
  float64: { rtol: 1e-7, atol: 1e-7 },
  float32: { rtol: 1.3e-6, atol: 1e-5 },
  float16: { rtol: 1e-3, atol: 1e-5 },
  bfloat16: { rtol: 1.6e-2, atol: 1e-5 },
};

/** For two types the larger of their tolerances, as torch.testing has it. */
export function dtypeTolerance(reference: DType, candidate: DType = reference): ElementTolerance {
  const all = [reference, candidate].filter(isFloat).map((dtype) => dtypeTolerances[dtype]);
  return {
    rtol: Math.max(0, ...all.map((tolerance) => tolerance.rtol)),
    atol: Math.max(0, ...all.map((tolerance) => tolerance.atol)),
  };
}

export const defaultNoiseFactor = 4;
export const defaultGateFloor = 1e-7;

/**
 * Gate for relL2 from what honest rounding can do: max(floor, k·noise), and never tighter than the difference between two
 * runs of the reference. `noise` that could not be measured (NaN) leaves the floor.
 */
export function noiseGate(options: {
  readonly noise: number;
  readonly nonDeterminism?: number | undefined;
  readonly floor?: number | undefined;
  readonly k?: number | undefined;
}): Gate {
  const { noise, nonDeterminism = 0, floor = defaultGateFloor, k = defaultNoiseFactor } = options;
  const measured = Math.max(Number.isNaN(noise) ? 0 : k * noise, nonDeterminism);
  return {
    value: toWire(Math.max(floor, measured)),
    from: measured > floor ? "noise" : "floor",
    noise: toWire(noise),
  };
}

/** The gate where noise need not be measured, because what was found lies under the floor already. */
export function floorGate(nonDeterminism: number): Gate {
  return {
    value: toWire(Math.max(defaultGateFloor, nonDeterminism)),
    from: nonDeterminism > defaultGateFloor ? "noise" : "floor",
  };
}

/** Integers and booleans have no rounding: only 0 is a match. */
export function exactGate(): Gate {
  return { value: 0, from: "floor" };
}

/** relL2 gate of a type for tensors whose noise floor could not be measured; 0 for integers and booleans. */
export function dtypeGate(dtype: DType): Gate {
  return { value: dtypeTolerance(dtype).rtol, from: "floor" };
}

/**
 * The user's own gate for relL2, never tighter than the reference's own non-determinism. rtol and atol admit a relL2 of at
 * most rtol + atol·√n/‖r‖, which is the gate where the user gave no relL2; atol needs the reference's `norm` for that.
 * Undefined when the tolerance sets no gate for relL2. The element-wise check of rtol and atol is `Comparison.allclose`.
 */
export function userGate(
  tolerance: Tolerance | undefined,
  reference: {
    readonly count?: number | undefined;
    /** ‖r‖₂ over the valid elements. */
    readonly norm?: number | undefined;
    readonly nonDeterminism?: number | undefined;
  } = {},
): Gate | undefined {
  const { relL2, rtol, atol } = tolerance ?? {};
  const { count, norm, nonDeterminism = 0 } = reference;
  const admitted =
    relL2 ??
    (rtol === undefined && atol === undefined
      ? undefined
      : (rtol ?? 0) + spread(atol, count, norm));
  if (admitted === undefined || Number.isNaN(admitted)) return undefined;
  return { value: toWire(Math.max(admitted, nonDeterminism)), from: "user" };
}

/** atol·√n/‖r‖; NaN when it is not known. */
function spread(
  atol: number | undefined,
  count: number | undefined,
  norm: number | undefined,
): number {
  if (atol === undefined || atol === 0) return 0;
  return count === undefined || norm === undefined ? NaN : (atol * Math.sqrt(count)) / norm;
}

/** True when a number is over its gate. NaN, a difference that is not defined, is over every gate. */
export function isOver(value: number, gate: Gate): boolean {
  return !(value <= fromWire(gate.value));
}
