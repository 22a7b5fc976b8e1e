import type { Cause } from "../../protocol/report.js";
import { axisName, coordinate, isRagged, remainingShare, trustIn, type Frame } from "./frame.js";
import { isFirst, isLast } from "./partitions.js";

/** An element under this share of the largest difference is left over from rounding, not from the fault. */
const feltShare = 1e-3;
/** Chance at which differences scattered at random would all lie in the region; above it nothing is said. */
const mostChance = 1e-3;
const fewestElements = 3;

/** The difference lies in a part of the tensor that has a meaning: a triangle, padding, the ends of the samples. */
export function placeCause(frame: Frame, lengths?: readonly number[]): Cause | undefined {
  if (frame.dd === 0) return undefined;
  return paddingCause(frame, lengths) ?? triangleCause(frame) ?? endCause(frame);
}

interface Inside {
  readonly remaining: number;
  /** Felt differences in the region, and its share of all places. */
  readonly felt: number;
  readonly share: number;
}

function differenceIn(frame: Frame, isIn: (place: number) => boolean): Inside {
  const { r, c, places } = frame;
  let largest = 0;
  for (const i of places)
    largest = Math.max(largest, Math.abs((c[i] as number) - (r[i] as number)));
  let remaining = 0;
  let felt = 0;
  let region = 0;
  for (const i of places) {
    const d = Math.abs((c[i] as number) - (r[i] as number));
    if (!isIn(i)) {
      remaining += d * d;
      continue;
    }
    region++;
    if (d > feltShare * largest) felt++;
  }
  return { remaining, felt, share: region / Math.max(1, places.length) };
}

function confidenceIn(
  frame: Frame,
  { remaining, felt, share }: Inside,
): Cause["confidence"] | undefined {
  // A mask's difference has no size of its own: what lies outside must be nothing, or as little as elsewhere.
  const confidence = remaining === 0 ? "likely" : trustIn(frame, remaining);
  const isChance = share >= 1 || felt < fewestElements || share ** felt > mostChance;
  return isChance ? undefined : confidence;
}

/** Only at positions beyond the samples' own lengths, in a tensor that no layout was declared for. */
function paddingCause(frame: Frame, lengths?: readonly number[]): Cause | undefined {
  const { shape, layout } = frame;
  if (!lengths || layout.kind !== "dense" || shape.length < 2) return undefined;
  const longest = lengths.reduce((a, b) => Math.max(a, b), 0);
  if (shape[0] !== lengths.length || (shape[1] as number) < longest) return undefined;
  const inside = differenceIn(
    frame,
    (place) => coordinate(frame, place, 1) >= (lengths[coordinate(frame, place, 0)] as number),
  );
  const confidence = confidenceIn(frame, inside);
  return (
    confidence && {
      kind: "padding",
      text: "differs only in rows beyond the samples' lengths: looks like padding",
      confidence,
      evidence: { elements: inside.felt, remaining: remainingShare(frame, inside.remaining) },
    }
  );
}

/** Square in its last two axes and different on one side of the diagonal only, or on it alone. */
function triangleCause(frame: Frame): Cause | undefined {
  const { shape } = frame;
  const [rows, columns] = shape.slice(-2);
  if (shape.length < 2 || rows !== columns || (rows as number) < 3) return undefined;
  const axis = shape.length - 2;
  const isAttention = isRagged(frame, axis) && isRagged(frame, axis + 1);
  const aheadOf = (place: number): number =>
    coordinate(frame, place, axis + 1) - coordinate(frame, place, axis);
  const regions = [
    ["aboveDiagonal", "above the diagonal: looks like the causal mask", (n: number) => n > 0],
    [
      "belowDiagonal",
      "below the diagonal: looks like a causal mask the wrong way round",
      (n: number) => n < 0,
    ],
    [
      "diagonal",
      "on the diagonal: looks like a mask that takes an element itself in or out",
      (n: number) => n === 0,
    ],
  ] as const;
  for (const [kind, text, isIn] of regions.toReversed()) {
    const inside = differenceIn(frame, (place) => isIn(aheadOf(place)));
    const confidence = confidenceIn(frame, inside);
    if (!confidence) continue;
    return {
      kind,
      text: `differs only ${text}`,
      // Two axes of one size may be anything; two ragged ones are an attention matrix.
      confidence: isAttention ? confidence : "possible",
      evidence: { elements: inside.felt, remaining: remainingShare(frame, inside.remaining) },
    };
  }
  return undefined;
}

/** Only in the first or in the last valid row of each sample. */
function endCause(frame: Frame): Cause | undefined {
  const { shape } = frame;
  for (const axis of shape.keys()) {
    const isSequence = isRagged(frame, axis);
    if (!isSequence && (frame.layout.kind !== "dense" || axis === shape.length - 1)) continue;
    // Two positions have two ends: what is in one of them lies at an end by necessity.
    if ((shape[axis] as number) < 4) continue;
    for (const [end, isIn] of [
      ["last", isLast(frame, axis)],
      ["first", isFirst(frame, axis)],
    ] as const) {
      const inside = differenceIn(frame, isIn);
      const confidence = confidenceIn(frame, inside);
      if (!confidence) continue;
      return {
        kind: `${end}Row`,
        text: isSequence
          ? `differs only in the ${end}${end === "last" ? " valid" : ""} row of each sample: looks like a length or a timestamp that is off by one`
          : `differs only at the ${end} position of ${axisName(frame, axis)}`,
        confidence: isSequence ? confidence : "possible",
        evidence: {
          axis,
          elements: inside.felt,
          remaining: remainingShare(frame, inside.remaining),
        },
      };
    }
  }
  return undefined;
}
