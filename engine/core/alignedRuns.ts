import type { AlignedRun } from "./alignment.js";

/** One axis that both sides walk in step. */
export interface LoopAxis {
  /** Positions that both sides have; a ragged axis is also limited by the sample's length. */
  readonly size: number;
  readonly ragged: boolean;
  /** Elements from one position to the next. */
  readonly reference: number;
  readonly candidate: number;
  /** By sample: the candidate's positions of the rows, if not 0, 1, 2, …. */
  readonly places?: readonly (readonly number[])[];
}

/** Walks every sample's valid positions in the reference's axis order and joins neighbours into runs. */
export function collectRuns(
  bases: readonly { readonly reference: number; readonly candidate: number }[],
  lengths: readonly number[],
  axes: readonly LoopAxis[],
): { runs: AlignedRun[]; count: number } {
  const runs: { reference: number; candidate: number; length: number }[] = [];
  let count = 0;
  const add = (reference: number, candidate: number, length: number): void => {
    if (length === 0) return;
    count += length;
    const last = runs.at(-1);
    if (
      last &&
      last.reference + last.length === reference &&
      last.candidate + last.length === candidate
    ) {
      last.length += length;
    } else runs.push({ reference, candidate, length });
  };

  for (const [sample, base] of bases.entries()) {
    const sizes = axes.map((axis) =>
      axis.ragged ? Math.min(axis.size, lengths[sample] as number) : axis.size,
    );
    const dense = contiguousFrom(axes, sizes);
    const walk = (depth: number, reference: number, candidate: number): void => {
      if (depth === dense.axis) return add(reference, candidate, dense.length);
      const axis = axes[depth] as LoopAxis;
      const places = axis.places?.[sample];
      for (let i = 0; i < (sizes[depth] as number); i++) {
        const place = places ? (places[i] as number) : i;
        walk(depth + 1, reference + i * axis.reference, candidate + place * axis.candidate);
      }
    };
    walk(0, base.reference, base.candidate);
  }
  return { runs, count };
}

/** The outermost axis from which on all elements lie side by side on both sides, so that they need no loop. */
function contiguousFrom(
  axes: readonly LoopAxis[],
  sizes: readonly number[],
): { axis: number; length: number } {
  let length = 1;
  let axis = axes.length;
  while (axis > 0) {
    const { reference, candidate, places } = axes[axis - 1] as LoopAxis;
    if (places || reference !== length || candidate !== length) break;
    length *= sizes[axis - 1] as number;
    axis--;
  }
  return { axis, length };
}
