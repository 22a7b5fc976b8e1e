import type { Gate, RowVerdict } from "../protocol/report.js";
import type { ExpectedDifference, Tolerance } from "../protocol/runFile.js";
import type { Alignment } from "./alignment.js";
import { compareTensors, type Comparison } from "./compare.js";
import { convertWithinRange } from "./conversions.js";
import { relL2, splitDifference } from "./difference.js";
import { axisRoles } from "./axisRoles.js";
import { isFloat, mantissaBits } from "./dtypes.js";
import type { DType } from "../protocol/tensor.js";
import { dtypeTolerance, exactGate, floorGate, noiseGate, userGate } from "./gates.js";
import { align } from "./layouts.js";
import { matchGlob } from "./names.js";
import type { Observation, ObservedTensor, TensorKey } from "./observation.js";
import type { TensorPair } from "./pairing.js";
import { implementationPrecision, type Segment } from "./segments.js";
import type { TensorValue } from "./tensorValue.js";
import { paddingRegion } from "./padding.js";
import { rowVerdict } from "./verdicts.js";
import { fromWire } from "../protocol/wire.js";

/** What the executor found out about the candidate, beyond its own run. */
export interface Replay {
  /** Each paired tensor, computed by the candidate's ops and parameters from the reference's values: f_c(x_r). */
  readonly onReference: ReadonlyMap<TensorKey, TensorValue>;
  /** The same with every parameter that differs replaced by the reference's. */
  readonly onReferenceParameters: ReadonlyMap<TensorKey, TensorValue>;
  /** Pairs so near to the reference that no measured noise could change their gate: it is the floor. */
  readonly isNear: ReadonlySet<TensorKey>;
  /** The same in float64; a tensor is absent where its segment has no float64 kernel, or where it is near. */
  readonly onReferenceDouble: ReadonlyMap<TensorKey, TensorValue>;
  /** The candidate's own run in float64. */
  readonly ownDouble: ReadonlyMap<TensorKey, TensorValue>;
  /** By output, then by parameter: relL2 of leaving this one differing parameter of the segment unrepaired. */
  readonly parameterEffects: ReadonlyMap<TensorKey, ReadonlyMap<TensorKey, number>>;
}

/** Noise of the candidate over this many times the reference's own error is the candidate's, not the operation's. */
const honestNoiseRatio = 10;

/** One pair, judged by the introduced/inherited split. */
export interface Judgement {
  readonly pair: TensorPair;
  readonly segment: Segment;
  readonly stage: string;
  readonly verdict: RowVerdict;
  readonly comparison?: Comparison;
  readonly gate: Gate;
  readonly accumulatedGate: Gate;
  readonly total: number;
  /** Undefined where the candidate cannot be replayed. */
  readonly introduced?: number;
  readonly inherited?: number;
  readonly amplification?: number;
  /** Introduced after the segment's differing parameters were replaced by the reference's. */
  readonly introducedByOps?: number;
  /** `total` is over what is allowed here: the user's tolerance, or else the accumulated gate. */
  readonly isOver: boolean;
  readonly parameterEffects?: ReadonlyMap<TensorKey, number>;
  readonly tolerance?: Tolerance;
  readonly expected?: ExpectedDifference;
}

export interface JudgeOptions {
  readonly reference: Observation;
  readonly candidate: Observation;
  readonly segments: ReadonlyMap<TensorKey, Segment>;
  readonly stageOf: (pair: TensorPair) => string;
  /** Absent when nothing can execute the candidate's ops: a recorded trace. */
  readonly replay?: Replay;
  readonly tolerances: Readonly<Record<string, Tolerance>>;
  readonly expected: readonly ExpectedDifference[];
}

/** Judges every pair in the candidate's execution order (numerics: total = introduced + inherited, elementwise). */
export function judgePairs(pairs: readonly TensorPair[], options: JudgeOptions): Judgement[] {
  const judged = new Map<TensorKey, Judgement>();
  for (const pair of pairs) judged.set(pair.candidate, judgePair(pair, judged, options));
  return [...judged.values()];
}

