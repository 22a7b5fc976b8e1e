import type { Cause } from "../../protocol/report.js";
import { figure } from "./elementwise.js";
import { highestRemaining, remainingShare, trustIn, type Frame } from "./frame.js";
import { epsCause } from "./layerNormEps.js";
import { groupSums, partitionsOf, type GroupSums, type Partition } from "./partitions.js";

/** A factor for each group explains nothing where there are nearly as many groups as elements. */
const fewestPerGroup = 3;
const fewestFree = 8;
/** Factors that differ by less than this are one factor with rounding. */
const sameFactor = 1e-5;

/** One factor or one constant for each sample, head, feature or row; or whole ones of them that are zero. */
export function groupCauses(frame: Frame): Cause | undefined {
  for (const partition of partitionsOf(frame)) {
    const { groups } = partition;
    if (groups < 2 || groups === frame.places.length) continue;
    const sums = groupSums(frame, partition);
    const cause =
      zeroGroups(frame, partition, sums) ??
      (isOverdetermined(frame, sums)
        ? (scaledGroups(frame, partition, sums) ?? shiftedGroups(frame, partition, sums))
        : undefined);
    if (cause) return cause;
  }
  return undefined;
}

function isOverdetermined({ places }: Frame, { count }: GroupSums): boolean {
  const used = count.reduce((n, size) => n + (size > 0 ? 1 : 0), 0);
  return places.length >= fewestPerGroup * used && places.length - used >= fewestFree;
}

function zeroGroups(frame: Frame, { unit }: Partition, sums: GroupSums): Cause | undefined {
  let zero = 0;
  let used = 0;
  let elements = 0;
  let remaining = 0;
  for (const [g, cc] of sums.cc.entries()) {
    const count = sums.count[g] as number;
    if (count === 0) continue;
    used++;
    if (cc === 0 && (sums.rr[g] as number) > 0) {
      zero++;
      elements += count;
    } else remaining += sums.dd[g] as number;
  }
  const confidence = trustIn(frame, remaining);
  if (zero === 0 || zero === used || elements < 4 || elements < 2 * zero || !confidence) {
    return undefined;
  }
  return {
    kind: "zero",
    text: `is zero in ${zero} of ${plural(used, unit)} and equal elsewhere: looks as if they were never written`,
    confidence,
    evidence: { unit, zero, of: used, remaining: remainingShare(frame, remaining) },
  };
}

function scaledGroups(frame: Frame, partition: Partition, sums: GroupSums): Cause | undefined {
  const { r, c, places } = frame;
  const limit = highestRemaining(frame);
  const scales = sums.cr.map((cr, g) =>
    (sums.rr[g] as number) > 0 ? cr / (sums.rr[g] as number) : 1,
  );
  let remaining = 0;
  for (const i of places) {
    const e = (c[i] as number) - (scales[partition.groupOf(i)] as number) * (r[i] as number);
    remaining += e * e;
    if (!(remaining <= limit)) return undefined;
  }
  const confidence = trustIn(frame, remaining);
  if (!confidence) return undefined;
  const { unit, lengthOf } = partition;
  const used = [...scales.keys()].filter((g) => (sums.rr[g] as number) > 0);
  const factors = used.map((g) => scales[g] as number);
  const changed = used.filter((g) => Math.abs((scales[g] as number) - 1) > sameFactor);
  const scaled = changed.length;
  // A group with one number in it has a factor whatever happened to it.
  if (changed.some((g) => (sums.notZero[g] as number) < fewestPerGroup)) return undefined;
  const least = factors.reduce((a, b) => Math.min(a, b), Infinity);
  const most = factors.reduce((a, b) => Math.max(a, b), -Infinity);
  const evidence = {
    unit,
    scaled,
    of: used.length,
    least,
    most,
    remaining: remainingShare(frame, remaining),
  };
  if (unit === "row") {
    const eps = epsCause(sums, used, scales);
    if (eps) return { ...eps, confidence, evidence: { ...eps.evidence, ...evidence } };
  }
  const span = `(${figure(least)} to ${figure(most)})`;
  if (scaled > 0 && 2 * scaled <= used.length) {
    const one = scales[changed[0] as number];
    return {
      kind: "groupScale",
      text: `looks scaled in ${scaled} of ${plural(used.length, unit)}${scaled === 1 ? ` (by ${figure(one as number)})` : ` ${span}`} and equal elsewhere`,
      confidence,
      evidence,
    };
  }
  const by = lengthOf && proportionalTo(used, factors, lengthOf);
  const meaning: Record<string, string> = {
    sample: by ? `, ${by}` : ": a scaling that depends on the batch",
    row: ": a normalisation",
    feature: ": a weight along the features",
  };
  return {
    kind: unit === "sample" ? "batchScale" : unit === "row" ? "rowScale" : "groupScale",
    text: `looks as if each ${unit} has its own factor ${span}${meaning[unit] ?? ""}`,
    confidence,
    evidence: { ...evidence, ...(by && { by }) },
  };
}

/** Division by the sample's length where the reference divides by one for all, or the other way round. */
function proportionalTo(
  groups: readonly number[],
  factors: readonly number[],
  lengthOf: (group: number) => number,
): string | undefined {
  const lengths = groups.map(lengthOf);
  if (new Set(lengths).size < 2) return undefined;
  const isConstant = (values: readonly number[]): boolean =>
    values.every((v) => Math.abs(v - (values[0] as number)) <= sameFactor * Math.abs(v));
  if (isConstant(factors.map((s, k) => s * (lengths[k] as number)))) {
    return "in proportion to 1/length";
  }
  if (isConstant(factors.map((s, k) => s / (lengths[k] as number)))) {
    return "in proportion to its length";
  }
  return undefined;
}

function shiftedGroups(
  frame: Frame,
  { unit, groupOf }: Partition,
  sums: GroupSums,
): Cause | undefined {
  const { r, c, places } = frame;
  const limit = highestRemaining(frame);
  const shifts = sums.sumD.map((d, g) => d / Math.max(1, sums.count[g] as number));
  let remaining = 0;
  for (const i of places) {
    const e = (c[i] as number) - (r[i] as number) - (shifts[groupOf(i)] as number);
    remaining += e * e;
    if (!(remaining <= limit)) return undefined;
  }
  const confidence = trustIn(frame, remaining);
  if (!confidence) return undefined;
  const isBias = unit === "feature";
  return {
    kind: isBias ? "bias" : "groupOffset",
    text: isBias
      ? "looks like a bias along the last axis: every row differs by the same vector"
      : `looks as if each ${unit} is shifted by a constant of its own`,
    confidence,
    evidence: { unit, remaining: remainingShare(frame, remaining) },
  };
}

function plural(count: number, unit: string): string {
  return unit.startsWith("index of") ? `${count} indices${unit.slice(5)}` : `${count} ${unit}s`;
}
