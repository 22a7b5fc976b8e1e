import type { ObservedOp, TensorKey } from "./observation.js";

/**
 * What was proven about an op that introduces a difference: with other operands, and nothing else changed, its segment
 * makes the reference's result.
 * - `operand`: it reads a wrong tensor or parameter; the right one exists.
 * - `layout`: it reads the right values in another arrangement.
 * - `transposed`: it reads the right tensor the wrong way round.
 * - `swapped`: two of its operands stand in one another's place.
 * - `missingStep`: it reads what the reference computes further before it reads it.
 * - `constant`: it multiplies by another number than the reference.
 * - `extraStep`: the reference has what goes in where the candidate has what comes out.
 */
export interface Explanation {
  readonly kind:
    "operand" | "layout" | "transposed" | "swapped" | "constant" | "missingStep" | "extraStep";
  /** At least one; several where they are wrong only together. */
  readonly reads: readonly WrongRead[];
  /** relL2 that is left. */
  readonly remaining: number;
  /** Of `constant`. */
  readonly constant?: OtherConstant;
}

export interface OtherConstant {
  readonly own: number;
  /** 1 where the reference multiplies by nothing. */
  readonly wanted: number;
}

export interface WrongRead {
  /** The candidate's op whose operand is wrong. */
  readonly reader: ObservedOp;
  /** Counts the op's inputs from 0. */
  readonly position: number;
  /** What it reads: a tensor, input or parameter of the candidate. */
  readonly operand: TensorKey;
  /** What that is in the reference; absent where it has no counterpart. */
  readonly own?: TensorKey | undefined;
  /** What it should read: a tensor, input or parameter of the reference. */
  readonly wanted: TensorKey;
}
