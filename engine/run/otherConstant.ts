import { elementCount, fromFloat64, toFloat64 } from "../core/dtypes.js";
import type { OtherConstant } from "../core/explanation.js";
import type { Observation, ObservedOp, TensorKey } from "../core/observation.js";
import type { TensorValue } from "../core/tensorValue.js";

/** An op that multiplies by a number, and the number by which the reference does. */
export interface ConstantHypothesis {
  readonly op: ObservedOp;
  readonly constant: OtherConstant;
  /** The reference's op; absent where it multiplies by nothing. */
  readonly like?: ObservedOp;
}

/** The candidate's products with a number, each with every number by which the reference multiplies, and with none. */
export function* otherConstants(
  own: readonly ObservedOp[],
  candidate: Observation,
  others: readonly ObservedOp[],
  reference: Observation,
): Iterable<ConstantHypothesis> {
  const wanted = others.flatMap((like) => {
    const multiplier = multiplierOf(like, reference);
    return multiplier === undefined ? [] : [{ like, multiplier }];
  });
  for (const op of own) {
    const multiplier = multiplierOf(op, candidate);
    if (multiplier === undefined || multiplier === 0) continue;
    const isOther = (number: number): boolean => Math.abs(number / multiplier - 1) > 1e-6;
    const seen = new Set<number>();
    for (const { like, multiplier: number } of wanted) {
      if (!isOther(number) || seen.has(number)) continue;
      seen.add(number);
      yield { op, like, constant: { own: multiplier, wanted: number } };
    }
    if (isOther(1) && !seen.has(1)) yield { op, constant: { own: multiplier, wanted: 1 } };
  }
}

/** By what an op multiplies one tensor; undefined for anything else. */
function multiplierOf(op: ObservedOp, { tensors }: Observation): number | undefined {
  const name = op.kind
    .slice(op.kind.lastIndexOf(".") + 1)
    .replaceAll("_", "")
    .toLowerCase();
  const isProduct = /^[ri]?mul(tiply)?$/.test(name);
  const isQuotient = /^i?(true)?div(ide)?$/.test(name);
  if (!isProduct && !isQuotient) return undefined;
  const single = op.inputs.flatMap((key, position) => {
    const value = tensors.get(key)?.value;
    return value && elementCount(value.shape) === 1 && (isProduct || position === 1)
      ? [toFloat64(value)[0] as number]
      : [];
  });
  const given = [op.attributes?.["other"], ...single].find((x) => typeof x === "number");
  return typeof given !== "number" ? undefined : isQuotient ? 1 / given : given;
}

/** A tensor times a number, in its own type. */
export function times(value: TensorValue, factor: number): TensorValue {
  const elements = toFloat64(value).map((x) => x * factor);
  return { ...value, bytes: fromFloat64(elements, value.dtype) };
}

/** The tensor that an op makes, if it makes one. */
export function onlyOutput({ outputs }: ObservedOp): TensorKey | undefined {
  return outputs.length === 1 ? outputs[0] : undefined;
}
