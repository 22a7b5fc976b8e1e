import type { Cause } from "../../protocol/report.js";
import { hasManyValues, type Frame } from "./frame.js";
import { placeCause } from "./placeCauses.js";
import { rearrangedCause } from "./rearranged.js";

const fewest = 8;
/** A boundary is hit by few values; more than this share is another rule. */
const boundaryShare = 0.1;
/** log 2, log e and log 10, of one another: what a bucketing multiplies by when it takes the wrong one. */
const logBases: readonly (readonly [name: string, log: number])[] = [
  ["2", Math.LN2],
  ["e", 1],
  ["10", Math.LN10],
];

/** What integers or booleans that differ look like; `count` is the number of all valid elements. */
export function causeOfIntegers(
  frame: Frame,
  count: number,
  isBool: boolean,
  lengths?: readonly number[],
): Cause | undefined {
  const { r, c, places } = frame;
  let mismatches = 0;
  let byOne = 0;
  for (const i of places) {
    const d = Math.abs((c[i] as number) - (r[i] as number));
    if (d !== 0) mismatches++;
    if (d === 1) byOne++;
  }
  if (mismatches === 0) return undefined;
  const plain: Cause = {
    kind: "integers",
    text: `has ${mismatches} of ${count} elements that differ`,
    confidence: "certain",
    evidence: { mismatches, count },
  };
  if (places.length < fewest) return plain;
  const named =
    invertedCause(frame, mismatches, isBool) ??
    constantOffset(frame, mismatches) ??
    rearrangedCause(frame) ??
    placeCause(frame, lengths) ??
    (isBool ? undefined : (logBaseCause(frame) ?? boundaryCause(frame, mismatches, byOne)));
  return named ? { ...named, text: `${plain.text}: ${named.text}` } : plain;
}

function invertedCause({ places }: Frame, mismatches: number, isBool: boolean): Cause | undefined {
  if (!isBool || mismatches < places.length) return undefined;
  return {
    kind: "inverted",
    text: "looks like the reference's, inverted",
    confidence: "likely",
    evidence: { mismatches },
  };
}

function constantOffset({ r, c, places }: Frame, mismatches: number): Cause | undefined {
  const [first = 0] = places;
  const offset = (c[first] as number) - (r[first] as number);
  if (mismatches < places.length) return undefined;
  if (!places.every((i) => (c[i] as number) - (r[i] as number) === offset)) return undefined;
  // A constant candidate against a constant reference differs by some number in any case.
  if (places.every((i) => r[i] === r[first])) return undefined;
  return {
    kind: "integerOffset",
    text: `every element is ${Math.abs(offset)} ${offset > 0 ? "more" : "less"}${Math.abs(offset) === 1 ? ", off by one" : ""}`,
    confidence: "certain",
    evidence: { offset },
  };
}

/** Buckets of a logarithm: the numbers are in one ratio, up to what the rounding down takes. */
function logBaseCause(frame: Frame): Cause | undefined {
  const { r, c, places, rr } = frame;
  if (rr === 0 || !hasManyValues(frame, 5)) return undefined;
  let cr = 0;
  let largest = 0;
  for (const i of places) {
    cr += (c[i] as number) * (r[i] as number);
    largest = Math.max(largest, Math.abs(r[i] as number), Math.abs(c[i] as number));
  }
  const scale = cr / rr;
  // Under this the rounding down is as large as what the ratio makes.
  if (!(scale > 0) || Math.abs(scale - 1) * Math.min(largest, largest / scale) < 4)
    return undefined;
  const slack = 1 + Math.max(1, scale);
  if (!places.every((i) => Math.abs((c[i] as number) - scale * (r[i] as number)) <= slack)) {
    return undefined;
  }
  const bases = logBases.flatMap(([of, a]) =>
    logBases.flatMap(([instead, b]) =>
      of !== instead && Math.abs(scale / (a / b) - 1) < 0.08 ? [{ of, instead }] : [],
    ),
  );
  const [base] = bases;
  const named = base ? `, as of base ${base.instead} instead of ${base.of}` : "";
  return {
    kind: "logBase",
    text: `the elements are about ${scale.toPrecision(3)} times the reference's, rounded: looks like another base of a logarithm or another bucket width${named}`,
    confidence: base ? "likely" : "possible",
    evidence: { ratio: scale, ...(base && { base: base.instead, insteadOf: base.of }) },
  };
}

function boundaryCause({ places }: Frame, mismatches: number, byOne: number): Cause | undefined {
  if (byOne < mismatches || mismatches > boundaryShare * places.length) return undefined;
  return {
    kind: "bucketBoundary",
    text: "each by one, at few places: looks like values at the boundary of a bucket",
    confidence: "possible",
    evidence: { mismatches },
  };
}
