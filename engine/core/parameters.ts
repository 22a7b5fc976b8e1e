import type { DeclaredParameterPair } from "../protocol/runFile.js";
import type { PairedBy } from "../protocol/report.js";
import { elementCount, fromFloat64, isFloat, toFloat64 } from "./dtypes.js";
import { fillGlob, matchGlob, normalisedName } from "./names.js";
import { sameShape } from "./shapes.js";
import type { ObservedParameter, TensorKey } from "./observation.js";
import type { TensorValue } from "./tensorValue.js";

/**
 * What became of one parameter of the candidate.
 * - `same`: equal to the reference's, element for element (after rounding to the candidate's type).
 * - `transposed`: equal to the reference's transpose. A square matrix stored transposed passes every shape check.
 * - `different`: paired, resembles the reference's, but the values differ.
 * - `notFromReference`: bears no resemblance to any parameter of the reference: it kept its own initialisation.
 */
export type ParameterStatus = "same" | "transposed" | "different" | "notFromReference";

export interface ParameterFinding {
  readonly candidate: ObservedParameter;
  readonly status: ParameterStatus;
  readonly reference?: ObservedParameter;
  readonly pairedBy?: PairedBy;
  /** ‖c − r‖₂ / ‖r‖₂ in the orientation that fits better; absent where it is undefined. */
  readonly relL2?: number;
}

export interface ParameterComparison {
  readonly findings: readonly ParameterFinding[];
  /** Parameters of the reference that no parameter of the candidate was paired with. */
  readonly missing: readonly ObservedParameter[];
  /** Declared pairs that matched nothing. */
  readonly unusedDeclarations: readonly DeclaredParameterPair[];
}

/** |cosine| under this says that two parameters have nothing to do with one another. */
const unrelatedCosine = 0.5;

/** Pairs parameters by declaration, name, normalised name, then shape and content (also transposed), and compares them. */
export function compareParameters(
  reference: readonly ObservedParameter[],
  candidate: readonly ObservedParameter[],
  declared: readonly DeclaredParameterPair[] = [],
): ParameterComparison {
  const open = new Set(reference);
  /** Those that hold several of the reference's, or a part of one. */
  const joined = new Set<ObservedParameter>();
  const paired = new Map<ObservedParameter, { with: ObservedParameter; by: PairedBy }>();
  const take = (c: ObservedParameter, r: ObservedParameter | undefined, by: PairedBy): void => {
    if (!r || !open.has(r) || paired.has(c)) return;
    open.delete(r);
    paired.set(c, { with: r, by });
  };

  const unusedDeclarations = declared.filter((declaration) => {
    const before = paired.size;
    for (const r of reference) {
      const captures = matchGlob(declaration.reference, r.name);
      const wanted = captures && fillGlob(declaration.candidate, captures);
      const c = wanted && candidate.find((parameter) => parameter.name === wanted);
      if (c) take(c, r, "declared");
    }
    return paired.size === before;
  });
  const byName = new Map(reference.map((r) => [r.name, r]));
  for (const c of candidate) take(c, byName.get(c.name), "name");
  const byNormalisedName = uniqueBy(reference, (r) => normalisedName(r.name));
  const ownNormalisedName = uniqueBy(candidate, (c) => normalisedName(c.name));
  for (const [name, c] of ownNormalisedName) take(c, byNormalisedName.get(name), "normalisedName");
  // A dictionary of weights puts its own name before the reference's: "weights.blocks.0.bias".
  for (const c of candidate) {
    const named = reference.filter((r) => c.name.endsWith(`.${r.name}`));
    const others = candidate.filter(
      (other) => named[0] && other.name.endsWith(`.${named[0].name}`),
    );
    if (named.length === 1 && others.length === 1) take(c, named[0], "normalisedName");
  }
  for (const c of candidate) {
    if (paired.has(c) || isConstant(c.value)) continue;
    const same = [...open].filter((r) => relation(r.value, c.value).status !== "other");
    if (same.length === 1) take(c, same[0], "content");
  }

  // What is all one value has no content to know it by; the only ones left of their shape and value are no difference.
  for (const c of candidate) {
    if (paired.has(c) || !isConstant(c.value)) continue;
    const isSame = ({ value }: ObservedParameter): boolean =>
      relation(value, c.value).status === "same";
    const same = [...open].filter(isSame);
    const own = candidate.filter((other) => !paired.has(other) && isSame(other));
    if (same.length === 1 && own.length === 1) take(c, same[0], "content");
  }
  for (const c of candidate) {
    if (paired.has(c)) continue;
    const parts = partsOf(c.value, [...open]);
    take(c, parts?.[0], "content");
    if (parts) for (const part of parts) open.delete(part);
    if (parts) joined.add(c);
  }
  for (const r of [...open]) {
    const parts = partsOf(
      r.value,
      candidate.filter((c) => !paired.has(c)),
    );
    if (!parts) continue;
    open.delete(r);
    for (const part of parts) {
      paired.set(part, { with: r, by: "content" });
      joined.add(part);
    }
  }

  const findings = candidate.map((c): ParameterFinding => {
    const pair = paired.get(c);
    if (!pair) return { candidate: c, status: "notFromReference" };
    return joined.has(c)
      ? { candidate: c, status: "same", reference: pair.with, pairedBy: pair.by, relL2: 0 }
      : findingOf(c, pair.with, pair.by);
  });
  return { findings, missing: [...open], unusedDeclarations };
}

