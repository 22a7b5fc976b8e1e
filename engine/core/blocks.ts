import type { AlignedRun, Alignment } from "./alignment.js";
import type { Float64Reader } from "./dtypes.js";

/** 64 KiB of float32. A block of both tensors stays in the second-level cache while several loops pass over it. */
export const blockElements = 16384;

/** Where a stretch of a block comes from. */
export interface Segment {
  /** First position in the block. */
  readonly at: number;
  /** Flat offset of that element in the reference. */
  readonly reference: number;
}

/** The flat reference offset of a position in a block. */
export function referenceOffset(segments: readonly Segment[], position: number): number {
  let low = 0;
  let high = segments.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((segments[middle] as Segment).at <= position) low = middle;
    else high = middle - 1;
  }
  const segment = segments[low] as Segment;
  return segment.reference + (position - segment.at);
}

/** `reference` and `candidate` hold the same elements up to `length`; both are reused for the next block. */
export type BlockVisitor<A> = (
  reference: A,
  candidate: A,
  length: number,
  segments: readonly Segment[],
) => void;

/** Long runs are visited where they lie; short ones are gathered until a block is full. */
export function visitFloat32Blocks(
  reference: Float32Array,
  candidate: Float32Array,
  alignment: Alignment,
  visit: BlockVisitor<Float32Array>,
): void {
  const gathers = alignment.runs.some((run) => run.length % blockElements !== 0);
  const r = new Float32Array(gathers ? Math.min(blockElements, alignment.count) : 0);
  const c = new Float32Array(r.length);
  visitPieces(
    alignment.runs,
    (piece, at) => {
      // A loop, because for a short run the call of TypedArray.set costs more than the copy.
      for (let i = 0; i < piece.length; i++) {
        r[at + i] = reference[piece.reference + i] as number;
        c[at + i] = candidate[piece.candidate + i] as number;
      }
    },
    (length, segments) => visit(r, c, length, segments),
    (piece) =>
      visit(
        reference.subarray(piece.reference, piece.reference + piece.length),
        candidate.subarray(piece.candidate, piece.candidate + piece.length),
        piece.length,
        [{ at: 0, reference: piece.reference }],
      ),
  );
}

export function visitFloat64Blocks(
  reference: Float64Reader,
  candidate: Float64Reader,
  alignment: Alignment,
  visit: BlockVisitor<Float64Array>,
): void {
  const r = new Float64Array(Math.min(blockElements, alignment.count));
  const c = new Float64Array(r.length);
  visitPieces(
    alignment.runs,
    (piece, at) => {
      reference(piece.reference, piece.length, r, at);
      candidate(piece.candidate, piece.length, c, at);
    },
    (length, segments) => visit(r, c, length, segments),
  );
}

/** Cuts runs into pieces that fit a block. `direct` takes whole blocks without a copy where it is given. */
export function visitPieces(
  runs: readonly AlignedRun[],
  gather: (piece: AlignedRun, at: number) => void,
  flush: (length: number, segments: readonly Segment[]) => void,
  direct?: (piece: AlignedRun) => void,
): void {
  let filled = 0;
  let segments: Segment[] = [];
  for (const run of runs) {
    let done = 0;
    while (done < run.length) {
      const left = run.length - done;
      const whole = direct !== undefined && left >= blockElements;
      const length = Math.min(left, whole ? blockElements : blockElements - filled);
      const piece = {
        reference: run.reference + done,
        candidate: run.candidate + done,
        length,
      };
      done += length;
      if (whole) {
        direct(piece);
        continue;
      }
      gather(piece, filled);
      segments.push({ at: filled, reference: piece.reference });
      filled += length;
      if (filled === blockElements) {
        flush(filled, segments);
        filled = 0;
        segments = [];
      }
    }
  }
  if (filled > 0) flush(filled, segments);
}