function judgePair(
  pair: TensorPair,
  earlier: ReadonlyMap<TensorKey, Judgement>,
  options: JudgeOptions,
): Judgement {
  const { reference, candidate, replay } = options;
  const segment = options.segments.get(pair.candidate) as Segment;
  const stage = options.stageOf(pair);
  const r = reference.tensors.get(pair.reference);
  const c = candidate.tensors.get(pair.candidate);
  const names = [stage, ...(r?.names ?? []), ...(c?.names ?? [])];
  const expected = options.expected.find((e) => names.some((name) => matchGlob(e.rows, name)));
  const tolerance = lastMatch(options.tolerances, names);
  const nonDeterminism = r?.nonDeterminism ?? 0;
  const dtypeRtol = dtypeTolerance(r?.dtype ?? "float32", c?.dtype ?? "float32").rtol;
  const dtypeDefault: Gate = {
    value: Math.max(dtypeRtol, nonDeterminism),
    from: nonDeterminism > dtypeRtol ? "noise" : "floor",
  };
  if (!r?.value || !c?.value || !pair.alignment) {
    const gate = dtypeDefault;
    const made = replay?.onReferenceParameters.get(pair.candidate);
    const verdict: RowVerdict =
      pair.alignment || !r || !c
        ? "unknown"
        : expected
          ? "expected"
          : isRightInPlace(pair, r, made, gate)
            ? "carrier"
            : "origin";
    return {
      pair,
      segment,
      stage,
      verdict,
      gate,
      accumulatedGate: gate,
      total: Infinity,
      isOver: verdict !== "unknown",
      ...(expected && { expected }),
    };
  }
  const alignment = pair.alignment;
  const onReference = replay?.onReference.get(pair.candidate);
  const repaired = replay?.onReferenceParameters.get(pair.candidate);
  const exact = !isFloat(r.dtype) || !isFloat(c.dtype);
  const narrow = narrowestAround(segment, candidate, r.dtype);
  const value = r.value;
  const roundingTo = (dtype: DType | undefined): number => {
    if (dtype === undefined) return 0;
    const rounded = convertWithinRange(value, dtype);
    const difference = relL2(value, rounded, onReferenceSide(alignment), anyNan);
    return Number.isFinite(difference) ? difference : 0;
  };
  const rounding = roundingTo(narrow);
  const admitted = dtypeTolerance(r.dtype, narrow ?? implementationPrecision(candidate)).rtol;
  // Noise of the candidate that the reference does not have is a loss of precision, and a gate must not admit it.
  const noiseOf = (
    value: TensorValue | undefined,
    double: TensorValue | undefined,
    roundedBefore: number,
  ) => {
    if (!value || !double || !r.value) return undefined;
    const own = relL2(double, value, onCandidate(alignment), anyNan);
    const referenceError = relL2(r.value, double, alignment, anyNan);
    const honest = Number.isFinite(referenceError)
      ? Math.min(own, Math.max(honestNoiseRatio * referenceError, admitted))
      : own;
    return honest + roundedBefore;
  };
  // A pad value that is not a number says that anything may stand in the padding.
  const padValue = r.layout.kind === "padded" ? fromWire(r.layout.pad) : NaN;
  const pad = Number.isNaN(padValue) ? undefined : padValue;
  const comparison = compareTensors(r.value, c.value, {
    alignment,
    ...(tolerance?.rtol !== undefined && { rtol: tolerance.rtol }),
    ...(tolerance?.atol !== undefined && { atol: tolerance.atol }),
    ...(tolerance?.equalNan !== undefined && { equalNan: tolerance.equalNan }),
    referenceLayout: r.layout,
    referenceAxes: axisRoles(r.layout, r.shape.length),
    ...(pad !== undefined && { padding: paddingRegion(alignment, c.shape, pad) }),
  });
  // What the reference rounds and a wider candidate does not is nobody's fault, and is not measured on the candidate.
  const isWider = mantissaBits(c.dtype) > mantissaBits(r.dtype);
  const gateFor = (noise: number | undefined): Gate =>
    (tolerance &&
      userGate(tolerance, {
        count: alignment.count,
        norm: comparison.referenceNorm,
        nonDeterminism,
      })) ??
    (exact
      ? exactGate()
      : isWider
        ? dtypeDefault
        : noise !== undefined && Number.isFinite(noise)
          ? noiseGate({ noise, nonDeterminism })
          : replay?.isNear.has(pair.candidate) === true
            ? floorGate(nonDeterminism)
            : dtypeDefault);
  // Float64 leaves casts to narrower types out, so what they lose would pass for noise.
  const double = replay?.onReferenceDouble.get(pair.candidate);
  const isMeasured = double !== undefined && !hasStrayNarrowing(segment, candidate);
  const measured = gateFor(isMeasured ? noiseOf(repaired, double, rounding) : undefined);
  // The steps of a fused op are written out exactly; what it makes of them has the rounding of all its steps.
  const readsSteps =
    r.description === undefined &&
    segment.frontier.some((key) => {
      const before = earlier.get(key)?.pair.reference ?? "";
      return reference.tensors.get(before)?.description !== undefined;
    });
  const isTooNarrow = readsSteps && !exact && measured.from !== "user";
  const gate =
    isTooNarrow && Number(measured.value) < Number(dtypeDefault.value) ? dtypeDefault : measured;
  // Where the candidate computes in a narrower type as a whole, what it computes in a wider one was rounded before.
  const ownPrecision = implementationPrecision(candidate);
  const isNarrower = mantissaBits(ownPrecision) < mantissaBits(r.dtype);
  const before = isNarrower ? Math.max(rounding, roundingTo(ownPrecision)) : rounding;
  const ownGate = gateFor(noiseOf(c.value, replay?.ownDouble.get(pair.candidate), before));
  const accumulatedGate = Number(ownGate.value) > Number(gate.value) ? ownGate : gate;

  const nan = { equalNan: tolerance?.equalNan ?? false };
  const split = onReference && splitDifference(r.value, onReference, c.value, alignment, nan);
  const total = split?.total ?? relL2(r.value, c.value, alignment, nan);
  const introducedByOps =
    repaired === onReference
      ? split?.introduced
      : repaired && relL2(r.value, repaired, alignment, nan);
  const worstInput = Math.max(0, ...segment.frontier.map((key) => earlier.get(key)?.total ?? 0));
  const isElementwise = tolerance?.atol !== undefined || tolerance?.rtol !== undefined;
  const special = comparison.findings.some((finding) => finding.severity === "error");
  const verdict = rowVerdict({
    total,
    ...(split && { introduced: split.introduced, inherited: split.inherited }),
    gate: Number(gate.value),
    accumulatedGate: Number(accumulatedGate.value),
    worstInputError: worstInput,
    nanOrInfDisagree: special,
    paddingOnly: comparison.padding?.verdict === "paddingOnly",
    expected: expected !== undefined,
    ...(isElementwise && { withinUserTolerance: comparison.allclose }),
  });
  const isWithin = isElementwise ? comparison.allclose : total <= Number(accumulatedGate.value);
  const parameterEffects = replay?.parameterEffects.get(pair.candidate);
  return {
    pair,
    segment,
    stage,
    verdict,
    comparison,
    gate,
    accumulatedGate,
    total,
    ...(split && { introduced: split.introduced, inherited: split.inherited }),
    ...(split && worstInput > 0 && { amplification: split.inherited / worstInput }),
    ...(introducedByOps !== undefined && { introducedByOps }),
    isOver: special || !isWithin,
    ...(parameterEffects && { parameterEffects }),
    ...(tolerance && { tolerance }),
    ...(expected && { expected }),
  };
}

