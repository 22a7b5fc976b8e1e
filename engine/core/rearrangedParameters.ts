import { elementCount, toFloat64 } from "./dtypes.js";
import { joinedAlong, namesOf, type Mended } from "./joinedParameters.js";
import type { ObservedParameter } from "./observation.js";
import { isConstant, squeezed, transposeMatrix } from "./parameterValues.js";
import type { TensorValue } from "./tensorValue.js";

/** Fewer values may be another parameter's by chance. */
const fewestValues = 8;

/**
 * What a parameter could be meant to hold that has just the values of some of the reference's, in another arrangement:
 * these joined along an axis, or laid out as they are, or transposed. A port may arrange them otherwise and read them so,
 * and thus each is a guess.
 */
export function rearranged(
  value: TensorValue,
  missing: readonly ObservedParameter[],
): readonly Mended[] {
  if (isConstant(value) || elementCount(value.shape) < fewestValues) return [];
  const parts = partsByValue(value, missing);
  if (!parts) return [];
  const whole = squeezed(value);
  const values = parts.map((part) => squeezed(part.value));
  const [only] = values;
  const forms =
    only && values.length === 1
      ? [only, ...(only.shape.length === 2 ? [transposeMatrix(only)] : [])]
      : whole.shape.flatMap((_, axis) => joinedAlong(values, whole, axis) ?? []);
  const mistake = `holds the values of the reference's ${namesOf(parts)} in another arrangement`;
  return forms
    .map((form) => ({ ...form, shape: value.shape }))
    .filter((form) => !sameNumbers(toFloat64(form), toFloat64(value)))
    .map((form) => ({ parts, value: form, mistake }));
}

/** The parameters that have just these values together. */
function partsByValue(
  value: TensorValue,
  missing: readonly ObservedParameter[],
): ObservedParameter[] | undefined {
  const counts = countsOf(value);
  let left = elementCount(value.shape);
  const parts: ObservedParameter[] = [];
  for (const parameter of missing) {
    const own = countsOf(parameter.value);
    const size = elementCount(parameter.value.shape);
    const isIn = [...own].every(([x, count]) => (counts.get(x) ?? 0) >= count);
    if (size === 0 || size > left || isConstant(parameter.value) || !isIn) continue;
    for (const [x, count] of own) counts.set(x, (counts.get(x) as number) - count);
    left -= size;
    parts.push(parameter);
  }
  return left === 0 && parts.length > 0 ? parts : undefined;
}

function countsOf(value: TensorValue): Map<number, number> {
  const counts = new Map<number, number>();
  for (const x of toFloat64(value)) counts.set(x, (counts.get(x) ?? 0) + 1);
  return counts;
}

function sameNumbers(a: Float64Array, b: Float64Array): boolean {
  return a.every((x, i) => x === b[i]);
}