/**
 * Parameters that, joined along one axis or stacked along a new one, are this one: queries, keys and values in one matrix,
 * the weights of all experts. As they are, or transposed.
 */
function partsOf(
  value: TensorValue,
  open: readonly ObservedParameter[],
): ObservedParameter[] | undefined {
  // Zeros are made of zeros.
  if (isConstant(value)) return undefined;
  const whole = squeezed(value);
  for (const axis of whole.shape.keys()) {
    const parts: ObservedParameter[] = [];
    let at = 0;
    while (at < (whole.shape[axis] as number)) {
      const part = open.find(
        (one) => !parts.includes(one) && fitsAt(squeezed(one.value), whole, axis, at) !== undefined,
      );
      if (!part) break;
      parts.push(part);
      at += fitsAt(squeezed(part.value), whole, axis, at) as number;
    }
    if (parts.length > 1 && at === whole.shape[axis]) return parts;
  }
  return undefined;
}

/** How far along the axis the part reaches, if the whole holds it there. */
function fitsAt(
  part: TensorValue,
  whole: TensorValue,
  axis: number,
  at: number,
): number | undefined {
  const forms = part.shape.length === 2 ? [part, transposeMatrix(part)] : [part];
  const stacked = forms.map((form) => ({ ...form, shape: form.shape.toSpliced(axis, 0, 1) }));
  for (const form of [...forms, ...stacked]) {
    const size = form.shape[axis] ?? 0;
    const fits =
      form.shape.length === whole.shape.length &&
      size > 0 &&
      size < (whole.shape[axis] as number) &&
      at + size <= (whole.shape[axis] as number) &&
      form.shape.every((n, i) => i === axis || n === whole.shape[i]);
    if (fits && relation(form, sliceOf(whole, axis, at, size)).status === "same") return size;
  }
  return undefined;
}

/** Without axes of size 1. */
function squeezed(value: TensorValue): TensorValue {
  return { ...value, shape: value.shape.filter((size) => size !== 1) };
}

/** In another shape, where the two differ in nothing but axes of size 1. */
export function inShapeOf(value: TensorValue, shape: readonly number[]): TensorValue | undefined {
  return sameShape(squeezed(value).shape, squeezed({ ...value, shape }).shape)
    ? { ...value, shape }
    : undefined;
}

function sliceOf(value: TensorValue, axis: number, at: number, size: number): TensorValue {
  const count = value.shape.reduce((product, n) => product * n, 1);
  const element = count === 0 ? 0 : value.bytes.length / count;
  const inner = value.shape.slice(axis + 1).reduce((product, n) => product * n, element);
  const outer = value.shape.slice(0, axis).reduce((product, n) => product * n, 1);
  const stride = (value.shape[axis] as number) * inner;
  const bytes = new Uint8Array(outer * size * inner);
  for (let i = 0; i < outer; i++) {
    const from = i * stride + at * inner;
    bytes.set(value.bytes.subarray(from, from + size * inner), i * size * inner);
  }
  return { dtype: value.dtype, shape: value.shape.map((n, i) => (i === axis ? size : n)), bytes };
}

/**
 * Pairs what is left over on both sides by shape, in order: a parameter that never came from the reference has neither its
 * name nor its values. This is a guess, and for the caller to test: a weight that was folded with another is no fault.
 */
export function pairLeftoversByShape(comparison: ParameterComparison): ParameterComparison {
  const open = [...comparison.missing];
  const shapeOf = ({ value }: ObservedParameter): string => [...value.shape].sort().join();
  const left = comparison.findings.filter(({ reference }) => reference === undefined);
  const countOf = (shape: string, list: readonly ObservedParameter[]): number =>
    list.filter((parameter) => shapeOf(parameter) === shape).length;
  const own = left.map(({ candidate }) => candidate);
  const findings = comparison.findings.map((finding) => {
    const { candidate, reference } = finding;
    const shape = shapeOf(candidate);
    if (reference !== undefined || countOf(shape, own) !== countOf(shape, comparison.missing)) {
      return finding;
    }
    const at = open.findIndex((parameter) => shapeOf(parameter) === shape);
    const [counterpart] = at < 0 ? [] : open.splice(at, 1);
    return counterpart ? findingOf(candidate, counterpart, "shape") : finding;
  });
  return { ...comparison, findings, missing: open };
}