/** Rounding that the implementation as a whole does not ask for: the segment makes a float narrower than its precision. */
function hasStrayNarrowing({ ops }: Segment, candidate: Observation): boolean {
  const own = mantissaBits(implementationPrecision(candidate));
  return ops.some((op) =>
    op.outputs.some((key) => mantissaBits(candidate.tensors.get(key)?.dtype) < own),
  );
}

/**
 * The narrowest float type at the ends of a segment, where it is narrower than the reference's: the reference's values
 * are rounded to it when they are put in place there.
 */
function narrowestAround(
  { output, frontier }: Segment,
  candidate: Observation,
  reference: DType,
): DType | undefined {
  return [output, ...frontier]
    .map((key) => candidate.tensors.get(key)?.dtype)
    .filter((dtype) => dtype !== undefined)
    .filter((dtype) => mantissaBits(dtype) < mantissaBits(reference) && isFloat(reference))
    .sort((a, b) => mantissaBits(a) - mantissaBits(b))[0];
}

const anyNan = { equalNan: true };

/** Whether the candidate's op makes the reference's tensor, shape and all, of the reference's values. */
function isRightInPlace(
  { fitsInPlace }: TensorPair,
  reference: ObservedTensor,
  made: TensorValue | undefined,
  gate: Gate,
): boolean {
  const aligned = fitsInPlace && made && align(reference, { shape: made.shape });
  return (
    aligned !== undefined &&
    aligned !== false &&
    aligned.ok &&
    reference.value !== undefined &&
    made !== undefined &&
    relL2(reference.value, made, aligned.alignment) <= fromWire(gate.value)
  );
}

function onReferenceSide(alignment: Alignment): Alignment {
  return {
    ...alignment,
    runs: alignment.runs.map((run) => ({ ...run, candidate: run.reference })),
  };
}

/** The same valid positions on both sides, for comparing two values of the candidate with one another. */
export function onCandidate(alignment: Alignment): Alignment {
  return {
    ...alignment,
    runs: alignment.runs.map((run) => ({
      reference: run.candidate,
      candidate: run.candidate,
      length: run.length,
    })),
  };
}

function lastMatch(
  tolerances: Readonly<Record<string, Tolerance>>,
  names: readonly string[],
): Tolerance | undefined {
  return Object.entries(tolerances)
    .filter(([glob]) => names.some((name) => matchGlob(glob, name)))
    .at(-1)?.[1];
}
