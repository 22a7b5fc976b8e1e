import type { Layout } from "../protocol/tensor.js";
import type { Alignment } from "./alignment.js";
import { convertIntegers, convertWithinRange } from "./conversions.js";
import { collectRuns, type LoopAxis } from "./alignedRuns.js";
import { elementCount, elementSize, fromFloat64, isFloat, toFloat64 } from "./dtypes.js";
import { checkLayout, type LayoutFinding } from "./layoutChecks.js";
import {
  denseView,
  jaggedView,
  paddedView,
  permute,
  type Strided,
  type View,
  type ViewAxis,
} from "./layoutViews.js";
import { offsetsOf, sameShape, stridesOf } from "./shapes.js";
import type { RowPlacement } from "./rowPlacement.js";
import type { TensorValue } from "./tensorValue.js";

export { checkLayout, type LayoutFinding } from "./layoutChecks.js";
export { paddingLeak, paddingRegion, type PaddingLeak, type PaddingRegion } from "./padding.js";

export interface LaidOut {
  readonly shape: readonly number[];
  readonly layout?: Layout | undefined;
  /** Where the other side keeps the rows. */
  readonly placement?: RowPlacement | undefined;
}

export interface AlignOptions {
  /** The order of the candidate's axes that is the reference's. */
  readonly permutation?: readonly number[] | undefined;
  /** Where values decide: any axis may be split in two or more on one side. */
  readonly regroups?: boolean;
}

export type Aligned =
  | {
      readonly ok: true;
      readonly alignment: Alignment;
      readonly findings: readonly LayoutFinding[];
    }
  | { readonly ok: false; readonly reason: string };

/** Every element against the one at the same place. */
export function identityAlignment(shape: readonly number[]): Alignment {
  const count = elementCount(shape);
  return {
    runs: count === 0 ? [] : [{ reference: 0, candidate: 0, length: count }],
    count,
    transform: "identical",
  };
}

/**
 * Finds how the reference's valid elements lie in the candidate, or says why no declared layout explains the shapes.
 * Known transforms: jagged and padded either way, padded widths that differ, padding on two axes, the last axis split into
 * heads or merged from them, rows that a placement says lie elsewhere than at the front, and a permutation that the caller declares: `candidate.transpose(permutation)` has the
 * reference's axis order. A candidate without a layout takes the samples' lengths from the reference's. Nothing is
 * broadcast, no permutation is guessed, and an equal number of elements explains nothing.
 */
export function align(reference: LaidOut, candidate: LaidOut, options: AlignOptions = {}): Aligned {
  const findings = [
    ...checkLayout(reference.layout, reference.shape),
    ...checkLayout(candidate.layout, candidate.shape),
  ];
  const invalid = findings.find(
    (finding) => finding.severity === "error" && finding.code !== "truncation",
  );
  if (invalid) return { ok: false, reason: invalid.text };

  const permuted = permute(
    { shape: candidate.shape, layout: candidate.layout },
    options.permutation,
  );
  if (!permuted)
    return {
      ok: false,
      reason: "the declared permutation does not fit the candidate",
    };
  const attempts = interpretations(reference, permuted, options.regroups ?? false);
  if (attempts.length === 0) {
    return { ok: false, reason: unexplained(reference, candidate) };
  }
  for (const { r, c, name } of attempts) {
    const lengths = commonLengths(r, c);
    if (!lengths)
      return {
        ok: false,
        reason: "the two sides declare samples of other lengths",
      };
    const placement = c.kind === "padded" && !candidate.layout ? reference.placement : undefined;
    const loops = loopAxes(r, c, placement, options.regroups ?? false);
    if (!loops) continue;
    const runs = collectRuns(
      lengths.map((_, b) => ({ reference: r.base(b), candidate: c.base(b) })),
      lengths,
      loops.axes,
    );
    const transform = [name, loops.placed, loops.regrouped, options.permutation && "permuted"]
      .filter((part) => part !== undefined && part !== "")
      .join(", ");
    return {
      ok: true,
      alignment: {
        ...runs,
        transform: transform === "" ? "identical" : transform,
      },
      findings: [...findings, ...truncations(c, lengths, candidate)],
    };
  }
  return { ok: false, reason: unexplained(reference, candidate) };
}

/**
 * The candidate's tensor with its valid region replaced by the reference's values, rounded to the candidate's type (which
 * it keeps); padding stays the candidate's own. An integer that does not fit the candidate's type leaves it unchanged.
 */
