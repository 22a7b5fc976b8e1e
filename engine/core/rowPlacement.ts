import type { Layout } from "../protocol/tensor.js";
import { isFloat, toFloat64 } from "./dtypes.js";
import type { Observation, ObservedTensor } from "./observation.js";

/**
 * Where the other side keeps the rows of a jagged or padded tensor, if not one after another from the front: behind the
 * padding, or with room left between a user's events and the candidates.
 */
export interface RowPlacement {
  /** Positions of the axis that holds the rows. */
  readonly width: number;
  /** By sample, then by row. */
  readonly positions: readonly (readonly number[])[];
}

/**
 * Finds by their contents where a candidate [B, N, D] keeps the rows of the reference's jagged and padded tensors.
 * @returns the reference with that placement at each tensor that it concerns: none where rows lie at the front, as almost
 * everywhere, or where too few are found to say
 */
export function withRowPlacement(reference: Observation, candidate: Observation): Observation {
  const groups = new Map<string, ObservedTensor[]>();
  for (const tensor of reference.tensors.values()) {
    const lengths = lengthsOf(tensor.layout);
    if (!lengths) continue;
    const key = lengths.join();
    groups.set(key, [...(groups.get(key) ?? []), tensor]);
  }
  const placed = new Map<string, ObservedTensor>();
  for (const members of groups.values()) {
    const placement = placementOf(members, candidate);
    if (placement) for (const tensor of members) placed.set(tensor.key, { ...tensor, placement });
  }
  if (placed.size === 0) return reference;
  return { ...reference, tensors: new Map([...reference.tensors, ...placed]) };
}

function lengthsOf(layout: Layout): readonly number[] | undefined {
  if (layout.kind === "padded") return layout.lengths;
  if (layout.kind !== "jagged") return undefined;
  return layout.offsets.slice(1).map((end, b) => end - (layout.offsets[b] as number));
}

/** Rows of one width, read one by one. */
interface Rows {
  readonly elements: Float64Array;
  readonly width: number;
  readonly start: (sample: number) => number;
  /** Two rows are the same within this. */
  readonly tolerance: number;
}

/** Of these, each is compared with each. */
const mostTensors = 120;
const sameWithin = 2e-5;

function placementOf(
  members: readonly ObservedTensor[],
  candidate: Observation,
): RowPlacement | undefined {
  const lengths = lengthsOf((members[0] as ObservedTensor).layout) as readonly number[];
  const longest = Math.max(...lengths);
  const sides = members.flatMap((tensor) => rowsOf(tensor, tensor.layout) ?? []);
  const others = candidate.ops
    .flatMap(({ outputs }) => outputs.map((key) => candidate.tensors.get(key)))
    .filter((tensor) => tensor !== undefined)
    .filter(({ shape, dtype }) => shape.length === 3 && isFloat(dtype))
    .filter(({ shape: [batch, n = 0] }) => batch === lengths.length && n >= longest);
  let best: { readonly known: number; readonly placement?: RowPlacement } = { known: 0 };
  const rows = lengths.reduce((sum, length) => sum + length, 0);
  for (const tensor of others.slice(0, mostTensors)) {
    const n = tensor.shape[1] as number;
    const layout: Layout = { kind: "padded", lengths: [], batchAxis: 0, axes: [1], pad: 0 };
    const theirs = rowsOf(tensor, layout);
    if (!theirs) continue;
    for (const ours of sides.slice(0, mostTensors)) {
      if (ours.width !== theirs.width) continue;
      const found = foundRows(ours, theirs, lengths, n);
      // Positions at the end look all alike, so a tensor of which every row is found says most.
      if (!found || found.known <= best.known) continue;
      const { isAtFront, positions } = arranged(found.positions, lengths, n);
      if (isAtFront) best = { known: found.known };
      else if (positions) best = { known: found.known, placement: { width: n, positions } };
      if (best.known === rows) return best.placement;
    }
  }
  return best.placement;
}

