/**
 * How the valid elements of a reference tensor lie in a candidate tensor: runs of elements that are contiguous on both
 * sides. A jagged [ΣL, D] reference against a padded [B, N, D] candidate has one run of L·D elements for each sample.
 */
export interface Alignment {
  readonly runs: readonly AlignedRun[];
  /** Number of valid elements, the sum of the runs' lengths. */
  readonly count: number;
  /** "identical", "jagged → padded", …; shown to the user as the transform that was proven. */
  readonly transform: string;
}

export interface AlignedRun {
  /** Flat element offset in the reference. */
  readonly reference: number;
  /** Flat element offset in the candidate. */
  readonly candidate: number;
  /** Elements. */
  readonly length: number;
}
