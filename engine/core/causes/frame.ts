import type { Layout } from "../../protocol/tensor.js";
import type { Alignment } from "../alignment.js";
import { axisRoles } from "../axisRoles.js";
import { isFloat, mantissaBits, narrowerFloat, toFloat64 } from "../dtypes.js";
import { stridesOf } from "../shapes.js";
import type { TensorValue } from "../tensorValue.js";

/** What remains of the difference must be this much smaller than the difference to name an explanation as the cause. */
export const explainedShare = 1e-3;
/** A difference near the type's own rounding is explained less exactly: then this share may remain, if rounding makes it. */
const explainedUpToRounding = 0.1;
const fewestUpToRounding = 8;

/**
 * Both tensors in the reference's element order: candidate values are put where the alignment says they belong, so that
 * every explanation can speak of the reference's axes.
 */
export interface Frame {
  readonly r: Float64Array;
  readonly c: Float64Array;
  /** Flat places that are valid and finite on both sides, ascending. */
  readonly places: Uint32Array;
  /** 1 at these places. */
  readonly isValid: Uint8Array;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly layout: Layout;
  readonly roles: readonly string[];
  /** Σr², Σc², Σ(c − r)² over the places. */
  readonly rr: number;
  readonly cc: number;
  readonly dd: number;
  /** Relative rounding error of the narrower type; 0 for integers. */
  readonly roundOff: number;
  /** Elements that are NaN or infinite where the reference is finite. */
  readonly newlyNotFinite: number;
}

export function frameOf(
  reference: TensorValue,
  candidate: TensorValue,
  { runs }: Alignment,
  layout: Layout = { kind: "dense" },
): Frame {
  const r = toFloat64(reference);
  const from = toFloat64(candidate);
  const c = new Float64Array(r.length);
  const isValid = new Uint8Array(r.length);
  let newlyNotFinite = 0;
  let count = 0;
  let rr = 0;
  let cc = 0;
  let dd = 0;
  for (const run of runs) {
    for (let i = 0; i < run.length; i++) {
      const at = run.reference + i;
      const x = r[at] as number;
      const y = from[run.candidate + i] as number;
      c[at] = y;
      if (Number.isFinite(x) && !Number.isFinite(y)) newlyNotFinite++;
      if (!Number.isFinite(x) || !Number.isFinite(y)) continue;
      isValid[at] = 1;
      count++;
      rr += x * x;
      cc += y * y;
      dd += (y - x) * (y - x);
    }
  }
  const places = new Uint32Array(count);
  let next = 0;
  for (let i = 0; i < isValid.length; i++) if (isValid[i] === 1) places[next++] = i;
  const { shape } = reference;
  const isNumber = isFloat(reference.dtype) || isFloat(candidate.dtype);
  return {
    r,
    c,
    places,
    isValid,
    shape,
    strides: stridesOf(shape),
    layout,
    roles: axisRoles(layout, shape.length),
    rr,
    cc,
    dd,
    roundOff: isNumber
      ? 2 ** -(mantissaBits(narrowerFloat(reference.dtype, candidate.dtype)) + 1)
      : 0,
    newlyNotFinite,
  };
}

/**
 * How far an explanation may be trusted that leaves Σ(c − explained)² = `remaining`: undefined where it explains too
 * little. What remains must be small against the candidate too, or a candidate that is nearly zero is "explained" by all.
 */
export function trustIn(frame: Frame, remaining: number): "likely" | "possible" | undefined {
  const base = Math.min(frame.dd, frame.cc);
  if (remaining <= explainedShare ** 2 * base) return "likely";
  return remaining <= lenientLimit(frame) ? "possible" : undefined;
}

/** Above this Σ(c − explained)² nothing is explained: a sum can stop there. */
export function highestRemaining(frame: Frame): number {
  const base = Math.min(frame.dd, frame.cc);
  return Math.max(explainedShare ** 2 * base, lenientLimit(frame));
}

function lenientLimit({ dd, cc, roundOff, places }: Frame): number {
  // A tenth of a few differences is left by chance too often.
  if (places.length < fewestUpToRounding) return 0;
  return Math.min(explainedUpToRounding ** 2 * Math.min(dd, cc), (2 * roundOff) ** 2 * cc);
}

/** ‖c − explained‖ / ‖c − r‖, the figure that is given as evidence. */
export function remainingShare({ dd }: Frame, remaining: number): number {
  return Math.sqrt(remaining / dd);
}

/** Σ(c − f(r))² over all places, or Infinity as soon as it is known to explain nothing. */
export function remainingAfter(frame: Frame, explain: (r: number) => number): number {
  const limit = highestRemaining(frame);
  let sum = 0;
  for (const i of frame.places) {
    const e = (frame.c[i] as number) - explain(frame.r[i] as number);
    sum += e * e;
    if (!(sum <= limit)) return Infinity;
  }
  return sum;
}

/** Place on an axis of the element at a flat place. */
export function coordinate({ shape, strides }: Frame, place: number, axis: number): number {
  return Math.floor(place / (strides[axis] as number)) % (shape[axis] as number);
}

/** Where an element lies along an axis within its sample, and how many valid positions the sample has there. */
export interface Line {
  readonly position: (place: number) => number;
  readonly length: (place: number) => number;
}

/** An axis as a sequence: each sample its own on ragged axes, all of the axis elsewhere. */
export function lineAlong(frame: Frame, axis: number): Line {
  const { layout, shape } = frame;
  const at = (place: number): number => coordinate(frame, place, axis);
  if (layout.kind === "jagged" && axis === 0) {
    const starts = new Uint32Array(shape[0] ?? 0);
    const lengths = new Uint32Array(shape[0] ?? 0);
    for (let b = 0; b + 1 < layout.offsets.length; b++) {
      const [start = 0, end = 0] = layout.offsets.slice(b, b + 2);
      starts.fill(start, start, end);
      lengths.fill(end - start, start, end);
    }
    return {
      position: (place) => at(place) - (starts[at(place)] as number),
      length: (place) => lengths[at(place)] as number,
    };
  }
  if (layout.kind === "padded" && layout.axes.includes(axis)) {
    const { batchAxis, lengths } = layout;
    return { position: at, length: (place) => lengths[coordinate(frame, place, batchAxis)] ?? 0 };
  }
  return { position: at, length: () => shape[axis] as number };
}

/** True where the axis is cut off at each sample's own length. */
export function isRagged({ layout }: Frame, axis: number): boolean {
  return (
    (layout.kind === "jagged" && axis === 0) ||
    (layout.kind === "padded" && layout.axes.includes(axis))
  );
}

/** "the sequence", "the heads", "axis 1". */
export function axisName({ roles, shape }: Frame, axis: number): string {
  const names: Record<string, string> = {
    batch: "the batch",
    sequence: "the sequence",
    head: "the heads",
    feature: "the features",
  };
  if (shape.length > 1 && axis === shape.length - 1) return "the last axis";
  return names[roles[axis] ?? ""] ?? `axis ${axis}`;
}

/** More distinct values than this make a coincidence of rearranged elements unlikely. */
export function hasManyValues({ r, places }: Frame, wanted: number): boolean {
  const seen = new Set<number>();
  for (const i of places) {
    seen.add(r[i] as number);
    if (seen.size >= wanted) return true;
  }
  return false;
}
