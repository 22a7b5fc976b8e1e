import type { Gate, RowVerdict } from "../protocol/report.js";
import type { ExpectedDifference, Tolerance } from "../protocol/runFile.js";
import type { Alignment } from "./alignment.js";
import { compareTensors, type Comparison } from "./compare.js";
import { relL2, splitDifference } from "./difference.js";
import { axisRoles } from "./axisRoles.js";
import { floatFormats, isFloat } from "./dtypes.js";
import type { DType } from "../protocol/tensor.js";
import { dtypeTolerance, exactGate, noiseGate, userGate } from "./gates.js";
import { matchGlob } from "./names.js";
import type { Observation, TensorKey } from "./observation.js";
import type { TensorPair } from "./pairing.js";
import type { Segment } from "./segments.js";
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
  /** The same in float64; a tensor is absent where its segment has no float64 kernel. */
  readonly onReferenceDouble: ReadonlyMap<TensorKey, TensorValue>;
  /** The candidate's own run in float64. */
  readonly ownDouble: ReadonlyMap<TensorKey, TensorValue>;
}

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
  const dtypeDefault: Gate = {
    value: dtypeTolerance(r?.dtype ?? "float32", c?.dtype ?? "float32").rtol,
    from: "floor",
  };
  if (!r?.value || !c?.value || !pair.alignment) {
    const gate = dtypeDefault;
    const verdict: RowVerdict = pair.alignment ? "unknown" : expected ? "expected" : "origin";
    return {
      pair,
      segment,
      stage,
      verdict,
      gate,
      accumulatedGate: gate,
      total: Infinity,
      ...(expected && { expected }),
    };
  }
  const alignment = pair.alignment;
  const onReference = replay?.onReference.get(pair.candidate);
  const repaired = replay?.onReferenceParameters.get(pair.candidate);
  const exact = !isFloat(r.dtype) || !isFloat(c.dtype);
  const noiseOf = (value: TensorValue | undefined, double: TensorValue | undefined) =>
    value && double ? relL2(double, value, onCandidate(alignment), { equalNan: true }) : undefined;
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
  const nonDeterminism = r.nonDeterminism ?? 0;
  const gateFor = (noise: number | undefined): Gate =>
    (tolerance &&
      userGate(tolerance, {
        count: alignment.count,
        norm: comparison.referenceNorm,
        nonDeterminism,
      })) ??
    (exact
      ? exactGate()
      : noise === undefined || !Number.isFinite(noise)
        ? dtypeDefault
        : noiseGate({ noise, nonDeterminism }));
  // Float64 leaves casts to narrower types out, so what they lose would pass for noise.
  const double = replay?.onReferenceDouble.get(pair.candidate);
  const isMeasured = double !== undefined && !hasStrayNarrowing(segment, candidate);
  const gate = gateFor(isMeasured ? noiseOf(repaired, double) : undefined);
  const ownGate = gateFor(noiseOf(c.value, replay?.ownDouble.get(pair.candidate)));
  const accumulatedGate = Number(ownGate.value) > Number(gate.value) ? ownGate : gate;

  const nan = { equalNan: tolerance?.equalNan ?? false };
  const split = onReference && splitDifference(r.value, onReference, c.value, alignment, nan);
  const total = split?.total ?? relL2(r.value, c.value, alignment, nan);
  const introducedByOps = repaired && relL2(r.value, repaired, alignment, nan);
  const worstInput = Math.max(0, ...segment.frontier.map((key) => earlier.get(key)?.total ?? 0));
  const verdict = rowVerdict({
    total,
    ...(split && { introduced: split.introduced, inherited: split.inherited }),
    gate: Number(gate.value),
    accumulatedGate: Number(accumulatedGate.value),
    worstInputError: worstInput,
    nanOrInfDisagree: comparison.findings.some((finding) => finding.severity === "error"),
    paddingOnly: comparison.padding?.verdict === "paddingOnly",
    expected: expected !== undefined,
    ...(tolerance && (tolerance.atol !== undefined || tolerance.rtol !== undefined)
      ? { withinUserTolerance: comparison.allclose }
      : {}),
  });
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
    ...(expected && { expected }),
  };
}

/**
 * True when the segment goes through a narrower float type than its result has, in an implementation whose parameters
 * are not that narrow themselves: rounding that the implementation as a whole does not ask for.
 */
function hasStrayNarrowing({ ops, output }: Segment, candidate: Observation): boolean {
  const width = (dtype: DType | undefined): number =>
    dtype !== undefined && isFloat(dtype) ? floatFormats[dtype].mantissaBits : Infinity;
  const own = Math.min(
    width(candidate.tensors.get(output)?.dtype),
    ...candidate.parameters.map((parameter) => width(parameter.value.dtype)),
  );
  return ops.some((op) => op.outputs.some((key) => width(candidate.tensors.get(key)?.dtype) < own));
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
