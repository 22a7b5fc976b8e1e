import { coordinate, isRagged, lineAlong, type Frame } from "./frame.js";

/** The tensor's elements in groups that one factor or one constant may belong to. */
export interface Partition {
  /** "sample", "head", "row", …: what one group is. */
  readonly unit: string;
  /** The axis that the groups are the indices of; undefined for rows. */
  readonly axis?: number;
  readonly groups: number;
  readonly groupOf: (place: number) => number;
  /** Valid length of the sample that a group is; only for samples. */
  readonly lengthOf?: (group: number) => number;
}

/** Fewest groups first: what needs fewer numbers to explain as much is the better explanation. */
export function partitionsOf(frame: Frame): Partition[] {
  const { shape, strides, layout, roles } = frame;
  const found: Partition[] = [];
  const last = shape.length - 1;
  for (const [axis, size] of shape.entries()) {
    // The positions of ragged samples lie one behind the other: what they share is found per row.
    if (layout.kind === "jagged" && axis === 0) continue;
    const unit =
      roles[axis] === "batch"
        ? "sample"
        : axis === last && shape.length > 1
          ? "feature"
          : roles[axis] === "head"
            ? "head"
            : isRagged(frame, axis)
              ? "position"
              : `index of axis ${axis}`;
    const isSample = layout.kind === "padded" && axis === layout.batchAxis;
    found.push({
      unit,
      axis,
      groups: size,
      groupOf: (place) => coordinate(frame, place, axis),
      ...(isSample && { lengthOf: (group: number) => layout.lengths[group] ?? 0 }),
    });
  }
  if (layout.kind === "jagged") {
    const { offsets } = layout;
    const sampleOf = new Uint32Array(shape[0] ?? 0);
    for (let b = 0; b + 1 < offsets.length; b++) sampleOf.fill(b, offsets[b], offsets[b + 1]);
    found.push({
      unit: "sample",
      groups: offsets.length - 1,
      groupOf: (place) => sampleOf[coordinate(frame, place, 0)] as number,
      lengthOf: (group) => (offsets[group + 1] ?? 0) - (offsets[group] ?? 0),
    });
  }
  const width = shape[last] ?? 1;
  if (shape.length > 2 || layout.kind === "jagged") {
    found.push({
      unit: "row",
      groups: width === 0 ? 0 : frame.r.length / width,
      groupOf: (place) => Math.floor(place / (strides[last - 1] ?? 1)),
    });
  }
  return found
    .map((one) => (one.axis === 0 && shape.length === 2 ? { ...one, unit: rowUnit(one) } : one))
    .sort((a, b) => a.groups - b.groups);
}

/** Axis 0 of a matrix is its rows, whatever else it may be. */
function rowUnit({ unit }: Partition): string {
  return unit === "sample" ? unit : "row";
}

export interface GroupSums {
  readonly count: Float64Array;
  /** Elements of the reference that are not zero. */
  readonly notZero: Float64Array;
  readonly sumD: Float64Array;
  readonly rr: Float64Array;
  readonly cr: Float64Array;
  readonly cc: Float64Array;
  readonly dd: Float64Array;
}

export function groupSums({ r, c, places }: Frame, { groups, groupOf }: Partition): GroupSums {
  const zeros = (): Float64Array => new Float64Array(groups);
  const sums = {
    count: zeros(),
    notZero: zeros(),
    sumD: zeros(),
    rr: zeros(),
    cr: zeros(),
    cc: zeros(),
    dd: zeros(),
  };
  for (const i of places) {
    const g = groupOf(i);
    const x = r[i] as number;
    const y = c[i] as number;
    (sums.count[g] as number)++;
    if (x !== 0) (sums.notZero[g] as number)++;
    (sums.sumD[g] as number) += y - x;
    (sums.rr[g] as number) += x * x;
    (sums.cr[g] as number) += x * y;
    (sums.cc[g] as number) += y * y;
    (sums.dd[g] as number) += (y - x) * (y - x);
  }
  return sums;
}

/** Rows of all samples, for what happens at certain positions of each. */
export function isFirst(frame: Frame, axis: number): (place: number) => boolean {
  const { position } = lineAlong(frame, axis);
  return (place) => position(place) === 0;
}

export function isLast(frame: Frame, axis: number): (place: number) => boolean {
  const { position, length } = lineAlong(frame, axis);
  return (place) => position(place) === length(place) - 1;
}
