import { convertFloats, convertWithinRange } from "../core/conversions.js";
import { fromFloat64, isFloat, toFloat64 } from "../core/dtypes.js";
import type { Replay } from "../core/judge.js";
import { substitute } from "../core/layouts.js";
import type { Observation, ObservedOp, TensorKey } from "../core/observation.js";
import type { TensorPair } from "../core/pairing.js";
import type { ParameterFinding } from "../core/parameters.js";
import { inShapeOf, isSquareMatrix, squeezed, transposeMatrix } from "../core/parameterValues.js";
import { defaultGateFloor } from "../core/gates.js";
import { isFaulty } from "../core/origins.js";
import { effectsOfParameters } from "./parameterEffects.js";
import { relL2 } from "../core/difference.js";
import { segmentGraph, segmentOf, type Segment } from "../core/segments.js";
import { sameShape } from "../core/shapes.js";
import type { TensorValue } from "../core/tensorValue.js";
import { RunnerFailure } from "../runner/executor.js";
import { evaluateIfPossible, type OperandValue, type Program, type Values } from "./program.js";

/** A candidate, what it computed, and how to compute it again. */
export interface ReplayableCandidate {
  readonly program: Program;
  readonly observation: Observation;
}

/** A replay, and the values of the reference that repair the parameters which differ. */
export interface ReplayWithRepairs extends Replay {
  readonly repairs: ReadonlyMap<TensorKey, TensorValue>;
}

/**
 * Evaluates the candidate's ops on the reference's values, all segments at once: the graph is cut at every paired
 * tensor, whose readers get the reference's value while the tensor itself is still computed. Two runs in float32 and
 * two in float64 serve every pair, however many there are.
 */
export async function replayCandidate(
  candidate: ReplayableCandidate,
  reference: Observation,
  pairs: readonly TensorPair[],
  parameters: readonly ParameterFinding[],
  segments: ReadonlyMap<TensorKey, Segment>,
  signal: AbortSignal,
): Promise<ReplayWithRepairs> {
  const outputs = pairs.map((pair) => pair.candidate);
  const graph = segmentGraph(candidate.observation);
  const { program } = candidate;
  const replaced = substitutionsFor(pairs, reference, candidate.observation);
  const evaluate = (parameters: Values) =>
    program.evaluate({ outputs, replaced, parameters }, signal);

  const observed = new Map(
    outputs.flatMap((key) => {
      const value = candidate.observation.tensors.get(key)?.value;
      return value ? [[key, value] as const] : [];
    }),
  );
  const onReference = await evaluate(new Map());
  const faulty = parameters.filter(isFaulty);
  let repairs: Values = new Map();
  let onReferenceParameters: Values = onReference;
  if (faulty.length > 0) {
    repairs = fittedParameters(faulty, () => false);
    onReferenceParameters = await evaluate(repairs);
  }
  const square = faulty.filter((f) => isSquareMatrix(f.candidate.value));
  if (square.length > 0) {
    // A square matrix fits both ways: the way in which its reader comes closer to the reference is the right one.
    const direct = onReferenceParameters;
    const turned = await evaluate(fittedParameters(faulty, () => true));
    const isTurned = (finding: ParameterFinding): boolean =>
      pairs.some(
        (pair) =>
          segments.get(pair.candidate)?.parameters.includes(finding.candidate.tensor) === true &&
          differenceAt(pair, reference, turned) < differenceAt(pair, reference, direct),
      );
    if (square.some(isTurned)) {
      repairs = fittedParameters(faulty, isTurned);
      onReferenceParameters = square.every(isTurned) ? turned : await evaluate(repairs);
    }
  }

  const bytes = [...observed.values()].reduce((sum, value) => sum + value.bytes.length, 0);
  const isNear = new Set(
    (bytes > measuredBytes ? pairs : [])
      .filter((pair) => !pair.isOutput)
      .filter((pair) =>
        [...new Set([observed, onReference, onReferenceParameters])].every(
          (values) => differenceAt(pair, reference, values) <= defaultGateFloor,
        ),
      )
      .map((pair) => pair.candidate),
  );
  const far = outputs.filter((output) => !isNear.has(output));
  const frontier = new Set(far.flatMap((output) => segments.get(output)?.frontier ?? []));
  const replacedBefore = new Map([...replaced].filter(([tensor]) => frontier.has(tensor)));
  return {
    onReference,
    onReferenceParameters,
    repairs,
    isNear,
    parameterEffects: await effectsOfParameters(
      pairs,
      segments,
      repairs,
      onReferenceParameters,
      (kept) => (kept.size === 0 ? Promise.resolve(onReference) : evaluate(kept)),
    ),
    onReferenceDouble: measured(
      await inDouble(() =>
        program.evaluate(
          { outputs: far, replaced: replacedBefore, parameters: repairs, double: true },
          signal,
        ),
      ),
      (output) => segments.get(output)?.ops ?? [],
    ),
    ownDouble: measured(
      await inDouble(() => program.evaluate({ outputs: far, double: true }, signal)),
      (output) => segmentOf(output, new Set(), graph).ops,
    ),
  };

  /** Ops without a float64 kernel run in float32 even then: what they round stays unmeasured. */
  function measured(
    values: Values,
    opsBehind: (output: TensorKey) => readonly ObservedOp[],
  ): Values {
    return new Map(
      [...values].filter(([output]) =>
        opsBehind(output).every((op) => op.outputs.every((key) => program.isDouble(key))),
      ),
    );
  }
}

