import type { Cause } from "../../protocol/report.js";
import {
  axisName,
  coordinate,
  hasManyValues,
  highestRemaining,
  isRagged,
  lineAlong,
  remainingShare,
  trustIn,
  type Frame,
} from "./frame.js";

/** Fewer elements are in another order by chance too easily. */
const fewest = 8;
/** Masks and one-hot vectors look alike in many orders. */
const fewestValues = 4;
const mostBlocks = 64;

/** The reference's elements in another order: where the candidate has an element, the map says the reference's place. */
export function rearrangedCause(frame: Frame): Cause | undefined {
  if (frame.places.length < fewest || frame.dd === 0) return undefined;
  if (!hasManyValues(frame, fewestValues)) return undefined;
  return (
    transposedCause(frame) ??
    headsCause(frame) ??
    blocksCause(frame) ??
    reversedCause(frame) ??
    shiftedCause(frame)
  );
}

/** No place: this element is not part of the claim. */
const unclaimed = -1;

/** Σ(c[i] − r[from(i)])² with the share of the difference that was looked at; Infinity where it explains nothing. */
function remainingOf(
  frame: Frame,
  from: (place: number) => number,
): { remaining: number; claimed: number } {
  const { r, c, places, isValid } = frame;
  const limit = highestRemaining(frame);
  let remaining = 0;
  let claimed = 0;
  for (const i of places) {
    const source = from(i);
    if (source === unclaimed) continue;
    if (isValid[source] !== 1) return { remaining: Infinity, claimed: 0 };
    const e = (c[i] as number) - (r[source] as number);
    remaining += e * e;
    if (!(remaining <= limit)) return { remaining: Infinity, claimed: 0 };
    claimed += ((c[i] as number) - (r[i] as number)) ** 2;
  }
  return { remaining, claimed };
}

function causeIf(
  frame: Frame,
  from: (place: number) => number,
  make: () => Pick<Cause, "kind" | "text"> & { evidence?: Record<string, unknown> },
): Cause | undefined {
  const { remaining, claimed } = remainingOf(frame, from);
  const confidence = trustIn(frame, remaining);
  // A shift leaves out the ends; nearly all of the difference must be among what it does speak of.
  if (!confidence || claimed < 0.5 * frame.dd) return undefined;
  const { kind, text, evidence } = make();
  return {
    kind,
    text,
    confidence,
    evidence: { ...evidence, remaining: remainingShare(frame, remaining) },
  };
}

/** Two axes exchanged; where their sizes differ, the elements lie as the transpose has them and were only reshaped. */
function transposedCause(frame: Frame): Cause | undefined {
  const { shape, strides, r, places } = frame;
  const isWhole = places.length === r.length;
  for (let a = 0; a < shape.length; a++) {
    for (let b = a + 1; b < shape.length; b++) {
      const n = shape[a] as number;
      const m = shape[b] as number;
      if (n < 2 || m < 2 || (n !== m && !isWhole)) continue;
      const between = shape.slice(a + 1, b).reduce((product, size) => product * size, 1);
      const stepA = strides[a] as number;
      const stepB = strides[b] as number;
      const from = (place: number): number => {
        const i = coordinate(frame, place, a);
        const j = coordinate(frame, place, b);
        if (n === m) return place + (j - i) * stepA + (i - j) * stepB;
        // The block of axes a … b, flat, read as [m, between, n] instead of [n, between, m].
        const inner = place % stepB;
        const flat = Math.floor((place % (n * stepA)) / stepB);
        const outer = place - (place % (n * stepA));
        const x = flat % n;
        const y = Math.floor(flat / n / between);
        const middle = Math.floor(flat / n) % between;
        return outer + (x * between * m + middle * m + y) * stepB + inner;
      };
      const cause = causeIf(frame, from, () => ({
        kind: "transposed",
        text:
          n === m
            ? `looks transposed in ${pairName(frame, a, b)}`
            : `looks reshaped where ${pairName(frame, a, b)} must be transposed, or the other way round`,
        evidence: { axes: [a, b] },
      }));
      if (cause) return cause;
    }
  }
  return undefined;
}

function pairName(frame: Frame, a: number, b: number): string {
  const { shape } = frame;
  return shape.length === 2 ? "its two axes" : `axes ${a} and ${b}`;
}

/** Equal blocks of the last axis in another order: u, v, q, k taken in the wrong one, or two halves exchanged. */
function blocksCause(frame: Frame): Cause | undefined {
  const axis = frame.shape.length - 1;
  const width = frame.shape[axis] ?? 1;
  if (isRagged(frame, axis)) return undefined;
  for (let blocks = 2; blocks <= Math.min(width, mostBlocks); blocks++) {
    if (width % blocks !== 0) continue;
    const size = width / blocks;
    const order = blockOrder(frame, blocks, size);
    if (!order) continue;
    const isReversal = order.every((from, block) => from === blocks - 1 - block);
    if (size === 1 && isReversal && blocks > 2) continue;
    const step = ((order[0] as number) + blocks) % blocks;
    const isRoll = order.every((from, block) => from === (block + step) % blocks);
    if (size === 1 && isRoll && blocks > 2 && (step === 1 || step === blocks - 1)) continue;
    const from = (place: number): number => {
      const column = place % width;
      const block = Math.floor(column / size);
      return place + ((order[block] as number) - block) * size;
    };
    const moved = order.flatMap((source, block) => (source === block ? [] : [block]));
    const cause = causeIf(frame, from, () => ({
      kind: "blocks",
      text:
        moved.length === 2
          ? `looks as if blocks ${moved.join(" and ")} of ${blocks} of the last axis were exchanged (${size} wide)`
          : `looks as if the ${blocks} blocks of the last axis (${size} wide) were in another order: ${order.join(", ")} of the reference's`,
      evidence: { blocks, size, order },
    }));
    if (cause) return cause;
  }
  return undefined;
}

