import type { ObservedOp, TensorKey } from "./observation.js";

/**
 * What was proven about an op that introduces a difference: with another operand, and nothing else changed, its segment
 * makes the reference's result.
 * - `operand`: it reads the wrong tensor or parameter; the right one exists.
 * - `transposed`: it reads the right tensor the wrong way round.
 * - `swapped`: two of its operands stand in one another's place.
 * - `missingStep`: it reads what the reference computes further before it reads it.
 * - `parameter`: it reads a parameter that is none of the reference's.
 */
export interface Explanation {
  readonly kind: "operand" | "transposed" | "swapped" | "missingStep" | "parameter";
  /** The candidate's op whose operand is wrong. */
  readonly reader: ObservedOp;
  readonly position: number;
  /** What it reads: a tensor, input or parameter of the candidate. */
  readonly operand: TensorKey;
  /** What that is in the reference; absent where it has no counterpart. */
  readonly own?: TensorKey;
  /** What it should read: a tensor, input or parameter of the reference. */
  readonly wanted: TensorKey;
  /** Of `swapped`: the other operand. */
  readonly other?: TensorKey;
  /** relL2 that is left. */
  readonly remaining: number;
}
