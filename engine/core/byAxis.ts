import type { Layout } from "../protocol/tensor.js";
import { toWire, type WireNumber } from "../protocol/wire.js";
import type { Alignment } from "./alignment.js";
import { float64Reader } from "./dtypes.js";
import { fillsBeyond } from "./maskedFills.js";
import type { TensorValue } from "./tensorValue.js";

/** relL2 of each index along one axis of the reference; "NaN" where nothing is valid or Σr² = 0 although c differs. */
export interface AxisErrors {
  readonly axis: string;
  readonly relL2: WireNumber[];
}

/**
 * Splits Σd² and Σr² by axis. Axis 0 of a jagged reference is told apart into "batch" (by its offsets) and "sequence"
 * (position within the sample). Axes of one element are left out: they repeat the whole.
 */
export function relL2ByAxis(
  reference: TensorValue,
  candidate: TensorValue,
  alignment: Alignment,
  roles: readonly string[],
  layout: Layout | undefined,
): AxisErrors[] {
  const { shape } = reference;
  const width = shape.at(-1) ?? 1;
  const last = shape.length - 1;
  const axes = shape.map((size, axis) => newSums(roles[axis] ?? `axis ${axis}`, size));
  const jagged = layout?.kind === "jagged" && shape.length > 0 ? layout.offsets : undefined;
  const samples = newSums("batch", jagged ? jagged.length - 1 : 0);
  const positions = newSums("sequence", jagged ? longest(jagged) : 0);
  const rowsPerIndex = shape.map((_, axis) =>
    shape.slice(axis + 1, last).reduce((product, size) => product * size, 1),
  );
  const jaggedRow = (row: number): number => Math.floor(row / (rowsPerIndex[0] ?? 1));

  const chunk = 4096;
  const r = new Float64Array(chunk);
  const c = new Float64Array(chunk);
  const fills = fillsBeyond(reference);
  const readReference = float64Reader(reference);
  const readCandidate = float64Reader(candidate);
  for (const run of alignment.runs) {
    let done = 0;
    while (done < run.length) {
      const offset = run.reference + done;
      const column = offset % width;
      const row = Math.floor(offset / width);
      const length = Math.min(run.length - done, width - column, chunk);
      readReference(offset, length, r, 0);
      readCandidate(run.candidate + done, length, c, 0);
      done += length;
      let dd = 0;
      let rr = 0;
      const feature = last >= 0 ? axes[last] : undefined;
      for (let i = 0; i < length; i++) {
        const a = r[i] as number;
        const b = c[i] as number;
        if (!(Math.abs(a) <= fills && Math.abs(b) < Infinity)) continue;
        const d2 = (b - a) * (b - a);
        dd += d2;
        rr += a * a;
        feature?.add(column + i, d2, a * a);
      }
      for (let axis = jagged ? 1 : 0; axis < last; axis++) {
        const index = Math.floor(row / (rowsPerIndex[axis] as number)) % (shape[axis] as number);
        axes[axis]?.add(index, dd, rr);
      }
      if (jagged && last > 0) addJagged(jagged, jaggedRow(row), samples, positions, dd, rr);
    }
  }
  const kept = jagged && last > 0 ? [samples, positions, ...axes.slice(1)] : axes;
  return kept
    .filter((sums) => sums.size > 1)
    .map((sums) => ({ axis: sums.axis, relL2: sums.relL2() }));
}

interface Sums {
  readonly axis: string;
  readonly size: number;
  add(index: number, differenceSquared: number, referenceSquared: number): void;
  relL2(): WireNumber[];
}

function newSums(axis: string, size: number): Sums {
  const difference = new Float64Array(size);
  const reference = new Float64Array(size);
  const seen = new Uint8Array(size);
  return {
    axis,
    size,
    add: (index, differenceSquared, referenceSquared) => {
      difference[index] = (difference[index] as number) + differenceSquared;
      reference[index] = (reference[index] as number) + referenceSquared;
      seen[index] = 1;
    },
    relL2: () =>
      Array.from(difference, (d, i) => {
        const r = reference[i] as number;
        if (!seen[i] || (r === 0 && d > 0)) return toWire(NaN);
        return d === 0 ? 0 : toWire(Math.sqrt(d) / Math.sqrt(r));
      }),
  };
}

function longest(offsets: readonly number[]): number {
  return Math.max(0, ...offsets.slice(1).map((end, b) => end - (offsets[b] as number)));
}

function addJagged(
  offsets: readonly number[],
  row: number,
  samples: Sums,
  positions: Sums,
  dd: number,
  rr: number,
): void {
  let sample = offsets.length - 2;
  while (sample > 0 && (offsets[sample] as number) > row) sample--;
  if (sample < 0 || row >= (offsets[sample + 1] as number)) return;
  samples.add(sample, dd, rr);
  positions.add(row - (offsets[sample] as number), dd, rr);
}