/** For each of the candidate's blocks the reference's that it equals; undefined unless it is a new order of all. */
function blockOrder(frame: Frame, blocks: number, size: number): number[] | undefined {
  const open = new Set(Array.from({ length: blocks }, (_, block) => block));
  const order: number[] = [];
  for (let block = 0; block < blocks; block++) {
    // Its own place first: blocks that are alike (all zero) stay where they are.
    const candidates = [block, ...open].filter((source) => open.has(source));
    const source = candidates.find((one) => isBlock(frame, block, one, size));
    if (source === undefined) return undefined;
    open.delete(source);
    order.push(source);
  }
  return order.some((source, block) => source !== block) ? order : undefined;
}

function isBlock(frame: Frame, block: number, source: number, size: number): boolean {
  const { r, c, shape, isValid } = frame;
  const width = shape.at(-1) as number;
  const limit = highestRemaining(frame);
  let remaining = 0;
  for (let row = 0; row < r.length; row += width) {
    for (let k = 0; k < size; k++) {
      const i = row + block * size + k;
      const j = row + source * size + k;
      if (isValid[i] !== isValid[j]) return false;
      if (isValid[i] !== 1) continue;
      const e = (c[i] as number) - (r[j] as number);
      remaining += e * e;
      if (!(remaining <= limit)) return false;
    }
  }
  return true;
}

/** Heads and their features interleaved along the last axis: [H, d] read as [d, H]. */
function headsCause(frame: Frame): Cause | undefined {
  const axis = frame.shape.length - 1;
  const width = frame.shape[axis] ?? 1;
  if (isRagged(frame, axis)) return undefined;
  for (let heads = 2; heads <= width / 2; heads++) {
    if (width % heads !== 0) continue;
    const size = width / heads;
    const from = (place: number): number => {
      const column = place % width;
      return place - column + (column % heads) * size + Math.floor(column / heads);
    };
    const cause = causeIf(frame, from, () => ({
      kind: "headLayout",
      text: `looks as if the last axis were [${size}, ${heads}] instead of [${heads}, ${size}]: heads interleaved`,
      evidence: { heads, size },
    }));
    if (cause) return cause;
  }
  return headsBeforeRows(frame);
}

/** [H, N, d] read as [N, H·d] without moving the heads behind the rows first. */
function headsBeforeRows(frame: Frame): Cause | undefined {
  const { shape, places, r } = frame;
  const [rows = 0, width = 0] = shape.slice(-2);
  if (shape.length < 2 || places.length !== r.length || rows < 2) return undefined;
  for (let heads = 2; heads <= Math.min(width / 2, mostBlocks); heads++) {
    if (width % heads !== 0) continue;
    const size = width / heads;
    for (const isForward of [true, false]) {
      const from = (place: number): number => {
        const flat = place % (rows * width);
        const k = flat % size;
        const outer = Math.floor(flat / size);
        const [row, head] = isForward
          ? [outer % rows, Math.floor(outer / rows)]
          : [Math.floor(outer / heads), outer % heads];
        const source = isForward ? row * heads + head : head * rows + row;
        return place - flat + source * size + k;
      };
      const cause = causeIf(frame, from, () => ({
        kind: "headLayout",
        text: `looks reshaped without exchanging the heads and the rows first (${heads} heads of ${size})`,
        evidence: { heads, size },
      }));
      if (cause) return cause;
    }
  }
  return undefined;
}

function reversedCause(frame: Frame): Cause | undefined {
  for (const axis of frame.shape.keys()) {
    const { position, length } = lineAlong(frame, axis);
    const step = frame.strides[axis] as number;
    const from = (place: number): number =>
      place + (length(place) - 1 - 2 * position(place)) * step;
    const cause = causeIf(frame, from, () => ({
      kind: "reversed",
      text: `looks reversed along ${axisName(frame, axis)}`,
      evidence: { axis },
    }));
    if (cause) return cause;
  }
  return undefined;
}

/** One position further or back, in each sample; what comes in at the end may be anything. */
function shiftedCause(frame: Frame): Cause | undefined {
  for (const axis of frame.shape.keys()) {
    const { position, length } = lineAlong(frame, axis);
    const step = frame.strides[axis] as number;
    for (const by of [1, -1]) {
      const from = (place: number): number => {
        const at = position(place) - by;
        return at < 0 || at >= length(place) ? unclaimed : place - by * step;
      };
      const cause = causeIf(frame, from, () => ({
        kind: "shifted",
        text: `looks off by one position along ${axisName(frame, axis)}: each element is the one ${by === 1 ? "before" : "after"} it`,
        evidence: { axis, by },
      }));
      if (cause) return cause;
    }
  }
  return undefined;
}