export function substitute(
  reference: TensorValue,
  candidate: TensorValue,
  alignment: Alignment,
): TensorValue {
  const source = inType(reference, candidate.dtype);
  if (!source) return candidate;
  const bytes = new Uint8Array(candidate.bytes);
  const size = elementSize[candidate.dtype];
  for (const run of alignment.runs) {
    const from = run.reference * size;
    bytes.set(source.subarray(from, from + run.length * size), run.candidate * size);
  }
  return { dtype: candidate.dtype, shape: candidate.shape, bytes };
}

function inType(value: TensorValue, dtype: TensorValue["dtype"]): Uint8Array | undefined {
  if (value.dtype === dtype) return value.bytes;
  if (isFloat(value.dtype) && isFloat(dtype)) return convertWithinRange(value, dtype).bytes;
  if (isFloat(value.dtype) || isFloat(dtype)) return fromFloat64(toFloat64(value), dtype);
  return convertIntegers(value, dtype)?.bytes;
}

/** The ways in which the two sides can be meant, most literal first. */
function interpretations(
  reference: LaidOut,
  candidate: Strided,
  regroups: boolean,
): { r: View; c: View; name: string }[] {
  const source = {
    shape: reference.shape,
    strides: stridesOf(reference.shape),
  };
  const own = reference.layout ?? { kind: "dense" };
  const declared = candidate.layout;
  const found: { r: View; c: View; name: string }[] = [];
  if (own.kind === "dense") {
    found.push({ r: denseView(source), c: denseView(candidate), name: "" });
    return found;
  }
  const r = own.kind === "jagged" ? jaggedView(source, own.offsets) : paddedView(source, own);
  const lengths = r.lengths ?? [];
  const asJagged = declared?.kind !== "padded";
  const asPadded = declared?.kind !== "jagged";
  if (asJagged && (own.kind === "jagged" || declared?.kind === "jagged" || isJaggedShape())) {
    const offsets = declared?.kind === "jagged" ? declared.offsets : offsetsOf(lengths);
    const fits = declared?.kind === "jagged" || own.kind === "padded" || sameRows();
    if (fits) {
      const name = own.kind === "jagged" ? "jagged → jagged" : "padded → jagged";
      const same = own.kind === "jagged" && sameShape(reference.shape, candidate.shape);
      found.push({
        r,
        c: jaggedView(candidate, offsets),
        name: same ? "" : name,
      });
    }
  }
  if (asPadded) {
    const layout: Layout =
      declared?.kind === "padded"
        ? declared
        : own.kind === "padded"
          ? own
          : {
              kind: "padded",
              lengths: [...lengths],
              batchAxis: 0,
              axes: [1],
              pad: 0,
            };
    const shift = candidate.shape.length - reference.shape.length;
    for (const by of regroups && own.kind === "padded" && shift !== 0 ? [0, shift] : [0]) {
      if (layout.kind !== "padded") continue;
      const shifted = { ...layout, axes: layout.axes.map((axis) => axis + by) };
      if (fitsRank(shifted)) {
        const c = paddedView(candidate, shifted);
        found.push({ r, c, name: `${own.kind} → padded` });
      }
    }
  }
  return found;

  function sameRows(): boolean {
    return candidate.shape[0] === reference.shape[0];
  }
  function isJaggedShape(): boolean {
    const rows = lengths.reduce((sum, length) => sum + length, 0);
    return own.kind === "padded" && own.axes.length === 1 && candidate.shape[0] === rows;
  }
  function fitsRank(layout: Layout & { kind: "padded" }): boolean {
    const highest = Math.max(layout.batchAxis, ...layout.axes);
    return (
      layout.axes.every((axis) => axis >= 0 && axis !== layout.batchAxis) &&
      highest < candidate.shape.length &&
      candidate.shape[layout.batchAxis] === layout.lengths.length
    );
  }
}

function commonLengths(r: View, c: View): readonly number[] | undefined {
  if (!r.lengths || !c.lengths) return r.samples === c.samples ? [0] : undefined;
  return sameShape(r.lengths, c.lengths) ? r.lengths : undefined;
}

