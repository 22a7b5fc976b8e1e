import { relL2 } from "../core/difference.js";
import { align } from "../core/layouts.js";
import { normalisedName } from "../core/names.js";
import type { Observation, ObservedTensor } from "../core/observation.js";
import { userError } from "../protocol/userError.js";
import type { ObservedImplementation } from "./observe.js";

/**
 * Sanity before blame: a recording was made on inputs of its own, and another input would look like a fault of the line
 * that reads it first. Inputs whose layouts cannot be aligned are left to the comparison.
 * @throws UserError when an input that both sides have does not hold the same valid elements.
 */
export function requireSameInputs(
  reference: ObservedImplementation,
  candidate: ObservedImplementation,
): void {
  const own = inputsByName(candidate.observation);
  for (const [name, r] of inputsByName(reference.observation)) {
    const c = own.get(name);
    if (!r.tensor.value || !c?.tensor.value) continue;
    const aligned = align(r.tensor, { shape: c.tensor.shape });
    if (!aligned.ok) continue;
    const difference = relL2(r.tensor.value, c.tensor.value, aligned.alignment, { equalNan: true });
    if (difference === 0) continue;
    throw userError(
      "inputs-differ",
      `${reference.id} and ${candidate.id} did not get the same inputs: "${r.name}" differs`,
      "Record both on the same inputs, or take the inputs of the recording.",
    );
  }
}

function inputsByName({
  inputs,
  tensors,
}: Observation): Map<string, { name: string; tensor: ObservedTensor }> {
  return new Map(
    inputs.flatMap(({ name, tensor: key }) => {
      const tensor = tensors.get(key);
      return tensor ? [[normalisedName(name), { name, tensor }] as const] : [];
    }),
  );
}
