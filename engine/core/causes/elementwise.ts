import type { Cause } from "../../protocol/report.js";
import { remainingAfter, remainingShare, trustIn, type Frame } from "./frame.js";
import { describeScale } from "./scaleNames.js";

/** Fewer elements than this fit a constant or a clamp by chance. */
const fewest = 4;

/** Nothing at all arrived. */
export function allZero({ cc, rr, places }: Frame): Cause | undefined {
  if (cc > 0 || rr === 0 || places.length < fewest) return undefined;
  return {
    kind: "zero",
    text: "is zero everywhere: looks as if it was never written",
    confidence: "likely",
    evidence: { elements: places.length },
  };
}

/** A constant on either side: any scale and any offset would fit it, so that neither is named. */
export function constantTensor({ r, c, places }: Frame): Cause | undefined {
  const [first] = places;
  if (first === undefined || places.length < 2) return undefined;
  const x = r[first] as number;
  const y = c[first] as number;
  const isConstant = (values: Float64Array): boolean =>
    places.every((i) => values[i] === values[first]);
  if (!isConstant(c)) return undefined;
  const from = isConstant(r) ? `${figure(x)} everywhere` : "not constant";
  return {
    kind: "constant",
    text: `is ${figure(y)} everywhere, where the reference is ${from}`,
    confidence: "certain",
    evidence: { value: y, ...(isConstant(r) && { reference: x }) },
  };
}

export function scaleCause(
  frame: Frame,
  shapes: readonly (readonly number[])[],
): Cause | undefined {
  const { rr, dd, places, r, c } = frame;
  if (places.length < fewest || rr === 0 || dd === 0) return undefined;
  let cr = 0;
  let notZero = 0;
  for (const i of places) {
    cr += (c[i] as number) * (r[i] as number);
    if (r[i] !== 0) notZero++;
  }
  // One number is any other number, scaled.
  if (notZero < fewest) return undefined;
  const scale = cr / rr;
  if (scale === 1 || scale === 0) return undefined;
  const remaining = remainingAfter(frame, (x) => scale * x);
  const confidence = trustIn(frame, remaining);
  if (!confidence) return undefined;
  const evidence = { scale, remaining: remainingShare(frame, remaining) };
  if (Math.abs(scale + 1) < 2e-6) {
    return { kind: "sign", text: "looks like a flipped sign", confidence, evidence };
  }
  const { text, fits } = describeScale(scale, shapes);
  return {
    kind: "scale",
    text: `looks like a scale: every element is ${text} times the reference's`,
    confidence,
    evidence: { ...evidence, ...(fits.length > 0 && { fits }) },
  };
}

export function offsetCause(frame: Frame): Cause | undefined {
  const { dd, places, r, c } = frame;
  if (places.length < fewest || dd === 0) return undefined;
  let sum = 0;
  for (const i of places) sum += (c[i] as number) - (r[i] as number);
  const offset = sum / places.length;
  const remaining = remainingAfter(frame, (x) => x + offset);
  const confidence = trustIn(frame, remaining);
  if (!confidence) return undefined;
  const evidence = { offset, remaining: remainingShare(frame, remaining) };
  return {
    kind: "offset",
    text: `looks like a bias: every element is ${offset.toPrecision(6)} more than the reference's`,
    confidence,
    evidence,
  };
}

/** |r|, max(r, 0) and values cut off at a bound. */
export function clampCause(frame: Frame): Cause | undefined {
  const { r, c, places, dd } = frame;
  if (places.length < fewest || dd === 0) return undefined;
  let negative = 0;
  let lowest = Infinity;
  let highest = -Infinity;
  for (const i of places) {
    if ((r[i] as number) < 0) negative++;
    lowest = Math.min(lowest, c[i] as number);
    highest = Math.max(highest, c[i] as number);
  }
  const explained = (explain: (x: number) => number): Cause["confidence"] | undefined =>
    trustIn(frame, remainingAfter(frame, explain));
  if (lowest >= 0 && negative >= fewest) {
    const confidence = explained(Math.abs);
    if (confidence && negative < places.length) {
      const text = "looks like the absolute value of the reference's";
      return { kind: "absolute", text, confidence, evidence: { negative } };
    }
  }
  for (const [bound, side] of [
    [lowest, "below"],
    [highest, "above"],
  ] as const) {
    const isOver = (x: number): boolean => (side === "below" ? x < bound : x > bound);
    let over = 0;
    for (const i of places) if (isOver(r[i] as number)) over++;
    // All of them at the bound is a constant; one or two at it are only the candidate's own extremes.
    if (over < fewest || over > places.length - fewest) continue;
    const confidence = explained((x) => (isOver(x) ? bound : x));
    if (!confidence) continue;
    const evidence = { bound, elements: over };
    return bound === 0 && side === "below"
      ? {
          kind: "relu",
          text: `looks like a ReLU: zero at the ${over} elements where the reference is negative, equal elsewhere`,
          confidence,
          evidence,
        }
      : {
          kind: "clip",
          text: `looks clipped ${side === "below" ? "from below" : "from above"} at ${figure(bound)} (${over} of ${places.length} elements)`,
          confidence,
          evidence,
        };
  }
  return undefined;
}

/** A number as a reader wants it: six digits, without trailing zeros. */
export function figure(x: number): string {
  return String(Number(x.toPrecision(6)));
}
