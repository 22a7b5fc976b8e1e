import { elementCount, fromFloat64, isFloat, toFloat64 } from "./dtypes.js";
import { isRegrouped, sameShape } from "./shapes.js";
import type { TensorValue } from "./tensorValue.js";

export interface Relation {
  readonly status: "same" | "transposed" | "other";
  readonly relL2?: number;
  readonly cosine?: number;
}

/** How one parameter's values relate to another's, as they are or transposed. */
export function relation(reference: TensorValue, candidate: TensorValue): Relation {
  const c = toFloat64(candidate);
  /** In another shape, only what is the same throughout and not the same everywhere is known again. */
  const relationTo = (value: TensorValue): ReturnType<typeof vectorRelation> | undefined => {
    if (elementCount(value.shape) !== c.length) return undefined;
    const found = vectorRelation(roundedTo(candidate.dtype, toFloat64(value)), c);
    if (inShapeOf(value, candidate.shape)) return found;
    return found.equal && !isConstant(value) ? found : undefined;
  };
  const direct = relationTo(reference);
  const flat = squeezed(reference);
  const matrix = flat.shape.length === 2 ? transposeMatrix(flat) : undefined;
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

/** In another shape, where the two differ in nothing but axes of size 1 and axes that one side splits. */
export function inShapeOf(value: TensorValue, shape: readonly number[]): TensorValue | undefined {
  return isRegrouped(squeezed(value).shape, squeezed({ ...value, shape }).shape)
    ? { ...value, shape }
    : undefined;
}

/** Without axes of size 1. */
export function squeezed(value: TensorValue): TensorValue {
  return { ...value, shape: value.shape.filter((size) => size !== 1) };
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

/** Whether all elements are one number. */
export function isConstant(value: TensorValue): boolean {
  const values = toFloat64(value);
  return values.every((v) => v === values[0]);
}