/** The comparison with one parameter paired that had no counterpart. */
export function pairParameter(
  comparison: ParameterComparison,
  candidate: TensorKey,
  reference: ObservedParameter,
  pairedBy: PairedBy,
): ParameterComparison {
  return {
    ...comparison,
    findings: comparison.findings.map((finding) =>
      finding.candidate.tensor === candidate
        ? findingOf(finding.candidate, reference, pairedBy)
        : finding,
    ),
    missing: comparison.missing.filter((parameter) => parameter !== reference),
  };
}

function findingOf(
  candidate: ObservedParameter,
  reference: ObservedParameter,
  pairedBy: PairedBy,
): ParameterFinding {
  const { status, relL2, cosine } = relation(reference.value, candidate.value);
  const base = { candidate, reference, pairedBy, ...(relL2 !== undefined && { relL2 }) };
  if (status !== "other") return { ...base, status };
  const unrelated =
    isConstant(candidate.value) !== isConstant(reference.value) ||
    (cosine !== undefined && Math.abs(cosine) < unrelatedCosine);
  return { ...base, status: unrelated ? "notFromReference" : "different" };
}

/** True when the two parameters hold the same matrix in the two orientations that both fit the candidate's shape. */
export function isSquareMatrix(value: TensorValue): boolean {
  return value.shape.length === 2 && value.shape[0] === value.shape[1];
}

/** The transpose of a [n, m] matrix, [m, n], of any element type. */
export function transposeMatrix(value: TensorValue): TensorValue {
  const [n = 0, m = 0] = value.shape;
  const size = n * m === 0 ? 0 : value.bytes.length / (n * m);
  const bytes = new Uint8Array(value.bytes.length);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < m; j++) {
      const from = (i * m + j) * size;
      bytes.set(value.bytes.subarray(from, from + size), (j * n + i) * size);
    }
  }
  return { dtype: value.dtype, shape: [m, n], bytes };
}

interface Relation {
  readonly status: "same" | "transposed" | "other";
  readonly relL2?: number;
  readonly cosine?: number;
}

function relation(reference: TensorValue, candidate: TensorValue): Relation {
  const c = toFloat64(candidate);
  /** In another shape, only what is the same throughout and not the same everywhere is known again. */
  const relationTo = (value: TensorValue): ReturnType<typeof vectorRelation> | undefined => {
    if (elementCount(value.shape) !== c.length) return undefined;
    const found = vectorRelation(roundedTo(candidate.dtype, toFloat64(value)), c);
    if (inShapeOf(value, candidate.shape)) return found;
    return found.equal && !isConstant(value) ? found : undefined;
  };
  const direct = relationTo(reference);
  const matrix = reference.shape.length === 2 ? transposeMatrix(reference) : undefined;
  const turned = matrix && relationTo(matrix);
  const isColumn = matrix !== undefined && sameShape(matrix.shape, candidate.shape);
  const isSame = direct?.equal && (sameShape(reference.shape, candidate.shape) || !isColumn);
  if (isSame) return { status: "same", relL2: 0, cosine: 1 };
  if (turned?.equal) return { status: "transposed", relL2: 0, cosine: 1 };
  const best = [direct, turned]
    .filter((r) => r !== undefined)
    .sort((a, b) => (a.relL2 ?? Infinity) - (b.relL2 ?? Infinity))[0];
  return {
    status: "other",
    ...(best?.relL2 !== undefined && { relL2: best.relL2 }),
    ...(best?.cosine !== undefined && { cosine: best.cosine }),
  };
}

function vectorRelation(
  r: Float64Array,
  c: Float64Array,
): { equal: boolean; relL2?: number; cosine?: number } {
  let equal = true;
  let difference = 0;
  let rr = 0;
  let cc = 0;
  let cr = 0;
  for (let i = 0; i < r.length; i++) {
    const a = r[i] as number;
    const b = c[i] as number;
    if (a !== b && !(Number.isNaN(a) && Number.isNaN(b))) equal = false;
    difference += (b - a) * (b - a);
    rr += a * a;
    cc += b * b;
    cr += a * b;
  }
  return {
    equal,
    ...(rr > 0 && Number.isFinite(difference) && { relL2: Math.sqrt(difference / rr) }),
    ...(rr > 0 && cc > 0 && Number.isFinite(cr) && { cosine: cr / Math.sqrt(rr * cc) }),
  };
}

/** A narrower candidate holds the reference's values rounded; rounding alone is no difference of the parameter. */
function roundedTo(dtype: TensorValue["dtype"], values: Float64Array): Float64Array {
  if (dtype === "float32") return Float64Array.from(values, Math.fround);
  if (!isFloat(dtype) || dtype === "float64") return values;
  return toFloat64({ dtype, shape: [values.length], bytes: fromFloat64(values, dtype) });
}

function isConstant(value: TensorValue): boolean {
  const values = toFloat64(value);
  return values.every((v) => v === values[0]);
}

function uniqueBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T> {
  const found = new Map<string, T>();
  const twice = new Set<string>();
  for (const item of items) {
    const k = key(item);
    if (found.has(k)) twice.add(k);
    found.set(k, item);
  }
  for (const k of twice) found.delete(k);
  return found;
}