/** In larger models, noise is measured only where it could change a gate: float64 doubles what has to be moved about. */
const measuredBytes = 64 * 2 ** 20;

/** Tensors of the candidate when only the given pairs, parameters and operands are replaced by the reference's values. */
export async function runReplaced(
  { program, observation }: ReplayableCandidate,
  reference: Observation,
  pairs: readonly TensorPair[],
  parameters: Values,
  outputs: readonly TensorKey[],
  signal: AbortSignal,
  operands: readonly OperandValue[] = [],
): Promise<Values> {
  const replaced = substitutionsFor(pairs, reference, observation);
  return evaluateIfPossible(program, { outputs, replaced, parameters, operands }, signal);
}

/**
 * As `runReplaced`, but what each pair introduces is taken away instead: its tensor is corrected by r − f_c(x_r). With
 * right inputs it becomes r, while an error that comes in with the inputs still passes. A tensor replaced by r hides every
 * fault before it, so that leaving such a fault out would not show.
 */
export async function runCorrected(
  { program, observation }: ReplayableCandidate,
  reference: Observation,
  pairs: readonly TensorPair[],
  replay: Pick<Replay, "onReferenceParameters">,
  parameters: Values,
  outputs: readonly TensorKey[],
  signal: AbortSignal,
): Promise<Values> {
  const corrected = new Map<TensorKey, TensorValue>();
  const replaced = new Map<TensorKey, TensorValue>();
  for (const [tensor, value] of substitutionsFor(pairs, reference, observation)) {
    const onReference = replay.onReferenceParameters.get(tensor);
    const correction = onReference && difference(value, onReference);
    if (correction) corrected.set(tensor, correction);
    else replaced.set(tensor, value);
  }
  return evaluateIfPossible(program, { outputs, replaced, corrected, parameters }, signal);
}

/** a − b of two float tensors of one type; undefined for other types and where it is not finite. */
function difference(a: TensorValue, b: TensorValue): TensorValue | undefined {
  if (!isFloat(a.dtype) || a.dtype !== b.dtype || !sameShape(a.shape, b.shape)) return undefined;
  const minuend = toFloat64(a);
  const subtrahend = toFloat64(b);
  const values = minuend.map((x, i) => x - (subtrahend[i] as number));
  if (!values.every(Number.isFinite)) return undefined;
  return { dtype: a.dtype, shape: a.shape, bytes: fromFloat64(values, a.dtype) };
}

/** What replaces the candidate's tensors: the reference's values in the candidate's layout and type. */
function substitutionsFor(
  pairs: readonly TensorPair[],
  reference: Observation,
  candidate: Observation,
): Map<TensorKey, TensorValue> {
  const substitutions = new Map<TensorKey, TensorValue>();
  for (const pair of pairs) {
    const value = substitutionFor(pair, reference, candidate);
    if (value) substitutions.set(pair.candidate, value);
  }
  return substitutions;
}

/** What replaces the candidate's tensor of a pair; undefined where one of the two was not observed or does not fit. */
export function substitutionFor(
  pair: Pick<TensorPair, "reference" | "candidate" | "alignment" | "fitsInPlace">,
  reference: Observation,
  candidate: Observation,
): TensorValue | undefined {
  const r = reference.tensors.get(pair.reference);
  const c = candidate.tensors.get(pair.candidate);
  if (!r?.value || !c?.value) return undefined;
  if (!pair.alignment) {
    return pair.fitsInPlace && isFloat(r.dtype) === isFloat(c.dtype)
      ? convertWithinRange(r.value, c.dtype)
      : undefined;
  }
  // The padded columns of an attention matrix's valid rows multiply live values: the whole matrix is put in place.
  const isAttentionMatrix = r.layout.kind === "padded" && r.layout.axes.length > 1;
  return isAttentionMatrix && sameShape(r.shape, c.shape)
    ? convertWithinRange(r.value, c.dtype)
    : substitute(r.value, c.value, pair.alignment);
}

/** The reference's values in the shape and type of the candidate's parameter; `turned` prefers the transpose. */
function fitted(finding: ParameterFinding, turned: boolean): TensorValue | undefined {
  const reference = finding.reference?.value;
  if (!reference) return undefined;
  const wanted = finding.candidate.value;
  const flat = squeezed(reference);
  const transposed = flat.shape.length === 2 ? transposeMatrix(flat) : undefined;
  const order = turned ? [transposed, reference] : [reference, transposed];
  const [value] = order.flatMap((v) => (v && inShapeOf(v, wanted.shape)) ?? []);
  return value && convertFloats(value, wanted.dtype);
}

/** The reference's values for the parameters that differ; `isTurned` says which of them are transposed. */
export function fittedParameters(
  findings: readonly ParameterFinding[],
  isTurned: (finding: ParameterFinding) => boolean,
): Values {
  const values = new Map<TensorKey, TensorValue>();
  for (const finding of findings) {
    const value = fitted(finding, isTurned(finding));
    if (value) values.set(finding.candidate.tensor, value);
  }
  return values;
}

function differenceAt(pair: TensorPair, reference: Observation, values: Values): number {
  const r = reference.tensors.get(pair.reference)?.value;
  const c = values.get(pair.candidate);
  return r && c && pair.alignment ? relL2(r, c, pair.alignment) : Infinity;
}

/** A kernel that does not exist in float64 leaves the noise unmeasured; the gate then falls back to the type's own. */
async function inDouble(run: () => Promise<Values>): Promise<Values> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof RunnerFailure && error.code !== "runner-crashed") return new Map();
    throw error;
  }
}
