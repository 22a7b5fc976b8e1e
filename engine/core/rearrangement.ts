import type { Observation, ObservedOp, TensorKey } from "./observation.js";

/** Whether an op lays out the elements of a tensor in another way: nothing is selected or computed. */
export function isRearrangement(
  maker: ObservedOp,
  tensor: TensorKey,
  base: TensorKey,
  observation: Observation,
): boolean {
  const count = (key: TensorKey): number =>
    (observation.tensors.get(key)?.shape ?? []).reduce((product, n) => product * n, 1);
  const words =
    /reshape|view|transpose|permute|squeeze|flatten|contiguous|identity|alias|detach|\.t$|\.T$/i;
  return count(tensor) === count(base) && words.test(maker.kind);
}

/** Whether an op changes the order of the axes. */
export function isTurn({ kind }: ObservedOp): boolean {
  return /transpose|permute|\.t$|\.T$|\.mT$/i.test(kind);
}

/** Whether an op takes a part of what it reads. */
export function isSelection({ kind }: ObservedOp): boolean {
  return /slice|split|chunk|select|unbind|getitem|narrow/i.test(kind);
}