function rowsOf({ value, shape, dtype }: ObservedTensor, layout: Layout): Rows | undefined {
  const width = shape.at(-1) ?? 0;
  if (!value || !isFloat(dtype) || width < 2) return undefined;
  const isRows =
    layout.kind === "jagged"
      ? shape.length === 2
      : layout.kind === "padded" &&
        shape.length === 3 &&
        layout.batchAxis === 0 &&
        layout.axes.join() === "1";
  if (!isRows) return undefined;
  const elements = toFloat64(value);
  let largest = 0;
  for (const x of elements) if (Math.abs(x) > largest) largest = Math.abs(x);
  const start =
    layout.kind === "jagged"
      ? (b: number) => (layout.offsets[b] as number) * width
      : (b: number) => b * (shape[1] as number) * width;
  return { elements, width, start, tolerance: sameWithin * largest };
}

/** The position of each row that has just one; undefined where less than half of the rows are found. */
function foundRows(
  ours: Rows,
  theirs: Rows,
  lengths: readonly number[],
  n: number,
): { readonly known: number; readonly positions: (number | undefined)[][] } | undefined {
  const { width, tolerance } = ours;
  const isSame = (a: number, b: number): boolean => {
    for (let i = 0; i < width; i++) {
      const difference = (ours.elements[a + i] as number) - (theirs.elements[b + i] as number);
      if (!(Math.abs(difference) <= tolerance)) return false;
    }
    return true;
  };
  let rows = 0;
  let known = 0;
  const found: (number | undefined)[][] = [];
  for (const [sample, length] of lengths.entries()) {
    const positions = Array.from({ length }, (_, row) => {
      const at = ours.start(sample) + row * width;
      let only: number | undefined;
      for (let slot = 0; slot < n; slot++) {
        if (!isSame(at, theirs.start(sample) + slot * width)) continue;
        if (only !== undefined) return undefined;
        only = slot;
      }
      return only;
    });
    rows += length;
    known += positions.filter((position) => position !== undefined).length;
    found.push(positions);
    // A look at a few samples says whether the rest is worth it.
    if (rows >= 8 && known === 0) return undefined;
  }
  return known * 2 >= rows ? { known, positions: found } : undefined;
}

type Arrangement = (row: number, length: number) => number;

/**
 * Rows that were not found, as they differ or occur twice, lie as those around them do: from the front, up to the end, or
 * the last few of each sample up to the end. Otherwise all of them must have been found.
 */
function arranged(
  found: readonly (readonly (number | undefined)[])[],
  lengths: readonly number[],
  n: number,
): { isAtFront: boolean; positions?: readonly (readonly number[])[] } {
  const fits = (arrangement: Arrangement): boolean =>
    found.every((positions, sample) =>
      positions.every(
        (at, row) => at === undefined || at === arrangement(row, lengths[sample] as number),
      ),
    );
  if (fits((row) => row)) return { isAtFront: true };
  const shortest = Math.min(...lengths);
  const arrangements: Arrangement[] = [
    (row, length) => n - length + row,
    (row, length) => length - 1 - row,
    (row) => n - 1 - row,
    ...Array.from(
      { length: Math.max(0, shortest) },
      (_, k): Arrangement =>
        (row, length) =>
          row < length - k ? row : n - length + row,
    ),
  ];
  const fitting = arrangements.filter(fits);
  const [first] = fitting;
  const all = (arrangement: Arrangement): number[][] =>
    lengths.map((length) => Array.from({ length }, (_, row) => arrangement(row, length)));
  const isOne =
    first !== undefined && new Set(fitting.map((one) => JSON.stringify(all(one)))).size === 1;
  if (isOne) return { isAtFront: false, positions: all(first) };
  const isWhole = found.every(
    (positions) => !positions.includes(undefined) && new Set(positions).size === positions.length,
  );
  return isWhole
    ? { isAtFront: false, positions: found as readonly (readonly number[])[] }
    : { isAtFront: false };
}
