import { relL2 } from "../core/difference.js";
import { onCandidate } from "../core/judge.js";
import type { TensorKey } from "../core/observation.js";
import type { TensorPair } from "../core/pairing.js";
import type { Segment } from "../core/segments.js";
import type { TensorValue } from "../core/tensorValue.js";

type Values = ReadonlyMap<TensorKey, TensorValue>;

/**
 * What each repaired parameter does on its own: relL2 between a segment's result with all parameters repaired and with
 * this one left as the candidate has it. By output, then by parameter. Parameters that share no segment are left out in
 * one evaluation, so there are as many evaluations as differing parameters in the segment that has most of them.
 */
export async function effectsOfParameters(
  pairs: readonly TensorPair[],
  segments: ReadonlyMap<TensorKey, Segment>,
  repairs: Values,
  repaired: Values,
  evaluate: (repairs: Values) => Promise<Values>,
): Promise<Map<TensorKey, Map<TensorKey, number>>> {
  const effects = new Map<TensorKey, Map<TensorKey, number>>();
  for (const group of withoutSharedSegment([...repairs.keys()], [...segments.values()])) {
    const values = await evaluate(new Map([...repairs].filter(([key]) => !group.has(key))));
    for (const { candidate, alignment } of pairs) {
      const read = segments.get(candidate)?.parameters.find((key) => group.has(key));
      const right = repaired.get(candidate);
      const left = values.get(candidate);
      if (read === undefined || !right || !left || !alignment) continue;
      const effect = relL2(right, left, onCandidate(alignment), { equalNan: true });
      const known = effects.get(candidate) ?? new Map<TensorKey, number>();
      effects.set(candidate, known.set(read, effect));
    }
  }
  return effects;
}

/** Groups of parameters of which no segment reads two. */
function withoutSharedSegment(
  parameters: readonly TensorKey[],
  segments: readonly Segment[],
): Set<TensorKey>[] {
  const groups: Set<TensorKey>[] = [];
  for (const parameter of parameters) {
    const mates = segments
      .filter((segment) => segment.parameters.includes(parameter))
      .flatMap((segment) => segment.parameters);
    const group = groups.find((one) => !mates.some((mate) => one.has(mate)));
    if (group) group.add(parameter);
    else groups.push(new Set([parameter]));
  }
  return groups;
}
