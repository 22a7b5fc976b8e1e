import type { ObservedOp, TensorKey } from "./observation.js";

/** What follows the first tensor with some values only lays them out in another way. */
export function whereComputed(
  key: TensorKey,
  makerOf: ReadonlyMap<TensorKey, ObservedOp>,
  classOf: (key: TensorKey) => string | undefined,
): TensorKey {
  const maker = makerOf.get(key);
  const own = classOf(key);
  const isSame = (input: TensorKey): boolean => own !== undefined && classOf(input) === own;
  // From padded to jagged or back: padding may hold anything.
  const isLayout = maker !== undefined && /to_jagged|to_padded/.test(maker.kind);
  const base = maker?.inputs.find(isSame) ?? (isLayout ? maker.inputs[0] : undefined);
  return base === undefined ? key : whereComputed(base, makerOf, classOf);
}
