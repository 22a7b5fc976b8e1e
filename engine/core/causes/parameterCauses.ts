import type { Cause } from "../../protocol/report.js";
import { identityAlignment } from "../layouts.js";
import type { ObservedParameter } from "../observation.js";
import type { ParameterFinding } from "../parameters.js";
import { sameShape } from "../shapes.js";
import type { TensorValue } from "../tensorValue.js";
import { clampCause, figure, offsetCause, scaleCause } from "./elementwise.js";
import { frameOf, hasManyValues, remainingAfter } from "./frame.js";
import { groupCauses } from "./groupCauses.js";
import { rearrangedCause } from "./rearranged.js";
import { roundingCause } from "./rounding.js";

/**
 * Why a parameter of the candidate is not the reference's. `others` are the parameters of the reference: one that was
 * copied to the wrong place is named.
 */
export function causeOfParameter(
  finding: ParameterFinding,
  others: readonly ObservedParameter[] = [],
): Cause {
  const { candidate, reference, status, relL2, mistake } = finding;
  const from = reference ? `the reference's ${reference.name}` : "any parameter of the reference";
  const evidence = { ...(relL2 !== undefined && { relL2 }) };
  const other = others.find(
    (one) => one.name !== reference?.name && isEqual(one.value, candidate.value),
  );
  if (other) {
    const instead = reference ? ` instead of ${reference.name}` : "";
    return {
      kind: "parameterOfAnother",
      text: `${candidate.name} holds the values of the reference's ${other.name}${instead}`,
      confidence: "certain",
      evidence: { ...evidence, other: other.name },
    };
  }
  if (mistake !== undefined) {
    return {
      kind: "parameterDiffers",
      text: `${candidate.name} ${mistake}`,
      confidence: "certain",
      evidence,
    };
  }
  const looks = reference && likeness(reference.value, candidate.value);
  const constant = constantOf(candidate.value);
  // What is the reference's in another form did come from it, however little it resembles it place by place.
  if (looks) {
    return {
      kind: "parameterDiffers",
      text: `${candidate.name} differs from ${from}: ${looks.text}`,
      confidence: "certain",
      evidence: {
        ...evidence,
        looksLike: looks.kind,
        likelihood: looks.confidence,
        ...looks.evidence,
      },
    };
  }
  const still = constant === undefined ? "" : ` (it is ${figure(constant)} everywhere)`;
  return status === "notFromReference"
    ? {
        kind: "parameterNotFromReference",
        text: `${candidate.name} never came from the reference: its values have nothing to do with ${from}${still}`,
        confidence: "certain",
        evidence: { ...evidence, ...(constant !== undefined && { constant }) },
      }
    : {
        kind: "parameterDiffers",
        text: `${candidate.name} differs from ${from}${still}`,
        confidence: "certain",
        evidence: { ...evidence, ...(constant !== undefined && { constant }) },
      };
}

function likeness(reference: TensorValue, candidate: TensorValue): Cause | undefined {
  if (!sameShape(reference.shape, candidate.shape)) return undefined;
  const frame = frameOf(reference, candidate, identityAlignment(reference.shape));
  if (frame.places.length < 4 || !hasManyValues(frame, 2) || constantOf(candidate) !== undefined) {
    return undefined;
  }
  return (
    clampCause(frame) ??
    roundingCause(frame) ??
    scaleCause(frame, [reference.shape]) ??
    offsetCause(frame) ??
    rearrangedCause(frame) ??
    groupCauses(frame)
  );
}

/** Equal up to rounding; two constants are equal by chance. */
function isEqual(reference: TensorValue, candidate: TensorValue): boolean {
  if (!sameShape(reference.shape, candidate.shape)) return false;
  const frame = frameOf(reference, candidate, identityAlignment(reference.shape));
  if (frame.places.length < 4 || !hasManyValues(frame, 4)) return false;
  return frame.dd <= (2 * frame.roundOff) ** 2 * frame.rr || remainingAfter(frame, (x) => x) === 0;
}

function constantOf(value: TensorValue): number | undefined {
  const frame = frameOf(value, value, identityAlignment(value.shape));
  const [first] = frame.places;
  if (first === undefined || frame.places.length < 2) return undefined;
  const x = frame.r[first] as number;
  return frame.places.every((i) => frame.r[i] === x) ? x : undefined;
}
