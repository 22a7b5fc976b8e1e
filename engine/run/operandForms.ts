import { convertFloats } from "../core/conversions.js";
import { elementSize, isFloat } from "../core/dtypes.js";
import { transposeMatrix } from "../core/parameterValues.js";
import { sameShape } from "../core/shapes.js";
import type { TensorValue } from "../core/tensorValue.js";

/** A given value of the reference in an operand's shape and type: as it is, and turned round. */
export function inShape(
  given: TensorValue,
  { shape, dtype }: Pick<TensorValue, "shape" | "dtype">,
): TensorValue[] {
  if (isFloat(given.dtype) !== isFloat(dtype)) return [];
  const forms = [given, ...(given.shape.length === 2 ? [transposeMatrix(given)] : [])];
  return forms
    .filter((form) => sameShape(form.shape, shape))
    .map((form) => (isFloat(dtype) ? convertFloats(form, dtype) : form))
    .filter((form) => form.dtype === dtype);
}

/** With the last two axes exchanged, where they are of one size: otherwise the shape would have said it. */
export function transposed(value: TensorValue): TensorValue | undefined {
  const size = value.shape.at(-1) ?? 0;
  if (value.shape.length < 2 || size < 2 || value.shape.at(-2) !== size) return undefined;
  const element = elementSize[value.dtype];
  const bytes = new Uint8Array(value.bytes.length);
  const matrix = size * size * element;
  for (let at = 0; at < value.bytes.length; at += matrix) {
    const one = {
      dtype: value.dtype,
      shape: [size, size],
      bytes: value.bytes.subarray(at, at + matrix),
    };
    bytes.set(transposeMatrix(one).bytes, at);
  }
  return { dtype: value.dtype, shape: value.shape, bytes };
}