/** Matches the axes of both sides one by one; some may be split on one side. */
function loopAxes(
  r: View,
  c: View,
  placement: RowPlacement | undefined,
  regroups: boolean,
): { axes: readonly LoopAxis[]; regrouped?: string; placed?: string } | undefined {
  const found = inHeads(r.axes, c.axes) ?? (regroups ? inParts(r.axes, c.axes) : undefined);
  if (!found) return undefined;
  const axes: LoopAxis[] = [];
  for (const [i, a] of found.r.entries()) {
    const b = found.c[i] as ViewAxis;
    axes.push({
      // A jagged side is as long as its samples; only a padded width can cut them short.
      size: Math.min(
        r.kind === "jagged" && a.ragged ? Infinity : a.size,
        c.kind === "jagged" && b.ragged ? Infinity : b.size,
      ),
      ragged: a.ragged,
      reference: a.stride,
      candidate: b.stride,
      ...(b.ragged && b.size === placement?.width && { places: placement.positions }),
    });
  }
  const { regrouped } = found;
  const isPlaced = axes.some(({ places }) => places !== undefined);
  return { axes, ...(regrouped && { regrouped }), ...(isPlaced && { placed: "rows placed" }) };
}

interface CommonAxes {
  readonly r: readonly ViewAxis[];
  readonly c: readonly ViewAxis[];
  readonly regrouped?: string;
}

/** As they are, or with the last one split into heads. */
function inHeads(r: readonly ViewAxis[], c: readonly ViewAxis[]): CommonAxes | undefined {
  const difference = c.length - r.length;
  const split = difference === 1 ? splitLast(r, c) : r;
  const merged = difference === -1 ? splitLast(c, r) : c;
  if (!split || !merged || split.length !== merged.length) return undefined;
  if (!split.every((a, i) => areAlike(a, merged[i] as ViewAxis))) return undefined;
  if (difference === 0) return { r: split, c: merged };
  return { r: split, c: merged, regrouped: difference === 1 ? "heads split" : "heads merged" };
}

function areAlike(a: ViewAxis, b: ViewAxis): boolean {
  return a.ragged === b.ragged && (a.ragged || a.size === b.size);
}

/** Both with the axes of the side that splits more: [6, N, N] and [2, 3, N, N]. */
function inParts(r: readonly ViewAxis[], c: readonly ViewAxis[]): CommonAxes | undefined {
  const isSplit = c.length > r.length;
  const [coarse, fine] = isSplit ? [r, c] : [c, r];
  if (coarse.length === fine.length) return undefined;
  const parts: ViewAxis[] = [];
  const rest = [...fine];
  for (const axis of coarse) {
    let { size } = axis;
    do {
      const part = rest.shift();
      if (!part || part.ragged !== axis.ragged) return undefined;
      if (axis.ragged) {
        parts.push(axis);
        size = 1;
      } else if (size % part.size === 0) {
        size /= part.size;
        parts.push({ size: part.size, stride: axis.stride * size, ragged: false });
      } else return undefined;
    } while (size > 1);
  }
  if (rest.some((part) => part.ragged || part.size !== 1)) return undefined;
  const split = parts.concat(rest);
  const regrouped = isSplit ? "axes split" : "axes merged";
  return isSplit ? { r: split, c: fine, regrouped } : { r: fine, c: split, regrouped };
}

/** [.., H·d] as [.., H, d], where `like` has those last two axes. At least one axis must lie before them. */
function splitLast(
  axes: readonly ViewAxis[],
  like: readonly ViewAxis[],
): readonly ViewAxis[] | undefined {
  const last = axes.at(-1);
  const heads = like.at(-2);
  const width = like.at(-1);
  if (!last || !heads || !width || like.length < 3) return undefined;
  if (last.ragged || heads.ragged || width.ragged) return undefined;
  if (last.size !== heads.size * width.size) return undefined;
  return [
    ...axes.slice(0, -1),
    { size: heads.size, stride: last.stride * width.size, ragged: false },
    { size: width.size, stride: last.stride, ragged: false },
  ];
}

/** A candidate whose layout was taken from the reference has not been checked against its own width. */
function truncations(
  c: View,
  lengths: readonly number[],
  candidate: LaidOut,
): readonly LayoutFinding[] {
  if (c.kind !== "padded" || candidate.layout?.kind === "padded") return [];
  const widths = c.axes.filter((axis) => axis.ragged).map((axis) => axis.size);
  const width = Math.min(...widths);
  const over = lengths.filter((length) => length > width).length;
  if (over === 0) return [];
  const text = `truncation: the candidate is ${width} wide, but ${over} of ${lengths.length} samples are longer`;
  return [{ code: "truncation", severity: "error", text }];
}

function unexplained(reference: LaidOut, candidate: LaidOut): string {
  const shapes = `[${reference.shape.join(", ")}] against [${candidate.shape.join(", ")}]`;
  const same = elementCount(reference.shape) === elementCount(candidate.shape);
  return `${shapes}: no declared layout explains the shapes${same ? " (the same number of elements explains nothing)" : ""}`;
}
